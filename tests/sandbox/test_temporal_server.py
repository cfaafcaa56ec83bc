"""The sandbox's Temporal server keeps running workflows across a crash."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.worker import Worker

from sandbox.temporal import TemporalServer

_APPLICATION = SearchAttributeKey.for_keyword("Application")
_AWAITING = SearchAttributeKey.for_bool("AwaitingApproval")


@workflow.defn(sandboxed=False)
class WaitsForWord:
    def __init__(self) -> None:
        self._word = ""

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: bool(self._word))
        return self._word

    @workflow.signal
    def say(self, word: str) -> None:
        self._word = word


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TemporalServer]:
    async with TemporalServer.start(tmp_path) as running:
        yield running


async def test_a_waiting_workflow_survives_sigkill_of_the_server(server: TemporalServer) -> None:
    # given a workflow with search attributes that waits
    client = await server.client()
    async with Worker(client, task_queue="q", workflows=[WaitsForWord]):
        handle = await client.start_workflow(
            WaitsForWord.run,
            id="waits",
            task_queue="q",
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(_APPLICATION, "erlmcp"), SearchAttributePair(_AWAITING, True)]
            ),
        )
        # when the server is killed and started again on its file
        await server.kill()
        await server.restart()
        # then it takes the signal and finishes
        await handle.signal(WaitsForWord.say, "hello")
        assert await handle.result() == "hello"
    described = await handle.describe()
    assert described.typed_search_attributes[_APPLICATION] == "erlmcp"


async def test_the_ui_is_served(server: TemporalServer) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(server.ui_url)
    assert answer.status_code == 200
    assert "<html" in answer.text
