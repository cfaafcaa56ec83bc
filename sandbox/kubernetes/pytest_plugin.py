"""pytest fixtures: one Kubernetes API per test session (`-p sandbox.kubernetes.pytest_plugin`)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.kubernetes.control_plane import ControlPlane, ControlPlaneMissingError, ControlPlanePrograms
from sandbox.kubernetes.emulator import Emulator


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """The real control plane; tests share it and keep apart by namespaces of their own.

    Skips where its programs are not installed, fails instead when `CI_FORBID_SKIPS=1`.
    """
    try:
        programs = ControlPlanePrograms.find()
    except ControlPlaneMissingError as missing:
        if os.environ.get("CI_FORBID_SKIPS") == "1":
            pytest.fail(f"CI_FORBID_SKIPS=1 and {missing}")
        pytest.skip(str(missing))
    data_dir = tmp_path_factory.mktemp("control-plane")
    async with ControlPlane.start(data_dir, programs=programs) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def emulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Emulator]:
    """The emulator of the Kubernetes API; tests share it and keep apart by namespaces of their own."""
    async with Emulator.start(tmp_path_factory.mktemp("kubernetes-emulator")) as running:
        yield running
