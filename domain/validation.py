"""Validation: gates held against a commit that is not deployed (spec: PR Validation, Nightly Builds)."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from domain.build import BuildDefinition
from domain.deployment import Actor, Built, Commit, Name
from domain.events import DeploymentEvent
from domain.gates import GateDefinition, GateOutcome, GateResult
from domain.model import Message, Model
from domain.times import Time
from domain.version import commit_version

_HEADS = re.compile(r"^refs/(?:heads|tags)/")
_MERGE = re.compile(r"^refs/(?:pull|merge-requests)/(\d+)/\w+$")


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

    @property
    def final(self) -> bool:
        return self in (ValidationState.COMPLETED, ValidationState.FAILED, ValidationState.SUPERSEDED)


class ValidationRequest(Model):
    """The input of ValidationWorkflow.

    Attributes:
        ref: branch or tag the commit is on, with or without ``refs/heads/``.
        gates: gates or steps to hold the commit against; none means every gate some environment requires.
        project: ``owner/name`` on the Git host, where the result is shown.
        pull_request: its number; a newer commit of the same one supersedes this validation.
    """

    application: Name
    commit: Commit
    kind: ValidationKind
    actor: Actor
    ref: str | None = None
    gates: tuple[str, ...] = ()
    project: str | None = None
    pull_request: Annotated[int, Field(ge=1)] | None = None
    event: DeploymentEvent | None = None

    @property
    def validation_id(self) -> str:
        return f"validation:{self.application}:{self.commit}:{self.kind}"

    @property
    def version(self) -> str:
        """What the steps are told, e.g. ``0.0.0-feature-login.g1a2b3c4``."""
        branch = _HEADS.sub("", _MERGE.sub(r"pr-\1", self.ref or "")) or "commit"
        return commit_version(branch, self.commit)


class ValidationPlan(Model):
    """The configuration resolved for one validation.

    Attributes:
        gates: name → gate; a build step that the rules name like a gate is a gate of its own.
        project: ``owner/name`` on the Git host; without it the result is shown nowhere else.
    """

    application: str
    repository: str
    build: BuildDefinition
    gates: dict[str, GateDefinition]
    project: str | None = None


class ValidationStatus(Model):
    """The answer of the ``status`` query and the result of ValidationWorkflow.

    Attributes:
        cancelled: it ended without a verdict, because people or a newer commit ended it.
    """

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
    cancelled: bool = False

    @property
    def passed(self) -> bool:
        return self.state is ValidationState.COMPLETED

    def with_gate(self, result: GateResult) -> ValidationStatus:
        """With what is known of one gate now, in the place of what was known of it."""
        known = [g.name for g in self.gates]
        if result.name not in known:
            return self.model_copy(update={"gates": (*self.gates, result)})
        gates = tuple(result if g.name == result.name else g for g in self.gates)
        return self.model_copy(update={"gates": gates})

    @property
    def verdict(self) -> str:
        """What its gates say, in one line."""
        warned = [g.name for g in self.gates if g.outcome is GateOutcome.WARNED]
        held = sum(1 for g in self.gates if g.outcome is GateOutcome.PASSED)
        line = f"{held} of {len(self.gates)} gates hold"
        return f"{line}; warnings: {', '.join(warned)}" if warned else line


# Newer commits of the same pull request

CLAIM_MEMO = "claim"
"""Where a running validation carries its `Claim`."""


class Claim(Model):
    """Which validation of a pull request is the newest; running validations carry it as their memo.

    The later event counts, not the later delivery or start: hosts deliver out of order, and again.

    Attributes:
        asked_at: when the event happened, by its host's clock (see `DeploymentEvent.timestamp`); when the run
            started, where there was none.
    """

    validation_id: str
    application: str
    project: str | None
    pull_request: int
    asked_at: Time
    started_at: Time

    def rivals(self, other: Claim) -> bool:
        """Whether both are of the same pull request."""
        return self.validation_id != other.validation_id and (
            (self.application, self.project, self.pull_request)
            == (other.application, other.project, other.pull_request)
        )

    def newer_than(self, other: Claim) -> bool:
        """A total order, so that of two rivals each knows the same one to give way."""
        mine = (self.asked_at, self.started_at, self.validation_id)
        return mine > (other.asked_at, other.started_at, other.validation_id)


class Rivals(Model):
    """The other running validations of the same pull request.

    Attributes:
        newer: the newest of them, if it is newer than the one that asks.
        superseded: older ones that were told so.
    """

    newer: str | None = None
    superseded: tuple[str, ...] = ()


class Supersession(Message):
    """The signal ``supersede``: which validation of a newer commit takes over."""

    by: str = ""
