"""Policies that cannot work: what would never be judged, or never fail, is refused with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from domain.analysis.conditions import Condition, parse_condition, sample_values
from domain.analysis.metric import fill
from domain.analysis.settings import AnalysisSettings, MetricDefinition
from domain.analysis.statistics import is_sure, smallest_p_value
from domain.durations import format_duration
from domain.rollback_triggers import TRIGGER_NAMES

Problem = tuple[tuple[str | int, ...], Any, str, str]
"""Where, what stands there (none if it is absent), why it is wrong, and what to do."""

PLACEHOLDERS = (
    "application", "environment", "namespace", "pod", "selector", "version", "window", "window_minutes",
)  # fmt: skip
"""What a query may name."""

_SOURCES = ("query", "web", "workload")
_Check = Callable[[MetricDefinition], Iterator[Problem]]


def problems(analysis: AnalysisSettings, *, inherits_interval: bool = True) -> Iterator[Problem]:
    """Everything that is wrong with an ``analysis`` block whose fields are all well-formed.

    Args:
        inherits_interval: a metric without an interval has its watch's, as in a deployment.
    """
    names: dict[str, str] = {}
    for name, metric in analysis.metrics.items():
        path = ("metrics", name)
        if name in TRIGGER_NAMES:
            yield path, name, "is the name of a rollback trigger", f"call it for example {name}_of_mine"
        elif not name.strip():
            yield path, name, "is no name", "write one, as verdicts and warnings name it"
        same = re.sub(r"[\s_-]+", "_", name.strip().casefold())
        if same in names:
            yield path, name, f"is the same name as {names[same]!r}", "give each metric a name of its own"
        names.setdefault(same, name)
        for check in _CHECKS:
            for where, value, fault, remedy in check(metric):
                yield (*path, *where), value, fault, remedy
        if (metric.count or 1) > 1 and metric.interval is None and not inherits_interval:
            yield (
                (*path, "count"), metric.count, "needs an interval between its measurements",
                "add for example interval: 30s",
            )  # fmt: skip
    yield from _score(analysis)


def _sources(metric: MetricDefinition) -> Iterator[Problem]:
    given = [source for source in _SOURCES if getattr(metric, source) is not None]
    if not given:
        yield (), None, "has no source, so nothing is measured", f"add one of {', '.join(_SOURCES)}"
    for extra in given[1:]:
        yield (extra,), None, f"is a second source beside {given[0]}", "keep one of them"
    templates: dict[tuple[str, ...], str] = {}
    if metric.query is not None:
        templates["query",] = metric.query
    if metric.web is not None:
        templates["web", "url"] = metric.web.url
    for where, text in templates.items():
        if not text.strip():
            yield where, text, "is empty, so nothing is measured", "write where the value comes from"
        try:
            fill(text, dict.fromkeys(PLACEHOLDERS, "1"))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            fault = f"no {{{error.args[0]}}} is known here" if isinstance(error, KeyError) else str(error)
            yield (
                where, text, f"cannot be filled in: {fault}",
                "write {{ and }} for braces of its own, and use only "
                + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS),
            )  # fmt: skip


def _conditions(metric: MetricDefinition) -> Iterator[Problem]:
    if all(getattr(metric, rule) is None for rule in ("success", "failure", "max_increase", "comparison")):
        yield (), None, "has no condition, so it could never fail", 'add for example success: "<= 5"'
    for rule in ("max_increase", "comparison"):
        if getattr(metric, rule) is not None and metric.query is None:
            yield (
                (rule,), None, "needs a baseline, and only a query has one",
                "measure it by a query, or write success or failure instead",
            )  # fmt: skip
    read: dict[str, Condition] = {}
    for side in ("success", "failure"):
        text = getattr(metric, side)
        if text is None:
            continue
        try:
            read[side] = parse_condition(text, metric.unit)
        except ValueError as error:
            yield (side,), text, "cannot be read", str(error)
    values = sample_values(*read.values())
    for side, condition in read.items():
        held = {condition.holds(value) for value in values}
        if held == {False}:
            yield (side,), getattr(metric, side), "holds for no value at all", "write or instead of and"
        if held == {True}:
            yield (side,), getattr(metric, side), "holds for every value", "write and instead of or"
    if len(read) == len(("success", "failure")):
        both = [v for v in values if read["success"].holds(v) and read["failure"].holds(v)]
        if both:
            yield (
                ("failure",), metric.failure,
                f"holds for {both[0]:g}, and so does success: {metric.success}",
                "let no value be good and bad at once",
            )  # fmt: skip


def _limits(metric: MetricDefinition) -> Iterator[Problem]:
    count = metric.count
    if count is None:
        return
    if metric.failure_limit >= count:
        yield (
            ("failure_limit",), metric.failure_limit,
            f"tolerates all {count} measurements (count), so it could never fail",
            f"write at most {count - 1}, a greater count, or warn_only: true",
        )  # fmt: skip
    if metric.inconclusive_limit is not None and metric.inconclusive_limit >= count:
        yield (
            ("inconclusive_limit",), metric.inconclusive_limit,
            f"tolerates all {count} measurements (count), so it could pass without having told anything",
            f"write at most {count - 1}, or no_data: ignore if no data is good",
        )  # fmt: skip
    if metric.success_limit is not None and metric.success_limit > count:
        yield (
            ("success_limit",), metric.success_limit,
            f"can never be reached with {count} measurements (count)",
            f"write at most {count}, or a greater count",
        )  # fmt: skip


def _comparison(metric: MetricDefinition) -> Iterator[Problem]:
    comparison = metric.comparison
    if comparison is None:
        return
    samples = comparison.window // comparison.step + 1
    said = f"{format_duration(comparison.window)} every {format_duration(comparison.step)}"
    if samples < comparison.min_samples:
        yield (
            ("comparison", "min_samples"), comparison.min_samples,
            f"can never be reached: {said} are {samples} samples",
            f"write at most {samples}, a longer window or a shorter step",
        )  # fmt: skip
    elif not is_sure(comparison, smallest_p_value(comparison, samples)):
        yield (
            ("comparison", "confidence"), comparison.confidence,
            f"can never be reached with {samples} samples on each side ({said})",
            "write a lower confidence, a longer window or a shorter step",
        )  # fmt: skip


def _effects(metric: MetricDefinition) -> Iterator[Problem]:
    for mode in ("dry_run", "warn_only"):
        if getattr(metric, mode) and metric.critical:
            yield (
                ("critical",), True, f"contradicts {mode}: nothing follows from its failure",
                f"remove critical or {mode}",
            )  # fmt: skip
    if metric.dry_run and metric.warn_only:
        yield ("warn_only",), True, "contradicts dry_run, which warns of nothing", "keep one of them"
    if not metric.occasions:
        yield ("occasions",), [], "is empty, so it is never watched", "name at least one, or leave it out"


def _score(analysis: AnalysisSettings) -> Iterator[Problem]:
    if analysis.score is None:
        return
    counted = [m for m in analysis.metrics.values() if not m.dry_run and not m.warn_only]
    if not counted:
        yield (
            ("score",), None, "has no metric that counts",
            "remove it, or add a metric that is neither dry_run nor warn_only",
        )  # fmt: skip
    elif not any(metric.weight for metric in counted):
        yield (
            ("score",), None, "has nothing to be made of: all weights are 0",
            "give at least one metric a weight",
        )  # fmt: skip
        return
    for name, metric in analysis.metrics.items():
        if metric in counted and not metric.weight and not metric.critical:
            yield (
                ("metrics", name, "weight"), 0, "means that its failure never counts",
                "give it a weight, or write critical: true, warn_only: true or dry_run: true",
            )  # fmt: skip


_CHECKS: tuple[_Check, ...] = (_sources, _conditions, _limits, _comparison, _effects)
