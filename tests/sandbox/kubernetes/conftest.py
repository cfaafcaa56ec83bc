"""Fixtures of the conformance tests: the same stories on the real API server and on the emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from kubernetes.aio import client

from sandbox.kubernetes.access import ClusterAccess


@pytest.fixture(params=["real", "emulator"])
def cluster(request: pytest.FixtureRequest) -> ClusterAccess:
    """The cluster under test; only the one asked for is started."""
    name = "control_plane" if request.param == "real" else "emulator"
    access: ClusterAccess = request.getfixturevalue(name).access
    return access


@pytest.fixture
async def api(cluster: ClusterAccess) -> AsyncIterator[client.ApiClient]:
    async with client.ApiClient(cluster.client_configuration()) as api:
        yield api


@pytest.fixture
async def http(cluster: ClusterAccess) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP with the administrator's token, for what the client library refuses to send."""
    async with httpx.AsyncClient(
        base_url=cluster.server,
        verify=cluster.ssl_context(),
        headers={"Authorization": f"Bearer {cluster.token}"},
    ) as http:
        yield http


@pytest.fixture
async def namespace(api: client.ApiClient) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid4().hex[:10]}"
    core = client.CoreV1Api(api)
    await core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    yield name
    await core.delete_namespace(name)
