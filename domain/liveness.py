"""Whether workflow runs still run: the environment asks this of those who hold or want its turn."""

from __future__ import annotations

from domain.model import Model


class RunReference(Model):
    workflow_id: str
    run_id: str


class LivenessQuery(Model):
    runs: tuple[RunReference, ...]


class LivenessReport(Model):
    """The runs that have ended or are unknown, with how they ended."""

    ended: dict[str, str] = {}
    """run id → status, such as ``TERMINATED``"""
