"""What rolls a version back by itself (spec: Automatic Rollback Conditions)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from domain.durations import Interval
from domain.model import Model

Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A limit: nothing compares as too much with NaN or infinity, so neither is one."""

TRIGGER_NAMES = frozenset(
    {"health_checks", "error_rate", "error_rate_increase", "latency_p95", "latency_p99", "crash_rate"}
)
"""How verdicts name the triggers; metrics of an application have other names."""


class HealthTrigger(Model):
    """Health checks.

    Attributes:
        consecutive_failures: failed checks in a row that roll back; as many good ones verify a deployment.
        check_interval: between two checks.
        timeout: how long a deployment may take to verify.
    """

    consecutive_failures: int = Field(default=3, ge=1)
    check_interval: Interval = timedelta(seconds=30)
    timeout: Interval = timedelta(minutes=5)


class ErrorRateTrigger(Model):
    """Failed requests.

    Attributes:
        threshold: percent of the requests.
        window: that is looked back over.
        comparison: ``baseline`` also holds a canary against the stable version, and warns in Monitoring of an
            error rate that is much higher than before the deployment; ``absolute`` does not.
    """

    threshold: Number = 5
    window: Interval = timedelta(minutes=5)
    comparison: Literal["baseline", "absolute"] = "baseline"


class LatencyTrigger(Model):
    """Slow requests.

    Attributes:
        p95_threshold: what 95 % of the requests must not exceed.
        p99_threshold: what 99 % of the requests must not exceed.
        window: that is looked back over.
    """

    p95_threshold: Interval = timedelta(seconds=10)
    p99_threshold: Interval = timedelta(seconds=30)
    window: Interval = timedelta(minutes=5)


class CrashRateTrigger(Model):
    """Crashing pods.

    Attributes:
        threshold: crashes per pod and minute.
        window: that is looked back over.
    """

    threshold: Number = 1
    window: Interval = timedelta(minutes=2)


class CanaryFailureTrigger(Model):
    """A canary that does worse than the stable version, or a new side that does worse than before the switch.

    Attributes:
        error_rate_increase: percent above that error rate.
        rollback_to: where to go then.
    """

    error_rate_increase: Number = 50
    rollback_to: Literal["stable_version"] = "stable_version"


class RollbackTriggers(Model):
    """The spec's ``automatic_rollback_triggers``: one policy, held to during the canary and Monitoring.

    Attributes:
        health_checks: consecutive failures.
        error_rate: failed requests over a window.
        latency: slow requests over a window.
        crash_rate: crashes over a window.
        canary_failure: the canary against the stable version.
    """

    health_checks: HealthTrigger = HealthTrigger()
    error_rate: ErrorRateTrigger = ErrorRateTrigger()
    latency: LatencyTrigger = LatencyTrigger()
    crash_rate: CrashRateTrigger = CrashRateTrigger()
    canary_failure: CanaryFailureTrigger = CanaryFailureTrigger()
