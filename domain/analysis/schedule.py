"""When a watch measures what: tracks on a clock that only advances by what was watched."""

from __future__ import annotations

from datetime import timedelta

from domain.analysis.metric import Metric
from domain.analysis.watch import Due, MetricTally, WatchPolicy, WatchTally

_NONE = timedelta(0)


def begin(policy: WatchPolicy) -> WatchTally:
    """A watch of which nothing was seen yet; its clock stands at the first moment that something is due."""
    return WatchTally(clock=policy.initial_delay, health_at=policy.initial_delay)


def due(policy: WatchPolicy, tally: WatchTally) -> Due:
    """What must be measured at ``tally.clock``."""
    tally = on_clock(policy, tally)
    return Due(
        health=policy.health is not None and tally.health_at <= tally.clock,
        metrics=tuple(
            metric.name
            for metric in policy.metrics
            if (at := track_of(policy, tally, metric).next_at) is not None and at <= tally.clock
        ),
    )


def resumed(policy: WatchPolicy, reported: WatchTally | None, watched: timedelta) -> WatchTally:
    """The tally of a watch that was interrupted after `watched` of its time: what it has reported.

    Nothing is assumed of what came after the report, good or bad: it is measured again. A report of a guard
    is ahead of the watch, whose clock stood still.
    """
    tally = on_clock(policy, reported or begin(policy))
    step = policy.interval
    floor = policy.initial_delay + tally.rounds * step
    ahead = min(tally.clock - watched - step, tally.health_at - floor)
    if ahead > _NONE:
        tally = _moved_back(tally, ahead)
    return tally.model_copy(update={"clock": min(max(watched, floor - step, _NONE), tally.clock)})


def _moved_back(tally: WatchTally, by: timedelta) -> WatchTally:
    metrics = {
        name: track if track.next_at is None else track.model_copy(update={"next_at": track.next_at - by})
        for name, track in tally.metrics.items()
    }
    return tally.model_copy(
        update={"clock": tally.clock - by, "health_at": tally.health_at - by, "metrics": metrics}
    )


def _moments(first: timedelta, until: timedelta, step: timedelta) -> int:
    """How many moments `step` apart lie between `first` and `until`, both included."""
    if until < first or step <= _NONE:
        return 0
    return (until - first) // step + 1


def on_clock(policy: WatchPolicy, tally: WatchTally) -> WatchTally:
    """The same tally; one of before there was a clock gets the earliest it can have."""
    earliest = policy.initial_delay + tally.rounds * policy.interval
    if tally.health_at >= earliest:
        return tally
    return tally.model_copy(update={"clock": max(tally.clock, earliest), "health_at": earliest})


def next_clock(policy: WatchPolicy, tally: WatchTally, *, guard: bool) -> timedelta:
    """The next moment that something is due, or a round is counted."""
    moments = [at for metric in policy.metrics if (at := track_of(policy, tally, metric).next_at) is not None]
    if policy.health is not None or not moments or (tally.rounds < policy.rounds and not guard):
        moments.append(tally.health_at)
    return max(tally.clock, min(moments))


def interval_of(policy: WatchPolicy, metric: Metric) -> timedelta:
    return metric.interval or policy.interval


def follows_rounds(metric: Metric) -> bool:
    """It is measured in each round as long as the watch lasts, and has no count of its own."""
    return metric.count is None and metric.interval is None and not metric.initial_delay


def needed(policy: WatchPolicy, metric: Metric) -> int:
    """Measurements without which the watch does not end; 0 = the watch's rounds decide."""
    if metric.count is not None:
        return metric.count
    if follows_rounds(metric):
        return 0
    last = policy.initial_delay + max(0, policy.rounds - 1) * policy.interval
    first, step = _first_due(policy, metric), interval_of(policy, metric)
    return max(1, _moments(first, last, step))


def track_of(policy: WatchPolicy, tally: WatchTally, metric: Metric) -> MetricTally:
    """How a metric has done so far; one that was never measured is due when its window fits."""
    return tally.metrics.get(metric.name) or MetricTally(next_at=_first_due(policy, metric))


def _first_due(policy: WatchPolicy, metric: Metric) -> timedelta:
    return max(policy.initial_delay + metric.warm_up * policy.interval, metric.initial_delay)
