"""One validation at a glance."""

from __future__ import annotations

from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from domain.validation import ValidationState, ValidationStatus
from starters.rendering.board import gates_table
from starters.rendering.text import brief, clean, clock

_STYLES = {
    ValidationState.COMPLETED: "bold green",
    ValidationState.FAILED: "bold red",
    ValidationState.SUPERSEDED: "bold yellow",
}


def validation_view(status: ValidationStatus, now: datetime) -> RenderableType:
    """How a commit stands, and what each gate says to it."""
    style = _STYLES.get(status.state, "bold cyan")
    took = (status.finished_at or now) - status.started_at
    head = Text.assemble(
        (status.commit[:10], "bold"),
        (f"  {clean(status.ref)}" if status.ref else "", "dim"),
        (f"  pull request {status.pull_request}" if status.pull_request is not None else "", "dim"),
        "  ",
        (f"● {status.state}", style),
        (f" · {brief(took)}", "dim"),
    )
    asked = f"asked for by {status.actor} at {clock(status.started_at, now)}"
    lines: list[RenderableType] = [head, Text(clean(asked), style="dim")]
    if status.reason:
        lines.append(Text(clean(status.reason), style=style))
    elif status.waiting_for:
        lines.append(Text(f"waits for {clean(status.waiting_for)}", style="yellow"))
    gates = gates_table(status.gates)
    if gates is not None:
        lines.append(gates)
    return Panel(
        Group(*lines), title=status.validation_id, title_align="left", box=box.ROUNDED, padding=(0, 1)
    )
