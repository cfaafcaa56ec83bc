"""Worlds for the stories told here: real Temporal, real API server, the worker a process of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from temporalio.client import Client

from sandbox.kubernetes import Kubernetes
from sandbox.kubernetes.control_plane import ControlPlane
from sandbox.kubernetes.fault_proxy import FaultProxy
from sandbox.world import World
from tests.end_to_end.story import QUICK, Story
from workflows.conversion import data_converter_for

_numbers = itertools.count(1)

StartStory = Callable[..., AbstractAsyncContextManager[Story]]


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane) -> Kubernetes:
    """The real API server, as a world takes it."""
    return Kubernetes("real", control_plane.kubeconfig_path, "the real control plane")


@pytest.fixture(scope="session")
def start_story(
    cluster: Kubernetes, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> StartStory:
    """Begin a story: a fresh world on the shared API server, with a running worker."""

    @asynccontextmanager
    async def start(*, worker: bool = True, **options: Any) -> AsyncIterator[Story]:
        number = next(_numbers)
        home = tmp_path_factory.mktemp("story")
        proxied = FaultProxy.start(control_plane.access, home / "proxy")
        async with proxied as proxy:
            world = World.start(
                home / "world",
                **{
                    "times": QUICK,
                    "kubernetes": cluster,
                    "prefix": f"story{number}",
                    "worker_kubeconfig": proxy.kubeconfig_path,
                    **options,
                },
            )
            async with world as entered:
                if worker:
                    await entered.start_worker()
                converter = data_converter_for(entered.environment())
                client = await Client.connect(entered.temporal.address, data_converter=converter)
                yield Story(entered, client, proxy)

    return start
