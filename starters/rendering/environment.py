"""Environments, open approvals and roll-backs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from domain.approval import ApprovalStatus
from domain.deployment import DeploymentStatus
from domain.environment import EnvironmentRecord, Hold, Outcome, PastDeployment
from domain.rollback import RollbackState, RollbackStatus
from starters.rendering.board import state_style
from starters.rendering.delivery import warnings_of
from starters.rendering.text import brief, clean, clock

_OUTCOME_MARKS = {
    Outcome.DEPLOYED: ("✔", "green"),
    Outcome.UNCHANGED: ("–", "dim"),
    Outcome.ROLLED_BACK: ("↩", "yellow"),
    Outcome.BROKEN: ("✘", "bold red"),
}


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
            if warnings_of(running):
                turn.append("  ▲ Warning", style="bold yellow")
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
            approval.approvals_given,
            Text(brief(left), style="bold red" if left < timedelta(hours=4) else "yellow"),
        )
    return table
