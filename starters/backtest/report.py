"""What a backtest tells people and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from domain.analysis import Metric, Phase, WatchOutcome
from domain.backtest import Replay
from domain.durations import format_duration
from starters.rendering import brief, clean
from starters.rendering.delivery import OUTCOME_MARKS, PHASE_MARKS

_WORDS = {
    WatchOutcome.PASSED: ("✔ would have PASSED", "bold green"),
    WatchOutcome.FAILED: ("✘ would have FAILED", "bold red"),
    WatchOutcome.INCONCLUSIVE: ("? would have been INCONCLUSIVE", "bold yellow"),
}


def stamp(moment: datetime) -> str:
    """Local time with its zone: a report is read on another day than it was made."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def one(replay: Replay, notes: Sequence[str]) -> RenderableType:
    """One watch: its verdict first, then each metric."""
    words, style = _WORDS[replay.outcome]
    head = Text.assemble((words, style), f" {clean(replay.policy.subject)}")
    took = brief(replay.decided_at - replay.start)
    if replay.verdict is None:
        when = f"no verdict until {stamp(replay.decided_at)}, {took} after its start"
    else:
        when = f"at {stamp(replay.decided_at)}, {took} after its start"
    told: list[RenderableType] = [Text(when), Text(clean(replay.reason), style=style)]
    delay = replay.detection_delay
    if delay is not None and replay.bad_since is not None:
        since = f"it had been bad for {brief(delay)} by then, since {stamp(replay.bad_since)}"
        told.append(Text(since if delay else "its first bad value decided", style="dim"))
    if replay.verdict is not None and replay.verdict.score is not None:
        told.append(Text(f"score {replay.verdict.score:.0f}%"))
    if replay.outcome is not WatchOutcome.FAILED:
        told += [Text(f"warning: {clean(w)}", style="yellow") for w in replay.tally.warnings]
    told += [Text(clean(note), style="dim") for note in notes]
    return Group(head, Padding(Group(*told), (0, 0, 0, 2)), metrics_table(replay))


def metrics_table(replay: Replay) -> Table:
    """How each metric's measurements came out, and the last one."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("Metric", no_wrap=True)
    for title in ("Good", "Bad", "Unclear", "Errors"):
        table.add_column(title, justify="right")
    table.add_column("Last", overflow="fold")
    for metric in replay.policy.metrics:
        counts, found = replay.counts(metric.name), replay.measurements[metric.name]
        mark, style = PHASE_MARKS[found[-1].phase] if found else ("–", "dim")
        table.add_row(
            Text.assemble((mark, style), " ", clean(metric.name), (_role(metric), "dim")),
            str(counts[Phase.SUCCESSFUL]),
            Text(str(counts[Phase.FAILED]), style="red" if counts[Phase.FAILED] else ""),
            str(counts[Phase.INCONCLUSIVE]),
            str(counts[Phase.ERROR]),
            Text(
                _last(metric, found[-1].reason) if found else "never measured", style="" if found else "dim"
            ),
        )
    return table


def _role(metric: Metric) -> str:
    if metric.dry_run:
        return " (dry run)"
    return " (warns only)" if metric.warn_only else ""


def _last(metric: Metric, reason: str) -> str:
    return clean(reason.removeprefix(f"{metric.name} is ").removeprefix(f"{metric.name}: "))


def many(replays: Sequence[Replay], notes: Sequence[str]) -> RenderableType:
    """A watch at each of many starts: a line for each, and how they came out together."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, expand=True)
    table.add_column("Start", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("After", justify="right", no_wrap=True)
    table.add_column("Bad for", justify="right", no_wrap=True)
    table.add_column("Why", ratio=1)
    for replay in replays:
        mark, style = OUTCOME_MARKS[replay.outcome]
        delay = replay.detection_delay
        why = "" if replay.outcome is WatchOutcome.PASSED else clean(replay.reason)
        table.add_row(
            stamp(replay.start),
            Text.assemble((f"{mark} {replay.outcome}", style)),
            brief(replay.decided_at - replay.start),
            "" if delay is None else brief(delay),
            Text(why, no_wrap=True, overflow="ellipsis"),
        )
    lines: list[RenderableType] = [table, _totals_line(replays)]
    lines += [Text(clean(note), style="dim") for note in notes]
    return Group(*lines)


def _totals_line(replays: Sequence[Replay]) -> Text:
    outcomes = Counter(replay.outcome for replay in replays)
    line = Text.assemble((f"{len(replays)} starts", "bold"), ": ")
    for index, outcome in enumerate(WatchOutcome):
        style = OUTCOME_MARKS[outcome][1] if outcomes[outcome] else "dim"
        share = f" ({100 * outcomes[outcome] / len(replays):.1f}%)" if outcomes[outcome] else ""
        line.append(", " if index else "").append(f"{outcomes[outcome]} {outcome}{share}", style=style)
    triggers = _triggers(replays)
    if triggers:
        line.append("; failed by " + ", ".join(f"{clean(t)} {n}x" for t, n in triggers.most_common()))
    return line


def _triggers(replays: Sequence[Replay]) -> Counter[str]:
    return Counter(
        replay.verdict.trigger or "the score"
        for replay in replays
        if replay.verdict is not None and replay.verdict.outcome is WatchOutcome.FAILED
    )


def document(replay: Replay) -> dict[str, Any]:
    """One watch for programs."""
    delay = replay.detection_delay
    return {
        "subject": replay.policy.subject,
        "start": replay.start.isoformat(),
        "outcome": str(replay.outcome),
        "complete": replay.verdict is not None,
        "decided_at": replay.decided_at.isoformat(),
        "reason": replay.reason,
        "trigger": None if replay.verdict is None else replay.verdict.trigger,
        "score": None if replay.verdict is None else replay.verdict.score,
        "bad_since": None if replay.bad_since is None else replay.bad_since.isoformat(),
        "detection_delay": None if delay is None else format_duration(delay),
        "warnings": list(replay.tally.warnings),
        "metrics": {metric.name: _metric_document(replay, metric) for metric in replay.policy.metrics},
    }


def _metric_document(replay: Replay, metric: Metric) -> dict[str, Any]:
    counts, found = replay.counts(metric.name), replay.measurements[metric.name]
    return {
        "query": metric.query,
        "dry_run": metric.dry_run,
        "counts": {str(phase): counts[phase] for phase in Phase},
        "last": found[-1].reading.value if found else None,
        "last_phase": str(found[-1].phase) if found else None,
        "last_reason": found[-1].reason if found else None,
    }


def totals(replays: Sequence[Replay]) -> dict[str, Any]:
    """How many starts came out how."""
    outcomes = Counter(replay.outcome for replay in replays)
    return {
        "starts": len(replays),
        **{str(outcome): outcomes[outcome] for outcome in WatchOutcome},
        "failed_by": dict(_triggers(replays)),
    }
