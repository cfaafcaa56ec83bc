"""What people see: boards and tables for terminals, one line per change for logs, JSON for programs.

Every text that came from outside is flattened to printable characters first: a comment must not be
able to move the cursor or to forge a log line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import BaseModel
from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from domain.analysis import WatchOutcome
from domain.approval import ApprovalState, ApprovalStatus
from domain.canary import CanaryPhase, CanaryStatus
from domain.deployment import DeploymentState, DeploymentStatus, Transition
from domain.environment import EnvironmentRecord, Hold, Outcome, PastDeployment
from domain.gates import GateOutcome, GateResult
from domain.rollback import RollbackState, RollbackStatus

LOG_WIDTH = 100
"""Columns where no terminal says how many there are."""

_STAGES = (
    DeploymentState.PENDING,
    DeploymentState.VALIDATION,
    DeploymentState.BUILDING,
    DeploymentState.TESTING,
    DeploymentState.APPROVAL,
    DeploymentState.DEPLOYING,
    DeploymentState.VERIFYING,
    DeploymentState.MONITORING,
)
_STATE_STYLES = {
    DeploymentState.COMPLETED: "bold green",
    DeploymentState.FAILED: "bold red",
    DeploymentState.REJECTED: "bold red",
    DeploymentState.ROLLING_BACK: "bold red",
    DeploymentState.APPROVAL: "bold yellow",
    DeploymentState.PENDING: "bold yellow",
}
_GATE_MARKS = {
    GateOutcome.PASSED: ("✔", "green"),
    GateOutcome.FAILED: ("✘", "bold red"),
    GateOutcome.WARNED: ("▲", "yellow"),
    GateOutcome.SKIPPED: ("–", "yellow"),
    GateOutcome.RUNNING: ("●", "cyan"),
}
_OUTCOME_MARKS = {
    Outcome.DEPLOYED: ("✔", "green"),
    Outcome.UNCHANGED: ("–", "dim"),
    Outcome.ROLLED_BACK: ("↩", "yellow"),
    Outcome.BROKEN: ("✘", "bold red"),
}


class Screen:
    """Where a command's words go: people's to stdout, or to stderr when stdout carries JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = console(sys.stderr if as_json else sys.stdout)
        self.diagnostics = console(sys.stderr)

    def show(self, *parts: RenderableType) -> None:
        """For people only; with ``--json`` nothing."""
        if not self.as_json:
            for part in parts:
                self.console.print(part, soft_wrap=isinstance(part, Text))

    def note(self, text: str) -> None:
        """A diagnostic: for people, never part of the answer."""
        self.diagnostics.print(Text(clean(text), style="dim"), soft_wrap=True)

    def document(self, answer: BaseModel | dict[str, Any] | list[Any]) -> None:
        """The one JSON document of the command; without ``--json`` nothing."""
        if self.as_json:
            print_json(answer)


def console(stream: Any) -> Console:
    """A console on a stream, as wide as its terminal; 100 columns in a log."""
    made = Console(file=stream, highlight=False)
    return made if made.is_terminal else Console(file=stream, highlight=False, width=LOG_WIDTH)


