"""Gates pass on measured facts, and on nothing else."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from domain.conditions import Scalar
from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.gates import (
    GateDefinition,
    GateOutcome,
    OnFailure,
    StepReport,
    evaluate_gate,
    skipped_gate,
)

GATES = Configuration.model_validate(DEFAULTS).gates


def report(step: str, /, **measurements: Scalar) -> StepReport:
    return StepReport(step=step, measured=True, measurements=measurements)


def unmeasured(step: str, reason: str, /, **measurements: Scalar) -> StepReport:
    return StepReport(step=step, measured=False, reason=reason, measurements=measurements)


GOOD_TESTS = [
    report("eunit", eunit_failures=0),
    report("ct", ct_pass_rate=1.0),
    report("coverage", coverage=80.0),
]


def test_a_gate_passes_when_every_condition_holds() -> None:
    result = evaluate_gate("test", GATES["test"], GOOD_TESTS)

    assert result.outcome is GateOutcome.PASSED
    assert not result.blocking
    assert [c.measured for c in result.checks] == ["0", "1", "80"]


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([report("compile", errors=2)], "errors is 2, wanted == 0"),
        ([report("compile")], "errors was not measured"),
        ([], "errors was not measured"),
        ([unmeasured("compile", "rebar3 is not installed")], "compile: rebar3 is not installed"),
        # Half a measurement proves nothing, even a good half.
        ([unmeasured("compile", "timed out after 5m", errors=0)], "compile: timed out after 5m"),
    ],
)
def test_a_blocking_gate_fails_with_the_reason(reports: list[StepReport], reason: str) -> None:
    result = evaluate_gate("compile", GATES["compile"], reports)

    assert result.outcome is GateOutcome.FAILED
    assert result.blocking
    assert reason in result.reason


def test_every_reason_is_told() -> None:
    reports = [
        report("eunit", eunit_failures=1),
        unmeasured("ct", "crashed"),
        report("coverage", coverage=79.9),
    ]

    reason = evaluate_gate("test", GATES["test"], reports).reason

    for part in ("ct: crashed", "eunit_failures is 1", "ct_pass_rate was not measured", "coverage is 79.9"):
        assert part in reason


@pytest.mark.parametrize(
    ("latency", "outcome"),
    [(499.0, GateOutcome.PASSED), (500.0, GateOutcome.WARNED), (None, GateOutcome.WARNED)],
)
def test_a_warning_gate_records_and_goes_on(latency: float | None, outcome: GateOutcome) -> None:
    measured: dict[str, Scalar] = {"regression": 2.5, "error_rate": 0.0}
    if latency is not None:
        measured["p95_latency"] = latency

    result = evaluate_gate("performance", GATES["performance"], [report("performance", **measured)])

    assert result.outcome is outcome
    assert not result.blocking


def test_a_gate_without_conditions_proves_nothing() -> None:
    definition = GateDefinition(steps=("smoke",))

    result = evaluate_gate("smoke", definition, [report("smoke", requests=12)])

    assert result.outcome is GateOutcome.FAILED
    assert "no condition" in result.reason


def test_without_conditions_a_warning_gate_warns() -> None:
    definition = GateDefinition(on_failure=OnFailure.WARN)

    assert evaluate_gate("smoke", definition, []).outcome is GateOutcome.WARNED


@pytest.mark.parametrize(
    "written", [{"condition": "errors"}, {"conditions": {"coverage": "=> 80"}}, {"timeout": "0s"}]
)
def test_a_condition_that_can_never_hold_is_no_gate(written: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GateDefinition.model_validate(written)


def test_a_skipped_gate_keeps_its_reason() -> None:
    result = skipped_gate("test", "skip_tests: data loss in production, INC-4711")

    assert result.outcome is GateOutcome.SKIPPED
    assert "INC-4711" in result.reason
    assert not result.blocking
