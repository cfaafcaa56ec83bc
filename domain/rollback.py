"""Roll-backs: why, to what, and how it went (spec: Rollback Strategies)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from domain.canary import CanaryStatus
from domain.deployment import Actor, Name
from domain.model import Model
from domain.plan import DeploymentPlan
from domain.version import SemVer
from domain.workload import WorkloadObservation


class RollbackRequest(Model):
    """The input of RollbackWorkflow.

    A person gives application, environment, from_version, actor and reason; a deployment that rolls
    itself back adds what it knows, so that nothing has to be looked up.

    Attributes:
        to_version: where to go; by default the last good version of the environment. It may be any
            image tag: what ran before the first deployment was not named by us.
        deployment_id, turn_held, plan, previous, automatic: told by the deployment that rolls itself
            back, and accepted from nobody else: it holds the turn, and knows what it found.
    """

    application: Name
    environment: Name
    from_version: SemVer
    actor: Actor
    reason: str = Field(min_length=1)
    to_version: str | None = None
    deployment_id: str | None = None
    turn_held: bool = False
    plan: DeploymentPlan | None = None
    previous: WorkloadObservation | None = None
    automatic: bool = False

    @property
    def rollback_id(self) -> str:
        return f"rollback:{self.application}:{self.environment}:{self.from_version}"


class RollbackState(StrEnum):
    PENDING = "Pending"
    RESTORING = "Restoring"
    VERIFYING = "Verifying"
    COMPLETED = "Completed"
    HANDED_OVER = "HandedOver"
    """The version is still being deployed: its own deployment was told to roll back."""
    FAILED = "Failed"


class RollbackStatus(Model):
    """The answer of the ``status`` query and the result of RollbackWorkflow."""

    id: str
    state: RollbackState
    from_version: str
    to_version: str | None = None
    reason: str
    actor: str
    attempt: int = 0
    started_at: datetime
    finished_at: datetime | None = None
    outcome: str | None = None
    restored: bool = False
    """The earlier version is live and verified; a hook after it may still have failed."""
    canary: CanaryStatus | None = None
    """The steps of a gradual roll-back."""

    @property
    def succeeded(self) -> bool:
        return self.state is RollbackState.COMPLETED
