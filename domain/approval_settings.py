"""How an environment's approval gate is decided (spec: Manual Approval Gate; design, section 5)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Literal

from pydantic import Field

from domain.durations import Duration
from domain.model import Model
from domain.times import Time


class Requirement(StrEnum):
    """Whether all rules of a gate must be satisfied, or any one of them."""

    ALL = "all"
    ANY = "any"


class ApprovalRule(Model):
    """So many distinct people of one of these roles.

    Attributes:
        roles: any one of them entitles.
        min_approvals: distinct people needed.
    """

    roles: tuple[str, ...] = Field(min_length=1)
    min_approvals: int = Field(default=1, ge=1)


class Delegation(Model):
    """Somebody decides for somebody else for a while.

    Attributes:
        person: who is away.
        delegate: who decides in their place.
        since: from when on; without it, from now on.
        until: until when; without it, until it is removed.
        roles: the roles it is for; none means all of them.
    """

    person: str
    delegate: str
    since: Time | None = None
    until: Time | None = None
    roles: tuple[str, ...] = ()


class ApprovalSettings(Model):
    """How the approval gate of an environment is decided.

    Attributes:
        rules: what must be satisfied in place of the environment's ``approval`` and ``min_approvals``.
        require: all of the rules, or any one of them.
        exclude: who may not approve: the requester, and the authors of the commits.
        reminders: after how long people are reminded; those after the gate's time are never sent.
        escalate_before: how long before the gate expires it is escalated: on-call people may decide too.
        evidence: reviews of a merged pull request count as approvals; by default not in production.
        emergency_roles: who may break the glass; none means nobody.
        emergency_people: how many of them it takes.
    """

    rules: tuple[ApprovalRule, ...] = ()
    require: Requirement = Requirement.ALL
    exclude: tuple[Literal["requester", "author"], ...] = ("requester",)
    reminders: tuple[Duration, ...] = (
        timedelta(hours=4),
        timedelta(hours=12),
        timedelta(hours=24),
        timedelta(hours=48),
    )
    escalate_before: Duration | None = timedelta(hours=6)
    evidence: bool | None = None
    emergency_roles: tuple[str, ...] = ()
    emergency_people: int = Field(default=2, ge=2)
