"""What the rules make of one event, for one application."""

from __future__ import annotations

from enum import StrEnum

from domain.dependency_update import DependencyUpdateRequest
from domain.deployment import DeploymentRequest
from domain.model import Model
from domain.validation import ValidationRequest


class RouteOutcome(StrEnum):
    """``start`` a process, ``ignore`` the event (no rule wants it), ``refuse`` it (a rule cannot use it)."""

    START = "start"
    IGNORE = "ignore"
    REFUSE = "refuse"


class Route(Model):
    """Where an event leads.

    Attributes:
        rule: the name of the rule that decided; none if none looks at such events.
        reason: why, in one sentence that a person at the Git host can act on.
        deployment: the deployment to start.
        validation: the validation to start.
        dependency_update: the update to start.
    """

    outcome: RouteOutcome
    reason: str
    application: str | None = None
    rule: str | None = None
    deployment: DeploymentRequest | None = None
    validation: ValidationRequest | None = None
    dependency_update: DependencyUpdateRequest | None = None
