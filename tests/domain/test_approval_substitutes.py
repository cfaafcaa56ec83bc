"""Who decides when the right people are away: delegates, on-call people, and those who break the glass."""

from __future__ import annotations

from typing import Any

import pytest

from domain.approval import (
    ApprovalState,
    DecisionMessage,
    Verb,
    decide,
    deciders,
    escalate,
    presumed,
    refusal,
)
from domain.approval_settings import Delegation
from domain.identity import Identification, Proof
from tests.domain.gate import (
    ALICE,
    BOB,
    CAROL,
    DORA,
    FORGED,
    LEA,
    LEO,
    OLLI,
    OPENED,
    RITA,
    SIGNED,
    Gate,
    after,
)

AWAY = Delegation(person=ALICE, delegate=DORA, since=after(1), until=after(5))


# Delegation


def test_a_delegate_votes_for_who_is_away() -> None:
    gate = Gate(delegations=(AWAY,))
    gate.hour = 2

    assert gate.approve(DORA) is None

    (decision,) = gate.status.approvals
    assert (decision.actor, decision.on_behalf_of, decision.roles) == (DORA, ALICE, ("board",))
    assert gate.status.reason == "approved by dora@example.com for alice@example.com"


@pytest.mark.parametrize(
    ("hour", "because"),
    [
        (0, "before 2026-02-02 13:00 UTC; ask alice@example.com"),
        (5, "since 2026-02-02 17:00 UTC; ask alice@example.com"),
    ],
)
def test_a_delegate_is_nobody_outside_the_window(hour: int, because: str) -> None:
    gate = Gate(delegations=(AWAY,))
    gate.hour = hour

    assert because in str(gate.approve(DORA))
    assert because in str(gate.reject(DORA))
    assert gate.approve(ALICE) is None


def test_a_delegate_may_reject() -> None:
    gate = Gate(delegations=(AWAY,))
    gate.hour = 2

    assert gate.reject(DORA) is None

    assert gate.status.reason == "rejected by dora@example.com for alice@example.com"


@pytest.mark.parametrize(("first", "second"), [(ALICE, DORA), (DORA, ALICE)])
def test_who_is_away_and_the_delegate_are_one_vote(first: str, second: str) -> None:
    gate = Gate(delegations=(AWAY,), min_approvals=2)
    gate.hour = 2
    gate.approve(first)

    refused = gate.approve(second)

    assert refused == f"{first} has approved for alice@example.com already; 1 more person(s) needed"


def test_a_vote_that_was_given_outlives_the_delegation() -> None:
    gate = Gate(delegations=(AWAY,), min_approvals=2)
    gate.hour = 2
    gate.approve(DORA)

    gate.hour = 20
    gate.approve(ALICE)
    gate.approve(BOB)

    assert [d.actor for d in gate.status.approvals] == [DORA, BOB]
    assert gate.status.state is ApprovalState.APPROVED


def test_a_delegation_is_for_its_roles_only() -> None:
    lead_only = Delegation(person=ALICE, delegate=DORA, roles=("lead",))

    assert "holds none of the roles" in str(Gate(delegations=(lead_only,)).approve(DORA))
    gate = Gate(roles=("board", "lead"), delegations=(lead_only,))
    assert gate.approve(DORA) is None
    assert gate.status.approvals[0].roles == ("lead",)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"excluded": (DORA,)}, "dora@example.com asked for this deployment, and may not approve it"),
        ({"excluded": (ALICE,)}, "would approve for alice@example.com, who asked for this deployment"),
        ({"authors": (DORA,)}, "dora@example.com wrote what is deployed"),
        ({"authors": (ALICE,)}, "would approve for alice@example.com, who wrote what is deployed"),
    ],
)
def test_nobody_votes_for_themselves_by_way_of_another(changes: dict[str, Any], because: str) -> None:
    gate = Gate(delegations=(AWAY,), **changes)
    gate.hour = 2

    assert because in str(gate.approve(DORA))


