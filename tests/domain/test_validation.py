"""What a validation shows at its commit, and which of several is the newest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from domain.conditions import Check
from domain.gates import GateOutcome, GateResult
from domain.validation import Claim, ValidationKind, ValidationStatus
from domain.validation_check import check_name, check_of

NOON = datetime(2026, 2, 2, 12, tzinfo=UTC)


def status(*gates: GateResult, **changes: Any) -> ValidationStatus:
    fields = {
        "validation_id": f"validation:shop:{'a' * 40}:pull_request",
        "application": "shop",
        "commit": "a" * 40,
        "kind": "pull_request",
        "actor": "dev@example.com",
        "state": "Testing",
        "since": NOON,
        "started_at": NOON,
        "gates": gates,
    }
    return ValidationStatus.model_validate({**fields, **changes})


def gate(name: str, outcome: GateOutcome, reason: str = "", **facts: str) -> GateResult:
    checks = tuple(Check(name=n, expected="0", measured=v, passed=True) for n, v in facts.items())
    return GateResult(name=name, outcome=outcome, reason=reason, checks=checks)


PASSED = gate("compile", GateOutcome.PASSED, errors="0")
FAILED = gate("test", GateOutcome.FAILED, "coverage is 71, wanted >= 80%")
WARNED = gate("performance", GateOutcome.WARNED, "regression is 12, wanted < 10%")


@pytest.mark.parametrize(
    ("shown", "state", "title"),
    [
        (status(state="Pending"), "running", "queued"),
        (status(PASSED), "running", "testing"),
        (status(PASSED, state="Completed", reason="…"), "passed", "1 of 1 gates hold"),
        (
            status(PASSED, WARNED, state="Completed", reason="…"),
            "passed",
            "1 of 2 gates hold; warnings: performance",
        ),
        (status(PASSED, FAILED, state="Failed", reason="gate test: …"), "failed", "failed: test"),
        (status(state="Failed", reason="no such commit"), "failed", "no such commit"),
        (
            status(FAILED, state="Failed", reason="cancelled by a person", cancelled=True),
            "cancelled",
            "cancelled by a person",
        ),
        (
            status(state="Superseded", reason="superseded by x", cancelled=True),
            "cancelled",
            "superseded by x",
        ),
    ],
)
def test_a_check_says_how_it_stands(shown: ValidationStatus, state: str, title: str) -> None:
    check = check_of(shown, "acme/shop", "key")

    assert (check.state, check.title) == (state, title)


def test_a_check_shows_numbers_and_reasons() -> None:
    check = check_of(status(PASSED, FAILED, state="Failed", reason="gate test: …"), "acme/shop", "key")

    assert "| ✅ | compile | errors 0 |" in check.summary
    assert r"| ❌ | test | coverage is 71, wanted \>= 80% |" in check.summary


def test_what_tools_print_stays_text() -> None:
    nasty = gate("test", GateOutcome.FAILED, "a|b\n# <img src=x> [click](http://evil.example.com) @team")

    (row,) = [
        line for line in check_of(status(nasty), "acme/shop", "key").summary.splitlines() if "test" in line
    ]

    assert r"a\|b \# \<img src=x\> \[click\](http://evil.example.com) \@team" in row


def test_long_output_is_cut() -> None:
    check = check_of(status(gate("test", GateOutcome.FAILED, "x" * 10_000)), "acme/shop", "key")

    assert len(check.summary) < 1_000


def test_kinds_do_not_overwrite_each_others_checks() -> None:
    assert len({check_name("shop", kind) for kind in ValidationKind}) == len(ValidationKind)


def claim(name: str, asked: int, started: int, **changes: Any) -> Claim:
    return Claim.model_validate(
        {
            "validation_id": name,
            "application": "shop",
            "project": "acme/shop",
            "pull_request": 7,
            "asked_at": NOON + timedelta(seconds=asked),
            "started_at": NOON + timedelta(seconds=started),
            **changes,
        }
    )


def test_exactly_one_of_several_rivals_is_the_newest() -> None:
    claims = [claim("a", 0, 9), claim("b", 5, 6), claim("c", 5, 7), claim("d", 5, 7)]

    for order in permutations(claims):
        survivors = [c for c in order if not any(o.newer_than(c) for o in order if o.rivals(c))]
        assert survivors == [claims[3]]


@pytest.mark.parametrize(
    "changes",
    [{"validation_id": "a"}, {"pull_request": 8}, {"project": "fork/shop"}, {"application": "cart"}],
)
def test_others_are_no_rivals(changes: dict[str, Any]) -> None:
    assert not claim("a", 0, 0).rivals(claim("b", 1, 1, **changes))
