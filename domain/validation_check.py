"""What a Git host shows of a validation: one check at its commit (spec: Pull Request Events)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from domain.checks import CheckRun, CheckState
from domain.gates import GateOutcome, GateResult
from domain.validation import ValidationKind, ValidationState, ValidationStatus

NAME: Final = "erlmcp-deploy"
_TITLE_LIMIT: Final = 240
_CELL_LIMIT: Final = 600
"""Characters; hosts refuse long titles, and nobody reads long cells."""
_MARKS: Final = {
    GateOutcome.PASSED: "✅",
    GateOutcome.FAILED: "❌",
    GateOutcome.WARNED: "⚠️",
    GateOutcome.SKIPPED: "➖",
    GateOutcome.RUNNING: "⏳",
}


def check_name(application: str, kind: ValidationKind) -> str:
    """What people require in branch protection: ``erlmcp-deploy / shop``; other kinds do not overwrite it."""
    name = f"{NAME} / {application}"
    return name if kind is ValidationKind.PULL_REQUEST else f"{name} ({kind})"


def check_of(status: ValidationStatus, project: str, key: str) -> CheckRun:
    """The check that shows how a validation stands."""
    return CheckRun(
        key=key,
        project=project,
        commit=status.built.commit if status.built is not None else status.commit,
        name=check_name(status.application, status.kind),
        state=_state(status),
        title=_short(_title(status), _TITLE_LIMIT),
        summary=_summary(status),
        started_at=status.started_at,
        finished_at=status.finished_at,
    )


def _state(status: ValidationStatus) -> CheckState:
    if not status.state.final:
        return CheckState.RUNNING
    if status.cancelled:
        return CheckState.CANCELLED
    return CheckState.PASSED if status.passed else CheckState.FAILED


def _title(status: ValidationStatus) -> str:
    if status.passed:
        return status.verdict
    failed = [g.name for g in status.gates if g.outcome is GateOutcome.FAILED]
    if status.state is ValidationState.FAILED and failed and not status.cancelled:
        return f"failed: {', '.join(failed)}"
    return status.reason or {ValidationState.PENDING: "queued"}.get(status.state, status.state.lower())


def _summary(status: ValidationStatus) -> str:
    lines = []
    if status.reason and not status.passed:
        lines += [f"**{cell(status.reason)}**", ""]
    if status.gates:
        lines += [*gate_table(status.gates), ""]
    lines.append(f"`{status.validation_id}`, asked for by {cell(status.actor)}")
    return "\n".join(lines)


def gate_table(gates: Iterable[GateResult]) -> list[str]:
    """The gates and what they measured, as lines of a Markdown table."""
    rows = [f"| {_MARKS[g.outcome]} | {cell(g.name)} | {cell(result_of(g))} |" for g in gates]
    return ["| | Gate | Result |", "|---|---|---|", *rows]


def result_of(gate: GateResult) -> str:
    """The numbers of a gate that passed; else why it did not."""
    if gate.outcome is GateOutcome.PASSED:
        return ", ".join(f"{check.name} {check.measured}" for check in gate.checks)
    return gate.reason or str(gate.outcome)


def cell(text: str) -> str:
    """Text of tools and people as text, whatever Markdown it holds."""
    line = " ".join(_short(text, _CELL_LIMIT).split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!@" else c for c in line)


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
