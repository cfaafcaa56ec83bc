"""Validation: gates held against a commit that is not deployed (spec: PR Validation, Nightly Builds)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from domain.build import BuildDefinition
from domain.deployment import Actor, Built, Commit, Name
from domain.events import DeploymentEvent
from domain.gates import GateDefinition, GateResult
from domain.model import Model


class ValidationKind(StrEnum):
    """What asked for it: the last part of the workflow's id."""

    CI = "ci"
    PULL_REQUEST = "pull_request"
    NIGHTLY = "nightly"


class ValidationState(StrEnum):
    """The spec's states that a validation goes through; ``Superseded``: a newer commit came."""

    PENDING = "Pending"
    BUILDING = "Building"
    TESTING = "Testing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    SUPERSEDED = "Superseded"


class ValidationRequest(Model):
    """The input of ValidationWorkflow.

    Attributes:
        gates: gates or steps to hold the commit against; none means every gate some environment requires.
        project: ``owner/name`` on the Git host, where the result is shown.
        pull_request: its number; a newer commit of the same one cancels this validation.
    """

    application: Name
    commit: Commit
    kind: ValidationKind
    actor: Actor
    ref: str | None = None
    gates: tuple[str, ...] = ()
    project: str | None = None
    pull_request: int | None = None
    event: DeploymentEvent | None = None

    @property
    def validation_id(self) -> str:
        return f"validation:{self.application}:{self.commit}:{self.kind}"


class ValidationPlan(Model):
    """The configuration resolved for one validation.

    Attributes:
        gates: name → gate; a build step that the rules name like a gate is a gate of its own.
    """

    application: str
    repository: str
    build: BuildDefinition
    gates: dict[str, GateDefinition]


class ValidationStatus(Model):
    """The answer of the ``status`` query and the result of ValidationWorkflow."""

    validation_id: str
    application: str
    commit: str
    kind: ValidationKind
    actor: str
    state: ValidationState
    since: datetime
    started_at: datetime
    finished_at: datetime | None = None
    reason: str | None = None
    ref: str | None = None
    pull_request: int | None = None
    built: Built | None = None
    gates: tuple[GateResult, ...] = ()
    waiting_for: str | None = None

    @property
    def passed(self) -> bool:
        return self.state is ValidationState.COMPLETED
