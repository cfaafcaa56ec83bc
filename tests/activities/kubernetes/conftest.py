"""A cluster, a service that its kubelet really probes, and the activities as a worker would run them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import yaml
from aiohttp import web
from kubernetes.aio import client
from temporalio.testing import ActivityEnvironment

from activities.kubernetes import ClusterConnection, KubernetesActivities
from domain.workload import ProbeSettings, ReleaseApply, Track, WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess

T = TypeVar("T")


@pytest.fixture(params=["real", "emulator"])
def cluster(request: pytest.FixtureRequest) -> ClusterAccess:
    """The cluster under test; only the one asked for is started."""
    name = "control_plane" if request.param == "real" else "emulator"
    access: ClusterAccess = request.getfixturevalue(name).access
    return access


@pytest.fixture
async def api(cluster: ClusterAccess) -> AsyncIterator[client.ApiClient]:
    """Another client than the one under test: what it sees is what the cluster has."""
    async with client.ApiClient(cluster.client_configuration()) as api:
        yield api


@pytest.fixture
def apps(api: client.ApiClient) -> client.AppsV1Api:
    return client.AppsV1Api(api)


@pytest.fixture
async def namespace(api: client.ApiClient) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid4().hex[:10]}"
    core = client.CoreV1Api(api)
    await core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    yield name
    await core.delete_namespace(name)


@dataclass
class ProbedService:
    """Stands for what would run in the pods: the kubelet asks it whether they are ready."""

    port: int
    broken: set[str] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.Response:
        bad = request.path in self.broken
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE if bad else HTTPStatus.OK)


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


def target_in(namespace: str, service: ProbedService, ready_path: str = "/ready", **settings: Any) -> WorkloadTarget:
    probes: dict[str, Any] = {"httpGet": {"host": "127.0.0.1", "port": service.port}}
    defaults: dict[str, Any] = {
        "application": "erlmcp",
        "environment": "test",
        "namespace": namespace,
        "deployment": "erlmcp",
        "container": "erlmcp",
        "replicas": 2,
        "readiness": ProbeSettings(
            path=ready_path, period=timedelta(seconds=1), timeout=timedelta(seconds=1), failure_threshold=1
        ),
        "liveness": None,
        "progress_deadline": timedelta(seconds=60),
        "template": {"spec": {"containers": [{"name": "erlmcp", "readinessProbe": probes}]}},
    }
    return WorkloadTarget.model_validate({**defaults, **settings})


def release(target: WorkloadTarget, version: str = "1.0.0", track: Track = Track.STABLE, **fields: Any) -> ReleaseApply:
    defaults: dict[str, Any] = {
        "key": f"run-{version}/{track}",
        "target": target,
        "track": track,
        "version": version,
        "image": f"registry.example.com/erlmcp:{version}",
        "replicas": target.replicas,
        "deployment_id": f"deployment:erlmcp:test:{version}",
        "commit": "1a2b3c4",
    }
    return ReleaseApply.model_validate({**defaults, **fields})


def encoded(access: ClusterAccess) -> str:
    """The way in as the worker gets it in KUBE_CONFIG."""
    return base64.b64encode(yaml.safe_dump(access.kubeconfig).encode()).decode()


@pytest.fixture
async def activities(cluster: ClusterAccess) -> AsyncIterator[KubernetesActivities]:
    working = KubernetesActivities(ClusterConnection(kube_config=encoded(cluster)))
    yield working
    await working.close()


async def run(work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Run an activity as a worker would."""
    return await ActivityEnvironment().run(work, *arguments)
