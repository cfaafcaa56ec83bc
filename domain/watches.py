"""The watches of a deployment: what each state of it measures, and for how long (spec: Rollback Triggers)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta

from domain.analysis import HealthProbe, Metric, WatchPolicy
from domain.analysis.settings import Occasion
from domain.blue_green import BlueGreenSettings
from domain.configuration import RollbackPolicy
from domain.feature_flags import FlagRollout
from domain.plan import DeploymentPlan
from domain.watched_metrics import View, application_metrics, trigger_metrics
from domain.workload import Track

_TOLD_APART = 0.5
"""A step that decides goes on only if at least half of its measurements told something."""


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


def _view(
    plan: DeploymentPlan,
    version: str,
    *,
    span: timedelta,
    interval: timedelta,
    track: Track = Track.STABLE,
    before: datetime | None = None,
) -> View:
    return View(plan=plan, version=version, track=track, span=span, interval=interval, before=before)


def _watch(
    view: View,
    subject: str,
    health: HealthProbe | None,
    metrics: Iterable[Metric],
    *,
    inconclusive_limit: float = 1.0,
) -> WatchPolicy:
    """A watch of one view; its first round is an interval after its beginning, its last at its end."""
    return WatchPolicy(
        subject=subject,
        interval=view.interval,
        initial_delay=view.interval,
        rounds=max(1, math.ceil(view.span / view.interval)),
        health=health,
        consecutive_failures=view.plan.triggers.health_checks.consecutive_failures,
        metrics=tuple(metrics),
        inconclusive_limit=inconclusive_limit,
        score=view.plan.analysis.score,
    )


def canary_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """The analysis of one canary step: canary health, and the triggers against limits and stable side."""
    canary = plan.settings.canary
    if canary is None:
        raise ValueError(f"{plan.environment} has no canary")
    view = _view(
        plan, version, span=canary.step_duration, interval=canary.analysis_interval, track=Track.CANARY
    )
    return _watch(
        view,
        f"canary {version}",
        health_probe(plan, version, Track.CANARY),
        (*trigger_metrics(view, canary.rollback_threshold), *application_metrics(view, Occasion.CANARY)),
        inconclusive_limit=_TOLD_APART,
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


def monitoring_watch(plan: DeploymentPlan, version: str, before: datetime | None = None) -> WatchPolicy:
    """Monitoring: the rollback triggers of the environment's level for its soak duration.

    With `before`, a moment just before the deployment, an error rate that is much higher than it was then is
    a warning: other traffic may be the reason, so that only the absolute threshold rolls back.
    """
    interval, soak = plan.triggers.health_checks.check_interval, plan.settings.soak_duration
    view = _view(plan, version, span=max(soak, interval), interval=interval, before=before)
    metrics: tuple[Metric, ...] = ()
    if plan.settings.rollback_strategy is not RollbackPolicy.ON_FAILURE:
        threshold = plan.triggers.error_rate.threshold
        metrics = (
            *trigger_metrics(view, threshold, worse_than_before=True),
            *application_metrics(view, Occasion.MONITORING),
        )
    return _watch(view, f"monitoring of {version}", health_probe(plan, version), metrics)


def preview_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """Blue/green, before the switch: the new side alone, at the canary's address.

    It has no traffic of customers yet, so that metrics may well have no data. ``plan.target.side`` names the
    new side; without one the metrics are those of the canary's selector.
    """
    settings = _blue_green(plan)
    view = _view(
        plan,
        version,
        span=settings.preview_checks,
        interval=min(settings.analysis_interval, settings.preview_checks),
        track=Track.CANARY,
    )
    metrics = (
        *trigger_metrics(view, plan.triggers.error_rate.threshold),
        *application_metrics(view, Occasion.PREVIEW),
    )
    return _watch(view, f"preview of {version}", health_probe(plan, version, Track.CANARY), metrics)


def switched_watch(plan: DeploymentPlan, version: str, before: datetime) -> WatchPolicy:
    """Blue/green, after the switch; the baseline is what was measured at `before`.

    ``plan.target.side`` names the new side, as its pods carry it as their track.
    """
    settings = _blue_green(plan)
    view = _view(
        plan,
        version,
        span=settings.watch,
        interval=min(settings.analysis_interval, settings.watch),
        before=before,
    )
    return _watch(
        view,
        f"{version} after the switch",
        health_probe(plan, version),
        (
            *trigger_metrics(view, plan.triggers.error_rate.threshold),
            *application_metrics(view, Occasion.SWITCHED),
        ),
        inconclusive_limit=_TOLD_APART,
    )


def node_watch(plan: DeploymentPlan, version: str, health_url: str | None) -> WatchPolicy:
    """One hot-upgraded node: its health, and the service's metrics.

    Without an address of the node, the service's health is checked, whose other nodes run another version.
    """
    settings = plan.settings.hot_upgrade
    if settings is None:
        raise ValueError(f"{plan.environment} has no hot_upgrade")
    if health_url is None:
        health = health_probe(plan, None)
    elif plan.health is None:
        health = HealthProbe(base_url=health_url, version=version)
    else:
        of_node = plan.health.model_copy(update={"url": health_url})
        health = health_probe(plan.model_copy(update={"health": of_node}), version)
    view = _view(
        plan, version, span=settings.verify, interval=min(settings.analysis_interval, settings.verify)
    )
    metrics = (
        *trigger_metrics(view, plan.triggers.error_rate.threshold),
        *application_metrics(view, Occasion.HOT_UPGRADE),
    )
    return _watch(view, f"hot upgrade to {version}", health, metrics, inconclusive_limit=_TOLD_APART)


def flag_watch(plan: DeploymentPlan, version: str, rollout: FlagRollout, percentage: int) -> WatchPolicy:
    """One step of a feature flag: the triggers of the whole service."""
    view = _view(
        plan,
        version,
        span=rollout.step_duration,
        interval=min(rollout.analysis_interval, rollout.step_duration),
    )
    return _watch(
        view,
        f"flag {rollout.flag} at {percentage}%",
        health_probe(plan, version),
        (
            *trigger_metrics(view, plan.triggers.error_rate.threshold),
            *application_metrics(view, Occasion.FEATURE_FLAG),
        ),
        inconclusive_limit=_TOLD_APART,
    )


def _blue_green(plan: DeploymentPlan) -> BlueGreenSettings:
    if plan.settings.blue_green is None:
        raise ValueError(f"{plan.environment} has no blue_green")
    return plan.settings.blue_green
