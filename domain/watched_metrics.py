"""What a watch measures: the rollback triggers and the application's own metrics, for one look at a service.

A measurement looks back over its window, and must not see what was before the watch: windows are at most half
the watch, and nothing is judged before the first whole one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.analysis import Comparison, Metric, WorkloadSource
from domain.analysis.metric import fill
from domain.analysis.settings import MetricDefinition, Occasion
from domain.configuration import MonitoringLevel
from domain.durations import format_duration
from domain.plan import DeploymentPlan
from domain.workload import Side, Track

_STABLE = f'track="{Track.STABLE}"'
_STEPS_PER_WINDOW = 4
_TAKEN_OVER = MetricDefinition.model_fields.keys() & Metric.model_fields.keys() - {
    "query", "web", "workload", "max_increase", "comparison",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """One look at a service: which side is watched, for how long, and what it is held against.

    Attributes:
        span: of the whole watch; `interval` between its rounds.
        before: the baseline is what was measured then; none = the stable side at the same moment, which only
            another side can be held against.
    """

    plan: DeploymentPlan
    version: str
    track: Track
    span: timedelta
    interval: timedelta
    before: datetime | None = None

    @property
    def compares(self) -> bool:
        """Whether there is anything to hold this side against."""
        return self.track is Track.CANARY or self.before is not None

    @property
    def deployment(self) -> str:
        """Name of the watched Deployment."""
        target = self.plan.target
        return target.name_of(Track.STABLE if target.side is not None else self.track)

    @property
    def deployments(self) -> str:
        """Names of the watched Deployments, as a pattern: without a side, every one that may serve."""
        plan, settings = self.plan, self.plan.settings
        if self.track is Track.CANARY or plan.target.side is not None:
            return self.deployment
        if settings.blue_green is not None:
            return f"{self.deployment}(-({'|'.join(Side)}))?"
        handed_over = settings.canary is not None and settings.canary.handover is not None
        return f"{self.deployment}(-primary)?" if handed_over else self.deployment

    @property
    def selector(self) -> str:
        """Label matchers of the watched side.

        Pods of a blue/green side carry its colour as their track. Where none is named, all of them are meant:
        only the side that serves has any traffic.
        """
        if self.track is Track.CANARY and self.plan.target.side is None:
            return self.plan.metrics.canary_selector
        return self._stable("=")

    @property
    def baseline_selector(self) -> str:
        """Label matchers of what the watched side is held against; beside a colour, whatever else runs."""
        return self._stable("!=")

    def _stable(self, sign: str) -> str:
        selector, side = self.plan.metrics.stable_selector, self.plan.target.side
        if side is not None:
            return selector.replace(_STABLE, f'track{sign}"{side}"')
        if self.plan.settings.blue_green is not None:
            return selector.replace(_STABLE, f'track=~"{"|".join((Track.STABLE, *Side))}"')
        return selector

    @property
    def baseline_deployment(self) -> str:
        """Names of the Deployments of the other side, as a pattern."""
        target = self.plan.target
        if target.side is None:
            return target.name_of(Track.STABLE)
        other = next(side for side in Side if side is not target.side)
        return f"{target.deployment}(-{other})?"

    def within(self, window: timedelta) -> timedelta:
        """A window that fits into the watch."""
        return min(window, self.span / 2)

    def warm_up(self, window: timedelta) -> int:
        """Rounds until a measurement sees nothing of before the watch."""
        return max(0, math.ceil(self.within(window) / self.interval) - 1)

    def fill(self, template: str, window: timedelta, *, baseline: bool = False) -> str:
        window = self.within(window)
        minutes = max(window.total_seconds() / 60, 1 / 60)
        deployment = self.baseline_deployment if baseline else self.deployments
        names = {
            "application": self.plan.application,
            "environment": self.plan.environment,
            "namespace": self.plan.target.namespace,
            "version": self.version,
            "selector": self.baseline_selector if baseline else self.selector,
            # A Deployment's pods, and not those of another one whose name begins like it.
            "pod": f"{deployment}-[a-z0-9]+-[a-z0-9]+",
            "window": format_duration(window),
            "window_minutes": f"{minutes:g}",
        }
        return fill(template, names)


def trigger_metrics(
    view: View, error_rate_limit: float, *, worse_than_before: bool = False
) -> tuple[Metric, ...]:
    """The spec's rollback triggers that are metrics: error rate, latency and crashes, as far as the
    environment's level watches them. Their names are `domain.rollback_triggers.TRIGGER_NAMES`.

    They are critical and weigh nothing: whatever score the application's metrics have, they hold.

    Args:
        worse_than_before: warn of an error rate that is higher than before, instead of failing by it.
    """
    plan = view.plan
    metrics, triggers, level = plan.metrics, plan.triggers, plan.settings.monitoring
    if metrics.prometheus_url is None or level is MonitoringLevel.BASIC:
        return ()

    def trigger(name: str, template: str, window: timedelta, limit: float | None, unit: str) -> Metric:
        return Metric(
            name=name,
            query=view.fill(template, window),
            limit=limit,
            unit=unit,
            no_data=metrics.no_data,
            error_limit=metrics.error_limit,
            warm_up=view.warm_up(window),
            weight=0,
            critical=True,
        )

    rate, latency, crash = triggers.error_rate, triggers.latency, triggers.crash_rate
    error_rate = trigger("error_rate", metrics.error_rate, rate.window, error_rate_limit, "%")
    against = {
        "baseline_query": view.fill(metrics.error_rate, rate.window, baseline=True),
        "baseline_at": view.before,
        "max_increase": triggers.canary_failure.error_rate_increase,
    }
    compared = rate.comparison == "baseline" and view.compares
    if compared and not worse_than_before:
        error_rate = error_rate.model_copy(update=against)
    found = [error_rate]
    if compared and worse_than_before:
        increase = {"name": "error_rate_increase", "limit": None, "warn_only": True, "critical": False}
        found.append(error_rate.model_copy(update={**against, **increase}))
    if level is MonitoringLevel.FULL:
        p95, p99 = latency.p95_threshold.total_seconds(), latency.p99_threshold.total_seconds()
        found += [
            trigger("latency_p95", metrics.latency_p95, latency.window, p95, "s"),
            trigger("latency_p99", metrics.latency_p99, latency.window, p99, "s"),
            trigger("crash_rate", metrics.crash_rate, crash.window, crash.threshold, " per pod and minute"),
        ]
    return tuple(found)


def application_metrics(view: View, occasion: Occasion) -> Iterator[Metric]:
    """The metrics of the application's ``analysis`` block that are watched on an occasion.

    Left out are queries without a Prometheus, and metrics that only compare where there is no other side.
    """
    if view.plan.settings.monitoring is MonitoringLevel.BASIC:
        return
    for name, definition in view.plan.analysis.metrics.items():
        if occasion not in definition.occasions:
            continue
        if definition.query is not None and view.plan.metrics.prometheus_url is None:
            continue
        alone = definition.success is None and definition.failure is None
        if alone and not view.compares:
            continue
        yield _application_metric(view, name, definition)


def _application_metric(view: View, name: str, definition: MetricDefinition) -> Metric:
    window, comparison = definition.window, definition.comparison if view.compares else None
    looks_back = window
    if comparison is not None:
        if "window" not in definition.model_fields_set:
            # Samples of windows that overlap no more than they must: the test takes them for independent.
            window = comparison.step * _STEPS_PER_WINDOW
        looks_back = comparison.window + window
        window, comparison = _scaled(view, window, comparison)
    compared = definition.query is not None and view.compares
    compared = compared and (definition.max_increase is not None or comparison is not None)
    return Metric(
        name=name,
        query="" if definition.query is None else view.fill(definition.query, window),
        web=None
        if definition.web is None
        else definition.web.model_copy(update={"url": view.fill(definition.web.url, window)}),
        workload=None
        if definition.workload is None
        else WorkloadSource(
            measure=definition.workload,
            namespace=view.plan.target.namespace,
            deployment=view.deployment,
        ),
        baseline_query=view.fill(definition.query, window, baseline=True)
        if compared and definition.query is not None
        else None,
        baseline_at=view.before if compared else None,
        max_increase=definition.max_increase if compared else None,
        comparison=comparison,
        warm_up=view.warm_up(looks_back) if definition.query is not None else 0,
        **definition.model_dump(include=_TAKEN_OVER),
    )


def _scaled(view: View, window: timedelta, comparison: Comparison) -> tuple[timedelta, Comparison]:
    """A comparison with as many samples as before, but so that all they see fits into the watch."""
    looks_back = comparison.window + window
    shrunk = view.within(looks_back) / looks_back
    if shrunk == 1:
        return window, comparison
    scaled = {"window": comparison.window * shrunk, "step": comparison.step * shrunk}
    return window * shrunk, comparison.model_copy(update=scaled)
