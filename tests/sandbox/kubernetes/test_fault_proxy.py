"""The fault proxy fails as told, forwards the rest, and counts what took effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from kubernetes.aio import client, watch

from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.fault_proxy import READS, FaultProxy

# The models of the client declare every field optional; here each one read is there or the test fails.
CoreV1Api = Any
Watch: Any = watch.Watch


@pytest.fixture
async def proxy(cluster: ClusterAccess, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy.start(cluster, tmp_path) as running:
        yield running


@pytest.fixture
async def core(proxy: FaultProxy) -> AsyncIterator[CoreV1Api]:
    """A client that speaks through the proxy."""
    async with client.ApiClient(proxy.client_configuration()) as api:
        yield client.CoreV1Api(api)


def config_map() -> Any:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"flags-{uuid4().hex[:8]}"), data={"a": "1"})


async def test_without_faults_writes_pass_and_are_recorded(
    proxy: FaultProxy, core: CoreV1Api, namespace: str
) -> None:
    wanted = config_map()

    created = await core.create_namespaced_config_map(namespace, wanted)

    assert created.data == {"a": "1"}
    (write,) = proxy.writes
    assert (write.method, write.path) == ("POST", f"/api/v1/namespaces/{namespace}/configmaps")
    assert write.body["metadata"]["name"] == wanted.metadata.name
    assert write.status == 201


async def test_refused_writes_do_not_reach_the_server_and_later_ones_do(
    proxy: FaultProxy, core: CoreV1Api, namespace: str
) -> None:
    # given a server overloaded for two writes
    fault = proxy.refuse(429, times=2, retry_after=1)
    wanted = config_map()

    # when the client tries three times
    for _ in range(2):
        with pytest.raises(client.ApiException) as refused:
            await core.create_namespaced_config_map(namespace, wanted)
        assert refused.value.status == 429
        assert refused.value.headers is not None
        assert refused.value.headers["Retry-After"] == "1"
    await core.create_namespaced_config_map(namespace, wanted)

    # then one write took effect
    assert fault.hits == 2
    assert len(proxy.writes) == 1


@pytest.mark.parametrize("status", [403, 409, 503])
async def test_a_fault_meets_only_its_path_and_methods_until_cleared(
    proxy: FaultProxy, core: CoreV1Api, namespace: str, status: int
) -> None:
    proxy.refuse(status, path=r"/services$")
    service = client.V1Service(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1ServiceSpec(selector={"app": "web"}, ports=[client.V1ServicePort(port=80)]),
    )

    await core.create_namespaced_config_map(namespace, config_map())
    with pytest.raises(client.ApiException) as refused:
        await core.create_namespaced_service(namespace, service)
    assert refused.value.status == status
    assert not (await core.list_namespaced_service(namespace)).items

    proxy.clear()
    await core.create_namespaced_service(namespace, service)


async def test_a_dropped_request_has_no_effect(proxy: FaultProxy, core: CoreV1Api, namespace: str) -> None:
    proxy.drop_requests(times=1)
    wanted = config_map()

    with pytest.raises(aiohttp.ClientError):
        await core.create_namespaced_config_map(namespace, wanted)

    assert proxy.writes == []
    await core.create_namespaced_config_map(namespace, wanted)


async def test_a_dropped_response_hides_a_write_that_took_effect(
    proxy: FaultProxy, core: CoreV1Api, namespace: str
) -> None:
    proxy.drop_responses(times=1)
    wanted = config_map()

    with pytest.raises(aiohttp.ClientError):
        await core.create_namespaced_config_map(namespace, wanted)

    assert len(proxy.writes) == 1
    with pytest.raises(client.ApiException) as again:
        await core.create_namespaced_config_map(namespace, wanted)
    assert again.value.status == 409


async def test_a_delayed_read_outlasts_the_patience_of_its_client(
    proxy: FaultProxy, core: CoreV1Api, namespace: str
) -> None:
    proxy.delay(60, methods=READS, times=1)

    with pytest.raises(asyncio.TimeoutError):
        await core.list_namespaced_config_map(namespace, _request_timeout=0.2)

    assert (await core.list_namespaced_config_map(namespace)) is not None


async def test_watches_stream_through_and_can_be_broken(
    proxy: FaultProxy, core: CoreV1Api, namespace: str
) -> None:
    # given a watch through the proxy
    wanted = config_map()
    events: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        async with Watch().stream(
            core.list_namespaced_config_map, namespace, field_selector=f"metadata.name={wanted.metadata.name}"
        ) as stream:
            async for event in stream:
                events.put_nowait(event["type"])

    async with client.ApiClient(proxy.client_configuration()):
        follower = asyncio.create_task(follow())
        await core.create_namespaced_config_map(namespace, wanted)
        assert await asyncio.wait_for(events.get(), 30) == "ADDED"

        # when the connection breaks
        assert proxy.break_streams() == 1

        # then the client sees an error, not a watch that is silent for ever
        (ended,) = await asyncio.gather(asyncio.wait_for(follower, 30), return_exceptions=True)
        assert not isinstance(ended, asyncio.TimeoutError)
