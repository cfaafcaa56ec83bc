"""What a process shows of itself in the Temporal UI: its current details, in Markdown."""

from __future__ import annotations

from domain.approval import ApprovalPolicy, ApprovalState, ApprovalStatus
from domain.canary import CanaryRequest, CanaryStatus
from domain.deployment import DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord
from domain.gates import GateOutcome, GateResult
from domain.rollback import RollbackStatus

STAGES = (
    DeploymentState.PENDING,
    DeploymentState.VALIDATION,
    DeploymentState.BUILDING,
    DeploymentState.TESTING,
    DeploymentState.APPROVAL,
    DeploymentState.DEPLOYING,
    DeploymentState.VERIFYING,
    DeploymentState.MONITORING,
    DeploymentState.COMPLETED,
)
GOOD, BAD, NOW, AHEAD = "✔", "✘", "▶", "○"
_TIME = "%Y-%m-%d %H:%M:%S UTC"
_CELL_TIME = "%d\u00a0%b\u00a0%H:%M:%S"
"""In a column of times in UTC; the blanks do not break."""
_GATE_MARKS = {
    GateOutcome.PASSED: GOOD,
    GateOutcome.FAILED: BAD,
    GateOutcome.WARNED: "!",
    GateOutcome.SKIPPED: "–",
    GateOutcome.RUNNING: NOW,
}


def _cell(text: object) -> str:
    return str(text or "").replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    """A Markdown table; the UI sets its cells without any space between them, so they bring their own."""
    lines = [head, *([_cell(c) for c in row] for row in rows)]
    written = ["| " + " | ".join(f"{text}\u00a0\u00a0" for text in line) + " |" for line in lines]
    return [written[0], "|" + " :-- |" * len(head), *written[1:]]


def deployment(status: DeploymentStatus) -> str:
    """Stage table, gates, approval and canary of a deployment."""
    lines = [f"## {status.application} {status.version} → {status.environment}: **{status.state}**", ""]
    if status.reason:
        lines += [f"{_cell(status.reason)}", ""]
    elif status.waiting_for:
        lines += [f"Waiting for {_cell(status.waiting_for)}", ""]
    reached = {t.state: t for t in status.history}
    stages = [*STAGES, *(s for s in reached if s not in STAGES)]
    rows: list[tuple[object, ...]] = []
    for stage in stages:
        step = reached.get(stage)
        if step is None:
            if not status.state.final:
                rows.append((AHEAD, stage, "", ""))
            continue
        mark = BAD if stage in (DeploymentState.FAILED, DeploymentState.REJECTED) else GOOD
        mark = NOW if stage is status.state and not stage.final else mark
        rows.append((mark, stage, step.at.strftime(_CELL_TIME), step.reason))
    lines += _table(("", "Stage", "Since (UTC)", "Why"), rows)
    if status.gates:
        lines += ["", "### Gates", ""]
        lines += _table(
            ("", "Gate", "Result"),
            [(_GATE_MARKS[g.outcome], g.name, _gate_result(g)) for g in status.gates],
        )
    if status.compliance is not None:
        total, gaps = len(status.compliance.items), status.compliance.gaps
        lines += ["", f"### Compliance: {total - len(gaps)} of {total} items hold", ""]
        lines += [f"- {BAD} {_cell(gap.reason or gap.item)}" for gap in gaps]
    if status.approval is not None:
        lines += ["", *_approval_lines(status.approval)]
    if status.canary is not None:
        lines += ["", *_canary_lines(status.canary)]
    if status.rollback is not None:
        mark = GOOD if status.rollback.succeeded else BAD
        lines += [
            "",
            f"### Roll-back to {status.rollback.to_version}: {mark} {_cell(status.rollback.reason)}",
        ]
    return "\n".join(lines)


def _gate_result(gate: GateResult) -> str:
    """The numbers of a gate that passed; else why it did not."""
    if gate.outcome is GateOutcome.PASSED:
        return ", ".join(f"{check.name} {check.measured}" for check in gate.checks)
    return gate.reason or str(gate.outcome)


