"""Several rules at one gate: distinct people, each for one rule, and who is told to be missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from domain.approval import (
    ApprovalState,
    ApprovalStatus,
    DecisionMessage,
    Verb,
    deciders,
    missing,
    presumed,
    refusal,
    with_authors,
)
from domain.approval.quorum import Quorum, assign
from domain.approval_settings import Requirement
from domain.identity import Proof
from tests.domain.gate import ALICE, BOB, CAROL, LEA, LEO, OPENED, RITA, SIGNED, Gate, after, policy

BOARD_AND_LEAD = {
    "rules": ({"roles": ("board",), "min_approvals": 1}, {"roles": ("lead",), "min_approvals": 1}),
}
TWO_AND_LEAD = {
    "rules": ({"roles": ("board",), "min_approvals": 2}, {"roles": ("lead",), "min_approvals": 1}),
}


@pytest.mark.parametrize(
    ("rules", "people", "state"),
    [
        # One of the board and one lead.
        (BOARD_AND_LEAD, (BOB,), ApprovalState.PENDING),
        (BOARD_AND_LEAD, (BOB, CAROL), ApprovalState.PENDING),
        (BOARD_AND_LEAD, (BOB, LEA), ApprovalState.APPROVED),
        # Alice is both, and counts for one of them: whichever helps.
        (BOARD_AND_LEAD, (ALICE,), ApprovalState.PENDING),
        (BOARD_AND_LEAD, (ALICE, BOB), ApprovalState.APPROVED),
        (BOARD_AND_LEAD, (ALICE, LEA), ApprovalState.APPROVED),
        (TWO_AND_LEAD, (ALICE, BOB), ApprovalState.PENDING),
        (TWO_AND_LEAD, (ALICE, BOB, CAROL), ApprovalState.APPROVED),
        (TWO_AND_LEAD, (ALICE, BOB, LEA), ApprovalState.APPROVED),
        (TWO_AND_LEAD, (BOB, LEA, LEO), ApprovalState.PENDING),
        (TWO_AND_LEAD, (BOB, LEA, LEO, ALICE), ApprovalState.APPROVED),
        # Any of them.
        ({**BOARD_AND_LEAD, "require": Requirement.ANY}, (LEA,), ApprovalState.APPROVED),
        ({**TWO_AND_LEAD, "require": Requirement.ANY}, (BOB,), ApprovalState.PENDING),
        ({**TWO_AND_LEAD, "require": Requirement.ANY}, (BOB, CAROL), ApprovalState.APPROVED),
        # The single rule of earlier requests.
        ({"min_approvals": 2}, (BOB,), ApprovalState.PENDING),
        ({"min_approvals": 2}, (BOB, CAROL), ApprovalState.APPROVED),
        ({"roles": ("board", "lead"), "min_approvals": 2}, (BOB, LEA), ApprovalState.APPROVED),
    ],
)
def test_who_together_is_enough(rules: dict[str, Any], people: tuple[str, ...], state: ApprovalState) -> None:
    gate = Gate(**rules)

    assert [gate.approve(person) for person in people] == [None] * len(people)

    assert gate.status.state is state
    assert (gate.status.approvals_missing == 0) == (state is ApprovalState.APPROVED)


def test_the_order_of_people_does_not_matter() -> None:
    """Alice comes first and is counted for the board; she makes way for Bob when no other lead comes."""
    gate = Gate(**BOARD_AND_LEAD)
    gate.approve(ALICE)
    assert [rule.counted for rule in gate.status.progress] == [(ALICE,), ()]

    gate.approve(BOB)

    assert gate.status.state is ApprovalState.APPROVED
    assert [rule.counted for rule in gate.status.progress] == [(BOB,), (ALICE,)]


def test_people_make_way_along_a_chain() -> None:
    people = [("a", "b"), ("b", "c"), ("c", "d"), ("a",)]

    placed = assign(people, [Quorum((role,), 1) for role in "abcd"])

    assert placed == [[3], [0], [1], [2]]


def test_a_huge_quorum_takes_no_longer_than_its_people() -> None:
    assert assign([("a",)] * 3, [Quorum(("a",), 10**12)]) == [[0, 1, 2]]


def test_each_rule_tells_how_far_it_is_and_who_can_help() -> None:
    gate = Gate(**TWO_AND_LEAD)
    gate.approve(BOB)

    board, lead = missing(gate.status, gate.policy, OPENED)

    assert (board.needed, board.counted, board.missing) == (2, (BOB,), 1)
    assert board.open_to == (ALICE, CAROL)
    assert (lead.roles, lead.missing, lead.open_to) == (("lead",), 1, (ALICE, LEA, LEO))
    assert gate.status.min_approvals == 3
    assert gate.status.approvals_missing == 2
    assert gate.status.required_approvers == ("board", "lead")
    assert deciders(gate.status, gate.policy, OPENED) == (ALICE, CAROL, LEA, LEO)


def test_nobody_is_asked_for_a_rule_that_is_satisfied() -> None:
    gate = Gate(**BOARD_AND_LEAD)
    gate.approve(BOB)

    assert deciders(gate.status, gate.policy, OPENED) == (ALICE, LEA, LEO)


def test_of_any_rule_the_nearest_says_how_many_are_missing() -> None:
    gate = Gate(**TWO_AND_LEAD, require=Requirement.ANY)

    assert (gate.status.min_approvals, gate.status.approvals_missing) == (1, 1)


def test_nobody_is_open_to_approve_what_has_ended() -> None:
    gate = Gate(**BOARD_AND_LEAD)
    gate.reject(LEA)

    assert deciders(gate.status, gate.policy, OPENED) == ()


def test_a_role_of_the_environment_says_nothing_where_rules_do() -> None:
    gate = Gate(rules=({"roles": ("lead",)},))

    assert "holds none of the roles lead" in str(gate.approve(BOB))
    assert gate.approve(LEA) is None


def test_a_member_of_any_rule_ends_it_by_rejecting() -> None:
    gate = Gate(**BOARD_AND_LEAD)
    gate.approve(BOB)

    assert gate.reject(LEO, comment="not on a Friday") is None

    assert gate.status.reason == "rejected by leo@example.com: not on a Friday"


# Who may not


def test_the_requester_may_reject_and_comment_but_not_approve() -> None:
    gate = Gate()

    assert gate.approve(RITA) == "rita@example.com asked for this deployment, and may not approve it"
    assert gate.comment(RITA) is None
    assert gate.reject(RITA) is None
    assert gate.status.state is ApprovalState.REJECTED


def test_who_wrote_it_may_not_approve_it_where_authors_are_excluded() -> None:
    gate = Gate(exclude_authors=True)
    gate.policy = with_authors(gate.policy, ("BOB@example.com ", "bob-on-github", ""))

    assert gate.policy.authors == ("BOB@example.com", "bob-on-github")
    assert "wrote what is deployed, and may not approve it" in str(gate.approve(BOB))
    assert gate.approve(ALICE) is None
    assert with_authors(gate.policy, (BOB, "bob-on-github")).authors == ("bob@example.com", "bob-on-github")


def test_who_wrote_it_may_approve_it_where_they_are_not() -> None:
    rules = with_authors(policy(), (BOB,))

    assert rules.authors == ()


def test_where_the_requester_is_not_excluded_they_may_approve() -> None:
    assert Gate(excluded=()).approve(RITA) is None


# What counts, and how it is told


def test_after_the_end_a_vote_is_told_how_it_ended() -> None:
    gate = Gate()
    gate.approve(ALICE)

    refused = gate.reject(BOB)

    assert refused == "the approval is closed: it was approved (approved by alice@example.com)"


def test_a_vote_for_another_gate_is_not_for_this_one() -> None:
    assert "it is for gate 'other'" in str(Gate().approve(ALICE, gate="other"))


@pytest.mark.parametrize("decide", [Gate.approve, Gate.reject, Gate.comment])
def test_what_came_before_the_timer_was_handled_counts_however_late_it_is_read(
    decide: Callable[..., str | None],
) -> None:
    """No worker ran: the vote waited at the server, and so did the timer behind it."""
    gate = Gate()
    gate.hour = 80

    assert deciders(gate.status, gate.policy, gate.now) == (ALICE, BOB, CAROL)
    assert decide(gate, ALICE) is None
    assert decide(Gate(), ALICE, at=after(100)) is None  # an unsigned time says nothing


@pytest.mark.parametrize("decide", [Gate.approve, Gate.reject, Gate.comment])
def test_what_was_signed_when_the_time_was_over_comes_too_late(decide: Callable[..., str | None]) -> None:
    def signed(hour: float) -> str | None:
        return decide(Gate(), ALICE, identification=SIGNED, at=after(hour))

    assert signed(72) is None
    assert signed(72.01) == "the time to decide ran out at 2026-02-05 12:00 UTC; deploy again to ask again"


def test_a_time_in_no_time_zone_is_left_to_the_check_of_the_signature() -> None:
    gate = Gate()
    said = DecisionMessage(actor=ALICE, at=after(100).replace(tzinfo=None), proof=Proof(signer="laptop"))

    assert refusal(gate.status, gate.policy, Verb.APPROVE, said, gate.now, presumed(said)) is None


# Who says so


def test_a_decision_is_recorded_as_verified_or_not() -> None:
    gate = Gate(min_approvals=2)

    gate.approve(ALICE)
    gate.approve(BOB, identification=SIGNED)

    assert [d.verified for d in gate.status.approvals] == [False, True]


def test_a_status_recorded_before_there_were_rules_still_counts() -> None:
    recorded = Gate(min_approvals=2).status.model_dump(exclude={"progress", "require", "reminded_at"})

    gate = Gate(min_approvals=2)
    gate.status = ApprovalStatus.model_validate(recorded)

    assert gate.status.approvals_missing == 2
    gate.say(Verb.APPROVE, ALICE)
    assert gate.status.approvals_missing == 1
    gate.say(Verb.APPROVE, BOB)
    assert gate.status.state is ApprovalState.APPROVED
