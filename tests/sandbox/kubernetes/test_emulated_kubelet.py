"""What only the emulator can show: restarts, events of probes, and its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from sandbox.kubernetes.emulator import Emulator

PATIENCE_SECONDS = 30.0
CoreV1Api = Any


@pytest.fixture
def cluster(emulator: Emulator) -> Any:
    return emulator.access


@pytest.fixture
def core(api: client.ApiClient) -> CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
async def dead_port() -> AsyncIterator[int]:
    """The port of a service that answers every request with 500."""

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=500)

    server = web.Application()
    server.router.add_get("/{path:.*}", fail)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def pod(**container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "app", "image": "web:1", **container}]},
    }


async def settled(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await check():  # noqa: ASYNC110 - what it waits for is in another process
            await asyncio.sleep(0.1)


async def is_ready(core: CoreV1Api, namespace: str) -> bool:
    found = await core.read_namespaced_pod("web", namespace)
    return any(each.type == "Ready" and each.status == "True" for each in found.status.conditions or [])


async def test_a_pod_without_probes_is_ready_once_started(core: CoreV1Api, namespace: str) -> None:
    await core.create_namespaced_pod(namespace, pod())

    await settled(lambda: is_ready(core, namespace))


async def test_a_failing_liveness_probe_restarts_the_container(
    core: CoreV1Api, namespace: str, dead_port: int
) -> None:
    probe = {
        "httpGet": {"host": "127.0.0.1", "port": dead_port},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    await core.create_namespaced_pod(namespace, pod(livenessProbe=probe))

    async def is_restarted() -> bool:
        found = await core.read_namespaced_pod("web", namespace)
        return any(each.restart_count for each in found.status.container_statuses or [])

    await settled(is_restarted)


async def test_a_failing_probe_is_told_by_an_event(core: CoreV1Api, namespace: str, dead_port: int) -> None:
    probe = {"httpGet": {"host": "127.0.0.1", "port": "http", "path": "/ready"}, "periodSeconds": 1}
    port = {"name": "http", "containerPort": dead_port}
    await core.create_namespaced_pod(namespace, pod(ports=[port], readinessProbe=probe))

    async def is_told() -> bool:
        events = await core.list_namespaced_event(
            namespace, field_selector="reason=Unhealthy,involvedObject.name=web"
        )
        return any(
            "Readiness probe failed" in each.message and "500" in each.message for each in events.items
        )

    await settled(is_told)
    assert not await is_ready(core, namespace)


async def test_a_probe_of_the_pod_network_fails_saying_that_there_is_none(
    core: CoreV1Api, namespace: str
) -> None:
    probe = {"httpGet": {"port": 8080}, "periodSeconds": 1}
    await core.create_namespaced_pod(namespace, pod(readinessProbe=probe))

    async def is_told() -> bool:
        events = await core.list_namespaced_event(namespace, field_selector="reason=Unhealthy")
        return any("httpGet.host" in each.message for each in events.items)

    await settled(is_told)


async def test_a_namespace_goes_with_all_its_content(core: CoreV1Api) -> None:
    # given a namespace with a pod that belongs to nobody and a map
    await core.create_namespace({"metadata": {"name": "doomed"}})
    await core.create_namespaced_pod("doomed", pod())
    await core.create_namespaced_config_map("doomed", {"metadata": {"name": "flags"}})

    # when it is deleted, then it is gone in the end
    await core.delete_namespace("doomed")

    async def is_gone() -> bool:
        namespaces = await core.list_namespace(field_selector="metadata.name=doomed")
        pods = await core.list_pod_for_all_namespaces()
        return not namespaces.items and all(each.metadata.namespace != "doomed" for each in pods.items)

    await settled(is_gone)


async def test_a_foreground_deletion_ends_with_its_dependents(core: CoreV1Api, namespace: str) -> None:
    owner = await core.create_namespaced_config_map(namespace, {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}
    held = {"name": "child", "ownerReferences": [reference], "finalizers": ["example.com/hold"]}
    await core.create_namespaced_config_map(namespace, {"metadata": held})

    # when the owner is deleted in the foreground while a finalizer holds its child
    await core.delete_namespaced_config_map("owner", namespace, propagation_policy="Foreground")

    async def child_is_going() -> bool:
        child = await core.read_namespaced_config_map("child", namespace)
        return child.metadata.deletion_timestamp is not None

    await settled(child_is_going)

    # then it stays until the child is released
    waiting = await core.read_namespaced_config_map("owner", namespace)
    assert waiting.metadata.deletion_timestamp is not None
    await core.patch_namespaced_config_map("child", namespace, {"metadata": {"finalizers": None}})

    async def all_gone() -> bool:
        return not (await core.list_namespaced_config_map(namespace)).items

    await settled(all_gone)


async def test_an_orphaning_deletion_leaves_the_dependents(core: CoreV1Api, namespace: str) -> None:
    owner = await core.create_namespaced_config_map(namespace, {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}
    await core.create_namespaced_config_map(
        namespace, {"metadata": {"name": "child", "ownerReferences": [reference]}}
    )

    await core.delete_namespaced_config_map("owner", namespace, propagation_policy="Orphan")

    async def only_child_is_left() -> bool:
        left = (await core.list_namespaced_config_map(namespace)).items
        return [(each.metadata.name, each.metadata.owner_references) for each in left] == [("child", None)]

    await settled(only_child_is_left)