def _approval_lines(status: ApprovalStatus) -> list[str]:
    lines = [f"### Approval {status.gate_name}: **{status.state}**", ""]
    if status.state is ApprovalState.PENDING:
        lines += [
            f"{status.approvals_missing} more from {', '.join(status.required_approvers)}; "
            f"closes {status.expires_at.strftime(_TIME)}",
            "",
        ]
    decisions = (*status.received_approvals, *status.received_rejections, *status.comments)
    rows: list[tuple[object, ...]] = [
        (d.at.strftime(_CELL_TIME), d.actor, d.verb, d.comment) for d in sorted(decisions, key=lambda d: d.at)
    ]
    return lines + (_table(("When (UTC)", "Who", "What", "Comment"), rows) if rows else [])


def approval(status: ApprovalStatus, policy: ApprovalPolicy) -> str:
    """An open gate: what it waits for, who may decide, and how to do it from here."""
    lines = _approval_lines(status)
    if status.state is ApprovalState.PENDING:
        people = sorted({p for members in policy.members.values() for p in members})
        lines += [
            "",
            f"May decide: {', '.join(people) or 'nobody'} (not {', '.join(policy.excluded) or '-'}).",
            "",
            'Send the signal `approve` or `reject` with `{"actor": "you@example.com", "comment": "…"}`.',
        ]
    elif status.reason:
        lines += [status.reason]
    return "\n".join(lines)


def _canary_lines(status: CanaryStatus) -> list[str]:
    lines = [f"### Canary: **{status.phase}** at {status.weight}%", ""]
    rows: list[tuple[object, ...]] = []
    for step in status.steps:
        verdict = "watching" if step.finished_at is None else "passed"
        if step.promoted_by is not None:
            verdict = f"promoted by {step.promoted_by}"
        elif step.verdict is not None:
            verdict = f"{step.verdict.outcome}: {step.verdict.reason}"
        observed = "" if step.observed_weight is None else f"{step.observed_weight:.0f}%"
        rows.append((f"{step.weight}%", observed, step.started_at.strftime(_CELL_TIME), verdict))
    return lines + (_table(("Weight", "Taken", "Since (UTC)", "Verdict"), rows) if rows else [])


def canary(status: CanaryStatus, request: CanaryRequest) -> str:
    """Weights and verdicts of a canary."""
    head = f"## Canary {request.target.application} {request.version} in {request.target.environment}"
    reason = [f"{_cell(status.reason)}", ""] if status.reason else []
    return "\n".join([head, "", *reason, *_canary_lines(status)])


def rollback(status: RollbackStatus) -> str:
    """A roll-back at a glance."""
    lines = [
        f"## Roll-back {status.from_version} → {status.to_version or '?'}: **{status.state}**",
        "",
        f"Why: {_cell(status.reason)} ({status.actor}); attempt {status.attempt}",
    ]
    return "\n".join([*lines, *(["", status.outcome] if status.outcome else [])])


def environment(record: EnvironmentRecord) -> str:
    """What is live, whose turn it is, and who waits."""
    lines = [
        f"## {record.application} in {record.environment}",
        "",
        f"- live: **{record.current_version or 'unknown'}**",
        f"- last good: {record.last_good_version or 'unknown'}",
        f"- turn: {record.holder.holder if record.holder else 'free'}",
    ]
    for name, stop in (("freeze", record.freeze), ("hold", record.hold)):
        if stop is not None:
            lines.append(f"- {name}: {_cell(stop.reason)} ({stop.actor}, since {stop.since.strftime(_TIME)})")
    lines += [
        f"- held back: {version} ({_cell(hold.reason)})" for version, hold in record.held_versions.items()
    ]
    lines += [f"{place}. {w.holder}" for place, w in enumerate(record.queue, start=1)]
    return "\n".join(lines)
