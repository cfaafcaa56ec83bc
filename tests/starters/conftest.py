"""One server and one worker for all tests of the command line; each test has an application of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from temporalio.client import Client

from sandbox.temporal import TemporalServer
from tests.starters.world import CommandLine, World, connect, workers

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TemporalServer]:
    async with TemporalServer.start(tmp_path_factory.mktemp("temporal"), ui=False) as running:
        yield running


@pytest.fixture(scope="session")
async def client(server: TemporalServer) -> Client:
    return await connect(server.address)


@pytest.fixture(scope="session")
async def world(client: Client, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with workers(client, tmp_path_factory.mktemp("worker")) as running:
        yield running


@pytest.fixture
def cli(server: TemporalServer, tmp_path: Path) -> CommandLine:
    return CommandLine(server.address, f"shop-{next(_numbers)}", tmp_path)


Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Wait until a condition holds; the test's own timeout is the limit."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        while not await condition():  # noqa: ASYNC110 - the condition lies in another process
            await asyncio.sleep(0.05)

    return wait