def test_a_delegation_is_not_passed_on() -> None:
    chain = (AWAY, Delegation(person=DORA, delegate=OLLI))
    gate = Gate(delegations=chain)
    gate.hour = 2

    assert "holds none of the roles" in str(gate.approve(OLLI))


def test_who_holds_a_role_votes_for_themselves_and_for_nobody_else() -> None:
    gate = Gate(delegations=(Delegation(person=ALICE, delegate=BOB),), min_approvals=2)

    assert gate.approve(BOB) is None
    assert gate.status.approvals[0].on_behalf_of is None
    assert "has approved already" in str(gate.approve(BOB))
    assert gate.approve(ALICE) is None


def test_a_delegate_of_several_people_votes_once_and_where_it_helps() -> None:
    gate = Gate(
        rules=({"roles": ("board",)}, {"roles": ("lead",)}),
        delegations=(Delegation(person=BOB, delegate=DORA), Delegation(person=LEA, delegate=DORA)),
    )
    gate.approve(CAROL)

    assert gate.approve(DORA) is None

    assert gate.status.approvals[1].on_behalf_of == LEA
    assert gate.status.state is ApprovalState.APPROVED


def test_a_delegate_of_several_people_takes_the_seat_that_is_left() -> None:
    gate = Gate(
        delegations=(Delegation(person=RITA, delegate=DORA), Delegation(person=BOB, delegate=DORA)),
        min_approvals=2,
    )

    assert gate.approve(DORA) is None  # not for Rita, who asked
    assert gate.status.approvals[0].on_behalf_of == BOB
    assert "has approved already" in str(gate.approve(DORA))


def test_a_delegate_of_several_people_votes_for_one_of_them_only() -> None:
    both = (Delegation(person=ALICE, delegate=DORA), Delegation(person=BOB, delegate=DORA))
    gate = Gate(delegations=both, min_approvals=2)

    assert gate.approve(DORA) is None

    assert gate.approve(DORA) == "dora@example.com has approved already; 1 more person(s) needed"
    assert deciders(gate.status, gate.policy, gate.now) == (BOB, CAROL)


# On call


def test_on_call_people_hold_the_role_once_it_is_escalated() -> None:
    gate = Gate(on_call={"board": (OLLI,)})

    assert "before it is escalated" in str(gate.approve(OLLI))
    assert "before it is escalated" in str(gate.reject(OLLI))
    assert OLLI not in deciders(gate.status, gate.policy, gate.now)

    gate.status = escalate(gate.status, gate.policy, gate.now)

    assert OLLI in deciders(gate.status, gate.policy, gate.now)
    assert gate.approve(OLLI) is None
    assert gate.status.approvals[0].roles == ("board",)


def test_on_call_people_may_reject_once_it_is_escalated() -> None:
    gate = Gate(on_call={"board": (OLLI,)})
    gate.status = escalate(gate.status, gate.policy, gate.now)

    assert gate.reject(OLLI) is None
    assert gate.status.state is ApprovalState.REJECTED


def test_the_requester_on_call_may_still_not_approve() -> None:
    gate = Gate(on_call={"board": (OLLI,)}, excluded=(OLLI,))
    gate.status = escalate(gate.status, gate.policy, gate.now)

    assert "may not approve" in str(gate.approve(OLLI))


ABSENT_BOARD = {
    "roles": ("board", "lead"),
    "rules": ({"roles": ("board",)}, {"roles": ("lead",)}),
    "members": {"board": (ALICE,), "lead": (LEA,)},
    "delegations": (Delegation(person=ALICE, delegate=DORA),),
}


