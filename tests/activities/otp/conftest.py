"""The releases of erlsample, built once a session, and nodes that run them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from domain.build import ReleaseArtefact
from sandbox.otp import RunningNode, Workshop
from tests.activities.otp.operating import Operator

Packages = dict[str, ReleaseArtefact]
StartNode = Callable[..., AbstractAsyncContextManager[Operator]]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    home = tmp_path_factory.getbasetemp() / "erlsample"
    home.mkdir(exist_ok=True)
    return Workshop(home)


@pytest.fixture(scope="session")
async def packages(workshop: Workshop) -> Packages:
    return await workshop.build_all()


@pytest.fixture
def start_node(packages: Packages, tmp_path: Path) -> StartNode:
    """Start a node from a version's own tarball, and somebody who operates it."""
    numbers = itertools.count(1)

    @asynccontextmanager
    async def start(version: str = "1.0.0") -> AsyncIterator[Operator]:
        node = RunningNode(tmp_path / f"node-{next(numbers)}")
        async with node.running(packages[version]):
            yield Operator.local(node, packages)

    return start
