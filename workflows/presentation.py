"""What a process shows of itself in the Temporal UI: its current details, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from domain.analysis import MetricTally, Phase, WatchVerdict
from domain.approval import ApprovalPolicy, ApprovalState, ApprovalStatus, Decision
from domain.approval_settings import Requirement
from domain.canary import CanaryRequest, CanaryStatus
from domain.delivery import DeliveryKind, DeliveryStatus, StepState
from domain.dependency_update import DependencyUpdateStatus
from domain.deployment import DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord
from domain.gates import GateOutcome, GateResult
from domain.rollback import RollbackStatus
from domain.schedules import ScheduledOutcome
from domain.validation import ValidationState, ValidationStatus

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


_PHASE_MARKS = {Phase.SUCCESSFUL: GOOD, Phase.FAILED: BAD, Phase.INCONCLUSIVE: "?", Phase.ERROR: "!"}
_STEP_MARKS = {StepState.RUNNING: NOW, StepState.PASSED: GOOD, StepState.FAILED: BAD}
DELIVERIES = {
    DeliveryKind.ROLLING: "Roll-out",
    DeliveryKind.CANARY: "Canary",
    DeliveryKind.BLUE_GREEN: "Blue/green",
    DeliveryKind.HOT_UPGRADE: "Hot upgrade",
}


def measured(name: str, tally: MetricTally) -> str:
    """What was last measured of a metric, and why that is good or bad."""
    return tally.last_reason.removeprefix(f"{name} is ").removeprefix(f"{name}: ").removeprefix(f"{name} ")


def counts_of(tally: MetricTally) -> str:
    """How its measurements came out: ``18 good, 2 bad``."""
    counts = (
        (tally.successful, "good"),
        (tally.failed, "bad"),
        (tally.inconclusive, "inconclusive"),
        (tally.consecutive_errors, "not measured"),
    )
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "not judged"


def _cell(text: object) -> str:
    """Words from outside: no column, line or link of their own."""
    return str(text or "").replace("|", "\\|").replace("[", "\\[").replace("\n", " ")


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
    if not status.state.final and status.state is not DeploymentState.ROLLING_BACK:
        of_canary = () if status.canary is None or status.canary.ended else status.canary.warnings
        lines += _warning_lines((*status.warnings, *of_canary))
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
    if status.delivery is not None and status.delivery.steps:
        lines += ["", *_delivery_lines(status.delivery)]
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
        lines += [f"{_still_needed(status)}; closes {status.expires_at.strftime(_TIME)}", ""]
        if status.escalated_at is not None:
            lines += ["**! Escalated:** people on call may decide too.", ""]
    decisions = (*status.received_approvals, *status.received_rejections, *status.comments)
    rows: list[tuple[object, ...]] = [
        (d.at.strftime(_CELL_TIME), _decided_by(d), _what(d), d.comment)
        for d in sorted(decisions, key=lambda d: d.at)
    ]
    return lines + (_table(("When (UTC)", "Who", "What", "Comment"), rows) if rows else [])


def _still_needed(status: ApprovalStatus) -> str:
    """Whom it waits for, rule by rule."""
    rules = [(rule.missing, rule.roles) for rule in status.progress if rule.missing]
    if not rules:
        rules = [(status.approvals_missing, status.required_approvers)]
    joined = " and " if status.require is Requirement.ALL else " or "
    return joined.join(f"{missing} more from {', '.join(roles)}" for missing, roles in rules)


def _decided_by(decision: Decision) -> str:
    return f"{decision.actor} for {decision.on_behalf_of}" if decision.on_behalf_of else decision.actor


def _what(decision: Decision) -> str:
    words = [str(decision.verb)]
    if decision.emergency:
        words.append("BREAK GLASS")
    if decision.verified:
        words.append("verified")
    return ", ".join(words)


def approval(status: ApprovalStatus, policy: ApprovalPolicy) -> str:
    """An open gate: what it waits for, who may decide, and how to do it from here."""
    lines = _approval_lines(status)
    if status.state is ApprovalState.PENDING:
        people = sorted({p for members in policy.members.values() for p in members})
        barred = (*policy.excluded, *policy.authors)
        lines += ["", f"May decide: {', '.join(people) or 'nobody'} (not {', '.join(barred) or '-'}).", ""]
        by_signal = (
            'Send the signal `approve` or `reject` with `{"actor": "you@example.com", "comment": "…"}`.'
        )
        lines += [status.how_to_decide or by_signal]
    elif status.reason:
        lines += [status.reason]
    return "\n".join(lines)


def _warning_lines(warnings: Iterable[str]) -> list[str]:
    lines = [f"**! Warning:** {_cell(warning)}" for warning in dict.fromkeys(warnings)]
    return [text for line in lines for text in (line, "")]


def _canary_lines(status: CanaryStatus) -> list[str]:
    lines = [f"### Canary: **{status.phase}** at {status.weight}%", ""]
    if status.handover is not None:
        said = f" ({_cell(status.handover.said)})" if status.handover.said else ""
        reason = f": {_cell(status.handover.reason)}" if status.handover.reason else ""
        lines += [f"Steered by its own controller: **{status.handover.phase}**{said}{reason}", ""]
    rows: list[tuple[object, ...]] = []
    for step in status.steps:
        verdict = "watching" if step.finished_at is None else "passed"
        if step.promoted_by is not None:
            verdict = f"promoted by {step.promoted_by}"
        elif step.verdict is not None:
            score = "" if step.verdict.score is None else f" (score {step.verdict.score:.0f}%)"
            verdict = f"{step.verdict.outcome}{score}: {step.verdict.reason}"
        observed = "" if step.observed_weight is None else f"{step.observed_weight:.0f}%"
        taken = ", ".join(filter(None, (observed, step.note)))
        rows.append((f"{step.weight}%", taken, step.started_at.strftime(_CELL_TIME), verdict))
    if rows:
        lines += _table(("Weight", "Taken", "Since (UTC)", "Verdict"), rows)
    judged = [step for step in status.steps if step.verdict is not None and step.verdict.tally.metrics]
    if judged and judged[-1].verdict is not None:
        lines += ["", f"Measured at {judged[-1].weight}%:", "", *_measurement_lines(judged[-1].verdict)]
    return lines


def _measurement_lines(verdict: WatchVerdict) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for name, tally in verdict.tally.metrics.items():
        mark = "?" if tally.last_phase is None else _PHASE_MARKS[tally.last_phase]
        advisory = tally.advisory and tally.last_phase is not Phase.SUCCESSFUL
        counts = f"{counts_of(tally)}{', advisory' if tally.advisory else ''}"
        rows.append(("▲" if advisory else mark, name, measured(name, tally), counts))
    return _table(("", "Metric", "Last", "Measurements"), rows)


def _delivery_lines(status: DeliveryStatus) -> list[str]:
    lines = [f"### {DELIVERIES[status.kind]}: **{_cell(status.phase)}**", ""]
    rows: list[tuple[object, ...]] = [
        (_STEP_MARKS[step.state], step.name, step.started_at.strftime(_CELL_TIME), step.detail)
        for step in status.steps
    ]
    return lines + _table(("", "Step", "Since (UTC)", "Result"), rows)


def canary(status: CanaryStatus, request: CanaryRequest) -> str:
    """Weights, measured numbers and verdicts of a canary."""
    head = f"## Canary {request.target.application} {request.version} in {request.target.environment}"
    reason = [f"{_cell(status.reason)}", ""] if status.reason else []
    warnings = [] if status.ended else _warning_lines(status.warnings)
    return "\n".join([head, "", *reason, *warnings, *_canary_lines(status)])


def validation(status: ValidationStatus) -> str:
    """A validation's gates at a glance."""
    lines = [f"## {status.application} {status.commit[:7]}: **{status.state}**", ""]
    if status.reason and status.state is not ValidationState.COMPLETED:
        lines += [_cell(status.reason), ""]
    elif status.waiting_for:
        lines += [f"Waiting for {_cell(status.waiting_for)}", ""]
    origin = status.ref or "no branch named"
    if status.pull_request is not None:
        origin = f"pull request {status.pull_request}, {origin}"
    lines += [f"{_cell(origin)}; asked for by {_cell(status.actor)} ({status.kind})", ""]
    rows: list[tuple[object, ...]] = [(_GATE_MARKS[g.outcome], g.name, _gate_result(g)) for g in status.gates]
    return "\n".join([*lines, *(_table(("", "Gate", "Result"), rows) if rows else [])])