def test_an_escalation_takes_no_vote_away_from_a_delegate() -> None:
    """Dora decides for Alice, the only one of the board, and is on call for the leads."""
    gate = Gate(**ABSENT_BOARD, on_call={"lead": (DORA,)})
    gate.status = escalate(gate.status, gate.policy, gate.now)

    assert deciders(gate.status, gate.policy, gate.now) == (ALICE, DORA, LEA)
    assert gate.approve(DORA) is None
    assert gate.status.approvals[0].on_behalf_of == ALICE  # Lea can do for the leads, nobody for the board
    assert gate.approve(LEA) is None
    assert gate.status.state is ApprovalState.APPROVED


def test_of_two_seats_that_one_is_taken_which_nobody_else_has() -> None:
    """Bob can do for the board, and nobody but Dora for the leads: Lea asked."""
    changes = {**ABSENT_BOARD, "members": {"board": (ALICE, BOB), "lead": (LEA,)}}
    gate = Gate(**changes, on_call={"lead": (DORA,)}, excluded=(LEA,))
    gate.status = escalate(gate.status, gate.policy, gate.now)

    assert gate.approve(DORA) is None
    assert gate.status.approvals[0].on_behalf_of is None
    assert gate.status.approvals[0].roles == ("lead",)
    assert gate.approve(DORA) == "dora@example.com has approved already; 1 more person(s) needed"
    assert gate.approve(BOB) is None
    assert gate.status.state is ApprovalState.APPROVED


def test_a_member_on_call_has_one_seat_and_votes_for_nobody_else() -> None:
    delegated = (Delegation(person=ALICE, delegate=LEO),)
    gate = Gate(roles=("board", "lead"), on_call={"board": (LEO,)}, delegations=delegated, min_approvals=3)
    gate.status = escalate(gate.status, gate.policy, gate.now)

    assert gate.approve(LEO) is None
    assert gate.status.approvals[0].on_behalf_of is None
    assert gate.status.approvals[0].roles == ("board", "lead")


def test_on_call_people_do_not_pass_it_on() -> None:
    gate = Gate(on_call={"board": (OLLI,)}, delegations=(Delegation(person=OLLI, delegate=DORA),))
    gate.status = escalate(gate.status, gate.policy, gate.now)

    assert "holds none of the roles" in str(gate.approve(DORA))


# Break glass

GLASS = {
    "emergency": {
        "roles": ("incident_commander",),
        "members": {"incident_commander": (ALICE, RITA, OLLI, DORA)},
    },
    "min_approvals": 3,
}


def test_two_people_with_a_reason_break_the_glass() -> None:
    gate = Gate(**GLASS)

    assert gate.break_glass(OLLI, "customers are down") is None
    assert gate.status.decided_at is None
    assert gate.status.approvals_missing == 3
    assert gate.break_glass(DORA, "I see it too") is None

    assert gate.status.state is ApprovalState.APPROVED
    assert gate.status.reason == (
        "BREAK GLASS by olli@example.com, dora@example.com: customers are down; I see it too"
    )
    assert [d.roles for d in gate.status.emergency_approvals] == [("incident_commander",)] * 2


def test_the_requester_and_the_author_may_be_among_them() -> None:
    gate = Gate(**GLASS, authors=(OLLI,))

    assert gate.break_glass(RITA) is None
    assert gate.break_glass(OLLI) is None
    assert gate.status.state is ApprovalState.APPROVED


@pytest.mark.parametrize(
    ("actor", "reason", "because"),
    [
        (BOB, "customers are down", "holds none of the roles incident_commander that may break the glass"),
        (OLLI, "", "needs a reason"),
        (OLLI, " \n", "needs a reason"),
    ],
)
def test_the_glass_is_not_broken_by_anybody_or_without_a_reason(
    actor: str, reason: str, because: str
) -> None:
    assert because in str(Gate(**GLASS).break_glass(actor, reason))


def test_nobody_breaks_it_twice() -> None:
    gate = Gate(**GLASS)
    gate.break_glass(OLLI)

    assert gate.break_glass("OLLI@example.com") == (
        "OLLI@example.com has broken the glass already; 1 more person(s) needed"
    )


