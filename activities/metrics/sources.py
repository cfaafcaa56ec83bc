"""All metric sources behind one question: what is this metric now?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx
from temporalio.exceptions import ApplicationError

from activities.kubernetes.api import KubernetesApi
from activities.kubernetes.connection import ClusterConnection
from activities.metrics.prometheus import Prometheus, PrometheusError
from activities.metrics.web import WebMetrics, WebSettingError
from activities.metrics.workload import WorkloadMetrics
from domain.analysis import Comparison, Metric, MetricReading


class NotConfiguredError(Exception):
    """A metric names a source that this worker cannot ask; the text says what to set."""


class MetricSources:
    """Asks Prometheus, a web address or the Kubernetes API.

    Args:
        http: shared, closed by its creator.
        cluster: where the Kubernetes API is; opened when it is first asked.
        environment: what ``${NAME}`` in a web source is taken from.
    """

    def __init__(
        self, http: httpx.AsyncClient, cluster: ClusterConnection | None, environment: Mapping[str, str]
    ) -> None:
        self._prometheus = Prometheus(http)
        self._web = WebMetrics(http, environment)
        self._api = KubernetesApi(cluster) if cluster is not None else None
        self._workload = WorkloadMetrics(self._api) if self._api is not None else None

    async def close(self) -> None:
        if self._api is not None:
            await self._api.close()

    def check(self, metric: Metric, prometheus_url: str | None) -> None:
        """Whether the metric's source is set up here, without asking it.

        Raises:
            NotConfiguredError: it is not.
        """
        if metric.web is not None:
            try:
                self._web.check(metric.web)
            except WebSettingError as error:
                raise NotConfiguredError(f"metric {metric.name}: {error}") from None
        elif metric.workload is not None:
            self._cluster(metric)
        else:
            _prometheus_of(metric, prometheus_url)

    async def measure(self, metric: Metric, prometheus_url: str | None) -> MetricReading:
        """One measurement. Whatever the source does is a reading, not an exception.

        Raises:
            NotConfiguredError: as `check`, or the way to the cluster cannot be used.
        """
        if metric.web is not None:
            try:
                return await self._web.measure(metric.web)
            except WebSettingError as error:
                raise NotConfiguredError(f"metric {metric.name}: {error}") from None
        if metric.workload is not None:
            try:
                return await self._cluster(metric).measure(metric.workload)
            except ApplicationError as error:
                raise NotConfiguredError(f"metric {metric.name}: {error.message}") from None
        url = _prometheus_of(metric, prometheus_url)
        if metric.comparison is not None:
            return await self._compare(metric, metric.comparison, url)
        if metric.baseline_query is None:
            return await self._prometheus.query(url, metric.query)
        reading, baseline = await asyncio.gather(
            self._prometheus.query(url, metric.query),
            self._prometheus.query(url, metric.baseline_query, metric.baseline_at),
        )
        if baseline.error is not None and reading.error is None:
            return reading.model_copy(update={"baseline_error": f"its baseline: {baseline.error}"})
        return reading.model_copy(update={"baseline": baseline.value})

    async def _compare(self, metric: Metric, comparison: Comparison, url: str) -> MetricReading:
        """Samples of both sides; the values are the newest ones."""
        now = datetime.now(UTC)
        try:
            watched, baseline = await asyncio.gather(
                self._prometheus.samples(url, metric.query, comparison, now),
                self._baseline_samples(metric, comparison, url, metric.baseline_at or now),
            )
        except PrometheusError as error:
            return MetricReading(error=str(error))
        return MetricReading(
            value=watched[-1] if watched else None,
            baseline=baseline[-1] if baseline else None,
            samples=watched,
            baseline_samples=baseline,
        )

    async def _baseline_samples(
        self, metric: Metric, comparison: Comparison, url: str, until: datetime
    ) -> tuple[float, ...]:
        if metric.baseline_query is None:
            return ()
        try:
            return await self._prometheus.samples(url, metric.baseline_query, comparison, until)
        except PrometheusError as error:
            raise PrometheusError(f"its baseline: {error}") from None

    def _cluster(self, metric: Metric) -> WorkloadMetrics:
        if self._workload is None:
            raise NotConfiguredError(
                f"metric {metric.name} reads the Kubernetes API, but this worker has no access to a cluster; "
                "set KUBE_CONFIG or KUBECONFIG, or leave the metric out"
            )
        return self._workload


def _prometheus_of(metric: Metric, url: str | None) -> str:
    if not metric.query:
        raise NotConfiguredError(f"metric {metric.name} has no source; give it a query, web or workload")
    if url is None:
        raise NotConfiguredError(f"metric {metric.name} is a query, but metrics.prometheus_url is not set")
    return url
