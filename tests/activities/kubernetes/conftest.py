"""A cluster, a service that its kubelet really probes, and the activities as a worker would run them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiohttp import web

from activities.kubernetes import ClusterConnection, KubernetesActivities
from domain.workload import WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from tests.activities.kubernetes.workload import Onlooker, ProbedService, encoded, target_in


@pytest.fixture(params=["real", "emulator"])
def cluster(request: pytest.FixtureRequest) -> ClusterAccess:
    """The cluster under test; only the one asked for is started."""
    name = "control_plane" if request.param == "real" else "emulator"
    access: ClusterAccess = request.getfixturevalue(name).access
    return access


@pytest.fixture
async def onlooker(cluster: ClusterAccess) -> AsyncIterator[Onlooker]:
    async with Onlooker.at(cluster) as onlooker:
        yield onlooker


@pytest.fixture
async def namespace(onlooker: Onlooker) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid4().hex[:10]}"
    await onlooker.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    await onlooker.ask("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
async def service() -> AsyncIterator[ProbedService]:
    probed = ProbedService(port=0)
    application = web.Application()
    application.router.add_get("/{path:.*}", probed.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    probed.port = runner.addresses[0][1]
    yield probed
    await runner.cleanup()


@pytest.fixture
def target(namespace: str, service: ProbedService) -> WorkloadTarget:
    """A workload whose pods are probed at `service`, every second."""
    return target_in(namespace, service)


@pytest.fixture
async def activities(cluster: ClusterAccess) -> AsyncIterator[KubernetesActivities]:
    working = KubernetesActivities(ClusterConnection(kube_config=encoded(cluster)))
    yield working
    await working.close()
