"""Backtests: what a watch would have decided over recorded metrics (spec: Rollback Triggers).

The watch is the real one: `domain.analysis` is fed with the recorded values at the moments when it would
have measured them, on a clock that is moved instead of waited for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.analysis import (
    Comparison,
    HealthReport,
    Metric,
    MetricReading,
    Phase,
    Round,
    WatchOutcome,
    WatchPolicy,
    WatchTally,
    WatchVerdict,
    begin,
    due,
    judge,
    judge_reading,
)
from domain.analysis.schedule import interval_of

MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Series:
    """The values of one query at `start` and every `step` after it; none where it had none."""

    start: datetime
    step: timedelta
    values: tuple[float | None, ...]

    def at(self, moment: datetime) -> float | None:
        """The value at the last recorded moment that is not after this one; none outside the recording."""
        place = (moment - self.start) // self.step
        return self.values[place] if 0 <= place < len(self.values) else None

    def moments(self) -> Iterator[tuple[datetime, float | None]]:
        return ((self.start + self.step * place, value) for place, value in enumerate(self.values))

    @property
    def end(self) -> datetime:
        return self.start + self.step * (len(self.values) - 1)


@dataclass(frozen=True)
class Recording:
    """What Prometheus remembers of a policy's metrics, by their names."""

    watched: Mapping[str, Series]
    baseline: Mapping[str, Series] = field(default_factory=dict)

    def reading(self, metric: Metric, at: datetime) -> MetricReading:
        """What measuring the metric at that moment would have given."""
        if metric.name not in self.watched:
            return MetricReading(error="it was not recorded")
        before = metric.baseline_at or at
        if metric.comparison is not None:
            return self._samples(metric, metric.comparison, at, before)
        value = self.watched[metric.name].at(at)
        baseline = self.baseline[metric.name].at(before) if metric.name in self.baseline else None
        for number, whose in ((value, ""), (baseline, "its baseline: ")):
            if number is not None and math.isinf(number):
                return MetricReading(error=f"{whose}the query gives {number:+}: it divides by zero")
        return MetricReading(value=value, baseline=baseline)

    def _samples(
        self, metric: Metric, comparison: Comparison, at: datetime, before: datetime
    ) -> MetricReading:
        watched = _window(self.watched[metric.name], comparison, at)
        baseline = (
            _window(self.baseline[metric.name], comparison, before) if metric.name in self.baseline else ()
        )
        if any(map(math.isinf, (*watched, *baseline))):
            return MetricReading(error="the query gives infinity: it divides by zero")
        return MetricReading(
            value=watched[-1] if watched else None,
            baseline=baseline[-1] if baseline else None,
            samples=watched,
            baseline_samples=baseline,
        )


def _window(series: Series, comparison: Comparison, until: datetime) -> tuple[float, ...]:
    steps = max(1, comparison.window // comparison.step)
    values = (series.at(until - comparison.step * back) for back in reversed(range(steps)))
    return tuple(v for v in values if v is not None and not math.isnan(v))


@dataclass(frozen=True)
class Measurement:
    """One measurement as the watch judged it."""

    at: datetime
    reading: MetricReading
    phase: Phase
    reason: str


@dataclass(frozen=True)
class Replay:
    """A watch over a recording.

    Attributes:
        verdict: none if the recording ended before the watch did.
        decided_at: when the verdict fell, or the recording ended.
        bad_since: since when the metric that failed the watch had not been good any more.
        measurements: of each metric, in order.
        tally: what was counted.
    """

    policy: WatchPolicy
    start: datetime
    verdict: WatchVerdict | None
    decided_at: datetime
    bad_since: datetime | None
    measurements: Mapping[str, tuple[Measurement, ...]]
    tally: WatchTally

    @property
    def outcome(self) -> WatchOutcome:
        """A watch that did not come to its end is inconclusive."""
        return WatchOutcome.INCONCLUSIVE if self.verdict is None else self.verdict.outcome

    @property
    def reason(self) -> str:
        if self.verdict is not None:
            return self.verdict.reason
        return "the recording ends before the watch does"

    @property
    def detection_delay(self) -> timedelta | None:
        """How long the metric was bad before the verdict said so."""
        return None if self.bad_since is None else self.decided_at - self.bad_since

    def counts(self, name: str) -> Counter[Phase]:
        """How the measurements of a metric came out."""
        return Counter(m.phase for m in self.measurements.get(name, ()))


def replay(policy: WatchPolicy, recording: Recording, start: datetime, end: datetime) -> Replay:
    """Run the watch from `start`, as long as there is a recording.

    Health checks leave no record; they count as healthy.
    """
    tally, verdict, at = begin(policy), None, start
    measurements: dict[str, list[Measurement]] = {metric.name: [] for metric in policy.metrics}
    by_name = {metric.name: metric for metric in policy.metrics}
    while verdict is None and start + tally.clock <= end:
        at, wanted = start + tally.clock, due(policy, tally)
        readings = {name: recording.reading(by_name[name], at) for name in wanted.metrics}
        for name, reading in readings.items():
            phase, reason = judge_reading(by_name[name], reading)
            measurements[name].append(Measurement(at, reading, phase, reason))
        health = HealthReport(healthy=True, reason="not recorded") if wanted.health else None
        tally, verdict = judge(policy, tally, Round(health=health, readings=readings))
    since = None
    if verdict is not None and verdict.outcome is WatchOutcome.FAILED and verdict.trigger in by_name:
        since = bad_since(by_name[verdict.trigger], recording, start, at)
    return Replay(
        policy=policy,
        start=start,
        verdict=verdict,
        decided_at=end if verdict is None else at,
        bad_since=since,
        measurements={name: tuple(found) for name, found in measurements.items()},
        tally=tally,
    )


def bad_since(metric: Metric, recording: Recording, start: datetime, until: datetime) -> datetime | None:
    """The beginning of the last stretch before `until`, within the watch, without one good value."""
    series = recording.watched.get(metric.name)
    if series is None:
        return None
    since = None
    moment = until
    while moment >= start:
        phase, _ = judge_reading(metric, recording.reading(metric, moment))
        if phase is Phase.SUCCESSFUL:
            break
        since = moment
        moment -= series.step
    return since


def pace(policy: WatchPolicy, *others: timedelta) -> timedelta:
    """The longest step on which all moments of a watch lie: what must be recorded to replay it exactly."""
    steps = [policy.interval, policy.initial_delay, *others]
    for metric in policy.metrics:
        steps += [interval_of(policy, metric), metric.initial_delay]
        if metric.comparison is not None:
            steps.append(metric.comparison.step)
    return math.gcd(*(step // MILLISECOND for step in steps)) * MILLISECOND


def lookback(policy: WatchPolicy) -> timedelta:
    """How far before its start a watch needs to see."""
    windows = (m.comparison.window for m in policy.metrics if m.comparison is not None)
    return max(windows, default=timedelta(0))


def length(policy: WatchPolicy) -> timedelta:
    """How long a watch lasts that measures everything at once and finds it good."""
    ends = [policy.initial_delay + policy.interval * (policy.rounds - 1)]
    for metric in policy.metrics:
        first = max(policy.initial_delay + policy.interval * metric.warm_up, metric.initial_delay)
        ends.append(first + interval_of(policy, metric) * ((metric.count or 1) - 1))
    return max(ends)
