"""The steps of a hand-over in a workflow: real activities on a real API server, and Flagger played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.kubernetes import ClusterConnection
from activities.kubernetes.handover import HandoverActivities
from domain.handover import (
    Controller,
    HandoverPhase,
    HandoverProgress,
    HandoverReading,
    HandoverRequest,
    HandoverVerb,
)
from domain.workload import WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.custom_resources import install_custom_resources
from sandbox.kubernetes.emulator import Emulator
from sandbox.kubernetes.fault_proxy import FaultProxy
from tests.activities.kubernetes.controllers import PlayedFlagger, handover_of
from tests.activities.kubernetes.workload import Onlooker, encoded
from workers.composition import activities_of
from workflows.failures import ProcessError, see_through
from workflows.handover import bring_back, hand_over, tell, withdraw
from workflows.orders import Orders, Stop, StoppedError


@workflow.defn
class HandingOver:
    """A process of nothing but a hand-over."""

    @workflow.init
    def __init__(self, request: HandoverRequest, back: bool = False) -> None:
        self._orders = Orders()
        self._request = request
        self._seen: list[HandoverReading] = []

    @workflow.run
    async def run(self, request: HandoverRequest, back: bool = False) -> str:
        obey = self._orders.obey
        try:
            if back:
                reading = await bring_back(request, obey, within=timedelta(minutes=10))
            else:
                reading = await hand_over(request, obey)
        except (ProcessError, StoppedError) as error:
            reason = str(error) or str(self._orders.stop)
            await see_through(withdraw(request, reason))
            return reason
        return f"{reading.phase} {reading.weight}%"

    @workflow.signal
    def handover_changed(self, progress: HandoverProgress) -> None:
        self._seen.append(progress.reading)

    @workflow.signal
    def abort(self) -> None:
        self._orders.halt(Stop("abort", "ada"))

    @workflow.update
    async def say(self, verb: HandoverVerb) -> str:
        return await tell(self._request, verb, key=str(workflow.uuid4()))

    @workflow.query
    def seen(self) -> list[HandoverReading]:
        return self._seen


@pytest.fixture(scope="module")
def cluster(emulator: Emulator) -> ClusterAccess:
    return emulator.access


@pytest.fixture
async def proxy(cluster: ClusterAccess, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy.start(cluster, tmp_path) as running:
        yield running


@dataclass
class HandoverStory:
    """One workload under Flagger, and the process that hands versions over."""

    client: Client
    flagger: PlayedFlagger
    proxy: FaultProxy
    target: WorkloadTarget
    queue: str

    def request(self, version: str = "1.1.0", **fields: Any) -> HandoverRequest:
        return handover_of(self.target, Controller.FLAGGER, version, **fields)

    async def start(self, request: HandoverRequest, *, back: bool = False) -> WorkflowHandle[Any, str]:
        return await self.client.start_workflow(
            HandingOver.run, args=[request, back], id=f"handing-over-{uuid4()}", task_queue=self.queue
        )

    async def begun(self, request: HandoverRequest) -> WorkflowHandle[Any, str]:
        """A hand-over that Flagger has not noticed yet: it still says what it said of the version before."""
        handle = await self.start(request)
        await self.until(handle, lambda reading: reading.said == "Succeeded")
        return handle

    async def until(
        self, handle: WorkflowHandle[Any, str], reached: Callable[[HandoverReading], bool]
    ) -> HandoverReading:
        async with asyncio.timeout(30):
            while True:
                for reading in await handle.query(HandingOver.seen):
                    if reached(reading):
                        return reading
                await asyncio.sleep(0.03)

    async def ended(self, handle: WorkflowHandle[Any, str]) -> str:
        return await asyncio.wait_for(handle.result(), 30)

    async def deployment(self) -> Any:
        return await self.flagger.onlooker.deployment(self.target.namespace)

    async def version(self) -> str:
        template = (await self.deployment())["spec"]["template"]
        version: str = template["metadata"]["labels"]["app.kubernetes.io/version"]
        return version


@pytest.fixture
async def story(client: Client, cluster: ClusterAccess, proxy: FaultProxy) -> AsyncIterator[HandoverStory]:
    """Version 1.0.0 was promoted by Flagger, through a hand-over."""
    await install_custom_resources(cluster.client_configuration())
    namespace = f"test-{uuid4().hex[:10]}"
    target = WorkloadTarget(
        application="erlmcp",
        environment="test",
        namespace=namespace,
        deployment="erlmcp",
        container="erlmcp",
        progress_deadline=timedelta(seconds=30),
    )
    activities = HandoverActivities(ClusterConnection(kube_config=encoded(proxy.access)))
    queue = f"handover-{namespace}"
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[HandingOver],
        # This module's own imports are not meant for the sandbox.
        workflow_runner=UnsandboxedWorkflowRunner(),
        activities=activities_of(activities),
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    )
    async with worker, Onlooker.at(cluster) as onlooker:
        await onlooker.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        flagger = PlayedFlagger(onlooker, namespace)
        told = HandoverStory(client, flagger, proxy, target, queue)
        await flagger.install()
        await flagger.says("Initializing")
        first = await told.start(told.request("1.0.0", replicas=0))
        await told.until(first, lambda reading: reading.said == "Initializing")
        await flagger.promotes("hash-1")
        assert await told.ended(first) == "Succeeded 100%"
        await flagger.writes(lastAppliedSpec="hash-1")
        yield told
    await activities.close()


async def test_the_process_sees_what_flagger_does(story: HandoverStory) -> None:
    # given a hand-over
    handle = await story.begun(story.request())

    # when Flagger goes on, and a person pauses and resumes
    await story.flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20)
    await story.until(handle, lambda reading: reading.weight == 20)
    assert await handle.execute_update(HandingOver.say, HandoverVerb.PAUSE) == ""
    await story.until(handle, lambda reading: reading.phase is HandoverPhase.PAUSED)
    assert await handle.execute_update(HandingOver.say, HandoverVerb.RESUME) == ""
    await story.flagger.says("WaitingPromotion", canaryWeight=50)
    refused = await handle.execute_update(HandingOver.say, HandoverVerb.RESUME)
    assert "confirm-promotion webhook" in refused
    await story.flagger.promotes("hash-2")

    # then each change was told to the process, and it ends with all traffic on the version
    assert await story.ended(handle) == "Succeeded 100%"
    weights = [reading.weight for reading in await handle.query(HandingOver.seen)]
    assert sorted(set(weights)) == [0, 20, 50]


async def test_an_abort_takes_the_version_back(story: HandoverStory) -> None:
    handle = await story.begun(story.request())
    await story.flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20)
    await story.until(handle, lambda reading: reading.weight == 20)
    assert await story.version() == "1.1.0"

    await handle.signal(HandingOver.abort)

    assert await story.ended(handle) == "aborted by ada"
    assert await story.version() == "1.0.0"


async def test_what_flagger_gives_up_is_taken_back_too(story: HandoverStory) -> None:
    handle = await story.begun(story.request())
    await story.flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20)
    await story.flagger.says("Failed", canaryWeight=0)

    assert await story.ended(handle) == "flagger gave 1.1.0 up: message of Failed"
    assert await story.version() == "1.0.0"


async def test_a_roll_back_goes_through_flagger_without_analysis(story: HandoverStory) -> None:
    # given a version that was promoted, and turned out bad later
    earlier = (await story.deployment())["spec"]["template"]
    handle = await story.begun(story.request())
    await story.flagger.promotes("hash-2")
    await story.ended(handle)

    # when the earlier one is brought back
    back = story.request("1.0.0", key="roll-back/handover", template=earlier, replicas=0)
    handle = await story.start(back, back=True)

    # then Flagger is told not to analyse it, until it is promoted
    async with asyncio.timeout(20):
        while not (await story.flagger.canary())["spec"].get("skipAnalysis"):  # noqa: ASYNC110
            await asyncio.sleep(0.03)
    assert await story.version() == "1.0.0"
    await story.flagger.promotes("hash-3")
    assert await story.ended(handle) == "Succeeded 100%"
    assert "skipAnalysis" not in (await story.flagger.canary())["spec"]


async def test_the_watch_outlives_an_api_server_that_is_away(story: HandoverStory) -> None:
    # given a canary on its way
    handle = await story.begun(story.request())
    await story.flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20)
    await story.until(handle, lambda reading: reading.weight == 20)

    # when the API server breaks every connection and refuses for a while
    story.proxy.refuse(503, message="it is being restarted")
    story.proxy.break_streams()
    await story.flagger.promotes("hash-2")  # which goes on without us
    await asyncio.sleep(0.5)
    story.proxy.clear()

    # then the end is not missed
    assert await story.ended(handle) == "Succeeded 100%"
