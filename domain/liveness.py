"""Whether workflows still run: the environment asks this of those who hold or want its turn."""

from __future__ import annotations

from domain.model import Model


class LivenessQuery(Model):
    workflow_ids: tuple[str, ...]


class LivenessReport(Model):
    """The workflows that have ended or are unknown, with how they ended.

    A workflow that was reset, or started again, runs: its latest run counts.
    """

    ended: dict[str, str] = {}
    """workflow id → status, such as ``TERMINATED``"""
