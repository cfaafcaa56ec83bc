"""No order of votes, comments, timers and duplicates reaches an approval that the rules forbid.

The oracle below knows people by their numbers, and tries every assignment of people to rules; it shares
nothing with the engine but the policy it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.approval import (
    COMMENTS_LIMIT,
    ApprovalPolicy,
    ApprovalRequest,
    ApprovalState,
    ApprovalStatus,
    Decision,
    DecisionMessage,
    EmergencyPolicy,
    OnTimeout,
    Verb,
    cancel,
    decide,
    deciders,
    escalate,
    expire,
    missing,
    next_event,
    open_approval,
    presumed,
    refusal,
    remind,
)
from domain.approval_settings import ApprovalRule, Delegation, Requirement
from domain.identity import Identification, Proof

OPENED = datetime(2026, 2, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PEOPLE = tuple(f"{name}@example.com" for name in ("ann", "bob", "cid", "dot", "eve", "fay", "gus"))
CROWD = range(len(PEOPLE))
MEMBERS = range(5)
"""The others are on call, delegates, or nobody."""
STRANGER = -1
ROLES = ("board", "lead", "ops")
SPELLINGS = (
    str,
    str.upper,
    lambda person: f"  {person}\t",
    lambda person: "".join(chr(ord(c) + 0xFEE0) for c in person),  # full width
    lambda person: person[:2] + "\u200b" + person[2:],
)
GENUINE = Identification(verified=True, signer="laptop")
FORGED = Identification(verified=False, reason="the signature does not fit")

some_people = st.sets(st.sampled_from(MEMBERS), min_size=1, max_size=4)
memberships = st.fixed_dictionaries(dict.fromkeys(ROLES, some_people))
roles_of_a_rule = st.lists(st.sampled_from(ROLES), min_size=1, max_size=2, unique=True).map(tuple)
hours = st.integers(-2, 14)


class Absence(NamedTuple):
    person: int
    delegate: int
    since: int | None
    until: int | None
    roles: tuple[str, ...]


class World(NamedTuple):
    """A policy in the words of the oracle: people are numbers, times are hours after the opening."""

    members: dict[str, set[int]]
    on_call: dict[str, set[int]]
    rules: tuple[tuple[tuple[str, ...], int], ...]
    every_rule: bool
    requesters: set[int]
    authors: set[int]
    absences: tuple[Absence, ...]
    breakers: set[int] | None
    signed_only: bool
    silence_approves: bool
    lasts: int
    reminders: tuple[int, ...]
    escalated_before: int | None


worlds = st.builds(
    World,
    members=memberships,
    on_call=st.fixed_dictionaries(dict.fromkeys(ROLES, st.sets(st.sampled_from(CROWD), max_size=2))),
    rules=st.lists(
        st.tuples(roles_of_a_rule, st.sampled_from((1, 2, 2, 3))),
        min_size=1,
        max_size=3,
    ).map(tuple),
    every_rule=st.sampled_from((True, True, False)),
    requesters=st.sets(st.sampled_from(CROWD), max_size=1),
    authors=st.sets(st.sampled_from(CROWD), max_size=1),
    absences=st.lists(
        st.builds(
            Absence,
            person=st.sampled_from((*MEMBERS, *CROWD)),
            delegate=st.sampled_from((5, 6, 5, 6, *CROWD)),  # some have several people to decide for
            since=st.none() | st.none() | hours,
            until=st.none() | st.none() | hours,
            roles=st.lists(st.sampled_from(ROLES), max_size=2, unique=True).map(tuple),
        ),
        min_size=1,
        max_size=5,
    ).map(tuple),
    breakers=st.none() | st.sets(st.sampled_from(CROWD), max_size=4),
    signed_only=st.booleans(),
    silence_approves=st.booleans(),
    lasts=st.integers(6, 30),
    reminders=st.lists(st.integers(1, 31), max_size=3, unique=True).map(tuple),
    escalated_before=st.none() | st.integers(0, 31),
)  # fmt: skip


def names(people: set[int]) -> tuple[str, ...]:
    return tuple(PEOPLE[p] for p in sorted(people))


def at(hour: int | None) -> datetime | None:
    return None if hour is None else OPENED + hour * HOUR


def policy_of(world: World) -> ApprovalPolicy:
    ((roles, needed), *further) = world.rules
    return ApprovalPolicy(
        gate="manual_approval",
        # Requests that were recorded earlier have no rules, but one set of roles.
        roles=roles,
        min_approvals=needed,
        rules=tuple(ApprovalRule(roles=r, min_approvals=n) for r, n in world.rules) if further else (),
        require=Requirement.ALL if world.every_rule else Requirement.ANY,
        members={role: names(people) for role, people in world.members.items()},
        on_call={role: names(people) for role, people in world.on_call.items()},
        excluded=names(world.requesters),
        authors=names(world.authors),
        delegations=tuple(
            Delegation(
                person=PEOPLE[a.person],
                delegate=PEOPLE[a.delegate],
                since=at(a.since),
                until=at(a.until),
                roles=a.roles,
            )
            for a in world.absences
        ),
        emergency=None
        if world.breakers is None
        else EmergencyPolicy(roles=("breaker",), members={"breaker": names(world.breakers)}, people=2),
        require_verified=world.signed_only,
        on_timeout=OnTimeout.APPROVE if world.silence_approves else OnTimeout.REJECT,
        timeout=world.lasts * HOUR,
        reminders=tuple(h * HOUR for h in world.reminders),
        escalate_before=None if world.escalated_before is None else world.escalated_before * HOUR,
    )


def opened(policy: ApprovalPolicy) -> ApprovalStatus:
    request = ApprovalRequest(
        deployment_id="deployment:erlmcp:production:3.0.0",
        application="erlmcp",
        environment="production",
        version="3.0.0",
        requester="ann@example.com",
        policy=policy,
    )
    return open_approval(request, OPENED)


class Vote(NamedTuple):
    voter: int
    seat: int
    roles: frozenset[str]


class Oracle:
    """What must have come of it, told from the rules and from what was said."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hour = 0
        self.escalated = False
        self.votes: list[Vote] = []
        self.broken: list[int] = []
        self.comments = 0
        self.ended: ApprovalState | None = None

    # Who may

    def held(self, person: int, *, standing_in: bool) -> frozenset[str]:
        asked = {role for roles, _ in self.world.rules for role in roles}
        held = {r for r in asked if person in self.world.members[r]}
        if standing_in:
            held |= {r for r in asked if person in self.world.on_call[r]}
        return frozenset(held)

    def seats(self, person: int) -> list[Vote]:
        own = self.held(person, standing_in=self.escalated)
        found = [Vote(person, person, own)] if own else []
        if self.held(person, standing_in=False):
            return found
        for absence in self.world.absences:
            begun = absence.since is None or absence.since <= self.hour
            over = absence.until is not None and absence.until <= self.hour
            roles = self.held(absence.person, standing_in=False)
            if absence.roles:
                roles &= set(absence.roles)
            if absence.delegate == person and begun and not over and roles:
                found.append(Vote(person, absence.person, roles))
        return found

    def open_seats(self, person: int) -> list[Vote]:
        banned = self.world.requesters | self.world.authors
        voters, seats = {v.voter for v in self.votes}, {v.seat for v in self.votes}
        if person in banned or person in voters:
            return []
        return [v for v in self.seats(person) if v.seat not in seats | banned]

    # What it comes to

    def lacking(self) -> int:
        """How many people who may do everything would have to vote as well."""
        rules = self.world.rules
        if not self.world.every_rule:
            fitting = [sum(not v.roles.isdisjoint(roles) for v in self.votes) for roles, _ in rules]
            return min(max(0, needed - fit) for (_, needed), fit in zip(rules, fitting, strict=True))
        places = tuple(needed for _, needed in rules)
        return sum(places) - self.most_placed(0, places)

    def most_placed(self, first: int, places: tuple[int, ...]) -> int:
        """Try every way of giving the votes from `first` on to the places that are left, or to none."""
        if first == len(self.votes):
            return 0
        ways = [self.most_placed(first + 1, places)]
        for index, (roles, _) in enumerate(self.world.rules):
            if places[index] and not self.votes[first].roles.isdisjoint(roles):
                left = (*places[:index], places[index] - 1, *places[index + 1 :])
                ways.append(1 + self.most_placed(first + 1, left))
        return max(ways)

    def satisfied(self) -> bool:
        return self.lacking() == 0


