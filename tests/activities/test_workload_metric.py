"""Restarts and ready pods, as an API server shows them; the tests are the kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from activities.kubernetes import ClusterConnection
from activities.metrics.sources import MetricSources, NotConfiguredError
from domain.analysis import Metric, MetricReading, WorkloadMeasure, WorkloadSource
from sandbox.kubernetes.access import ClusterAccess
from tests.activities.kubernetes.workload import Onlooker, encoded


@pytest.fixture(params=["real", "emulator"])
def cluster(request: pytest.FixtureRequest) -> ClusterAccess:
    name = "control_plane" if request.param == "real" else "emulator"
    access: ClusterAccess = request.getfixturevalue(name).access
    return access


@pytest.fixture
async def sources(cluster: ClusterAccess) -> AsyncIterator[MetricSources]:
    async with httpx.AsyncClient() as http:
        sources = MetricSources(http, ClusterConnection(kube_config=encoded(cluster)), {})
        yield sources
        await sources.close()


class Workload:
    """A Deployment whose pods are on a node of the test's own: what they show is what the test writes."""

    def __init__(self, onlooker: Onlooker, namespace: str) -> None:
        self.namespace = namespace
        self._onlooker = onlooker

    async def create(self, replicas: int) -> None:
        template = {
            "metadata": {"labels": {"app": "erlmcp"}},
            "spec": {
                "nodeName": "the-test",
                "containers": [{"name": "main", "image": "x:1"}],
            },
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "erlmcp"}}, "template": template}
        body = {"metadata": {"name": "erlmcp"}, "spec": spec}
        await self._onlooker.create_deployment(
            self.namespace, {"apiVersion": "apps/v1", "kind": "Deployment", **body}
        )

    async def patch(self, spec: dict[str, Any]) -> None:
        await self._onlooker.patch_deployment(self.namespace, {"spec": spec})

    async def pods(self, image: str, count: int) -> list[str]:
        """The names of the pods of an image, once there are as many."""
        async with asyncio.timeout(60):
            while True:
                listed = await self._onlooker.ask("GET", f"/api/v1/namespaces/{self.namespace}/pods")
                found = [
                    p["metadata"]["name"]
                    for p in listed["items"]
                    if p["spec"]["containers"][0]["image"] == image
                ]
                if len(found) == count:
                    return sorted(found)
                await asyncio.sleep(0.05)

    async def show(self, pod: str, *, restarts: int = 0, ready: bool = True, sidecar: int = 0) -> None:
        def container(name: str, count: int) -> dict[str, Any]:
            return {"name": name, "restartCount": count, "ready": ready, "image": "x", "imageID": "x"}

        status = {
            "conditions": [
                {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}
            ],
            "containerStatuses": [container("main", restarts)],
            "initContainerStatuses": [container("sidecar", sidecar)],
        }
        await self._onlooker.ask(
            "PATCH",
            f"/api/v1/namespaces/{self.namespace}/pods/{pod}/status",
            {"status": status},
            content_type="application/merge-patch+json",
        )

    def metric(self, measure: WorkloadMeasure, deployment: str = "erlmcp") -> Metric:
        source = WorkloadSource(measure=measure, namespace=self.namespace, deployment=deployment)
        return Metric(name=str(measure), workload=source, success=">= 0")


@pytest.fixture
async def workload(cluster: ClusterAccess) -> AsyncIterator[Workload]:
    async with Onlooker.at(cluster) as onlooker:
        namespace = f"test-{uuid4().hex[:10]}"
        await onlooker.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield Workload(onlooker, namespace)
        await onlooker.ask("DELETE", f"/api/v1/namespaces/{namespace}")


async def test_restarts_and_ready_pods_of_the_newest_revision_are_measured(
    sources: MetricSources, workload: Workload
) -> None:
    async def restarts() -> MetricReading:
        return await sources.measure(workload.metric(WorkloadMeasure.RESTARTS), None)

    async def ready() -> MetricReading:
        return await sources.measure(workload.metric(WorkloadMeasure.READY_PODS), None)

    # given two pods that serve, one of which has crashed
    await workload.create(replicas=2)
    first, second = await workload.pods("x:1", 2)
    await workload.show(first, restarts=2, sidecar=1)
    await workload.show(second)
    assert await restarts() == MetricReading(value=3)
    assert await ready() == MetricReading(value=100)

    # when one of them is no longer ready
    await workload.show(second, ready=False)

    # then half of what is wanted is
    assert await ready() == MetricReading(value=50)

    # and when a new revision begins beside them, only its pods count
    await workload.show(second)
    await workload.patch({"template": {"spec": {"containers": [{"name": "main", "image": "x:2"}]}}})
    (new,) = await workload.pods("x:2", 1)
    async with asyncio.timeout(30):  # the new ReplicaSet learns of its revision after it has pods
        while await restarts() != MetricReading(value=0):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await ready() == MetricReading(value=0)
    await workload.show(new, restarts=1)
    assert await restarts() == MetricReading(value=1)

    # and no pods wanted are no data
    await workload.patch({"replicas": 0})
    assert await restarts() == MetricReading()
    assert await ready() == MetricReading()


async def test_a_workload_that_is_not_there_is_an_error(sources: MetricSources, workload: Workload) -> None:
    reading = await sources.measure(workload.metric(WorkloadMeasure.RESTARTS, "missing"), None)

    subject = f"measure restarts of deployment {workload.namespace}/missing"
    assert reading == MetricReading(error=f"{subject}: it does not exist")


# Without a cluster


def metric() -> Metric:
    source = WorkloadSource(measure=WorkloadMeasure.RESTARTS, namespace="prod", deployment="erlmcp")
    return Metric(name="restarts", workload=source, limit=3)


async def test_an_api_server_that_is_gone_is_an_error() -> None:
    access = ClusterAccess("gone", "http://127.0.0.1:9", "hunter2", "")
    async with httpx.AsyncClient() as http:
        sources = MetricSources(http, ClusterConnection(kube_config=encoded(access)), {})
        reading = await sources.measure(metric(), None)
        await sources.close()

    assert reading.error is not None
    assert "the API server cannot be reached" in reading.error
    assert "hunter2" not in reading.error


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        (None, "this worker has no access to a cluster; set KUBE_CONFIG"),
        (ClusterConnection(kube_config="hunter2"), "KUBE_CONFIG is no usable kubeconfig"),
    ],
)
async def test_a_worker_without_cluster_says_which_metric_needs_it(
    cluster: ClusterConnection | None, reason: str
) -> None:
    async with httpx.AsyncClient() as http:
        sources = MetricSources(http, cluster, {})
        with pytest.raises(NotConfiguredError, match="metric restarts") as failed:
            await sources.measure(metric(), None)
        await sources.close()

    assert reason in str(failed.value)
    assert "hunter2" not in str(failed.value)
