"""Versions take over by one switch of the Service, under load, and give way again by one."""

from dataclasses import replace
from typing import Any

from kubernetes.aio import client
from temporalio.client import WorkflowHandle

from domain.blue_green import BlueGreenPhase
from sandbox.configuration import APPLICATION
from sandbox.world import World
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.story import HAPPY_PATH, QUICK, Story, result, states

SWIFT = replace(QUICK, preview="1s", switched="3s", scale_down_delay="2s")
BY_HAND = {"environments": {"production": {"blue_green": {"auto_promote": False}}}}


async def _sides(world: World) -> tuple[str | None, dict[str, int]]:
    """The track that the Service selects, and the pods that each Deployment wants."""
    namespace = world.namespace("production")
    async with client.ApiClient(await world.kubernetes.client_configuration()) as api:
        service = await client.CoreV1Api(api).read_namespaced_service(APPLICATION, namespace)
        deployments = await client.AppsV1Api(api).list_namespaced_deployment(namespace)
        found = api.sanitize_for_serialization({"service": service, "deployments": deployments.items})
    wanted = {d["metadata"]["name"]: d["spec"].get("replicas", 0) for d in found["deployments"]}
    return found["service"]["spec"]["selector"].get("track"), wanted


async def _until_promotion(story: Story, version: str) -> WorkflowHandle[Any, Any]:
    """Start a version, and wait until it asks to be promoted."""
    handle = await story.start(version, skip_tests=True, reason="told in other stories")
    await story.approve(handle)
    await story.until(handle, lambda s: s.delivery is not None and s.delivery.phase == BlueGreenPhase.WAITING)
    return handle


async def _promote(handle: WorkflowHandle[Any, Any]) -> None:
    await handle.signal("promote", {"actor": "operator@example.com"})


async def test_versions_are_switched_under_load_and_a_bad_one_is_switched_back(
    start_story: StartStory,
) -> None:
    async with start_story(blue_green=("production",), changes=BY_HAND, times=SWIFT) as story:
        world, traffic = story.world, story.world.traffic
        blue, green = f"{APPLICATION}-blue", f"{APPLICATION}-green"

        # Given a first version: nothing was before it, so that even the Service is new
        handle = await _until_promotion(story, "1.0.0")
        await _promote(handle)
        first = await result(handle)
        assert states(first) == HAPPY_PATH, first.reason
        assert await _sides(world) == ("blue", {blue: 4})

        # When the next one waits for its promotion, and the worker dies meanwhile
        traffic.results.clear()
        handle = await _until_promotion(story, "1.1.0")
        await story.world.kill_worker()
        assert await _sides(world) == ("blue", {blue: 4, green: 4})
        await story.world.start_worker()
        await _promote(handle)
        second = await result(handle)
        # Then it takes over, no request has failed, and the old side has given its pods back
        assert states(second) == HAPPY_PATH, second.reason
        assert second.previous_version == "1.0.0"
        assert second.delivery is not None
        assert [str(step.name) for step in second.delivery.steps] == list(BlueGreenPhase)
        assert await _sides(world) == ("green", {blue: 0, green: 4})
        assert traffic.results["stable", 200] > 0
        assert traffic.errors("stable") == 0

        # When a version is aborted before its switch, then the traffic has never left the good one
        handle = await _until_promotion(story, "1.3.0")
        await handle.signal("abort", {"actor": "operator@example.com", "reason": "not today"})
        aborted = await result(handle)
        assert (aborted.state, aborted.rollback is not None and aborted.rollback.succeeded) == (
            "Failed",
            True,
        )
        assert await _sides(world) == ("green", {blue: 0, green: 4})
        assert traffic.errors("stable") == 0

        # When a version breaks under the traffic it gets, then all of it goes back to the old side
        handle = await _until_promotion(story, "1.2.0")
        await _promote(handle)
        broken = await result(handle)
        assert broken.state == "Failed"
        assert broken.rollback is not None
        assert broken.rollback.succeeded, broken.rollback
        assert broken.rollback.to_version == "1.1.0"
        assert await _sides(world) == ("green", {blue: 0, green: 4})
        assert await story.replay_all() > 0