class Approvals(RuleBasedStateMachine):
    """One gate and everybody who has something to say at it."""

    @initialize(world=worlds)
    def a_gate_opens(self, world: World) -> None:
        self.oracle = Oracle(world)
        self.policy = policy_of(world)
        self.status = opened(self.policy)
        self.fired: list[tuple[str, datetime]] = []

    @property
    def now(self) -> datetime:
        return OPENED + self.oracle.hour * HOUR

    def becomes(self, status: ApprovalStatus, *, changed: bool) -> None:
        before, self.status = self.status, status
        if not changed:
            assert status == before
            return
        assert before.state is ApprovalState.PENDING, "a closed approval changed"
        assert status.revision == before.revision + 1
        for field in ("received_approvals", "received_rejections", "comments"):
            kept = getattr(before, field)
            assert getattr(status, field)[: len(kept)] == kept, f"{field} were rewritten"

    # People

    def says(
        self,
        verb: Verb,
        person: int,
        spelling: int,
        signature: str,
        gate: str | None,
        *,
        emergency: bool,
        comment: str,
    ) -> tuple[str | None, bool]:
        """Somebody says something: why it was refused, and whether it would be refused whoever said it."""
        actor = "mallory@example.com" if person == STRANGER else SPELLINGS[spelling](PEOPLE[person])
        message = DecisionMessage(
            actor=actor,
            comment=comment,
            gate=gate,
            emergency=emergency,
            at={"genuine": self.status.expires_at, "belated": self.status.expires_at + HOUR / 60}.get(
                signature,
                datetime.max.replace(tzinfo=UTC),  # what nobody signed says nothing
            ),
            proof=Proof(signer="laptop", signature="c2ln")
            if signature in ("genuine", "belated", "forged", "unchecked")
            else None,
        )
        identification = {
            "genuine": GENUINE,
            "belated": GENUINE,
            "forged": FORGED,
            "evidence": Identification(verified=True),
        }.get(signature)
        refused = refusal(self.status, self.policy, verb, message, self.now, identification)
        after = decide(self.status, self.policy, verb, message, self.now, identification)
        self.becomes(after, changed=refused is None)
        hopeless = (
            self.oracle.ended is not None
            or signature in ("forged", "unchecked", "belated")
            or gate == "another"
        )
        return refused, hopeless

    unproven = st.sampled_from(
        (*["genuine"] * 4, *["unsigned"] * 2, "forged", "unchecked", "belated", "evidence")
    )
    anybody = st.sampled_from((*CROWD, *CROWD, STRANGER))
    spelt = st.integers(0, len(SPELLINGS) - 1)
    gates = st.sampled_from((None,) * 4 + ("manual_approval", "another"))

    @rule(person=anybody, spelling=spelt, signature=unproven, gate=gates)
    def approves(self, person: int, spelling: int, signature: str, gate: str | None) -> None:
        seats = self.oracle.open_seats(person)
        may = bool(seats) and (signature != "unsigned" or not self.oracle.world.signed_only)
        refused, hopeless = self.says(
            Verb.APPROVE, person, spelling, signature, gate, emergency=False, comment="LGTM"
        )
        assert (refused is None) == (may and not hopeless), refused
        if refused is None:
            decision = self.status.received_approvals[-1]
            (vote,) = [s for s in seats if self.is_vote(decision, s)][:1]
            self.oracle.votes.append(vote)
            assert decision.verified == (signature in ("genuine", "evidence"))
            if self.oracle.satisfied():
                self.oracle.ended = ApprovalState.APPROVED

    # Chance alone would find those who may too rarely.
    willing = st.sampled_from(("genuine", "genuine", "unsigned"))

    @precondition(lambda self: any(self.oracle.open_seats(p) for p in CROWD))
    @rule(data=st.data(), spelling=spelt, signature=willing)
    def somebody_who_may_approves(self, data: st.DataObject, spelling: int, signature: str) -> None:
        person = data.draw(st.sampled_from([p for p in CROWD if self.oracle.open_seats(p)]))
        self.approves(person=person, spelling=spelling, signature=signature, gate=None)

    @precondition(lambda self: self.oracle.world.breakers)
    @rule(data=st.data(), spelling=spelt, signature=willing)
    def somebody_who_may_breaks_the_glass(self, data: st.DataObject, spelling: int, signature: str) -> None:
        person = data.draw(st.sampled_from(sorted(self.oracle.world.breakers or ())))
        self.breaks_the_glass(person=person, spelling=spelling, signature=signature, reason="all is down")

    def is_vote(self, decision: Decision, vote: Vote) -> bool:
        absent = None if vote.seat == vote.voter else PEOPLE[vote.seat]
        return decision.on_behalf_of == absent and set(decision.roles) == vote.roles

    @rule(
        person=anybody,
        spelling=spelt,
        signature=unproven,
        reason=st.sampled_from(("", "  ", "customers are down")),
    )
    def breaks_the_glass(self, person: int, spelling: int, signature: str, reason: str) -> None:
        oracle = self.oracle
        may = (
            person in (oracle.world.breakers or ())
            and person not in oracle.broken
            and bool(reason.strip())
            and (signature != "unsigned" or not oracle.world.signed_only)
        )
        refused, hopeless = self.says(
            Verb.APPROVE, person, spelling, signature, None, emergency=True, comment=reason
        )
        assert (refused is None) == (may and not hopeless), refused
        if refused is None:
            oracle.broken.append(person)
            if len(oracle.broken) == 2:
                oracle.ended = ApprovalState.APPROVED
                assert (self.status.reason or "").startswith("BREAK GLASS by ")

    @precondition(lambda self: self.oracle.hour > 3)  # else few gates would live long enough to be approved
    @rule(person=anybody, spelling=spelt, signature=unproven, gate=gates, emergency=st.booleans())
    def rejects(self, person: int, spelling: int, signature: str, gate: str | None, emergency: bool) -> None:
        may = bool(self.oracle.seats(person)) and (
            signature != "unsigned" or not self.oracle.world.signed_only
        )
        refused, hopeless = self.says(
            Verb.REJECT, person, spelling, signature, gate, emergency=emergency, comment=""
        )
        assert (refused is None) == (may and not hopeless), refused
        if refused is None:
            self.oracle.ended = ApprovalState.REJECTED

    @rule(person=anybody, spelling=spelt, signature=unproven, gate=gates)
    def comments(self, person: int, spelling: int, signature: str, gate: str | None) -> None:
        refused, hopeless = self.says(
            Verb.COMMENT, person, spelling, signature, gate, emergency=False, comment="why now?"
        )
        may = signature != "unsigned" or not self.oracle.world.signed_only
        assert (refused is None) == (may and not hopeless and self.oracle.comments < COMMENTS_LIMIT), refused
        if refused is None:
            self.oracle.comments += 1

    # Time

    @rule(by=st.integers(1, 3))
    def time_goes_by(self, by: int) -> None:
        self.oracle.hour += by

    @precondition(lambda self: self.oracle.hour > self.oracle.world.lasts - 3 or not self.expires_next())
    @rule()
    def the_next_timer_fires(self) -> None:
        """Also when it is overdue, as the worker was down."""
        timer, due = next_event(self.status, self.policy)
        assert next_event(self.status, self.policy) == (timer, due)
        assert OPENED < due <= self.status.expires_at
        if self.status.state is not ApprovalState.PENDING:
            return
        assert (timer, due) not in self.fired, "a timer came twice"
        if timer == "reminder":
            # Only what came due since people heard last; never a burst after a pause.
            assert all(due > moment for kind, moment in self.fired if kind == "reminder")
            assert self.status.reminded_at is None or due > self.status.reminded_at
        self.fired.append((timer, due))
        self.oracle.hour = max(self.oracle.hour, -(-(due - OPENED) // HOUR))
        if timer == "reminder":
            self.becomes(remind(self.status, self.now), changed=True)
            assert self.status.reminders == sum(kind == "reminder" for kind, _ in self.fired)
        elif timer == "escalation":
            self.becomes(escalate(self.status, self.policy, self.now), changed=True)
            self.oracle.escalated = True
        else:
            self.time_runs_out()

    def expires_next(self) -> bool:
        return next_event(self.status, self.policy)[0] == "expiry"

    def time_runs_out(self) -> None:
        world = self.oracle.world
        self.becomes(expire(self.status, self.policy, self.now), changed=True)
        silence = world.silence_approves and not world.signed_only
        self.oracle.ended = ApprovalState.APPROVED if silence else ApprovalState.EXPIRED

    @precondition(lambda self: self.oracle.ended is not None)
    @rule()
    def nothing_moves_what_has_ended(self) -> None:
        self.becomes(remind(self.status, self.now), changed=False)
        self.becomes(escalate(self.status, self.policy, self.now), changed=False)
        self.becomes(expire(self.status, self.policy, self.now), changed=False)
        self.becomes(cancel(self.status, self.now), changed=False)

    # What always holds

    @invariant()
    def it_stands_as_the_oracle_says(self) -> None:
        oracle, status = self.oracle, self.status
        assert status.state is (oracle.ended or ApprovalState.PENDING)
        assert (status.decided_at is None) == (status.reason is None) == (oracle.ended is None)
        assert len(status.comments) == oracle.comments
        assert len(status.approvals) == len(oracle.votes)
        assert status.approvals_missing == oracle.lacking()
        if oracle.ended is None:
            assert not oracle.satisfied()
            assert len(oracle.broken) < 2

    @invariant()
    def nobody_counts_who_may_not(self) -> None:
        oracle = self.oracle
        banned = oracle.world.requesters | oracle.world.authors
        assert not {v.voter for v in oracle.votes} & banned
        assert not {v.seat for v in oracle.votes} & banned
        assert (
            len({v.voter for v in oracle.votes}) == len({v.seat for v in oracle.votes}) == len(oracle.votes)
        )
        assert len(set(oracle.broken)) == len(oracle.broken) == len(self.status.emergency_approvals)
        counted = [who for rule in self.status.progress for who in rule.counted]
        if oracle.world.every_rule:
            assert len(set(counted)) == len(counted), "one person counts for two rules"

    @invariant()
    def those_are_named_who_can_still_approve(self) -> None:
        open_now = self.oracle.ended is None
        progress = missing(self.status, self.policy, self.now)
        assert [(r.roles, r.needed) for r in progress] == list(self.oracle.world.rules)[: len(progress)]
        for rule_ in progress:
            expected = {
                PEOPLE[p]
                for p in CROWD
                if open_now and any(not s.roles.isdisjoint(rule_.roles) for s in self.oracle.open_seats(p))
            }
            assert set(rule_.open_to) == expected
        meant = {p for rule_ in progress if rule_.missing for p in rule_.open_to}
        assert set(deciders(self.status, self.policy, self.now)) == meant

    @invariant()
    def it_survives_being_stored(self) -> None:
        assert ApprovalStatus.model_validate_json(self.status.model_dump_json()) == self.status


Approvals.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestApprovals = Approvals.TestCase


anything = (
    st.text(max_size=30)
    | st.text("\x00\n\r\t '\"{}%<&\u202e\u200b\U0001f600", max_size=400)
    | st.just("x" * 9000)
)
messages: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "actor": st.sampled_from(PEOPLE) | anything,
        "comment": anything,
        "source": anything,
        "gate": st.none() | anything | st.just("manual_approval"),
        "id": st.none() | anything,
        "emergency": st.booleans(),
        "at": st.none() | st.datetimes(timezones=st.none() | st.just(UTC)),
        "proof": st.none() | st.fixed_dictionaries({}, optional={"signer": anything, "signature": anything}),
        "reply_to": st.none() | anything,
        "a field of a newer sender": st.integers(),
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    world=worlds, said=st.lists(st.tuples(st.sampled_from(Verb), messages), max_size=5), checked=st.booleans()
)
def test_whatever_a_message_contains_it_is_counted_or_refused_in_words(
    world: World, said: Sequence[tuple[Verb, dict[str, Any]]], checked: bool
) -> None:
    policy = policy_of(world)
    status = opened(policy)
    for verb, content in said:
        message = DecisionMessage.model_validate(content)
        identification = presumed(message) if checked else None

        refused = refusal(status, policy, verb, message, OPENED, identification)
        after = decide(status, policy, verb, message, OPENED, identification)

        assert (after == status) == (refused is not None)
        assert refused is None or 0 < len(refused) < 1500
        status = after
    assert ApprovalStatus.model_validate_json(status.model_dump_json()) == status
