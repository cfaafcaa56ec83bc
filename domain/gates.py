"""Quality gates: conditions over measured facts (spec: Gate Definitions).

A gate passes only on measurements. A missing tool, a timeout, unreadable output or a missing number
is a failed check with that reason, never a pass.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from domain.approval import OnTimeout
from domain.conditions import Check, Expectation, Expression, Scalar, evaluate_condition, parse_expression
from domain.durations import Duration, Interval
from domain.model import Model


class GateType(StrEnum):
    AUTOMATED = "automated"
    MANUAL = "manual"


class OnFailure(StrEnum):
    BLOCK = "block"
    WARN = "warn"


class GateOutcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warned"
    SKIPPED = "skipped"
    RUNNING = "running"


class GateDefinition(Model):
    """One gate of the configuration.

    Attributes:
        type: ``automated`` measures, ``manual`` asks people.
        condition: one expression over a measurement, such as ``errors == 0``.
        conditions: measurement → expected value or comparison (``0``, ``">= 80%"``, ``pass``).
        steps: the application's build steps that take the measurements.
        timeout: for all steps of the gate together.
        on_failure: ``block`` ends the deployment, ``warn`` records and goes on.
        approvers: manual gates only: environment → roles.
        on_timeout: manual gates only: what happens when nobody decided in time.
    """

    type: GateType = GateType.AUTOMATED
    condition: Expression | None = None
    conditions: dict[str, Expectation] = {}
    steps: tuple[str, ...] = ()
    timeout: Interval = timedelta(minutes=10)
    on_failure: OnFailure = OnFailure.BLOCK
    approvers: dict[str, tuple[str, ...]] = {}
    on_timeout: OnTimeout = OnTimeout.REJECT


class StepReport(Model):
    """What one build step measured, or why it could not measure.

    Attributes:
        measured: whether the tool ran to its end and its output could be read.
        reason: if not measured, why; else a one-line summary.
        measurements: name → value; percentages as numbers (80.0 = 80 %), durations in milliseconds.
        evidence: file names, digests or lines that prove the numbers.
        log: where the whole output is kept.
    """

    step: str
    measured: bool
    reason: str = ""
    measurements: dict[str, Scalar] = {}
    evidence: tuple[str, ...] = ()
    log: str | None = None
    duration: Duration = timedelta(0)


class GateResult(Model):
    """A gate's verdict."""

    name: str
    outcome: GateOutcome
    reason: str = ""
    checks: tuple[Check, ...] = ()
    steps: tuple[StepReport, ...] = Field(default=(), repr=False)

    @property
    def blocking(self) -> bool:
        return self.outcome is GateOutcome.FAILED


def evaluate_gate(name: str, definition: GateDefinition, reports: list[StepReport]) -> GateResult:
    """Judge a gate by its definition and the reports of its steps."""
    facts: dict[str, Scalar] = {}
    for report in reports:
        facts.update(report.measurements)
    unmeasured = [f"{r.step}: {r.reason}" for r in reports if not r.measured]
    expectations: list[tuple[str, Scalar]] = list(definition.conditions.items())
    if definition.condition is not None:
        expectations.insert(0, parse_expression(definition.condition))
    checks = tuple(evaluate_condition(measurement, expected, facts) for measurement, expected in expectations)
    failures = unmeasured + [c.reason or c.name for c in checks if not c.passed]
    if not checks:
        failures.append("the gate names no condition, so it proves nothing")
    if not failures:
        outcome, reason = GateOutcome.PASSED, f"{len(checks)} condition(s) hold"
    else:
        outcome = GateOutcome.FAILED if definition.on_failure is OnFailure.BLOCK else GateOutcome.WARNED
        reason = "; ".join(failures)
    return GateResult(name=name, outcome=outcome, reason=reason, checks=checks, steps=tuple(reports))


def skipped_gate(name: str, reason: str) -> GateResult:
    """A gate left out on purpose: the reason is kept and audited."""
    return GateResult(name=name, outcome=GateOutcome.SKIPPED, reason=reason)