def print_json(answer: BaseModel | dict[str, Any] | list[Any]) -> None:
    """Write one JSON document to stdout."""
    value = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def clean(text: str) -> str:
    """One line of printable characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def brief(duration: timedelta) -> str:
    """A duration as people read it: its two largest units, e.g. ``2d 23h`` or ``8m 32s``."""
    seconds = max(0, int(duration.total_seconds()))
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"


def clock(at: datetime, now: datetime) -> str:
    """Local time; with the date if it is another day than `now`."""
    local, today = at.astimezone(), now.astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M")


def state_style(state: DeploymentState) -> str:
    return _STATE_STYLES.get(state, "bold cyan")


def command_line(*words: str) -> Text:
    """A command to copy, in one look for all of them."""
    return Text("erlmcp-deploy " + " ".join(words), style="bold cyan")


# A deployment


def deployment_board(
    status: DeploymentStatus,
    now: datetime,
    *,
    problem: str | None = None,
    url: str | None = None,
    width: int,
    height: int | None = None,
) -> RenderableType:
    """Everything about one deployment: stages, gates, approval, canary, roll-back, what can be done.

    Args:
        problem: why the picture may be old.
        width: columns there are.
        height: lines there are; none if they may be scrolled.
    """
    compact = height is not None and height < 32
    parts: list[RenderableType] = [_heading(status, now), Text()]
    stages, gates = _stages(status, now, compact=compact), _gates(status.gates)
    if gates is None:
        parts.append(stages)
    elif width >= 90:
        columns = Table.grid(padding=(0, 3), expand=True)
        columns.add_column()
        columns.add_column(ratio=1)
        columns.add_row(stages, gates)
        parts.append(columns)
    else:
        parts += [stages, Text(), gates]
    for section in (
        _compliance(status),
        None if status.approval is None else _section("Approval", _approval(status.approval, now)),
        None if status.canary is None else _section("Canary", _canary(status.canary, now)),
        _rollback_of(status),
        _hints(status),
    ):
        if section is not None:
            parts += [Text(), section]
    if url is not None:
        parts += [Text(), Text(url, style="dim underline", overflow="fold")]
    if problem is not None:
        parts += [Text(), Text(f"⚠ {clean(problem)}", style="yellow")]
    return Panel(
        Group(*parts), box=box.ROUNDED, border_style=state_style(status.state).split()[-1], padding=(0, 1)
    )


def _heading(status: DeploymentStatus, now: datetime) -> RenderableType:
    title = Text.assemble(
        (status.application, "bold"),
        " ",
        (status.version, "bold"),
        (" → ", "dim"),
        (status.environment, "bold"),
    )
    took = (status.finished_at or now) - status.started_at
    state = Text.assemble((f"{'⏸ paused · ' if status.paused else ''}", "bold yellow"))
    state.append(f"● {status.state}", style=state_style(status.state))
    state.append(f" · {brief(took)}", style="dim")
    line = Table.grid(expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right")
    line.add_row(title, state)
    facts = [f"asked for by {status.actor} at {clock(status.started_at, now)}"]
    if status.previous_version is not None:
        facts.append(f"{status.previous_version} before")
    if status.built is not None:
        facts.append(f"commit {status.built.commit[:10]}")
    rows: list[RenderableType] = [line, Text(clean(" · ".join(facts)), style="dim")]
    if status.queue_position is not None and status.state is DeploymentState.PENDING:
        rows.append(Text(f"place {status.queue_position} in the queue", style="yellow"))
    if status.waiting_for and not status.state.final:
        rows.append(Text(f"waiting for {clean(status.waiting_for)}", style="yellow"))
    if status.reason:
        rows.append(Text(clean(status.reason), style=state_style(status.state)))
    return Group(*rows)


def stage_times(status: DeploymentStatus, now: datetime) -> list[tuple[Transition, timedelta | None]]:
    """Every state that was entered, and how long it lasted; none for the final one."""
    times: list[tuple[Transition, timedelta | None]] = [
        (entered, left.at - entered.at) for entered, left in pairwise(status.history)
    ]
    if status.history:
        last = status.history[-1]
        times.append((last, None if last.state.final else now - last.at))
    return times


def _stages(status: DeploymentStatus, now: datetime, *, compact: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    times = stage_times(status, now)
    broken = status.state in (DeploymentState.FAILED, DeploymentState.REJECTED, DeploymentState.ROLLING_BACK)
    turned = {DeploymentState.FAILED, DeploymentState.REJECTED, DeploymentState.ROLLING_BACK}
    for index, (entered, took) in enumerate(times):
        following = times[index + 1][0].state if index + 1 < len(times) else None
        if entered.state in turned:
            mark, style = ("✘", "red") if entered.state.final else ("↩", "red")
        elif following in turned:
            mark, style = "✘", "red"
        elif following is None and not entered.state.final:
            mark, style = "●", state_style(entered.state)
        else:
            mark, style = "✔", "green"
        duration = "" if took is None else brief(took)
        table.add_row(
            Text.assemble((mark, style), " ", (str(entered.state), style if mark != "✔" else "")),
            Text(clock(entered.at, now), style="dim"),
            Text(duration, style="dim" if mark == "✔" else style),
        )
    entered_states = {entered.state for entered, _ in times}
    latest = max((_STAGES.index(s) for s in entered_states if s in _STAGES), default=-1)
    if not broken and not status.state.final:
        ahead = (*_STAGES[latest + 1 :], DeploymentState.COMPLETED)
        if compact and len(ahead) > 1:
            table.add_row(Text(f"○ {len(ahead)} more", style="dim"), "", "")
        else:
            for state in ahead:
                table.add_row(Text(f"○ {state}", style="dim"), "", "")
    return table


def _gates(gates: Sequence[GateResult]) -> Table | None:
    if not gates:
        return None
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for gate in gates:
        mark, style = _GATE_MARKS[gate.outcome]
        good = gate.outcome is GateOutcome.PASSED
        table.add_row(
            Text.assemble((mark, style), " ", (gate.name, "" if good else style)),
            Text(gate_facts(gate), style="dim" if good else style),
        )
    return table


def gate_facts(gate: GateResult) -> str:
    """What a gate found: its measurements if it passed, else why not."""
    if gate.outcome is GateOutcome.PASSED:
        measured = [f"{c.name} {c.measured}" for c in gate.checks if c.measured is not None]
        return clean(", ".join(measured) or gate.reason)
    return clean(gate.reason or str(gate.outcome))


def _compliance(status: DeploymentStatus) -> RenderableType | None:
    report = status.compliance
    if report is None or not report.items:
        return None
    met = len(report.items) - len(report.gaps)
    if not report.gaps:
        body: RenderableType = Text(f"✔ {met} of {len(report.items)} items met", style="green")
    else:
        style = "red" if report.blocking else "yellow"
        lines = [Text(f"{met} of {len(report.items)} items met ({report.mode})", style=style)]
        lines += [Text(f"▲ {i.section}: {clean(i.reason or i.item)}", style=style) for i in report.gaps[:5]]
        if len(report.gaps) > 5:
            lines.append(Text(f"  and {len(report.gaps) - 5} more", style=style))
        body = Group(*lines)
    return _section("Compliance", body)


def _section(title: str, body: RenderableType) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(width=10, no_wrap=True)
    table.add_column(ratio=1)
    table.add_row(Text(title, style="bold"), body)
    return table


def _approval(approval: ApprovalStatus, now: datetime) -> RenderableType:
    given, needed = len(approval.received_approvals), approval.min_approvals
    style = {
        ApprovalState.PENDING: "yellow",
        ApprovalState.APPROVED: "green",
    }.get(approval.state, "bold red")
    filled = "●" * min(given, needed) + "○" * max(0, needed - given)
    first = Text.assemble(
        (f"{filled} ", style), (f"{given} of {needed}", style), f" · {', '.join(approval.required_approvers)}"
    )
    first.append(f" · {approval.gate_name}", style="dim")
    if approval.state is ApprovalState.PENDING:
        closes = clock(approval.expires_at, now)
        first.append(f" · closes in {brief(approval.expires_at - now)} ({closes})", style="yellow")
    elif approval.state is ApprovalState.APPROVED and given >= needed:
        first.append(" · approved", style=style)
    else:
        first.append(f" · {clean(approval.reason or str(approval.state))}", style=style)
    lines = [first]
    entries = [
        *((d, "✔", "green") for d in approval.received_approvals),
        *((d, "✘", "red") for d in approval.received_rejections),
        *((d, "“", "dim") for d in approval.comments),
    ]
    for decision, mark, mark_style in sorted(entries, key=lambda e: e[0].at):
        line = Text.assemble((mark, mark_style), " ", clean(decision.actor))
        roles = f" as {', '.join(decision.roles)}" if decision.roles else ""
        line.append(f"{roles} at {clock(decision.at, now)} by {clean(decision.source)}", style="dim")
        if decision.comment:
            line.append(f"  {clean(decision.comment)}")
        lines.append(line)
    return Group(*lines)


def _canary(canary: CanaryStatus, now: datetime) -> RenderableType:
    style = {CanaryPhase.SUCCEEDED: "green", CanaryPhase.PAUSED: "yellow"}.get(
        canary.phase, "red" if canary.phase in (CanaryPhase.FAILED, CanaryPhase.ABORTED) else "cyan"
    )
    filled = round(canary.weight / 100 * 24)
    bar = Text.assemble(("━" * filled, style), ("─" * (24 - filled), "bright_black"))
    bar.append(f" {canary.weight}% ", style=style)
    bar.append(str(canary.phase), style=style)
    if canary.reason:
        bar.append(f" · {clean(canary.reason)}", style=style)
    steps = Table.grid(padding=(0, 2))
    steps.add_column(justify="right", no_wrap=True)
    steps.add_column(no_wrap=True)
    steps.add_column(overflow="fold")
    for step in canary.steps:
        mark, mark_style, words = "●", "cyan", "watched"
        if step.promoted_by is not None:
            mark, mark_style, words = "»", "yellow", f"promoted by {step.promoted_by}"
        elif step.verdict is not None:
            good = step.verdict.outcome is WatchOutcome.PASSED
            mark, mark_style = ("✔", "green") if good else ("✘", "red")
            words = step.verdict.reason or str(step.verdict.outcome)
        took = brief((step.finished_at or now) - step.started_at)
        observed = (
            f", {step.observed_weight:.0f}% taken"
            if step.observed_weight is not None and round(step.observed_weight) != step.weight
            else ""
        )
        steps.add_row(
            Text(f"{step.weight}%", style=mark_style),
            Text.assemble((mark, mark_style), " ", (took, "dim")),
            Text(clean(words) + observed, style="" if mark_style != "red" else "red"),
        )
    return Group(bar, steps) if canary.steps else bar


def _rollback_of(status: DeploymentStatus) -> RenderableType | None:
    rollback = status.rollback
    if rollback is None:
        return None
    running = status.state is DeploymentState.ROLLING_BACK
    mark, style = ("●", "yellow") if running else ("✔", "green") if rollback.succeeded else ("✘", "bold red")
    words = "rolling back" if running else "rolled back" if rollback.succeeded else "roll-back FAILED"
    line = Text.assemble((f"{mark} {words}", style))
    if rollback.to_version:
        line.append(f" to {rollback.to_version}", style=style)
    if rollback.duration is not None:
        line.append(f" in {brief(rollback.duration)}", style="dim")
    line.append(f" · {clean(rollback.reason)}")
    return _section("Roll-back", Group(line, Text(rollback.workflow_id, style="dim")))


def _hints(status: DeploymentStatus) -> RenderableType | None:
    """The commands that make sense now."""
    if status.state.final:
        return None
    target = target_words(status.application, status.environment, status.version)
    hints: list[Text] = []
    if status.approval is not None and status.approval.state is ApprovalState.PENDING:
        hints += [command_line("approve", *target), command_line("reject", *target)]
    if status.canary is not None and status.canary.phase in (CanaryPhase.ANALYSING, CanaryPhase.PAUSED):
        hints.append(command_line("resume" if status.paused else "pause", *target))
    if status.state is not DeploymentState.ROLLING_BACK:
        hints.append(command_line("abort", *target))
    return _section("You can", Group(*hints)) if hints else None


def target_words(application: str, environment: str, version: str | None) -> list[str]:
    """How a command names its target."""
    return [environment, *([version] if version else []), "-a", application]


# Other workflows


def approval_view(approval: ApprovalStatus, now: datetime) -> RenderableType:
    """One approval gate."""
    _, application, environment, version = approval.deployment_id.split(":", 3)
    parts: list[RenderableType] = [
        Text.assemble((f"{application} {version}", "bold"), (" → ", "dim"), (environment, "bold")),
        _approval(approval, now),
    ]
    if approval.state is ApprovalState.PENDING:
        target = target_words(application, environment, version)
        parts += [Text(), command_line("approve", *target), command_line("reject", *target)]
    return Panel(Group(*parts), title="Approval", title_align="left", box=box.ROUNDED, padding=(0, 1))


def canary_view(canary: CanaryStatus, now: datetime) -> RenderableType:
    """One canary."""
    return Panel(_canary(canary, now), title=canary.id, title_align="left", box=box.ROUNDED, padding=(0, 1))


def rollback_view(rollback: RollbackStatus, now: datetime) -> RenderableType:
    """One roll-back."""
    style = {RollbackState.COMPLETED: "bold green", RollbackState.FAILED: "bold red"}.get(
        rollback.state, "bold yellow"
    )
    took = (rollback.finished_at or now) - rollback.started_at
    head = Text.assemble(
        (rollback.from_version, "bold"),
        (" ↩ ", "dim"),
        (rollback.to_version or "last good version", "bold"),
        "  ",
        (f"● {rollback.state}", style),
        (f" · {brief(took)} · attempt {max(1, rollback.attempt)}", "dim"),
    )
    asked = f"asked for by {rollback.actor} at {clock(rollback.started_at, now)}: {rollback.reason}"
    lines: list[RenderableType] = [head, Text(clean(asked), style="dim")]
    if rollback.outcome:
        lines.append(Text(clean(rollback.outcome), style=style))
    return Panel(Group(*lines), title=rollback.id, title_align="left", box=box.ROUNDED, padding=(0, 1))


def environment_view(
    record: EnvironmentRecord, now: datetime, *, running: DeploymentStatus | None = None
) -> RenderableType:
    """What is live in an environment, who has the turn, who waits, what forbids deployments, what was."""
    live = Text(record.current_version or "nothing", style="bold green" if record.current_version else "dim")
    if record.current_since is not None and record.current_version is not None:
        live.append(f"  for {brief(now - record.current_since)}", style="dim")
    if record.current_commit:
        live.append(f"  commit {record.current_commit[:10]}", style="dim")
    rows: list[tuple[str, RenderableType]] = [("Live", live)]
    if record.last_good_version and record.last_good_version != record.current_version:
        rows.append(("Last good", Text(record.last_good_version)))
    if record.holder is not None:
        turn = Text.assemble((record.holder.version, "bold cyan"))
        if running is not None:
            turn.append(f"  {running.state}", style=state_style(running.state))
        turn.append(f"  {clean(record.holder.actor)}  {record.holder.holder}", style="dim")
        rows.append(("Turn", turn))
    for place, waiting in enumerate(record.queue, start=1):
        since = "" if waiting.at is None else f"  for {brief(now - waiting.at)}"
        line = Text.assemble(f"{place}. ", (waiting.version, "bold"))
        line.append(f"  {clean(waiting.actor)}{since}", style="dim")
        rows.append(("Queue" if place == 1 else "", line))
    for title, hold in (("Frozen", record.freeze), ("Hold", record.hold)):
        if hold is not None:
            rows.append((title, _hold(hold, now)))
    for index, (version, hold) in enumerate(record.held_versions.items()):
        rows.append(("Held back" if index == 0 else "", _hold(hold, now, version)))
    for index, past in enumerate(reversed(record.history[-8:])):
        rows.append(("History" if index == 0 else "", _past(past, now)))
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(width=10, no_wrap=True)
    table.add_column(ratio=1)
    for title, body in rows:
        table.add_row(Text(title, style="bold"), body)
    return Panel(
        table,
        title=Text.assemble((f"{record.application} ", "dim"), (record.environment, "bold")),
        title_align="left",
        box=box.ROUNDED,
        border_style="yellow" if record.freeze or record.hold else "bright_black",
        padding=(0, 1),
    )


def _hold(hold: Hold, now: datetime, version: str | None = None) -> Text:
    until = "" if hold.until is None else f" until {clock(hold.until, now)}"
    what = f"{version}: " if version else ""
    line = Text(f"{what}{clean(hold.reason)}", style="yellow")
    line.append(f"  {clean(hold.actor)}, since {clock(hold.since, now)}{until}", style="dim")
    return line


def _past(past: PastDeployment, now: datetime) -> Text:
    mark, style = _OUTCOME_MARKS[past.outcome]
    line = Text.assemble((mark, style), " ", past.version, (f"  {clock(past.finished_at, now)}", "dim"))
    if past.outcome is not Outcome.DEPLOYED:
        words = str(past.outcome).replace("_", " ")
        line.append(f"  {words}", style=style)
        reason = clean(past.reason).removeprefix(words).strip()
        if reason:
            line.append(f" {reason}" if reason.startswith("by ") else f": {reason}", style="dim")
    return line


def pending_table(approvals: Iterable[ApprovalStatus], now: datetime) -> Table:
    """Open approvals, the most urgent first."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, expand=True)
    table.add_column("Environment", no_wrap=True)
    table.add_column("Version", no_wrap=True)
    table.add_column("Gate")
    table.add_column("Who may decide", ratio=1)
    table.add_column("Given", justify="right", no_wrap=True)
    table.add_column("Time left", justify="right", no_wrap=True)
    for approval in approvals:
        _, application, environment, version = approval.deployment_id.split(":", 3)
        left = approval.expires_at - now
        table.add_row(
            Text.assemble((f"{application} ", "dim"), (environment, "bold")),
            version,
            approval.gate_name,
            ", ".join(approval.required_approvers),
            f"{len(approval.received_approvals)} of {approval.min_approvals}",
            Text(brief(left), style="bold red" if left < timedelta(hours=4) else "yellow"),
        )
    return table


# Logs


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
        *_approval_changes(None if before is None else before.approval, after.approval),
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
            lines.append(Line(step.started_at, f"canary at {step.weight}%"))
        if step.finished_at is not None and (was is None or was.finished_at is None):
            if step.promoted_by is not None:
                lines.append(
                    Line(step.finished_at, f"canary at {step.weight}% promoted by {step.promoted_by}")
                )
            elif step.verdict is not None:
                verdict = f"{step.verdict.outcome}: {step.verdict.reason}"
                lines.append(Line(step.finished_at, f"canary at {step.weight}% {verdict}"))
    if (before is None or before.phase is not after.phase) and after.phase in _CANARY_ENDS:
        last = max((s.finished_at for s in after.steps if s.finished_at is not None), default=now)
        reason = f": {after.reason}" if after.reason else ""
        lines.append(Line(last, f"canary {str(after.phase).lower()}{reason}"))
    return lines


_CANARY_ENDS = (CanaryPhase.SUCCEEDED, CanaryPhase.FAILED, CanaryPhase.ABORTED)
