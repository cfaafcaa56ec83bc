"""A deployment: what is asked for, the states it goes through, what it answers (spec: State Machine)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from domain.approval import ApprovalStatus
from domain.canary import CanaryStatus
from domain.compliance import ComplianceReport
from domain.delivery import DeliveryStatus
from domain.durations import Duration
from domain.events import DeploymentEvent
from domain.gates import GateResult
from domain.model import Message, Model
from domain.version import SemVer

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A name that is legal in workflow ids and as a Kubernetes label: lower case, digits, dashes."""
ACTOR_LENGTH = 254
Actor = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=ACTOR_LENGTH)]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,40}$")]


class DeploymentState(StrEnum):
    """The spec's states, under its names."""

    PENDING = "Pending"
    VALIDATION = "Validation"
    BUILDING = "Building"
    TESTING = "Testing"
    APPROVAL = "Approval"
    DEPLOYING = "Deploying"
    VERIFYING = "Verifying"
    MONITORING = "Monitoring"
    ROLLING_BACK = "RollingBack"
    COMPLETED = "Completed"
    FAILED = "Failed"
    REJECTED = "Rejected"

    @property
    def final(self) -> bool:
        return self in FINAL


_S = DeploymentState
FINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.REJECTED})

PROCESS: dict[DeploymentState, frozenset[DeploymentState]] = {
    _S.PENDING: frozenset({_S.VALIDATION}),
    _S.VALIDATION: frozenset({_S.BUILDING, _S.FAILED}),
    _S.BUILDING: frozenset({_S.TESTING, _S.FAILED}),
    _S.TESTING: frozenset({_S.APPROVAL, _S.FAILED}),
    _S.APPROVAL: frozenset({_S.DEPLOYING, _S.REJECTED}),
    _S.DEPLOYING: frozenset({_S.VERIFYING}),
    _S.VERIFYING: frozenset({_S.MONITORING, _S.ROLLING_BACK}),
    _S.MONITORING: frozenset({_S.COMPLETED, _S.ROLLING_BACK}),
    _S.ROLLING_BACK: frozenset({_S.FAILED}),
}
"""The transitions drawn in the spec's state machine."""

ABORTS: dict[DeploymentState, frozenset[DeploymentState]] = {
    # Nothing has been touched yet: an abort or a defect ends it; the queue may turn it away.
    _S.PENDING: frozenset({_S.FAILED, _S.REJECTED, _S.COMPLETED}),
    _S.APPROVAL: frozenset({_S.FAILED}),
    # The spec's rollback state machine: Deploying → Failed → Rollback.
    _S.DEPLOYING: frozenset({_S.ROLLING_BACK, _S.FAILED}),
}
"""Transitions the drawing leaves out: aborts, a full queue, a version that is live already."""


def may_follow(state: DeploymentState, following: DeploymentState) -> bool:
    """Whether the state machine has an edge between the two states."""
    nothing: frozenset[DeploymentState] = frozenset()
    return following in PROCESS.get(state, nothing) | ABORTS.get(state, nothing)


def _boolean(value: Any) -> Any:
    # CI inputs arrive as text; "false" must be false (design, section 9).
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


class DeploymentRequest(Model):
    """The input of DeploymentWorkflow.

    Attributes:
        application: a key of ``applications`` in deployment.yaml.
        environment: a key of ``environments``.
        version: what to deploy, SemVer; its commit is the tag's unless `commit` names it.
        actor: who asks; never counted among the approvers.
        skip_tests: leave out the test gates (emergencies); needs a `reason`, and is audited.
        approval: ``automatic`` takes over the reviews of the pull request the commit came by.
        project: ``owner/name`` on the Git host; by default it is read from the application's repository.
    """

    application: Name
    environment: Name
    version: SemVer
    actor: Actor
    commit: Commit | None = None
    ref: str | None = None
    reason: str | None = None
    skip_tests: Annotated[bool, BeforeValidator(_boolean)] = False
    event: DeploymentEvent | None = None
    approval: Literal["automatic"] | None = None
    project: str | None = None

    @property
    def deployment_id(self) -> str:
        return f"deployment:{self.application}:{self.environment}:{self.version}"

    def child_id(self, kind: str, *suffix: str) -> str:
        return ":".join((kind, self.application, self.environment, self.version, *suffix))


class Transition(Model):
    """One step of the state machine: when and why it was taken."""

    state: DeploymentState
    at: datetime
    reason: str | None = None


class RollbackSummary(Model):
    """What a roll-back did for the deployment that caused it.

    Attributes:
        restored: the earlier version is live and verified, though a hook after it may have failed.
    """

    workflow_id: str
    to_version: str | None
    succeeded: bool
    restored: bool = False
    reason: str
    duration: Duration | None = None


class Built(Model):
    """What was built: the commit, the release and its digest."""

    commit: str
    artefact: str | None = None
    digest: str | None = None
    image: str | None = None


class DeploymentStatus(Model):
    """The answer of the ``status`` query and the result of DeploymentWorkflow."""

    deployment_id: str
    application: str
    environment: str
    version: str
    actor: str
    state: DeploymentState
    since: datetime
    started_at: datetime
    finished_at: datetime | None = None
    reason: str | None = None
    history: list[Transition]
    paused: bool = False
    built: Built | None = None
    previous_version: str | None = None
    gates: list[GateResult] = []
    compliance: ComplianceReport | None = None
    approval: ApprovalStatus | None = None
    canary: CanaryStatus | None = None
    delivery: DeliveryStatus | None = None
    warnings: tuple[str, ...] = Field(
        default=(), description="what is not well, but tolerated, while it is watched"
    )
    rollback: RollbackSummary | None = None
    queue_position: int | None = Field(
        default=None, description="place in the environment's queue while Pending"
    )
    waiting_for: str | None = Field(default=None, description="what holds the deployment up at the moment")


class Command(Message):
    """A person's (or a program's) word to a running workflow: pause, resume, promote, abort, rollback."""

    actor: str = ""
    reason: str = ""


UNSIGNED_COMMAND = Command()
"""A signal that came without any input: it is obeyed, in the name of nobody."""
