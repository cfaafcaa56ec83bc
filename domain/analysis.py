"""Watching a release: measurements, limits and the verdict over them (spec: Rollback Triggers).

A *watch* measures all its probes once per interval for a number of rounds. `judge` folds one round
into the tally and says at once whether the watch goes on, passed or failed.
"""

from __future__ import annotations

import math
from datetime import timedelta
from enum import StrEnum

from domain.durations import Duration
from domain.model import Model


class Phase(StrEnum):
    """What one measurement came to."""

    SUCCESSFUL = "successful"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class NoData(StrEnum):
    """What "no traffic" means for a metric."""

    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"
    IGNORE = "ignore"


class HealthProbe(Model):
    """Requests to a service's health endpoints (spec: ``/health``, ``/ready``, ``/live``).

    Attributes:
        base_url: scheme, host and port.
        paths: all must answer 200 with an accepted word where they name one.
        healthy_words: accepted values of the ``status`` field.
        version: if set, the ``version`` field must say so when the answer has one.
        timeout: per request.
    """

    base_url: str
    paths: tuple[str, ...] = ("/health", "/ready", "/live")
    healthy_words: tuple[str, ...] = ("healthy", "ok", "up")
    version: str | None = None
    timeout: Duration = timedelta(seconds=5)


class HealthReport(Model):
    """The outcome of one `HealthProbe`."""

    healthy: bool
    reason: str = ""
    checks: dict[str, str] = {}


class MetricLimit(Model):
    """A metric that must stay at or under its limit, and near its baseline.

    Attributes:
        query: PromQL of the watched side.
        limit: the highest value that is still good, in the query's own unit.
        baseline_query: the same for the stable side; with `max_increase`.
        max_increase: how many percent the value may lie above the baseline's.
        failure_limit: failed measurements tolerated before the watch fails.
        error_limit: measurements in a row that may be impossible before the watch fails.
        no_data: what an empty answer means.
        warm_up: rounds at the beginning that are not judged, because the query's window still
            reaches back to before the watch.
    """

    name: str
    query: str
    limit: float | None = None
    unit: str = ""
    baseline_query: str | None = None
    max_increase: float | None = None
    failure_limit: int = 0
    error_limit: int = 4
    no_data: NoData = NoData.INCONCLUSIVE
    warm_up: int = 0


class MetricReading(Model):
    """One answer of a metric source: a value, no data, or an error."""

    value: float | None = None
    baseline: float | None = None
    error: str | None = None


class WatchPolicy(Model):
    """What to watch, how often and how long.

    Attributes:
        interval: between two rounds.
        rounds: good rounds needed; errors use up none.
        consecutive_failures: failed health checks in a row that fail the watch (spec: 3).
        inconclusive_limit: share of a metric's measurements (0..1) that may be inconclusive; 1 tolerates all.
        settle: the watch passes as soon as this many healthy rounds came in a row, and fails if that
            does not happen within `rounds`; 0 = all rounds are needed.
    """

    subject: str
    interval: Duration = timedelta(seconds=30)
    initial_delay: Duration = timedelta(0)
    rounds: int = 1
    health: HealthProbe | None = None
    consecutive_failures: int = 3
    settle: int = 0
    metrics: tuple[MetricLimit, ...] = ()
    inconclusive_limit: float = 1.0


class Watch(Model):
    """The input of a watch: the policy, and where the metrics come from (a Prometheus HTTP API)."""

    policy: WatchPolicy
    prometheus_url: str | None = None


class MetricTally(Model):
    """How a metric has done so far."""

    failed: int = 0
    consecutive_errors: int = 0
    inconclusive: int = 0
    successful: int = 0
    last: float | None = None
    last_phase: Phase | None = None
    last_reason: str = ""


class WatchTally(Model):
    """The state of a watch between two rounds; small, as it travels in heartbeats."""

    rounds: int = 0
    health_failures: int = 0
    health_streak: int = 0
    last_health: str = ""
    metrics: dict[str, MetricTally] = {}


class WatchOutcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class WatchVerdict(Model):
    """The end of a watch, with the trigger and reason if it failed."""

    outcome: WatchOutcome
    trigger: str | None = None
    reason: str = ""
    tally: WatchTally = WatchTally()


class Round(Model):
    """All measurements of one interval."""

    health: HealthReport | None = None
    readings: dict[str, MetricReading] = {}


def judge_reading(metric: MetricLimit, reading: MetricReading) -> tuple[Phase, str]:
    """One measurement against its limit and baseline.

    An increase over a baseline of zero is judged by the absolute limit alone: any error would be
    infinitely more than none.
    """
    value = reading.value
    if reading.error is not None:
        return Phase.ERROR, f"{metric.name} could not be measured: {reading.error}"
    if value is not None and math.isnan(value):
        return Phase.ERROR, f"{metric.name} could not be measured: the answer is NaN"
    if value is None:
        if metric.no_data is NoData.IGNORE:
            return Phase.SUCCESSFUL, f"{metric.name}: no data, ignored by policy"
        phase = Phase.FAILED if metric.no_data is NoData.FAIL else Phase.INCONCLUSIVE
        return phase, f"{metric.name}: no data"
    if metric.limit is not None and value > metric.limit:
        return Phase.FAILED, f"{metric.name} is {value:.4g}{metric.unit}, limit {metric.limit:g}{metric.unit}"
    base = reading.baseline
    if metric.max_increase is not None and base is not None and math.isfinite(base) and base > 0:
        increase = (value - base) / base * 100
        if increase > metric.max_increase:
            return Phase.FAILED, (
                f"{metric.name} is {value:.4g}{metric.unit}, {increase:.0f}% above the baseline's "
                f"{base:.4g}{metric.unit} (at most {metric.max_increase:g}%)"
            )
    return Phase.SUCCESSFUL, f"{metric.name} is {value:.4g}{metric.unit}"


