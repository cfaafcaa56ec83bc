"""Roll-outs driven by a real application's readiness, on the real control plane and on the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

PATIENCE_SECONDS = 60.0
# The models of the client declare every field optional; here each one read is there or the test fails.
AppsV1Api = Any
CoreV1Api = Any
Deployment = Any


class Application:
    """An HTTP service on loopback whose health depends on the version that is asked for."""

    def __init__(self) -> None:
        self.port = 0
        self.unhealthy: set[str] = set()
        self.probed: set[str] = set()

    async def answer(self, request: web.Request) -> web.Response:
        version = request.match_info["version"]
        self.probed.add(version)
        return web.Response(status=503 if version in self.unhealthy else 200)


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    application = Application()
    server = web.Application()
    server.router.add_get("/health/{version}", application.answer)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        application.port = runner.addresses[0][1]
        yield application
    finally:
        await runner.cleanup()


@pytest.fixture
def apps(api: client.ApiClient) -> AppsV1Api:
    return client.AppsV1Api(api)


@pytest.fixture
def core(api: client.ApiClient) -> CoreV1Api:
    return client.CoreV1Api(api)


def template(application: Application, version: str) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": f"registry.example/web:{version}",
                    "readinessProbe": {
                        "httpGet": {
                            "host": "127.0.0.1",
                            "port": application.port,
                            "path": f"/health/{version}",
                        },
                        "periodSeconds": 1,
                        "failureThreshold": 1,
                    },
                }
            ],
        },
    }


def deployment(application: Application, version: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 60,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(application, version),
            **spec,
        },
    }


async def until(apps: AppsV1Api, namespace: str, reached: Callable[[Deployment], bool]) -> Deployment:
    """The deployment once it has reached a state."""
    found = await apps.read_namespaced_deployment("web", namespace)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not reached(found):
                await asyncio.sleep(0.1)
                found = await apps.read_namespaced_deployment("web", namespace)
    except TimeoutError:
        pytest.fail(f"not reached; status is now {found.status}")
    return found


def is_rolled_out(found: Deployment) -> bool:
    """What `kubectl rollout status` waits for."""
    status, wanted = found.status, found.spec.replicas
    return bool(
        (status.observed_generation or 0) >= found.metadata.generation
        and status.updated_replicas == wanted
        and status.replicas == wanted
        and status.available_replicas == wanted
    )


def condition(found: Deployment, kind: str) -> tuple[str, str]:
    conditions = {each.type: (each.status, each.reason) for each in found.status.conditions or []}
    return conditions.get(kind, ("", ""))


async def settled(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await check():  # noqa: ASYNC110 - what it waits for is in another process
            await asyncio.sleep(0.1)


async def test_a_healthy_version_rolls_out(
    apps: AppsV1Api, core: CoreV1Api, application: Application, namespace: str
) -> None:
    # given a healthy application
    await apps.create_namespaced_deployment(namespace, deployment(application, "1"))

    # when its deployment has rolled out
    found = await until(apps, namespace, is_rolled_out)

    # then the kubelet has asked the application, and the status says how it stands
    assert application.probed == {"1"}
    assert found.status.ready_replicas == 2
    assert found.status.unavailable_replicas is None
    assert condition(found, "Available") == ("True", "MinimumReplicasAvailable")
    found = await until(
        apps, namespace, lambda now: condition(now, "Progressing") == ("True", "NewReplicaSetAvailable")
    )
    assert found.metadata.annotations["deployment.kubernetes.io/revision"] == "1"
    (replica_set,) = (await apps.list_namespaced_replica_set(namespace)).items
    assert replica_set.metadata.owner_references[0].uid == found.metadata.uid
    pods = (await core.list_namespaced_pod(namespace, label_selector="app=web")).items
    assert len(pods) == 2
    for pod in pods:
        assert pod.metadata.owner_references[0].uid == replica_set.metadata.uid
        assert pod.metadata.labels["pod-template-hash"] == replica_set.metadata.labels["pod-template-hash"]
        assert pod.status.phase == "Running"
        assert {each.type: each.status for each in pod.status.conditions}["Ready"] == "True"
        assert pod.status.container_statuses[0].restart_count == 0


async def test_an_unhealthy_version_misses_its_deadline_and_is_rolled_back(
    apps: AppsV1Api, application: Application, namespace: str
) -> None:
    # given version 1 in service
    application.unhealthy = {"2"}
    await apps.create_namespaced_deployment(
        namespace, deployment(application, "1", progressDeadlineSeconds=3)
    )
    await until(apps, namespace, is_rolled_out)

    # when version 2, which never becomes ready, is rolled out
    await apps.patch_namespaced_deployment(
        "web", namespace, {"spec": {"template": template(application, "2")}}
    )
    failed = await until(apps, namespace, lambda now: condition(now, "Progressing")[0] == "False")

    # then the deadline is reported while version 1 still serves
    assert condition(failed, "Progressing") == ("False", "ProgressDeadlineExceeded")
    assert condition(failed, "Available")[0] == "True"
    assert failed.status.available_replicas == 2
    assert failed.status.updated_replicas == 1
    assert failed.metadata.annotations["deployment.kubernetes.io/revision"] == "2"

    # and the previous template, put back, is complete again as revision 3 of the same replica set
    await apps.patch_namespaced_deployment(
        "web", namespace, {"spec": {"template": template(application, "1")}}
    )
    restored = await until(
        apps,
        namespace,
        lambda now: (
            is_rolled_out(now) and condition(now, "Progressing") == ("True", "NewReplicaSetAvailable")
        ),
    )
    assert restored.metadata.annotations["deployment.kubernetes.io/revision"] == "3"
    revisions = {
        each.spec.template.spec.containers[0].image: each.metadata.annotations[
            "deployment.kubernetes.io/revision"
        ]
        for each in (await apps.list_namespaced_replica_set(namespace)).items
    }
    assert revisions == {"registry.example/web:1": "3", "registry.example/web:2": "2"}


async def test_pods_leave_service_when_the_application_turns_unhealthy_and_return(
    apps: AppsV1Api, application: Application, namespace: str
) -> None:
    await apps.create_namespaced_deployment(namespace, deployment(application, "1"))
    await until(apps, namespace, is_rolled_out)

    application.unhealthy.add("1")
    fallen = await until(apps, namespace, lambda now: now.status.available_replicas is None)
    assert condition(fallen, "Available") == ("False", "MinimumReplicasUnavailable")

    application.unhealthy.clear()
    await until(apps, namespace, is_rolled_out)


async def test_a_deployment_is_scaled_to_nothing_and_deleted_with_all_it_owns(
    apps: AppsV1Api, core: CoreV1Api, application: Application, namespace: str
) -> None:
    await apps.create_namespaced_deployment(namespace, deployment(application, "1"))
    await until(apps, namespace, is_rolled_out)

    # when it is scaled to zero by the subresource
    scale = await apps.read_namespaced_deployment_scale("web", namespace)
    assert (scale.spec.replicas, scale.status.selector) == (2, "app=web")
    scaled = await apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 0}})
    assert scaled.spec.replicas is None

    # then its pods go
    async def no_pods() -> bool:
        return not (await core.list_namespaced_pod(namespace)).items

    await settled(no_pods)
    found = await until(apps, namespace, lambda now: now.status.replicas is None)
    assert found.spec.replicas == 0

    # and with the deployment its replica sets go
    await apps.delete_namespaced_deployment("web", namespace)

    async def no_replica_sets() -> bool:
        return not (await apps.list_namespaced_replica_set(namespace)).items

    await settled(no_replica_sets)


async def test_a_recreated_deployment_never_runs_two_versions(
    apps: AppsV1Api, core: CoreV1Api, application: Application, namespace: str
) -> None:
    await apps.create_namespaced_deployment(
        namespace, deployment(application, "1", strategy={"type": "Recreate"})
    )
    await until(apps, namespace, is_rolled_out)

    await apps.patch_namespaced_deployment(
        "web", namespace, {"spec": {"template": template(application, "2")}}
    )
    images: set[frozenset[str]] = set()

    async def is_replaced() -> bool:
        pods = (await core.list_namespaced_pod(namespace)).items
        active = [each for each in pods if each.metadata.deletion_timestamp is None]
        images.add(frozenset(each.spec.containers[0].image for each in active))
        return is_rolled_out(await apps.read_namespaced_deployment("web", namespace))

    await settled(is_replaced)
    assert frozenset({"registry.example/web:1", "registry.example/web:2"}) not in images
    assert "2" in application.probed


async def test_a_paused_deployment_waits(apps: AppsV1Api, application: Application, namespace: str) -> None:
    # given a paused deployment with a new template
    await apps.create_namespaced_deployment(namespace, deployment(application, "1"))
    await until(apps, namespace, is_rolled_out)
    await apps.patch_namespaced_deployment(
        "web", namespace, {"spec": {"paused": True, "template": template(application, "2")}}
    )
    paused = await until(apps, namespace, lambda now: condition(now, "Progressing")[0] == "Unknown")
    assert condition(paused, "Progressing") == ("Unknown", "DeploymentPaused")
    assert len((await apps.list_namespaced_replica_set(namespace)).items) == 1

    # when it is resumed, then the new template rolls out
    await apps.patch_namespaced_deployment("web", namespace, {"spec": {"paused": False}})
    await until(apps, namespace, lambda now: is_rolled_out(now) and "2" in application.probed)
