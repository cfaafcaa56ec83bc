"""Temporal is away or slow: nothing is acknowledged that was not taken, and nobody waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from sandbox.processes import free_port
from sandbox.temporal import TemporalServer
from tests.starters.receiver.conftest import Receiver, Shop, receiving
from tests.starters.receiver.senders import (
    alertmanager,
    alerts,
    github,
    gitlab,
    slack,
    slash_command,
    tag_pushed,
    tag_pushed_to_gitlab,
)


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """Takes every connection, and never says a word."""
    connections: set[asyncio.StreamWriter] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        await reader.read()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for writer in connections:
            writer.close()


async def everything_that_needs_temporal(
    receiver: Receiver, shop: Shop, version: str
) -> list[httpx.Response]:
    tag = tag_pushed(shop.project, f"v{version}")
    gitlab_tag = tag_pushed_to_gitlab(shop.project, f"v{version}")
    fired = alerts({"alertname": "Down", "namespace": f"{shop.application}-dev"})
    # All at once: those who wait behind others wait no longer.
    return await asyncio.gather(
        receiver.post("github", tag, github(tag)),
        receiver.post("gitlab", gitlab_tag, gitlab(gitlab_tag)),
        receiver.post("alertmanager", fired, alertmanager(fired)),
        *(receiver.post("github", tag, github(tag)) for _ in range(5)),
    )


def asks_to_come_again(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.json()["outcome"] == "unavailable"
    assert answer.json()["workflow_id"] is None
    assert "send it again" in answer.json()["reason"]
    assert "127.0.0.1" not in answer.text


async def not_ready(receiver: Receiver) -> None:
    assert (await receiver.http.get("/healthz")).status_code == 200
    ready = await receiver.http.get("/readyz")
    assert ready.status_code == 503
    assert ready.headers["Retry-After"] == "5"
    assert "Temporal" in ready.json()["reasons"][0]
    assert "127.0.0.1" not in ready.text


async def test_temporal_is_down(shop: Shop, version: str) -> None:
    async with receiving(f"127.0.0.1:{free_port()}", shop.configuration) as receiver:
        for answer in await everything_that_needs_temporal(receiver, shop, version):
            asks_to_come_again(answer)
        await not_ready(receiver)
        metrics = (await receiver.http.get("/metrics")).text
        assert "erlmcp_deploy_receiver_temporal_unavailable_total 9.0" in metrics


async def test_a_person_in_slack_may_try_again_what_temporal_did_not_take(own_shop: Shop) -> None:
    with own_shop.configuration.open("a") as file:
        file.write("  accounts: {ada@example.com: {slack: U0ADA}}\n")
    body = slash_command(f"abort dev 1.0.0 -a {own_shop.application} because it is broken")
    headers = slack(body)
    async with receiving(f"127.0.0.1:{free_port()}", own_shop.configuration) as receiver:
        for _ in range(2):  # the very same request is no replay, as nothing was done
            answer = await receiver.post("slack", body, headers)
            asks_to_come_again(answer)


async def test_temporal_is_slow(shop: Shop, version: str) -> None:
    async with silent_server() as address, receiving(address, shop.configuration) as receiver:
        for answer in await everything_that_needs_temporal(receiver, shop, version):
            asks_to_come_again(answer)
            assert "within 2.5 s" in answer.json()["reason"]
        await not_ready(receiver)


async def test_what_was_refused_for_an_outage_is_taken_after_it(
    tmp_path: Path, own_shop: Shop, version: str
) -> None:
    body = tag_pushed(own_shop.project, f"v{version}")
    headers = github(body)
    async with (
        TemporalServer.start(tmp_path, ui=False) as server,
        receiving(server.address, own_shop.configuration) as receiver,
    ):
        # given a receiver that had a connection
        assert (await receiver.http.get("/readyz")).status_code == 200
        await server.kill()
        asks_to_come_again(await receiver.post("github", body, headers))

        # when Temporal is back, and the very same delivery comes again
        await server.restart()
        while (await receiver.http.get("/readyz")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        answer = await receiver.post("github", body, headers)

        # then it is taken
        assert answer.status_code == 202
        assert answer.json()["workflow_id"] == own_shop.deployment("production", version)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_the_probes_answer_while_all_is_well(receiver: Receiver, path: str) -> None:
    assert (await receiver.http.get(path)).status_code == 200


async def test_a_namespace_that_does_not_exist_is_an_outage(
    server: TemporalServer, shop: Shop, version: str
) -> None:
    """A mistake in TEMPORAL_NAMESPACE must not lose an event."""
    body = tag_pushed(shop.project, f"v{version}")
    async with receiving(server.address, shop.configuration, namespace="nowhere") as receiver:
        asks_to_come_again(await receiver.post("github", body, github(body)))
        await not_ready(receiver)
