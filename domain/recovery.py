"""How a roll-back is judged: its steps, and whether the restored version is well again."""

from __future__ import annotations

import math

from domain.analysis import NoData, WatchPolicy
from domain.plan import DeploymentPlan
from domain.watches import health_probe, monitoring_watch
from domain.workload import Track


def return_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """One step of a gradual roll-back: the health of the earlier version, which serves beside the bad one."""
    settings, health = plan.settings.rollback, plan.triggers.health_checks
    interval = min(health.check_interval, settings.step_duration)
    return WatchPolicy(
        subject=f"return of {version}",
        interval=interval,
        initial_delay=interval,
        rounds=max(1, math.ceil(settings.step_duration / interval)),
        health=health_probe(plan, version, Track.CANARY),
        consecutive_failures=health.consecutive_failures,
    )


def recovery_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """The error rate of the restored version, over nothing but its own traffic; no traffic is no fault."""
    health = plan.triggers.health_checks
    span = health.check_interval * health.consecutive_failures
    brief = plan.model_copy(update={"settings": plan.settings.model_copy(update={"soak_duration": span})})
    watch = monitoring_watch(brief, version)
    errors = (m for m in watch.metrics if m.name == "error_rate")
    return watch.model_copy(
        update={
            "subject": f"recovery of {version}",
            "health": None,
            "metrics": tuple(m.model_copy(update={"no_data": NoData.IGNORE}) for m in errors),
        }
    )
