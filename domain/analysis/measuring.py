"""One measurement: its value against conditions, limit and baseline (design, section 5)."""

from __future__ import annotations

import math
from statistics import median

from domain.analysis.conditions import parse_condition
from domain.analysis.metric import Comparison, Metric, MetricReading, NoData, Phase
from domain.analysis.statistics import compare, finite

Judgement = tuple[Phase, str]


def judge_reading(metric: Metric, reading: MetricReading) -> Judgement:
    """What one measurement came to, and why.

    What fails any of the metric's rules has failed. NaN is an error, and so is an infinite value that no rule
    fails. An increase over a baseline of zero is judged by the absolute rules alone: any error would be
    infinitely more than none.
    """
    if reading.error is not None:
        return _error(metric, reading.error)
    value = reading.value
    if value is not None and math.isnan(value):
        return _error(metric, "the answer is NaN")
    watched = finite(reading.samples)
    if value is None and metric.comparison is not None and watched:
        value = median(watched)
    if value is None:
        return _no_data(metric, "no data")
    judgements = [_by_value(metric, value)]
    if reading.baseline_error is not None and judgements[0][0] is not Phase.FAILED:
        return _error(metric, reading.baseline_error)
    if metric.max_increase is not None:
        judgements.append(_by_increase(metric, metric.max_increase, value, reading.baseline))
    if metric.comparison is not None:
        judgements.append(_by_samples(metric, metric.comparison, watched, finite(reading.baseline_samples)))
    phases = [phase for phase, _ in judgements]
    for phase in (Phase.FAILED, Phase.INCONCLUSIVE):
        if phase in phases:
            return judgements[phases.index(phase)]
    if not math.isfinite(value):
        return _error(metric, f"the answer is {value:+}")
    return judgements[-1] if metric.comparison is not None else judgements[0]


def _error(metric: Metric, reason: str) -> Judgement:
    return Phase.ERROR, f"{metric.name} could not be measured: {reason}"


def _no_data(metric: Metric, what: str) -> Judgement:
    if metric.no_data is NoData.IGNORE:
        return Phase.SUCCESSFUL, f"{metric.name}: {what}, ignored by policy"
    phase = Phase.FAILED if metric.no_data is NoData.FAIL else Phase.INCONCLUSIVE
    return phase, f"{metric.name}: {what}"


def _by_value(metric: Metric, value: float) -> Judgement:
    said = f"{metric.name} is {value:.4g}{metric.unit}"
    if metric.limit is not None and value > metric.limit:
        return Phase.FAILED, f"{said}, limit {metric.limit:g}{metric.unit}"
    if metric.failure is not None and parse_condition(metric.failure, metric.unit).holds(value):
        return Phase.FAILED, f"{said}, which is {metric.failure.strip()}"
    if metric.success is not None and not parse_condition(metric.success, metric.unit).holds(value):
        if metric.failure is None:
            return Phase.FAILED, f"{said}, wanted {metric.success.strip()}"
        return Phase.INCONCLUSIVE, f"{said}, neither {metric.success.strip()} nor {metric.failure.strip()}"
    return Phase.SUCCESSFUL, said


def _by_increase(metric: Metric, at_most: float, value: float, base: float | None) -> Judgement:
    said = f"{metric.name} is {value:.4g}{metric.unit}"
    if base is not None and math.isfinite(base) and base > 0:
        increase = (value - base) / base * 100
        if increase > at_most:
            return Phase.FAILED, (
                f"{said}, {increase:.0f}% above the baseline's {base:.4g}{metric.unit} (at most {at_most:g}%)"
            )
    elif value > 0 and not _has_absolute_rule(metric) and metric.no_data is not NoData.IGNORE:
        return Phase.INCONCLUSIVE, f"{said}, and the baseline has nothing to compare it with"
    return Phase.SUCCESSFUL, said


def _has_absolute_rule(metric: Metric) -> bool:
    return metric.limit is not None or metric.success is not None or metric.failure is not None


def _by_samples(
    metric: Metric, comparison: Comparison, watched: list[float], baseline: list[float]
) -> Judgement:
    if min(len(watched), len(baseline)) < comparison.min_samples:
        return Phase.INCONCLUSIVE, (
            f"{metric.name}: too few samples to compare: {len(watched)}, and {len(baseline)} of the baseline "
            f"(at least {comparison.min_samples} each)"
        )
    found = compare(comparison, watched, baseline)
    said = (
        f"{metric.name}: median {found.watched:.4g}{metric.unit}, "
        f"the baseline's {found.baseline:.4g}{metric.unit}, "
        f"effect {found.effect:+.2f}, p = {found.p_value:.2g}"
    )
    return (Phase.FAILED if found.bad else Phase.SUCCESSFUL), said
