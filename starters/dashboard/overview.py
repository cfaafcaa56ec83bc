"""What the dashboard shows: one picture of everything, as ``GET /api/overview`` answers it."""

from __future__ import annotations

from datetime import datetime

from domain.durations import Duration
from domain.model import Model


class Stop(Model):
    """A freeze or hold: nothing is deployed while it lasts."""

    reason: str
    actor: str
    since: datetime
    until: datetime | None = None


class Soak(Model):
    """How far the live version is on its way to the next environment."""

    towards: str
    required: Duration
    done: Duration


class Turn(Model):
    """A deployment or roll-back that has its turn, or waits for it."""

    workflow_id: str
    version: str
    actor: str
    since: datetime | None = None
    url: str | None = None


class Stage(Model):
    """One environment of one application.

    Attributes:
        unknown: why nothing is known of it; none if what follows is known.
        used: something was deployed here, or is being.
    """

    environment: str
    production: bool = False
    unknown: str | None = None
    used: bool = False
    version: str | None = None
    commit: str | None = None
    since: datetime | None = None
    last_good: str | None = None
    soak: Soak | None = None
    turn: Turn | None = None
    queue: tuple[Turn, ...] = ()
    freeze: Stop | None = None
    hold: Stop | None = None
    held_versions: dict[str, Stop] = {}
    url: str | None = None


class Lane(Model):
    """An application on its way through the environments."""

    application: str
    stages: tuple[Stage, ...]


class Gate(Model):
    name: str
    outcome: str
    reason: str = ""


class Canary(Model):
    """The steps of a canary; `steps` are its weights in percent."""

    weight: int
    phase: str
    steps: tuple[int, ...] = ()
    paused: bool = False


class Running(Model):
    """A deployment or roll-back that runs.

    Attributes:
        unknown: why it does not answer; the rest is what the server knows then.
        stages: the states of the specification with ``done``, ``now`` or ``ahead``.
        ends_at: when what it waits for now should be over; deployments after their canary watch on.
    """

    workflow_id: str
    application: str
    environment: str
    version: str
    state: str
    unknown: str | None = None
    actor: str | None = None
    started_at: datetime | None = None
    since: datetime | None = None
    ends_at: datetime | None = None
    paused: bool = False
    previous_version: str | None = None
    waiting_for: str | None = None
    stages: tuple[tuple[str, str], ...] = ()
    gates: tuple[Gate, ...] = ()
    canary: Canary | None = None
    delivery: str | None = None
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    url: str | None = None


class Deciders(Model):
    """Who can still complete one rule of a gate."""

    roles: tuple[str, ...]
    people: tuple[str, ...]
    given: int
    needed: int


class Approval(Model):
    """A gate that waits for people."""

    workflow_id: str
    application: str
    environment: str
    version: str
    gate: str
    unknown: str | None = None
    rules: tuple[Deciders, ...] = ()
    any_rule: bool = False
    approved_by: tuple[str, ...] = ()
    requester: str | None = None
    since: datetime | None = None
    expires_at: datetime | None = None
    escalated: bool = False
    commands: tuple[str, ...] = ()
    url: str | None = None


class End(Model):
    """A deployment that ended; ``state`` is its own, or how Temporal ended it."""

    workflow_id: str
    application: str
    environment: str
    version: str
    state: str
    finished_at: datetime
    took: Duration | None = None
    actor: str | None = None
    reason: str | None = None
    url: str | None = None


class Validated(Model):
    """A commit that is, or was, held against the gates."""

    workflow_id: str
    application: str
    commit: str
    kind: str
    state: str
    running: bool
    at: datetime
    unknown: str | None = None
    ref: str | None = None
    pull_request: int | None = None
    gates: tuple[Gate, ...] = ()
    reason: str | None = None
    url: str | None = None


class Overview(Model):
    """Everything at one moment.

    Attributes:
        problems: what is not known, and why.
        blind: nothing that was asked has answered.
    """

    at: datetime
    problems: tuple[str, ...] = ()
    blind: bool = False
    approvals: tuple[Approval, ...] = ()
    lanes: tuple[Lane, ...] = ()
    running: tuple[Running, ...] = ()
    ends: tuple[End, ...] = ()
    validations: tuple[Validated, ...] = ()
