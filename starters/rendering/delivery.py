"""A progressive delivery as it goes: warnings, canary steps with their numbers, steps of blue/green."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from domain.analysis import Phase, WatchOutcome, WatchVerdict
from domain.blue_green import BlueGreenPhase
from domain.canary import CanaryPhase, CanaryStatus, StepVerdict
from domain.delivery import DeliveryKind, DeliveryStatus, StepState
from domain.deployment import DeploymentState, DeploymentStatus
from domain.handover import HandoverPhase, HandoverReading
from starters.rendering.text import brief, clean
from workflows.presentation import DELIVERIES, counts_of, measured

_BAR = 24
PHASE_MARKS = {
    Phase.SUCCESSFUL: ("✔", "green"),
    Phase.FAILED: ("✘", "bold red"),
    Phase.INCONCLUSIVE: ("?", "yellow"),
    Phase.ERROR: ("!", "yellow"),
}
OUTCOME_MARKS = {
    WatchOutcome.PASSED: ("✔", "green"),
    WatchOutcome.INCONCLUSIVE: ("?", "yellow"),
    WatchOutcome.FAILED: ("✘", "bold red"),
}
_STEP_MARKS = {
    StepState.RUNNING: ("●", "cyan"),
    StepState.PASSED: ("✔", "green"),
    StepState.FAILED: ("✘", "bold red"),
}
_CANARY_STYLES = {
    CanaryPhase.SUCCEEDED: "green",
    CanaryPhase.PAUSED: "yellow",
    CanaryPhase.FAILED: "bold red",
    CanaryPhase.ABORTED: "bold red",
}
_HANDOVER_STYLES = {
    HandoverPhase.SUCCEEDED: "green",
    HandoverPhase.PAUSED: "yellow",
    HandoverPhase.FAILED: "bold red",
}


def warnings_of(status: DeploymentStatus) -> tuple[str, ...]:
    """What is not well, but tolerated for now (spec: Rollback State Machine, ``Warning``)."""
    if status.state.final or status.state is DeploymentState.ROLLING_BACK:
        return ()
    of_canary = () if status.canary is None or status.canary.ended else status.canary.warnings
    return tuple(dict.fromkeys((*status.warnings, *of_canary)))


def warning_lines(warnings: Iterable[str]) -> RenderableType:
    """The warnings, each on a line that cannot be overlooked."""
    lines = [
        Text.assemble((" WARNING ", "bold black on yellow"), (f" {clean(w)}", "yellow")) for w in warnings
    ]
    note = Text("tolerated for now: it ends well by itself, or is rolled back", style="dim")
    return Group(*lines, note)


def canary_body(canary: CanaryStatus, now: datetime, *, compact: bool = False) -> RenderableType:
    """Weight, steps and verdicts; the measured numbers of the last judged step and of all that did not pass.

    Args:
        compact: only the numbers of what did not pass.
    """
    style = _CANARY_STYLES.get(canary.phase, "cyan")
    filled = round(canary.weight / 100 * _BAR)
    bar = Text.assemble(("━" * filled, style), ("─" * (_BAR - filled), "bright_black"))
    bar.append(f" {canary.weight}% ", style=style)
    bar.append(str(canary.phase), style=style)
    if canary.reason:
        bar.append(f" · {clean(canary.reason)}", style=style)
    parts: list[RenderableType] = [bar]
    if canary.handover is not None:
        parts.append(_handover(canary.handover))
    judged = [index for index, step in enumerate(canary.steps) if step.verdict is not None]
    last = None if compact or not judged else judged[-1]
    for index, step in enumerate(canary.steps):
        verdict = step.verdict
        told = verdict is not None and (verdict.outcome is not WatchOutcome.PASSED or index == last)
        parts.append(_step(step, now, brief_verdict=told))
        if verdict is not None and told:
            parts += _measurements(verdict)
    return Group(*parts)


def _step(step: StepVerdict, now: datetime, *, brief_verdict: bool) -> Table:
    mark, style, words = "●", "cyan", "being watched" if step.finished_at is None else "watched"
    if step.promoted_by is not None:
        mark, style, words = "»", "yellow", f"promoted by {step.promoted_by}"
    elif step.verdict is not None:
        mark, style = OUTCOME_MARKS[step.verdict.outcome]
        words = step.verdict.reason or str(step.verdict.outcome)
        if brief_verdict and step.verdict.outcome is WatchOutcome.PASSED and step.verdict.tally.metrics:
            words = f"passed, {step.verdict.tally.rounds} round(s)"
        if step.verdict.outcome is WatchOutcome.INCONCLUSIVE:
            words = f"inconclusive: {words}"
        if step.verdict.score is not None:
            words = f"score {step.verdict.score:.0f}% · {words}"
    if step.observed_weight is not None and round(step.observed_weight) != step.weight:
        words += f" · {step.observed_weight:.0f}% taken"
    if step.note:
        words += f" · {step.note}"
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", width=4, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(
        Text(f"{step.weight}%", style=style),
        Text.assemble((mark, style), " ", (brief((step.finished_at or now) - step.started_at), "dim")),
        Text(clean(words), style=style if step.verdict is not None and style != "green" else ""),
    )
    return table


def _measurements(verdict: WatchVerdict) -> Iterator[RenderableType]:
    """Each metric of a verdict: its last value and how often it was good or bad."""
    if not verdict.tally.metrics:
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(width=6)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, tally in verdict.tally.metrics.items():
        mark, style = ("–", "dim") if tally.last_phase is None else PHASE_MARKS[tally.last_phase]
        if tally.advisory and style != "green":
            mark, style = "▲", "yellow"
        table.add_row(
            "",
            Text.assemble((mark, style), " ", (clean(name), "bold" if name == verdict.trigger else "")),
            Text(clean(measured(name, tally)), style="" if style == "green" else style),
            Text(f"{counts_of(tally)}{', advisory' if tally.advisory else ''}", style="dim"),
        )
    yield table


def _handover(reading: HandoverReading) -> Text:
    style = _HANDOVER_STYLES.get(reading.phase, "cyan")
    line = Text.assemble(("steered by its own controller: ", "dim"), (str(reading.phase), style))
    if reading.said and reading.said != reading.phase:
        line.append(f" (it says {clean(reading.said)})", style="dim")
    if reading.reason:
        line.append(f" · {clean(reading.reason)}", style=style)
    return line


def canary_view(canary: CanaryStatus, now: datetime) -> RenderableType:
    """One canary."""
    parts = [] if canary.ended or not canary.warnings else [warning_lines(canary.warnings), Text()]
    return Panel(
        Group(*parts, canary_body(canary, now)),
        title=canary.id,
        title_align="left",
        box=box.ROUNDED,
        border_style="yellow" if parts else "none",
        padding=(0, 1),
    )


def awaits_promotion(delivery: DeliveryStatus) -> bool:
    """Whether blue/green stands before its switch, which a person makes."""
    running = not delivery.steps or delivery.steps[-1].state is not StepState.FAILED
    done = any(s.name == BlueGreenPhase.WAITING and s.state is StepState.PASSED for s in delivery.steps)
    return delivery.phase == BlueGreenPhase.WAITING and running and not done


def delivery_title(kind: DeliveryKind) -> str:
    return DELIVERIES[kind]


def delivery_body(delivery: DeliveryStatus, now: datetime) -> RenderableType:
    """The steps of a delivery that are no weights of a canary."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for step in delivery.steps:
        mark, style = _STEP_MARKS[step.state]
        took = brief((step.finished_at or now) - step.started_at)
        table.add_row(
            Text.assemble((mark, style), " ", (took, "dim")),
            Text(clean(step.name), style="" if step.state is StepState.PASSED else style),
            Text(clean(step.detail), style="dim" if step.state is StepState.PASSED else style),
        )
    if awaits_promotion(delivery):
        waits = "⏸ waits for a person to promote: then all traffic switches"
        return Group(table, Text(waits, style="yellow"))
    if not delivery.phase or (delivery.steps and delivery.phase == delivery.steps[-1].name):
        return table
    return Group(Text(clean(delivery.phase), style="cyan"), table)
