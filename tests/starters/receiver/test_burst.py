"""A thousand webhooks at once, three of ten for what another one asks for, to two receivers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from sandbox.temporal import TemporalServer
from tests.starters.receiver.conftest import Shop
from tests.starters.receiver.processes import serving, variables
from tests.starters.receiver.senders import Headers, github, tag_pushed

RELEASES, REDELIVERIES, OTHER_EVENTS = 700, 200, 100
AT_A_TIME = 24


def webhooks(project: str) -> list[tuple[int, bytes, Headers]]:
    """In any order: releases, redeliveries of them, and other events that ask for the same."""
    chance = random.Random(2026)  # noqa: S311 - an order, no secret
    bodies = [tag_pushed(project, f"v2.0.{number}") for number in range(RELEASES)]
    first = [(number, body, github(body)) for number, body in enumerate(bodies)]
    again = chance.choices(first, k=REDELIVERIES)
    others = [(n, body, github(body)) for n, body, _ in chance.choices(first, k=OTHER_EVENTS)]
    every = [*first, *again, *others]
    chance.shuffle(every)
    return every


async def test_a_burst_of_webhooks_starts_each_deployment_once(tmp_path: Path, own_shop: Shop) -> None:
    sent = webhooks(own_shop.project)
    assert len(sent) == 1_000
    async with AsyncExitStack() as stack:
        # given two receivers
        server = await stack.enter_async_context(TemporalServer.start(tmp_path / "temporal", ui=False))
        environment = variables(server.address, own_shop.configuration)
        urls = [
            (await stack.enter_async_context(serving(environment, tmp_path / f"receiver-{n}.log")))[1]
            for n in range(2)
        ]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        waiting = list(enumerate(sent))
        answers: list[tuple[int, httpx.Response]] = []

        async def sender() -> None:
            while waiting:
                turn, (number, body, headers) = waiting.pop()
                url = f"{urls[turn % 2]}/webhooks/github"
                answers.append((number, await http.post(url, content=body, headers=headers)))

        # when all of it comes
        await asyncio.gather(*(sender() for _ in range(AT_A_TIME)))

        # then everything is taken, each release by one of the requests
        wanted = {own_shop.deployment("production", f"2.0.{n}") for n in range(RELEASES)}
        assert Counter(a.status_code for _, a in answers) == {202: RELEASES, 200: len(sent) - RELEASES}
        started = [a.json()["workflow_id"] for _, a in answers if a.status_code == 202]
        assert sorted(started) == sorted(wanted)
        for number, answer in answers:
            document = answer.json()
            assert document["workflow_id"] == own_shop.deployment("production", f"2.0.{number}")
            assert document["outcome"] == ("started" if answer.status_code == 202 else "duplicate")

        # and Temporal has one run of each; it shows them a moment later
        client = await server.client()
        while (await client.count_workflows()).count < RELEASES:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        runs = [execution.id async for execution in client.list_workflows()]
        assert sorted(runs) == sorted(wanted)