def _fold_metric(tally: MetricTally, metric: MetricLimit, reading: MetricReading) -> MetricTally:
    phase, reason = judge_reading(metric, reading)
    counts = {
        Phase.SUCCESSFUL: {"successful": tally.successful + 1, "consecutive_errors": 0},
        Phase.FAILED: {"failed": tally.failed + 1, "consecutive_errors": 0},
        Phase.INCONCLUSIVE: {"inconclusive": tally.inconclusive + 1, "consecutive_errors": 0},
        Phase.ERROR: {"consecutive_errors": tally.consecutive_errors + 1},
    }[phase]
    last = reading.value if reading.value is None or math.isfinite(reading.value) else None
    return tally.model_copy(update={**counts, "last": last, "last_phase": phase, "last_reason": reason})


def judge(policy: WatchPolicy, before: WatchTally, observed: Round) -> tuple[WatchTally, WatchVerdict | None]:
    """Fold one round into the tally; a verdict when the watch is over.

    A round in which a metric could not be measured counts for nothing but that metric's error streak.
    """
    tally, failure = before, None
    if policy.health is not None:
        report = observed.health or HealthReport(healthy=False, reason="it was not checked")
        failures = 0 if report.healthy else tally.health_failures + 1
        streak = tally.health_streak + 1 if report.healthy else 0
        last = "healthy" if report.healthy else report.reason
        tally = tally.model_copy(
            update={"health_failures": failures, "health_streak": streak, "last_health": last}
        )
        if failures >= policy.consecutive_failures:
            failure = (
                "health_checks",
                f"{failures} consecutive health checks failed: {report.reason}",
            )
    metrics = dict(tally.metrics)
    for metric in policy.metrics:
        if before.rounds < metric.warm_up:
            continue
        reading = observed.readings.get(metric.name, MetricReading(error="it was not read"))
        folded = _fold_metric(metrics.get(metric.name, MetricTally()), metric, reading)
        metrics[metric.name] = folded
        if failure is None and folded.failed > metric.failure_limit:
            failure = (metric.name, folded.last_reason)
        if failure is None and folded.consecutive_errors > metric.error_limit:
            failure = (metric.name, f"{folded.last_reason} ({folded.consecutive_errors} times in a row)")
    counted = all(m.last_phase is not Phase.ERROR for m in metrics.values())
    tally = tally.model_copy(update={"metrics": metrics, "rounds": tally.rounds + (1 if counted else 0)})
    if failure is not None:
        trigger, reason = failure
        return tally, WatchVerdict(outcome=WatchOutcome.FAILED, trigger=trigger, reason=reason, tally=tally)
    if policy.settle and tally.health_streak >= policy.settle and counted:
        return tally, WatchVerdict(outcome=WatchOutcome.PASSED, reason=_summary(policy, tally), tally=tally)
    if tally.rounds >= policy.rounds and policy.settle and policy.health is not None:
        reason = (
            f"not healthy {policy.settle} times in a row within {tally.rounds} checks, "
            f"the last one: {tally.last_health}"
        )
        return tally, WatchVerdict(
            outcome=WatchOutcome.FAILED, trigger="health_checks", reason=reason, tally=tally
        )
    if tally.rounds >= policy.rounds and tally.health_failures == 0:
        return tally, _final_verdict(policy, tally)
    return tally, None


def _final_verdict(policy: WatchPolicy, tally: WatchTally) -> WatchVerdict:
    for metric in policy.metrics:
        counts = tally.metrics.get(metric.name, MetricTally(last_reason=f"{metric.name} was never judged"))
        measured = counts.successful + counts.failed + counts.inconclusive
        if measured == 0 or counts.inconclusive > policy.inconclusive_limit * measured:
            return WatchVerdict(
                outcome=WatchOutcome.INCONCLUSIVE,
                trigger=metric.name,
                reason=f"{counts.inconclusive} of {measured} measurements were inconclusive: "
                f"{counts.last_reason}",
                tally=tally,
            )
    return WatchVerdict(outcome=WatchOutcome.PASSED, reason=_summary(policy, tally), tally=tally)


def _summary(policy: WatchPolicy, tally: WatchTally) -> str:
    parts = [f"{tally.rounds} round(s)"]
    if policy.health is not None:
        parts.append(tally.last_health)
    parts += [tally.metrics[m.name].last_reason for m in policy.metrics if m.name in tally.metrics]
    return ", ".join(p for p in parts if p)