def dependency_update(status: DependencyUpdateStatus) -> str:
    """What an update has changed, and what the gates say of it."""
    lines = [f"## Dependencies of {status.application}: **{status.state}**", ""]
    if status.reason:
        lines += [_cell(status.reason), ""]
    elif status.waiting_for:
        lines += [f"Waiting for {_cell(status.waiting_for)}", ""]
    if status.url is not None:
        lines += [f"[Pull request {status.pull_request}]({status.url})", ""]
    change = status.change
    if change is not None and change.commit is not None:
        lines += [f"{_cell(change.branch)} into {_cell(change.base)}: {change.commit[:12]}", ""]
        packages: list[tuple[object, ...]] = [(p.name, p.before, p.after) for p in change.packages]
        lines += _table(("Package", "From", "To"), packages) if packages else []
    rows: list[tuple[object, ...]] = [(_GATE_MARKS[g.outcome], g.name, _gate_result(g)) for g in status.gates]
    return "\n".join([*lines, *(["", *_table(("", "Gate", "Result"), rows)] if rows else [])])


def scheduled(outcome: ScheduledOutcome) -> str:
    """What a schedule has started, and how that ended."""
    lines = [f"## {outcome.rule} of {outcome.application}: **{outcome.state}**", ""]
    lines.append(f"Due {outcome.at.strftime(_TIME)}")
    if outcome.commit is not None:
        lines.append(f"- commit: {outcome.commit} ({_cell(outcome.branch)})")
    if outcome.started is not None:
        lines.append(f"- started: {_cell(outcome.started)}")
    return "\n".join([*lines, *(["", _cell(outcome.reason)] if outcome.reason else [])])


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
