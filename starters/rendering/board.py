"""One deployment at a glance: a board for terminals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from domain.analysis import WatchOutcome
from domain.approval import ApprovalState, ApprovalStatus
from domain.canary import CanaryPhase
from domain.deployment import DeploymentState, DeploymentStatus, Transition
from domain.gates import GateOutcome, GateResult
from starters.rendering.delivery import (
    awaits_promotion,
    canary_body,
    delivery_body,
    delivery_title,
    warning_lines,
    warnings_of,
)
from starters.rendering.text import brief, clean, clock, command_line, target_words

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
_WIDE = 90
"""Columns from which things stand beside each other."""
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


def state_style(state: DeploymentState) -> str:
    return _STATE_STYLES.get(state, "bold cyan")


def deployment_board(
    status: DeploymentStatus,
    now: datetime,
    *,
    problem: str | None = None,
    url: str | None = None,
    width: int,
    height: int | None = None,
) -> RenderableType:
    """Everything about one deployment: warnings, stages, gates, approval, delivery, roll-back, next orders.

    Args:
        problem: why the picture may be old.
        width: columns there are.
        height: lines there are; none if they may be scrolled.
    """
    compact = height is not None and height < 32
    parts: list[RenderableType] = [_heading(status, now), Text()]
    warnings = warnings_of(status)
    if warnings:
        parts += [warning_lines(warnings), Text()]
    stages, gates = _stages(status, now, compact=compact), gates_table(status.gates)
    if gates is None:
        parts.append(stages)
    elif width >= _WIDE:
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
        _canary(status, now, compact=compact),
        _delivery(status, now),
        _rollback_of(status),
        _hints(status, width),
    ):
        if section is not None:
            parts += [Text(), section]
    if url is not None:
        parts += [Text(), Text(url, style="dim underline", overflow="fold")]
    if problem is not None:
        parts += [Text(), Text(f"⚠ {clean(problem)}", style="yellow")]
    border = "yellow" if warnings else state_style(status.state).split()[-1]
    return Panel(Group(*parts), box=box.ROUNDED, border_style=border, padding=(0, 1))


def _heading(status: DeploymentStatus, now: datetime) -> RenderableType:
    title = Text.assemble(
        (status.application, "bold"),
        " ",
        (status.version, "bold"),
        (" → ", "dim"),
        (status.environment, "bold"),
    )
    took = (status.finished_at or now) - status.started_at
    state = Text(f"{'⏸ paused · ' if status.paused else ''}", style="bold yellow")
    if warnings_of(status):
        state.append("▲ Warning · ", style="bold yellow")
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


def gates_table(gates: Sequence[GateResult]) -> Table | None:
    """The gates with what they found; none if there are none yet."""
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
    needed = approval.min_approvals
    given = max(0, needed - approval.approvals_missing)
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
    if approval.state is ApprovalState.PENDING:
        lines += _rules(approval)
    entries = [
        *((d, "✔", "green") for d in approval.received_approvals),
        *((d, "✘", "red") for d in approval.received_rejections),
        *((d, "“", "dim") for d in approval.comments),
    ]
    for decision, mark, mark_style in sorted(entries, key=lambda e: e[0].at):
        line = Text.assemble((mark, mark_style), " ", clean(decision.actor))
        if decision.on_behalf_of:
            line.append(f" for {clean(decision.on_behalf_of)}")
        if decision.emergency:
            line.append(" BREAK GLASS", style="bold red")
        roles = f" as {', '.join(decision.roles)}" if decision.roles else ""
        signed = ", signed" if decision.verified else ""
        line.append(f"{roles} at {clock(decision.at, now)} by {clean(decision.source)}{signed}", style="dim")
        if decision.comment:
            line.append(f"  {clean(decision.comment)}")
        lines.append(line)
    return Group(*lines)


def _rules(approval: ApprovalStatus) -> list[Text]:
    """Each rule of a gate that has several, how it is decided, and whether it is about to expire."""
    lines = []
    if len(approval.progress) > 1:
        for rule in approval.progress:
            line = Text("● " if not rule.missing else "○ ", style="green" if not rule.missing else "yellow")
            line.append(f"{len(rule.counted)} of {rule.needed} · {' or '.join(rule.roles)}")
            if rule.counted:
                line.append(f" · {clean(', '.join(rule.counted))}", style="dim")
            lines.append(line)
    if approval.how_to_decide is not None:
        lines.append(Text(clean(approval.how_to_decide), style="dim"))
    if approval.escalated_at is not None:
        lines.append(Text("! escalated: people on call may decide too", style="yellow"))
    return lines


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


def _canary(status: DeploymentStatus, now: datetime, *, compact: bool) -> RenderableType | None:
    if status.canary is None:
        return None
    return _section("Canary", canary_body(status.canary, now, compact=compact))


def _delivery(status: DeploymentStatus, now: datetime) -> RenderableType | None:
    delivery = status.delivery
    if delivery is None or not (delivery.steps or delivery.phase):
        return None
    return _section(delivery_title(delivery.kind), delivery_body(delivery, now))


def _hints(status: DeploymentStatus, width: int) -> RenderableType | None:
    """The commands that make sense now; what comes of them where there is room for it."""
    if status.state.final:
        return None
    target = target_words(status.application, status.environment, status.version)
    orders = [(command_line(verb, *target), effect) for verb, effect in _possible(status)]
    longest = max((len(order) for order, _ in orders), default=0)
    hints = [
        order if width < _WIDE else order.append(f"{' ' * (longest - len(order))}  {effect}", "not bold dim")
        for order, effect in orders
    ]
    return _section("You can", Group(*hints)) if hints else None


def _possible(status: DeploymentStatus) -> Iterator[tuple[str, str]]:
    """What can be ordered now, and what comes of it."""
    if status.approval is not None and status.approval.state is ApprovalState.PENDING:
        yield from (("approve", "let it go on"), ("reject", "end it"))
    canary, delivery = status.canary, status.delivery
    if canary is not None and canary.phase in (CanaryPhase.ANALYSING, CanaryPhase.PAUSED):
        paused = status.paused or canary.paused or canary.phase is CanaryPhase.PAUSED
        judged = canary.steps[-1].verdict if canary.steps else None
        again = judged is not None and judged.outcome is WatchOutcome.INCONCLUSIVE
        going_on = "analyse this weight once more" if again else "go on"
        yield ("resume", going_on) if paused else ("pause", "stay at this weight")
        yield "promote", "next weight now"
    elif status.paused:
        yield "resume", "go on"
    if delivery is not None and awaits_promotion(delivery):
        yield "promote", "switch all traffic to the new side"
    if status.state is not DeploymentState.ROLLING_BACK:
        yield "abort", "stop now and roll back what was done"


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
