"""Where the worker takes its cluster from, and what it says when there is none."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes.aio import client
from temporalio.exceptions import ApplicationError

from activities.errors import INVALID_CONFIGURATION
from activities.kubernetes import ClusterConnection
from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.certificates import create_server_certificate
from tests.activities.kubernetes.workload import encoded


@pytest.fixture
def far(tmp_path: Path) -> ClusterAccess:
    """The way into a cluster that is not asked here."""
    authority = create_server_certificate(tmp_path).authority
    return ClusterAccess(
        name="far", server="https://10.0.0.1:6443", token="secret-token", certificate_authority=authority
    )


@asynccontextmanager
async def opened(connection: ClusterConnection) -> AsyncIterator[client.ApiClient]:
    api = await connection.open()
    try:
        yield api
    finally:
        await api.close()  # type: ignore[no-untyped-call]


async def test_kube_config_wins_over_a_path(far: ClusterAccess, tmp_path: Path) -> None:
    other = replace(far, server="https://10.0.0.2:6443")
    path = other.write_kubeconfig(tmp_path / "kubeconfig")
    environment = {"KUBE_CONFIG": encoded(far), "KUBECONFIG": str(path)}

    async with opened(ClusterConnection.from_environment(environment)) as api:
        assert api.configuration.host == "https://10.0.0.1:6443"
        settings = await api.configuration.auth_settings()
        assert settings["BearerToken"]["value"] == "Bearer secret-token"

    async with opened(ClusterConnection.from_environment({"KUBECONFIG": str(path)})) as api:
        assert api.configuration.host == "https://10.0.0.2:6443"


@pytest.mark.parametrize(
    ("kube_config", "fault"),
    [
        ("%%%", "KUBE_CONFIG is no usable kubeconfig"),
        (base64.b64encode(b"secret-token").decode(), "KUBE_CONFIG is no usable kubeconfig"),
        (base64.b64encode(b"users: [{secret-token").decode(), "KUBE_CONFIG is no usable kubeconfig"),
        (base64.b64encode(b"users: [{token: secret-token}]").decode(), "KUBE_CONFIG is no usable kubeconfig"),
    ],
)
async def test_an_unreadable_kubeconfig_is_named_but_not_shown(kube_config: str, fault: str) -> None:
    connection = ClusterConnection(kube_config=kube_config)

    with pytest.raises(ApplicationError, match=fault) as failed:
        await connection.open()

    assert failed.value.type == INVALID_CONFIGURATION
    assert failed.value.__cause__ is None
    assert "secret-token" not in failed.value.message
    assert "secret-token" not in repr(connection)


async def test_certificates_that_cannot_be_read_are_named_but_not_shown(far: ClusterAccess) -> None:
    access = replace(far, certificate_authority="no PEM")

    with pytest.raises(ApplicationError, match="KUBE_CONFIG holds certificates that cannot be read"):
        await ClusterConnection(kube_config=encoded(access)).open()


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match=r"kubeconfig .*/nothing does not exist") as failed:
        await ClusterConnection(kubeconfig_path=tmp_path / "nothing").open()

    assert failed.value.type == INVALID_CONFIGURATION


async def test_without_any_source_the_remedy_is_told() -> None:
    with pytest.raises(
        ApplicationError, match=r"set KUBE_CONFIG .* or run the worker inside the cluster"
    ) as failed:
        await ClusterConnection.from_environment({}).open()

    assert failed.value.type == INVALID_CONFIGURATION
