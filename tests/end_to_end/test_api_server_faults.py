"""The API server refuses writes: for a while, or for good."""

import pytest

from tests.end_to_end.conftest import StartStory
from tests.end_to_end.story import result, states


@pytest.mark.parametrize("status", [503, 409, 429])
async def test_a_deployment_waits_out_an_api_server_that_refuses_for_a_while(
    start_story: StartStory, status: int
) -> None:
    async with start_story() as story:
        # Given an API server that refuses the next writes
        story.proxy.refuse(status, times=4)
        # When a version is deployed
        ended = await story.deploy("1.0.0")
        # Then it waits and goes on
        assert ended.state == "Completed"


async def test_an_api_server_that_never_takes_the_change_fails_the_deployment_with_its_reason(
    start_story: StartStory,
) -> None:
    async with start_story() as story:
        # Given 1.0.0 in production, and credentials that lose the right to write
        assert (await story.deploy("1.0.0")).state == "Completed"
        handle = await story.start("1.1.0")
        await story.until(handle, lambda s: s.approval is not None)
        story.proxy.refuse(403)
        # When 1.1.0 is approved
        await story.approve(handle)
        await story.until(handle, lambda s: s.state == "RollingBack")
        story.proxy.clear()
        ended = await result(handle)
        # Then it is rolled back and failed, and the reason is the server's
        assert states(ended)[-3:] == ["Deploying", "RollingBack", "Failed"]
        assert "403" in (ended.reason or "") or "forbidden" in (ended.reason or "").lower()
        # And 1.0.0 still runs
        assert ended.rollback is not None
        assert ended.rollback.succeeded


async def test_an_unavailable_api_server_is_given_up_when_the_time_is_spent(start_story: StartStory) -> None:
    changes = {"applications": {"erlsample": {"workload": {"progress_deadline": "10s"}}}}
    async with start_story(changes=changes) as story:
        # Given an API server that answers reads, and refuses every write
        story.proxy.refuse(503)
        # When the first version ever is deployed
        ended = await story.deploy("1.0.0")
        # Then it fails with the reason; there is nothing to roll back to
        assert ended.state == "Failed"
        assert "503" in (ended.reason or "") or "time" in (ended.reason or "")


async def test_a_bad_version_is_caught_and_rolled_back(start_story: StartStory) -> None:
    async with start_story() as story:
        # Given 1.1.0 in production, with users
        assert (await story.deploy("1.1.0")).state == "Completed"
        # When 1.2.0, which breaks under traffic, is deployed
        ended = await story.deploy("1.2.0")
        # Then its canary is caught, and 1.1.0 is live again
        assert ended.state == "Failed"
        assert ended.canary is not None
        assert ended.canary.trigger in ("error_rate", "health_checks")
        assert ended.rollback is not None
        assert (ended.rollback.succeeded, ended.rollback.to_version) == (True, "1.1.0")
        environment = await story.client.get_workflow_handle("environment:erlsample:production").query(
            "status"
        )
        assert environment["current_version"] == "1.1.0"
        assert environment["last_good_version"] == "1.1.0"
        assert list(environment["held_versions"]) == ["1.2.0"]
