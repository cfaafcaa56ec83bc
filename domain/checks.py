"""Check runs and commit statuses: what a Git host shows of a validation (spec: Pull Request Events)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from domain.model import Model


class CheckState(StrEnum):
    """How a check stands, in words that both check runs and commit statuses can say."""

    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CheckRun(Model):
    """One named result at one commit.

    Attributes:
        key: names the effect: validation id and run.
        project: ``owner/name``.
        name: what people require in branch protection, e.g. ``erlmcp-deploy / gates``.
        summary: Markdown.
        details_url: of the Temporal UI.
    """

    key: str
    project: str
    commit: str
    name: str
    state: CheckState
    title: str
    summary: str = ""
    details_url: str | None = None
    started_at: datetime
    finished_at: datetime | None = None


class CheckReceipt(Model):
    """What became of it; `reason` says why nothing is shown."""

    published: bool
    reference: str | None = None
    reason: str = ""
