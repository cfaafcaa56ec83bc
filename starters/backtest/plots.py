"""What a backtest draws of each metric, and drawing it in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from rich.text import Text

from domain.analysis import Metric, Phase, WatchOutcome
from domain.analysis.conditions import parse_condition
from domain.backtest import Recording, Replay, Series
from starters.rendering import clean

_HEIGHT = 13
_MOST_TERMINAL_POINTS = 4_000
_TICKS = 5
"""Ticks of the time axis in a terminal."""
COLOURS = {WatchOutcome.FAILED: "red", WatchOutcome.INCONCLUSIVE: "yellow", WatchOutcome.PASSED: "green"}


@dataclass(frozen=True)
class Panel:
    """What is drawn of one metric.

    Attributes:
        limits: values between good and bad.
        bad: measurements that were not good.
        verdicts: when a watch was decided, and how.
    """

    title: str
    unit: str
    watched: Series
    baseline: Series | None
    limits: tuple[float, ...]
    bad: tuple[tuple[datetime, float], ...] = ()
    verdicts: tuple[tuple[datetime, WatchOutcome], ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not _points(self.watched)


def panels(recording: Recording, replays: Sequence[Replay]) -> list[Panel]:
    """One for each metric; a verdict stands in the panel of the metric that decided, or in all."""
    policy = replays[0].policy
    return [
        Panel(
            title=clean(metric.name),
            unit=clean(metric.unit),
            watched=recording.watched[metric.name],
            baseline=recording.baseline.get(metric.name),
            limits=_limits(metric),
            bad=tuple(
                (m.at, m.reading.value)
                for replay in replays
                for m in replay.measurements[metric.name]
                if m.phase is Phase.FAILED and m.reading.value is not None
            ),
            verdicts=tuple(
                (replay.decided_at, replay.outcome)
                for replay in replays
                if _is_marked(replay, metric, alone=len(replays) == 1)
            ),
        )
        for metric in policy.metrics
    ]


def _is_marked(replay: Replay, metric: Metric, *, alone: bool) -> bool:
    """One verdict always; of many only the failures."""
    if replay.verdict is None or replay.verdict.trigger not in (None, metric.name):
        return False
    return alone or replay.outcome is WatchOutcome.FAILED


def _limits(metric: Metric) -> tuple[float, ...]:
    found = set() if metric.limit is None else {metric.limit}
    for condition in (metric.success, metric.failure):
        if condition is not None:
            found |= parse_condition(condition, metric.unit).limits
    return tuple(sorted(found))


def _points(series: Series, most: int | None = None) -> list[tuple[datetime, float]]:
    """What can be drawn: finite values; of too many the extreme ones of each stretch."""
    found = [(at, v) for at, v in series.moments() if v is not None and math.isfinite(v)]
    if most is None or len(found) <= most:
        return found
    stretch = math.ceil(2 * len(found) / most)
    kept: list[tuple[datetime, float]] = []
    for begin in range(0, len(found), stretch):
        part = found[begin : begin + stretch]
        kept += sorted({min(part, key=_value), max(part, key=_value)})
    return kept


def _value(point: tuple[datetime, float]) -> float:
    return point[1]


def telling(drawn: Sequence[Panel]) -> list[Panel]:
    """The panels that explain the outcome: where something was bad or decided; all if nothing was."""
    there = [panel for panel in drawn if not panel.empty]
    return [panel for panel in there if panel.bad or panel.verdicts] or there


def in_terminal(panel: Panel, width: int) -> Text:
    """A panel that is not `empty`: the record, its limits dashed, the verdict as a vertical line."""
    import plotext  # type: ignore[import-untyped]  # noqa: PLC0415 - only those who look at plots wait for it

    begin, end = panel.watched.start, panel.watched.end
    points = _points(panel.watched, _MOST_TERMINAL_POINTS)

    def seconds(moment: datetime) -> float:
        return (moment - begin).total_seconds()

    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plot_size(width, _HEIGHT)
    plotext.theme("clear")
    if panel.baseline is not None and (base := _points(panel.baseline, _MOST_TERMINAL_POINTS)):
        plotext.plot([seconds(at) for at, _ in base], [v for _, v in base], marker="dot", color="gray")
    for limit in panel.limits:
        plotext.plot([0, seconds(end)], [limit, limit], marker="-", color="yellow")
    plotext.plot([seconds(at) for at, _ in points], [v for _, v in points], marker="braille", color="cyan")
    low, high = _range(panel, points)
    for at, outcome in panel.verdicts:
        plotext.plot([seconds(at), seconds(at)], [low, high], marker="│", color=COLOURS[outcome])
    if panel.bad:
        plotext.scatter(
            [seconds(at) for at, _ in panel.bad], [v for _, v in panel.bad], marker="x", color="red"
        )
    plotext.ylim(low, high)
    plotext.xlim(0, max(seconds(end), 1))
    places = [seconds(end) * part / (_TICKS - 1) for part in range(_TICKS)]
    zone = datetime.now().astimezone().tzinfo
    plotext.xticks(places, [_clock(begin + timedelta(seconds=p), begin, end, zone) for p in places])
    unit = f" [{panel.unit.strip()}]" if panel.unit.strip() else ""
    plot = Text.from_ansi(plotext.build())
    plotext.clear_figure()
    return Text.assemble((f"{panel.title}{unit}", "bold"), _key(panel, zone), "\n", plot)


def _key(panel: Panel, zone: tzinfo | None) -> Text:
    key = Text("  ")
    key.append("⠤⠤", style="cyan").append(" watched", style="dim")
    if panel.baseline is not None:
        key.append("  ••", style="bright_black").append(" baseline", style="dim")
    for limit in panel.limits:
        key.append("  --", style="yellow").append(f" {limit:g}", style="dim")
    if panel.bad:
        key.append("  x", style="red").append(" bad", style="dim")
    for outcome in sorted({outcome for _, outcome in panel.verdicts}):
        key.append("  │", style=COLOURS[outcome]).append(f" {outcome}", style="dim")
    return key.append(f"  times in {panel.watched.start.astimezone(zone):%Z}", style="dim")


def _range(panel: Panel, points: Sequence[tuple[datetime, float]]) -> tuple[float, float]:
    values = [v for _, v in points] + list(panel.limits) + [v for _, v in panel.bad]
    low, high = min(0.0, *values), max(values)
    return low, high + ((high - low) * 0.05 or 1.0)


def _clock(moment: datetime, begin: datetime, end: datetime, zone: tzinfo | None) -> str:
    local = moment.astimezone(zone)
    if end - begin > timedelta(days=2):
        return local.strftime("%d %b")
    return local.strftime("%d %H:%M" if end - begin > timedelta(days=1) else "%H:%M:%S")
