"""Why a deployment runs (spec: Event Schema)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.model import Model


class EventType(StrEnum):
    PUSH = "push"
    PR = "pr"
    TAG = "tag"
    MANUAL = "manual"
    SCHEDULE = "schedule"


class EventSource(StrEnum):
    GIT = "git"
    API = "api"
    WEBHOOK = "webhook"


class DeploymentEvent(Model):
    """The spec's ``deployment_event`` record.

    Attributes:
        timestamp: when it happened: the host's own time where it tells one (pull requests), else when it was
            received, which stands in the metadata too.
    """

    id: str
    type: EventType
    source: EventSource
    actor: str
    timestamp: datetime
    metadata: dict[str, Any] = {}
    git_ref: str
    commit_sha: str
    version: str | None = None
