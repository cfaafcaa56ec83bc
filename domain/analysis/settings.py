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
            ``{environment}``, ``{namespace}``, ``{version}`` and ``{pod}`` (a pattern of the pods' names);
            braces of PromQL itself are doubled. A burn rate over several windows is one query that joins
            them with ``and``, with ``no_data: ignore``, or one metric for each window.
        web: a number in a JSON document; its url knows the same names.
        workload: what the Kubernetes API says of the pods.
        success: condition of a good value, for example ``>= 99``, ``< 0.5`` or ``>= 10 and <= 20``.
        failure: condition of a bad value, for example ``> 5`` or ``< 10 or > 20``.
        unit: of the value; with ``s`` or ``ms`` the conditions may have a unit of time.
        window: what ``{window}`` is; at most half of the watch, and never reaching back to before it. With
            `comparison` by default four of its steps.
        max_increase: percent that a value may lie above the baseline: the same query for the stable side,
            or, where there is only one side, for the moment before the deployment. Where there is neither,
            the conditions alone hold, and a metric without any is left out.
        comparison: hold samples against the baseline's by a statistical test.
        occasions: when it is watched.
        interval: between two measurements; by default the watch's.
        count: measurements it needs, after which it is not measured any more; by default as many as fit into
            the watch.
        initial_delay: before the first measurement, from the start of the watch.
        failure_limit: failed measurements tolerated; one more fails the watch.
        error_limit: measurements in a row that may be impossible; one more fails the watch.
        success_limit: good measurements in a row after which it is not measured any more.
        inconclusive_limit: inconclusive measurements tolerated; one more ends the watch as inconclusive. By
            default half of them in a step of a canary or flag and after a switch, and all of them elsewhere.
        no_data: what an empty answer means; ``ignore`` takes it for good.
        dry_run: measured and shown, but nothing follows from it.
        warn_only: a failure is a warning, and nothing more.
        weight: its part in the score, where there is one.
        critical: its failure fails a scored watch at once, and the score cannot make up for its doubts.
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
        score: judge these metrics by their weights instead of by each single one. The rollback triggers are
            no part of it and hold whatever it is.
    """

    metrics: dict[str, MetricDefinition] = {}
    score: ScorePolicy | None = None
