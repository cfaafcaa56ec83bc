"""Metrics: where a number comes from, and when it is good (spec: Automatic Rollback Conditions)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from domain.analysis.conditions import parse_condition
from domain.durations import Duration, Interval
from domain.model import Model


class Phase(StrEnum):
    """What one measurement came to."""

    SUCCESSFUL = "successful"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class NoData(StrEnum):
    """What "no traffic" means for a metric."""

    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"
    IGNORE = "ignore"


_VARIABLE = re.compile(r"\$\{(\w+)\}")


def fill(template: str, names: Mapping[str, str]) -> str:
    """``{name}`` replaced; ``${NAME}`` stays, as it is read from the environment when it is used.

    Raises:
        KeyError, IndexError, ValueError, AttributeError: as ``str.format`` does.
    """
    return _VARIABLE.sub(r"${{\1}}", template).format(**names)


class WebSource(Model):
    """A number in a JSON document that is fetched over HTTP.

    Attributes:
        url: where it is fetched; ``${NAME}`` is read from the worker's environment when it is measured.
        json_path: which value is taken (RFC 9535); one number, or true and false as 1 and 0.
        method: of the request.
        headers: ``${NAME}`` is read from the worker's environment when it is measured.
        body: sent with POST.
        timeout: of the request; at most 45 s.
    """

    url: str
    json_path: str
    method: Literal["GET", "POST"] = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    timeout: Interval = timedelta(seconds=10)


class WorkloadMeasure(StrEnum):
    """What the Kubernetes API itself says of a Deployment's newest pods."""

    RESTARTS = "restarts"
    """Container restarts of the pods of the newest revision, summed."""
    READY_PODS = "ready_pods"
    """Percent of the wanted pods that are ready."""


class WorkloadSource(Model):
    """A number that the Kubernetes API knows."""

    measure: WorkloadMeasure
    namespace: str
    deployment: str


class Comparison(Model):
    """A statistical test of the watched side's samples against the baseline's (Mann-Whitney U).

    Samples are the values of the query over `window`, one each `step`, from both sides.

    Attributes:
        direction: which difference is bad.
        confidence: how sure the test must be that the sides differ (0.5..1).
        effect_size: the smallest rank-biserial correlation (0..1) that counts as a difference.
        tolerance: percent by which the medians may differ, however sure the test is.
        min_samples: on each side; with fewer the measurement is inconclusive.
        window: from which samples are taken.
        step: between two samples.
    """

    direction: Literal["increase", "decrease", "either"] = "increase"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    effect_size: float = Field(default=0.3, ge=0, le=1)
    tolerance: float = Field(default=0, ge=0, allow_inf_nan=False)
    min_samples: int = Field(default=10, ge=2)
    window: Interval = timedelta(minutes=5)
    step: Interval = timedelta(seconds=15)


class Metric(Model):
    """A number that is measured again and again, and what it must be.

    Exactly one source: `query` (PromQL), `web` or `workload`.

    Attributes:
        query: PromQL of the watched side.
        limit: the highest value that is still good, in the query's own unit.
        success: condition of a good value, for example ``<= 5``.
        failure: condition of a bad value. With only one of them the other side is its negation; with both
            and neither true the measurement is inconclusive.
        unit: of the value, for people; with ``s`` or ``ms`` the conditions may have a unit of time.
        baseline_query: the same for the stable side; with `max_increase` or `comparison`.
        baseline_at: when the baseline is measured; by default at the same moment.
        max_increase: how many percent the value may lie above the baseline's.
        comparison: a statistical test of samples instead of single values.
        interval: between two measurements; by default the watch's.
        count: measurements after which it is not measured any more; by default as many as fit into the
            watch are needed, and it is measured until the watch ends.
        initial_delay: before the first measurement, from the start of the watch.
        failure_limit: failed measurements tolerated before the watch fails.
        error_limit: measurements in a row that may be impossible before the watch fails.
        success_limit: good measurements in a row after which the metric is not measured any more.
        inconclusive_limit: inconclusive measurements tolerated; one more ends the watch as inconclusive. By
            default the watch's share holds, at its end.
        no_data: what an empty answer means.
        warm_up: rounds at the beginning that are not judged, because the query's window still
            reaches back to before the watch.
        dry_run: measured and shown, but nothing follows from it.
        warn_only: a failure is a warning, and nothing more.
        weight: its part in the score, where the policy has one.
        critical: its failure fails a scored watch at once, and the score cannot make up for its doubts.
    """

    name: str
    query: str = ""
    web: WebSource | None = None
    workload: WorkloadSource | None = None
    limit: float | None = None
    success: str | None = None
    failure: str | None = None
    unit: str = ""
    baseline_query: str | None = None
    baseline_at: datetime | None = None
    max_increase: float | None = None
    comparison: Comparison | None = None
    interval: Interval | None = None
    count: int | None = Field(default=None, ge=1)
    initial_delay: Duration = timedelta(0)
    failure_limit: int = 0
    error_limit: int = 4
    success_limit: int | None = Field(default=None, ge=1)
    inconclusive_limit: int | None = Field(default=None, ge=0)
    no_data: NoData = NoData.INCONCLUSIVE
    warm_up: int = 0
    dry_run: bool = False
    warn_only: bool = False
    weight: float = Field(default=1, ge=0, allow_inf_nan=False)
    critical: bool = False

    @model_validator(mode="after")
    def _conditions_are_readable(self) -> Metric:
        for condition in (self.success, self.failure):
            if condition is not None:
                parse_condition(condition, self.unit)
        return self


class MetricReading(Model):
    """One answer of a metric source: a value, samples, no data, or an error.

    Attributes:
        samples: of the watched side, for a `Comparison`; `baseline_samples` the stable side's.
        error: why it could not be measured; `baseline_error` the same of the baseline, without which the
            absolute rules still hold.
    """

    value: float | None = None
    baseline: float | None = None
    samples: tuple[float, ...] = ()
    baseline_samples: tuple[float, ...] = ()
    error: str | None = None
    baseline_error: str | None = None
