"""What happens at a gate by itself: reminders that grow apart, escalation, and the end."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.approval import ApprovalState, OnTimeout, Timer, cancel, escalate, expire, next_event, remind
from tests.domain.gate import ALICE, Gate, after

HOUR = timedelta(hours=1)


def course(gate: Gate, *, late: float = 0) -> list[tuple[Timer, float]]:
    """All that happens to a gate nobody looks at, in hours after the opening; each `late` hours late."""
    told: list[tuple[Timer, float]] = []
    while gate.status.state is ApprovalState.PENDING:
        timer, due = next_event(gate.status, gate.policy)
        now: datetime = max(due, gate.now) + late * HOUR
        gate.hour = (now - after(0)) / HOUR
        told.append((timer, (due - after(0)) / HOUR))
        before = gate.status.revision
        if timer == "reminder":
            gate.status = remind(gate.status, now)
        elif timer == "escalation":
            gate.status = escalate(gate.status, gate.policy, now)
        else:
            gate.status = expire(gate.status, gate.policy, now)
        assert gate.status.revision == before + 1
    return told


def hours(*numbers: float) -> tuple[timedelta, ...]:
    return tuple(n * HOUR for n in numbers)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("expiry", 72)]),
        (
            {"reminders": hours(4, 12, 24, 48), "escalate_before": 6 * HOUR},
            [
                ("reminder", 4), ("reminder", 12), ("reminder", 24), ("reminder", 48), ("escalation", 66),
                ("expiry", 72),
            ],
        ),
        # Written in any order, and not beyond the end.
        ({"reminders": hours(80, 12, 4, 72)}, [("reminder", 4), ("reminder", 12), ("expiry", 72)]),
        # At one time, the escalation says it all.
        ({"reminders": hours(66), "escalate_before": 6 * HOUR}, [("escalation", 66), ("expiry", 72)]),
        # No time before the escalation: there is none.
        ({"escalate_before": 72 * HOUR}, [("expiry", 72)]),
        ({"escalate_before": timedelta(0)}, [("expiry", 72)]),
        ({"reminders": (timedelta.max,), "escalate_before": timedelta.max}, [("expiry", 72)]),
    ],
)  # fmt: skip
def test_a_gate_nobody_looks_at(changes: dict[str, Any], expected: list[tuple[Timer, float]]) -> None:
    gate = Gate(**changes)

    assert course(gate) == expected

    assert gate.status.state is ApprovalState.EXPIRED
    assert gate.status.reason == "expired: no decision within the time allowed, 1 approval(s) missing"


def test_after_a_pause_people_are_reminded_once_of_all_that_was_missed() -> None:
    gate = Gate(reminders=hours(4, 12, 24, 48), escalate_before=6 * HOUR)

    assert course(gate, late=21) == [("reminder", 4), ("reminder", 48), ("escalation", 66), ("expiry", 72)]


def test_silence_approves_only_where_the_policy_says_so_and_identities_do_not_matter() -> None:
    trusting, strict = (
        Gate(on_timeout=OnTimeout.APPROVE),
        Gate(on_timeout=OnTimeout.APPROVE, require_verified=True),
    )

    assert course(trusting) == course(strict) == [("expiry", 72)]

    assert (trusting.status.state, trusting.status.reason) == (
        ApprovalState.APPROVED,
        "approved by policy on timeout",
    )
    assert strict.status.state is ApprovalState.EXPIRED


def test_an_approval_ends_with_its_deployment() -> None:
    gate = Gate()

    cancelled = cancel(gate.status, after(1))

    assert (cancelled.state, cancelled.decided_at) == (ApprovalState.REJECTED, after(1))
    assert cancelled.reason == "cancelled with its deployment"


def test_what_is_decided_is_left_alone() -> None:
    gate = Gate()
    gate.approve(ALICE)
    decided = gate.status

    assert expire(decided, gate.policy, after(99)) == decided
    assert escalate(decided, gate.policy, after(99)) == decided
    assert remind(decided, after(99)) == decided
    assert cancel(decided, after(99)) == decided


def test_a_gate_is_escalated_once() -> None:
    gate = Gate()
    once = escalate(gate.status, gate.policy, after(1))

    assert escalate(once, gate.policy, after(2)) == once
    assert once.escalated_at == after(1)
