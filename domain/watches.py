"""The watches of a deployment: what each state of it measures, and for how long (spec: Rollback Triggers)."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from domain.analysis import HealthProbe, Metric, WatchPolicy
from domain.configuration import MonitoringLevel, RollbackPolicy
from domain.durations import format_duration
from domain.feature_flags import FlagRollout
from domain.plan import DeploymentPlan
from domain.workload import Track


def health_probe(
    plan: DeploymentPlan, version: str | None, track: Track = Track.STABLE
) -> HealthProbe | None:
    """The probe of a track, or none if it has no address of its own."""
    health = plan.health
    if health is None:
        return None
    url = health.url if track is Track.STABLE else health.canary_url
    if url is None:
        return None
    return HealthProbe(
        base_url=url,
        paths=health.paths,
        healthy_words=health.healthy_words,
        version=version if health.version_field else None,
        timeout=health.timeout,
    )


def _metric_limits(
    plan: DeploymentPlan, track: Track, error_rate_limit: float, *, span: timedelta, interval: timedelta
) -> tuple[Metric, ...]:
    """The metrics of a track over a watch of `span`, measured every `interval`.

    A measurement looks back over its window, and must not see what was before the watch: windows are at
    most half the watch, and nothing is judged before the first whole one.
    """
    metrics, triggers, level = plan.metrics, plan.triggers, plan.settings.monitoring
    if metrics.prometheus_url is None or level is MonitoringLevel.BASIC:
        return ()
    watched = metrics.stable_selector if track is Track.STABLE else metrics.canary_selector
    names = {
        "application": plan.application,
        "namespace": plan.target.namespace,
        "environment": plan.environment,
    }

    def within(window: timedelta) -> timedelta:
        return min(window, span / 2)

    def warm_up(window: timedelta) -> int:
        return max(0, math.ceil(within(window) / interval) - 1)

    def query(template: str, window: timedelta, selector: str) -> str:
        window = within(window)
        minutes = max(window.total_seconds() / 60, 1 / 60)
        return template.format(
            **names, selector=selector, window=format_duration(window), window_minutes=f"{minutes:g}"
        )

    rate, latency, crash = triggers.error_rate, triggers.latency, triggers.crash_rate
    compared = track is Track.CANARY and rate.comparison == "baseline"
    limits = [
        Metric(
            name="error_rate",
            query=query(metrics.error_rate, rate.window, watched),
            limit=error_rate_limit,
            unit="%",
            baseline_query=query(metrics.error_rate, rate.window, metrics.stable_selector)
            if compared
            else None,
            max_increase=triggers.canary_failure.error_rate_increase if compared else None,
            no_data=metrics.no_data,
            error_limit=metrics.error_limit,
            warm_up=warm_up(rate.window),
        )
    ]
    if level is MonitoringLevel.FULL:
        for name, template, threshold in (
            ("latency_p95", metrics.latency_p95, latency.p95_threshold),
            ("latency_p99", metrics.latency_p99, latency.p99_threshold),
        ):
            limits.append(
                Metric(
                    name=name,
                    query=query(template, latency.window, watched),
                    limit=threshold.total_seconds(),
                    unit="s",
                    no_data=metrics.no_data,
                    error_limit=metrics.error_limit,
                    warm_up=warm_up(latency.window),
                )
            )
        limits.append(
            Metric(
                name="crash_rate",
                query=query(metrics.crash_rate, crash.window, watched),
                limit=crash.threshold,
                unit=" per pod and minute",
                no_data=metrics.no_data,
                error_limit=metrics.error_limit,
                warm_up=warm_up(crash.window),
            )
        )
    return tuple(limits)


def canary_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """The analysis of one canary step: canary health, and the error rate against limit and stable side."""
    canary = plan.settings.canary
    if canary is None:
        raise ValueError(f"{plan.environment} has no canary")
    return WatchPolicy(
        subject=f"canary {version}",
        interval=canary.analysis_interval,
        initial_delay=canary.analysis_interval,
        rounds=max(1, math.ceil(canary.step_duration / canary.analysis_interval)),
        health=health_probe(plan, version, Track.CANARY),
        consecutive_failures=plan.triggers.health_checks.consecutive_failures,
        metrics=_metric_limits(
            plan,
            Track.CANARY,
            canary.rollback_threshold,
            span=canary.step_duration,
            interval=canary.analysis_interval,
        ),
        inconclusive_limit=0.5,
    )


def verification_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """Verifying: healthy as many times in a row as would count as broken, within the spec's timeout."""
    health = plan.triggers.health_checks
    return WatchPolicy(
        subject=f"verification of {version}",
        interval=health.check_interval,
        rounds=max(health.consecutive_failures, math.ceil(health.timeout / health.check_interval)),
        health=health_probe(plan, version),
        consecutive_failures=health.consecutive_failures,
        settle=health.consecutive_failures,
    )


def monitoring_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """Monitoring: the rollback triggers of the environment's level for its soak duration."""
    health, soak = plan.triggers.health_checks, plan.settings.soak_duration
    metrics = _metric_limits(
        plan,
        Track.STABLE,
        plan.triggers.error_rate.threshold,
        span=max(soak, health.check_interval),
        interval=health.check_interval,
    )
    if plan.settings.rollback_strategy is RollbackPolicy.ON_FAILURE:
        metrics = ()
    return WatchPolicy(
        subject=f"monitoring of {version}",
        interval=health.check_interval,
        initial_delay=health.check_interval,
        rounds=max(1, math.ceil(soak / health.check_interval)),
        health=health_probe(plan, version),
        consecutive_failures=health.consecutive_failures,
        metrics=metrics,
    )


def preview_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """Blue/green, before the switch: the new side alone, at the canary's address."""
    raise NotImplementedError


def switched_watch(plan: DeploymentPlan, version: str, before: datetime) -> WatchPolicy:
    """Blue/green, after the switch; the baseline is what was measured at `before`."""
    raise NotImplementedError


def node_watch(plan: DeploymentPlan, version: str, health_url: str | None) -> WatchPolicy:
    """One hot-upgraded node: its health, and the service's metrics."""
    raise NotImplementedError


def flag_watch(plan: DeploymentPlan, version: str, rollout: FlagRollout, percentage: int) -> WatchPolicy:
    """One step of a feature flag: the triggers of the whole service."""
    raise NotImplementedError
