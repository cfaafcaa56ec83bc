"""Approvals: distinct people, each with a role, never the requester; one rejection ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.approval import (
    ApprovalPolicy,
    ApprovalRequest,
    ApprovalState,
    ApprovalStatus,
    DecisionMessage,
    OnTimeout,
    Verb,
    decide,
    expire,
    identity,
    open_approval,
    refusal,
)

OPENED = datetime(2026, 2, 2, 12, tzinfo=UTC)
PEOPLE = (
    "alice@example.com",
    "bob@example.com",
    "carol@example.com",
    "rita@example.com",
    "mallory@example.com",
)
POLICY = ApprovalPolicy(
    gate="manual_approval",
    roles=("change_board",),
    members={
        "change_board": ("alice@example.com", "Bob@Example.com", "carol@example.com", "rita@example.com")
    },
    excluded=("rita@example.com",),
)


def opened(policy: ApprovalPolicy = POLICY) -> ApprovalStatus:
    request = ApprovalRequest(
        deployment_id="deployment:erlmcp:production:3.0.0",
        application="erlmcp",
        environment="production",
        version="3.0.0",
        requester="rita@example.com",
        policy=policy,
    )
    return open_approval(request, OPENED)


def said(actor: str, comment: str = "") -> DecisionMessage:
    return DecisionMessage(actor=actor, comment=comment)


def after(status: ApprovalStatus, policy: ApprovalPolicy, *votes: tuple[str, Verb]) -> ApprovalStatus:
    for minute, (actor, verb) in enumerate(votes):
        status = decide(status, policy, verb, said(actor), OPENED + timedelta(minutes=minute))
    return status


def test_a_fresh_approval_waits_for_72_hours() -> None:
    status = opened()

    assert status.state is ApprovalState.PENDING
    assert status.id == "approval:erlmcp:production:3.0.0:manual_approval"
    assert status.expires_at - status.created_at == timedelta(hours=72)
    assert status.approvals_missing == 1


def test_one_approval_of_the_board_is_enough_by_default() -> None:
    status = decide(opened(), POLICY, Verb.APPROVE, said(" Alice@example.com ", "LGTM"), OPENED)

    assert status.state is ApprovalState.APPROVED
    assert status.reason == "approved by Alice@example.com"
    decision = status.received_approvals[0]
    assert (decision.roles, decision.comment, decision.at) == (("change_board",), "LGTM", OPENED)


@pytest.mark.parametrize(
    ("actor", "verb", "because"),
    [
        ("", Verb.APPROVE, "names no actor"),
        ("   ", Verb.COMMENT, "names no actor"),
        ("mallory@example.com", Verb.APPROVE, "holds none of the roles"),
        ("mallory@example.com", Verb.REJECT, "holds none of the roles"),
        ("rita@example.com", Verb.APPROVE, "may not approve"),
        (" RITA@example.com", Verb.APPROVE, "may not approve"),
    ],
)
def test_who_may_not_decide_changes_nothing_and_is_told_why(actor: str, verb: Verb, because: str) -> None:
    status = opened()

    reason = refusal(status, POLICY, verb, said(actor), OPENED)

    assert reason is not None
    assert because in reason
    assert decide(status, POLICY, verb, said(actor), OPENED) == status


def test_a_second_vote_of_the_same_person_does_not_count() -> None:
    policy = POLICY.model_copy(update={"min_approvals": 2})
    once = after(opened(policy), policy, ("bob@example.com", Verb.APPROVE))

    twice = after(once, policy, ("BOB@example.com ", Verb.APPROVE))

    assert twice == once
    assert twice.approvals_missing == 1


def test_a_quorum_needs_distinct_people() -> None:
    policy = POLICY.model_copy(update={"min_approvals": 2})

    status = after(
        opened(policy), policy, ("bob@example.com", Verb.APPROVE), ("alice@example.com", Verb.APPROVE)
    )

    assert status.state is ApprovalState.APPROVED
    assert status.reason == "approved by bob@example.com, alice@example.com"


def test_one_rejection_ends_it_even_after_approvals() -> None:
    policy = POLICY.model_copy(update={"min_approvals": 2})

    status = after(
        opened(policy), policy, ("bob@example.com", Verb.APPROVE), ("bob@example.com", Verb.REJECT)
    )

    assert status.state is ApprovalState.REJECTED
    assert after(status, policy, ("alice@example.com", Verb.APPROVE)) == status


def test_comments_never_decide_and_anybody_may_make_them() -> None:
    status = after(opened(), POLICY, ("mallory@example.com", Verb.COMMENT))

    assert status.state is ApprovalState.PENDING
    assert [c.actor for c in status.comments] == ["mallory@example.com"]


@pytest.mark.parametrize(
    ("on_timeout", "state"),
    [(OnTimeout.REJECT, ApprovalState.EXPIRED), (OnTimeout.APPROVE, ApprovalState.APPROVED)],
)
def test_when_time_runs_out_the_policy_speaks(on_timeout: OnTimeout, state: ApprovalState) -> None:
    policy = POLICY.model_copy(update={"on_timeout": on_timeout})

    status = expire(opened(policy), policy, OPENED + timedelta(hours=72))

    assert status.state is state
    assert status.decided_at == OPENED + timedelta(hours=72)
    assert after(status, policy, ("alice@example.com", Verb.APPROVE)) == status


def test_what_is_decided_does_not_expire() -> None:
    status = after(opened(), POLICY, ("alice@example.com", Verb.APPROVE))

    assert expire(status, POLICY, OPENED + timedelta(days=9)) == status


def test_nobody_can_approve_where_nobody_holds_the_role() -> None:
    policy = ApprovalPolicy(gate="manual_approval", roles=("change_board",))

    assert after(opened(policy), policy, *((p, Verb.APPROVE) for p in PEOPLE)).state is ApprovalState.PENDING


_SPELLINGS = st.builds(
    lambda person, upper, blank: (person.upper() if upper else person) + " " * blank,
    st.sampled_from([*PEOPLE, ""]),
    st.booleans(),
    st.integers(0, 1),
)


@settings(max_examples=300)
@given(
    votes=st.lists(st.tuples(_SPELLINGS, st.sampled_from(Verb)), max_size=12),
    needed=st.integers(1, 3),
)
def test_no_order_of_votes_yields_an_approval_the_rules_forbid(
    votes: list[tuple[str, Verb]], needed: int
) -> None:
    policy = POLICY.model_copy(update={"min_approvals": needed})
    allowed = {"alice@example.com", "bob@example.com", "carol@example.com"}

    status = opened(policy)
    for minute, (actor, verb) in enumerate(votes):
        before = status
        now = OPENED + timedelta(minutes=minute)
        status = decide(status, policy, verb, said(actor), now)
        if before.state is not ApprovalState.PENDING:
            assert status == before, "a closed approval changed"
        if (refusal(before, policy, verb, said(actor), now) is None) is (status == before):
            pytest.fail("what is refused must change nothing, what is not must count")

    approvers = [identity(d.actor) for d in status.received_approvals]
    assert len(set(approvers)) == len(approvers)
    assert set(approvers) <= allowed
    # Told again from scratch: the first rejection by a member, or the quorum, whichever came first.
    people: set[str] = set()
    expected = ApprovalState.PENDING
    for actor, verb in votes:
        person = identity(actor)
        if verb is Verb.REJECT and person in allowed | {"rita@example.com"}:
            expected = ApprovalState.REJECTED
        elif verb is Verb.APPROVE and person in allowed:
            people.add(person)
            if len(people) == needed:
                expected = ApprovalState.APPROVED
        if expected is not ApprovalState.PENDING:
            break
    assert status.state is expected
