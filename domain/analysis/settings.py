"""The ``analysis`` block of an application: metrics of its own that its releases are judged by."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from domain.analysis.metric import Comparison, NoData, WebSource, WorkloadMeasure
from domain.analysis.watch import ScorePolicy
from domain.durations import Duration, Interval
from domain.model import Model


class Occasion(StrEnum):
    """When a metric is watched."""

    CANARY = "canary"
    PREVIEW = "preview"
    """The new side of blue/green before the switch."""
    SWITCHED = "switched"
    """The new side of blue/green after the switch."""
    HOT_UPGRADE = "hot_upgrade"
    FEATURE_FLAG = "feature_flag"
    MONITORING = "monitoring"


class MetricDefinition(Model):
    """One metric: exactly one of `query`, `web` and `workload`.

    Attributes:
        query: PromQL; knows ``{selector}``, ``{window}``, ``{window_minutes}``, ``{application}``,
            ``{environment}``, ``{namespace}``, ``{version}`` and ``{pod}`` (a pattern of the pods' names).
        web: a number in a JSON document; its url knows the same names.
        workload: what the Kubernetes API says of the pods.
        success: condition of a good value, for example ``>= 99`` or ``< 0.5``.
        failure: condition of a bad value.
        window: what ``{window}`` is.
        baseline: hold it against the stable side: `max_increase` percent more than that is bad.
        comparison: hold samples against the stable side's by a statistical test instead.
        occasions: when it is watched.
        interval, count, initial_delay, failure_limit, error_limit, success_limit, inconclusive_limit,
            no_data, dry_run, warn_only, weight, critical: see `Metric`.
    """

    query: str | None = None
    web: WebSource | None = None
    workload: WorkloadMeasure | None = None
    success: str | None = None
    failure: str | None = None
    unit: str = ""
    window: Interval = timedelta(minutes=5)
    max_increase: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    comparison: Comparison | None = None
    occasions: tuple[Occasion, ...] = (Occasion.CANARY, Occasion.SWITCHED, Occasion.MONITORING)
    interval: Interval | None = None
    count: int | None = Field(default=None, ge=1)
    initial_delay: Duration = timedelta(0)
    failure_limit: int = Field(default=0, ge=0)
    error_limit: int = Field(default=4, ge=0)
    success_limit: int | None = Field(default=None, ge=1)
    inconclusive_limit: int | None = Field(default=None, ge=0)
    no_data: NoData = NoData.INCONCLUSIVE
    dry_run: bool = False
    warn_only: bool = False
    weight: float = Field(default=1, ge=0, allow_inf_nan=False)
    critical: bool = False


class AnalysisSettings(Model):
    """The ``analysis`` block.

    Attributes:
        metrics: name → metric. A name of a rollback trigger (``error_rate`` …) is refused.
        score: judge by the weights of the metrics instead of by each single one.
    """

    metrics: dict[str, MetricDefinition] = {}
    score: ScorePolicy | None = None
