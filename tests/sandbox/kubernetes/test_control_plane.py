"""The real control plane comes up, serves, and says clearly why it cannot."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client, config

from sandbox.kubernetes.control_plane import ControlPlane, ControlPlaneMissingError, ControlPlanePrograms
from sandbox.processes import ProcessFailedError


async def test_a_started_control_plane_answers_with_its_own_version(control_plane: ControlPlane) -> None:
    async with client.ApiClient(control_plane.client_configuration()) as api:
        version = await client.VersionApi(api).get_code()

    assert version.git_version == "v1.20.2"


async def test_the_written_kubeconfig_is_private_and_lets_a_client_in(control_plane: ControlPlane) -> None:
    assert stat.S_IMODE(control_plane.kubeconfig_path.stat().st_mode) == 0o600

    load: Any = config.new_client_from_config
    async with await load(str(control_plane.kubeconfig_path)) as api:
        nodes: Any = await client.CoreV1Api(api).list_node()

    assert [node.metadata.name for node in nodes.items] == ["localhost"]


def test_missing_programs_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneMissingError, match=r"kube-apiserver.*build_control_plane\.sh"):
        ControlPlanePrograms.find({"KUBEBUILDER_ASSETS": str(tmp_path), "PATH": ""})


async def test_a_program_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    # given programs of which the first fails as a broken installation does
    broken = tmp_path / "etcd"
    broken.write_text("#!/bin/sh\necho cannot open shared object file >&2\nexit 127\n")
    broken.chmod(0o755)
    programs = ControlPlanePrograms(
        etcd=broken, apiserver=broken, controller_manager=broken, scheduler=broken, kubemark=broken
    )

    # when the control plane is started, then the error shows what the program said
    with pytest.raises(ProcessFailedError, match=r"(?s)etcd.*127.*cannot open shared object file"):
        async with ControlPlane.start(tmp_path / "data", programs=programs):
            pass