def test_votes_by_the_rules_and_emergency_votes_do_not_add_up() -> None:
    gate = Gate(**GLASS)
    gate.approve(ALICE)
    gate.approve(BOB)

    assert gate.break_glass(ALICE) is None

    assert gate.status.state is ApprovalState.PENDING
    assert gate.status.approvals_missing == 1
    assert gate.approve(CAROL) is None
    assert gate.status.reason == "approved by alice@example.com, bob@example.com, carol@example.com"


def test_where_the_glass_is_not_provided_for_it_cannot_be_broken() -> None:
    assert "cannot be broken" in str(Gate().break_glass(ALICE))


def test_a_rejection_is_a_rejection_also_in_an_emergency() -> None:
    gate = Gate(**GLASS)
    gate.break_glass(OLLI)

    assert "holds none of the roles board" in str(gate.reject(DORA, emergency=True))
    assert gate.reject(BOB, emergency=True) is None
    assert gate.status.state is ApprovalState.REJECTED


# Verified identity


@pytest.mark.parametrize("verb", [Verb.APPROVE, Verb.REJECT])
def test_where_decisions_must_be_signed_an_unsigned_one_is_told_how(verb: Verb) -> None:
    gate = Gate(require_verified=True)

    refused = str(gate.say(verb, ALICE))

    assert "counts signed decisions only" in refused
    assert f"set ERLMCP_DEPLOY_SIGNING_KEY and use erlmcp-deploy {verb}, or decide in Slack" in refused
    assert gate.say(verb, ALICE, identification=SIGNED) is None


def test_who_holds_no_role_is_not_sent_to_sign() -> None:
    assert "holds none of the roles" in str(Gate(require_verified=True).approve(DORA))


def test_the_glass_is_broken_only_by_signed_words_where_they_must_be() -> None:
    gate = Gate(**GLASS, require_verified=True)

    assert "signed decisions only" in str(gate.break_glass(OLLI))
    assert gate.break_glass(OLLI, identification=SIGNED) is None


def test_a_comment_is_signed_too_where_decisions_must_be() -> None:
    """Else anybody speaks at the gate in the name of whom they like."""
    gate = Gate(require_verified=True)

    assert "counts signed decisions only" in str(gate.comment(ALICE))
    assert gate.comment("guest@example.com", identification=SIGNED) is None
    assert Gate().comment("guest@example.com") is None


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("verb", list(Verb))
def test_a_wrong_signature_is_always_refused(verb: Verb, strict: bool) -> None:
    refused = Gate(require_verified=strict).say(verb, ALICE, identification=FORGED)

    assert refused == (
        "the decision is not proven to come from alice@example.com: the signature does not fit; sign it again"
    )


def test_a_signature_that_nobody_checked_is_worth_nothing() -> None:
    gate = Gate()
    signed = DecisionMessage(actor=ALICE, proof=Proof(signer="laptop", signature="c2ln"))

    assert "has not been checked" in str(refusal(gate.status, gate.policy, Verb.APPROVE, signed, OPENED))
    assert decide(gate.status, gate.policy, Verb.APPROVE, signed, OPENED) == gate.status
    first_look = presumed(signed)
    assert refusal(gate.status, gate.policy, Verb.APPROVE, signed, OPENED, first_look) is None
    assert presumed(DecisionMessage(actor=ALICE)) is None


def test_what_was_read_from_the_git_host_is_verified_and_obeys_the_same_rules() -> None:
    gate, evidence = Gate(require_verified=True, min_approvals=2), Identification(verified=True)
    for reviewer in (ALICE, RITA, ALICE):
        review = DecisionMessage(actor=reviewer, source="github")
        gate.status = decide(gate.status, gate.policy, Verb.APPROVE, review, OPENED, evidence)

    (decision,) = gate.status.approvals
    assert (decision.actor, decision.source, decision.verified) == (ALICE, "github", True)
