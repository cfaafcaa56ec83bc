"""Who may decide at one moment, and whose vote theirs is: members, on-call people and delegates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from domain.approval.models import (
    ApprovalPolicy,
    ApprovalState,
    ApprovalStatus,
    Decision,
    RuleProgress,
    identity,
)
from domain.approval.quorum import progress
from domain.approval_settings import Delegation


class Seat(NamedTuple):
    """A vote: whose it is, in which roles, and whether somebody else casts it for them."""

    person: str
    roles: tuple[str, ...]
    on_behalf_of: str | None = None


class Electorate:
    """The people of a gate as they stand at `now`.

    A member has a seat of their own and votes for nobody else; on-call people hold their role once the gate
    is escalated. A delegate has the seat of a member who is away, and keeps it when being on call adds a seat
    of their own: an escalation takes no vote away. Neither delegates nor on-call people pass it on.
    """

    def __init__(self, status: ApprovalStatus, policy: ApprovalPolicy, now: datetime) -> None:
        self._policy = policy
        self._members = members = _by_person(policy, policy.members)
        escalated = status.escalated_at is not None
        self._own = _by_person(policy, policy.members, policy.on_call) if escalated else members
        self._delegated: dict[str, list[Seat]] = {}
        for delegation in policy.delegations:
            if _covers(delegation, now):
                held = members.get(identity(delegation.person), ())
                roles = tuple(r for r in held if not delegation.roles or r in delegation.roles)
                if roles:
                    absent = delegation.person.strip()
                    seats = self._delegated.setdefault(identity(delegation.delegate), [])
                    seats.append(Seat(absent, roles, on_behalf_of=absent))
        self._absent = {identity(s.person) for seats in self._delegated.values() for s in seats}
        self._requesters = {identity(p) for p in policy.excluded}
        self._authors = {identity(p) for p in policy.authors}
        self._voted = {identity(d.actor) for d in status.approvals}
        self._taken = {identity(d.seat): d for d in status.approvals}

    def seats(self, person: str) -> Sequence[Seat]:
        """The seats from which this person can decide."""
        key = identity(person)
        own = [Seat(person.strip(), self._own[key])] if key in self._own else []
        return own if key in self._members else [*own, *self._delegated.get(key, ())]

    def open_seats(self, person: str) -> list[Seat]:
        """The seats from which this person can still approve; only from one of them."""
        if self.has_approved(person) or self.barred(person) is not None:
            return []
        free = [s for s in self.seats(person) if self.taken(s) is None]
        return [s for s in free if self.barred(s.person) is None]

    def has_approved(self, person: str) -> bool:
        return identity(person) in self._voted

    def taken(self, seat: Seat) -> Decision | None:
        """The approval that this seat has given already, by whoever has it."""
        return self._taken.get(identity(seat.person))

    def absent(self, person: str) -> bool:
        """Whether somebody else decides for this person now; if they do it themselves, it counts too."""
        return identity(person) in self._absent

    def barred(self, person: str) -> str | None:
        """What keeps this person from approving; none if nothing does."""
        if identity(person) in self._requesters:
            return "asked for this deployment"
        if identity(person) in self._authors:
            return "wrote what is deployed"
        return None

    def people(self) -> list[str]:
        """Everybody who has a seat, as the directory writes them."""
        policy = self._policy
        listed = [
            *(p for role in policy.deciding_roles for p in policy.members.get(role, ())),
            *(p for role in policy.deciding_roles for p in policy.on_call.get(role, ())),
            *(d.delegate for d in policy.delegations),
        ]
        people = {identity(p): p.strip() for p in reversed(listed)}
        return sorted(p for p in people.values() if self.seats(p))


def missing(status: ApprovalStatus, policy: ApprovalPolicy, now: datetime) -> tuple[RuleProgress, ...]:
    """How far each rule is, and who can still approve for it."""
    voters = Electorate(status, policy, now)
    pending = status.state is ApprovalState.PENDING
    seats = {p: voters.open_seats(p) for p in voters.people()} if pending else {}

    def may_approve(rule: RuleProgress, person: str) -> bool:
        return any(not set(seat.roles).isdisjoint(rule.roles) for seat in seats[person])

    return tuple(
        rule.model_copy(update={"open_to": tuple(p for p in seats if may_approve(rule, p))})
        for rule in progress(policy, status.approvals)
    )


def deciders(status: ApprovalStatus, policy: ApprovalPolicy, now: datetime) -> tuple[str, ...]:
    """Everybody whose approval would still help: whom a request, a reminder or an escalation is meant for."""
    return tuple(sorted({p for rule in missing(status, policy, now) if rule.missing for p in rule.open_to}))


def _covers(delegation: Delegation, now: datetime) -> bool:
    begun = delegation.since is None or delegation.since <= now
    return begun and (delegation.until is None or now < delegation.until)


def _by_person(policy: ApprovalPolicy, *members: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    held: dict[str, tuple[str, ...]] = {}
    for role in policy.deciding_roles:
        for person in {identity(p) for group in members for p in group.get(role, ())} - {""}:
            held[person] = (*held.get(person, ()), role)
    return held
