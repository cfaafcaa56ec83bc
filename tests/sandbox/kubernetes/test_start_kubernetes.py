"""Which Kubernetes the sandbox takes, and that it says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client

from sandbox.kubernetes import Kubernetes, start_kubernetes
from sandbox.kubernetes.control_plane import PROGRAMS, ControlPlane
from sandbox.kubernetes.emulator import Emulator


async def version(kubernetes: Kubernetes) -> str:
    configuration = await kubernetes.client_configuration()
    async with client.ApiClient(configuration) as api:
        answer: Any = await client.VersionApi(api).get_code()
    return str(answer.git_version)


@pytest.fixture
def machine_without_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    assets = tmp_path / "assets"
    assets.mkdir()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    yield assets


async def test_the_real_control_plane_is_taken_where_it_is_installed(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    async with start_kubernetes(tmp_path / "data") as kubernetes:
        assert kubernetes.kind == "real"
        assert "real control plane 1.20.2" in kubernetes.describe()
        assert await version(kubernetes) == "v1.20.2"


async def test_without_programs_the_emulator_is_taken_and_tells_how_to_get_them(
    machine_without_programs: Path, tmp_path: Path
) -> None:
    async with start_kubernetes(tmp_path / "data") as kubernetes:
        assert kubernetes.kind == "emulator"
        assert "kube-apiserver" in kubernetes.describe()
        assert "build_control_plane.sh" in kubernetes.describe()
        assert await version(kubernetes) == "v1.20.2-emulated"


async def test_a_broken_installation_falls_back_to_the_emulator_and_tells_why(
    machine_without_programs: Path, tmp_path: Path
) -> None:
    # given programs that cannot run on this machine
    for name in ("etcd", *PROGRAMS):
        program = machine_without_programs / name
        program.write_text("#!/bin/sh\necho wrong processor >&2\nexit 126\n")
        program.chmod(0o755)

    async with start_kubernetes(tmp_path / "data") as kubernetes:
        assert kubernetes.kind == "emulator"
        assert "wrong processor" in kubernetes.describe()


async def test_a_cluster_of_the_users_own_is_used_and_nothing_started(
    emulator: Emulator, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"

    async with start_kubernetes(data_dir, kubeconfig=emulator.kubeconfig_path) as kubernetes:
        assert kubernetes.kind == "external"
        assert str(emulator.kubeconfig_path) in kubernetes.describe()
        assert await version(kubernetes) == "v1.20.2-emulated"

    assert not data_dir.exists()


async def test_a_kubeconfig_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml does not exist"):
        async with start_kubernetes(tmp_path, kubeconfig=tmp_path / "absent.yaml"):
            pass
