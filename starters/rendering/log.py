"""What is new between two pictures of a deployment, a line each, for logs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from domain.approval import ApprovalStatus
from domain.canary import CanaryPhase, CanaryStatus
from domain.delivery import DeliveryStatus, StepState
from domain.deployment import DeploymentState, DeploymentStatus
from domain.gates import GateOutcome
from starters.rendering.board import gate_facts
from starters.rendering.delivery import delivery_title, warnings_of
from starters.rendering.text import clean


class Line(NamedTuple):
    """One line of the log: when it happened and what; with `entered` the state that begins there."""

    at: datetime
    text: str
    entered: DeploymentState | None = None


def changes(before: DeploymentStatus | None, after: DeploymentStatus, now: datetime) -> list[Line]:
    """What is new in `after`, in the order it happened, for a log that is read from top to bottom.

    What carries no time of its own is new at `now`, or at the end of the state it belongs to.
    """
    lines = [
        *_gate_changes(before, after, now),
        *_canary_changes(None if before is None else before.canary, after.canary, now),
        *_delivery_changes(None if before is None else before.delivery, after.delivery),
        *_approval_changes(None if before is None else before.approval, after.approval),
        *_warning_changes(before, after, now),
    ]
    rollback = after.rollback
    if rollback is not None and (before is None or before.rollback != rollback):
        done = "done" if rollback.succeeded else "not done" if after.state.final else "begun"
        goal = rollback.to_version or "the earlier state"
        lines.append(Line(after.finished_at or now, f"roll-back to {goal} {done}: {rollback.reason}"))
    known = 0 if before is None else len(before.history)
    for entered in after.history[known:]:
        reason = f": {entered.reason}" if entered.reason else ""
        lines.append(Line(entered.at, f"{entered.state}{reason}", entered.state))
    if after.waiting_for and (before is None or before.waiting_for != after.waiting_for):
        place = f" (place {after.queue_position} in the queue)" if after.queue_position else ""
        lines.append(Line(now, f"waiting for {after.waiting_for}{place}"))
    if before is not None and before.paused != after.paused:
        lines.append(Line(now, "paused" if after.paused else "resumed"))
    return [line._replace(text=clean(line.text)) for line in sorted(lines, key=lambda line: line.at)]


def _gate_changes(before: DeploymentStatus | None, after: DeploymentStatus, now: datetime) -> list[Line]:
    judged = {} if before is None else {g.name: g.outcome for g in before.gates}
    ends = {state.state: following.at for state, following in pairwise(after.history)}
    lines: list[Line] = []
    for gate in after.gates:
        if judged.get(gate.name) is gate.outcome:
            continue
        facts = "" if gate.outcome is GateOutcome.RUNNING else f": {gate_facts(gate)}"
        state = DeploymentState.BUILDING if gate.name == "compile" else DeploymentState.TESTING
        lines.append(Line(min(ends.get(state, now), now), f"gate {gate.name} {gate.outcome}{facts}"))
    return lines


def _approval_changes(before: ApprovalStatus | None, after: ApprovalStatus | None) -> list[Line]:
    if after is None:
        return []
    gate = f"approval {after.gate_name}"
    lines: list[Line] = []
    if before is None:
        needed = f"{after.min_approvals} needed from {', '.join(after.required_approvers)}"
        closes = f"{after.expires_at.astimezone():%Y-%m-%d %H:%M %Z}"
        lines.append(Line(after.created_at, f"{gate}: {needed}, closes {closes}"))
    for kind, was, now in (
        ("approved", before.received_approvals if before else (), after.received_approvals),
        ("rejected", before.received_rejections if before else (), after.received_rejections),
        ("comment", before.comments if before else (), after.comments),
    ):
        for decision in now[len(was) :]:
            said = f": {decision.comment}" if decision.comment else ""
            lines.append(Line(decision.at, f"{gate}: {kind} by {decision.actor}{said}"))
    if after.decided_at is not None and (before is None or before.decided_at is None):
        lines.append(Line(after.decided_at, f"{gate} closed: {after.reason or after.state}"))
    return lines


def _canary_changes(before: CanaryStatus | None, after: CanaryStatus | None, now: datetime) -> list[Line]:
    if after is None:
        return []
    lines: list[Line] = []
    for index, step in enumerate(after.steps):
        was = before.steps[index] if before is not None and index < len(before.steps) else None
        if was is None:
            note = f": {step.note}" if step.note else ""
            lines.append(Line(step.started_at, f"canary at {step.weight}%{note}"))
        if step.finished_at is not None and (was is None or was.finished_at is None):
            if step.promoted_by is not None:
                lines.append(
                    Line(step.finished_at, f"canary at {step.weight}% promoted by {step.promoted_by}")
                )
            elif step.verdict is not None:
                verdict = f"{step.verdict.outcome}: {step.verdict.reason}"
                lines.append(Line(step.finished_at, f"canary at {step.weight}% {verdict}"))
    handover, told = after.handover, None if before is None else before.handover
    if handover is not None and handover != told:
        reason = f": {handover.reason}" if handover.reason else ""
        lines.append(Line(now, f"the canary's own controller: {handover.phase}, {handover.weight}%{reason}"))
    if (before is None or before.phase is not after.phase) and after.phase in _CANARY_ENDS:
        last = max((s.finished_at for s in after.steps if s.finished_at is not None), default=now)
        reason = f": {after.reason}" if after.reason else ""
        lines.append(Line(last, f"canary {str(after.phase).lower()}{reason}"))
    return lines


_CANARY_ENDS = (CanaryPhase.SUCCEEDED, CanaryPhase.FAILED, CanaryPhase.ABORTED)


def _delivery_changes(before: DeliveryStatus | None, after: DeliveryStatus | None) -> Iterator[Line]:
    if after is None:
        return
    title = delivery_title(after.kind).lower()
    known = () if before is None else before.steps
    for index, step in enumerate(after.steps):
        was = known[index] if index < len(known) else None
        if was is None:
            yield Line(step.started_at, f"{title}: {step.name}")
        if step.finished_at is not None and (was is None or was.state is StepState.RUNNING):
            detail = f": {step.detail}" if step.detail else ""
            yield Line(step.finished_at, f"{title}: {step.name} {step.state}{detail}")


def _warning_changes(
    before: DeploymentStatus | None, after: DeploymentStatus, now: datetime
) -> Iterator[Line]:
    """Every new warning; and when there is none any more, that all is well again."""
    known, present = (() if before is None else warnings_of(before)), warnings_of(after)
    for warning in present:
        if warning not in known:
            yield Line(now, f"WARNING {warning}")
    if known and not present and not after.state.final and after.state is not DeploymentState.ROLLING_BACK:
        yield Line(now, "the warning is over")
