"""Verdicts: one round folded into the tally, and whether the watch is over (design, section 5).

`judge` says at once whether the watch goes on, passed or failed.
"""

from __future__ import annotations

import math

from domain.analysis.metric import Metric, MetricReading, NoData, Phase
from domain.analysis.watch import (
    HealthReport,
    MetricTally,
    Round,
    WatchOutcome,
    WatchPolicy,
    WatchTally,
    WatchVerdict,
)


def judge_reading(metric: Metric, reading: MetricReading) -> tuple[Phase, str]:
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


def _fold_metric(tally: MetricTally, metric: Metric, reading: MetricReading) -> MetricTally:
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
