"""One environment, one deployment at a time."""

import asyncio

from tests.end_to_end.conftest import StartStory
from tests.end_to_end.story import result

QUEUE = {"environments": {"production": {"queue": "queue"}}}
REJECT = {"environments": {"production": {"queue": "reject"}}}


async def test_two_versions_started_together_never_overlap(start_story: StartStory) -> None:
    async with start_story(changes=QUEUE) as story:
        # Given two versions, started and approved together
        handles = [await story.start(version) for version in ("1.0.0", "1.1.0")]
        for handle in handles:
            await story.approve(handle)
        # When both have ended
        first, second = sorted(
            await asyncio.gather(*(result(h) for h in handles)), key=lambda s: s.history[1].at
        )
        # Then the second left Pending only after the first was done
        assert (first.state, second.state) == ("Completed", "Completed")
        assert first.finished_at is not None
        assert second.history[1].at >= first.finished_at


async def test_a_newer_version_supersedes_the_one_that_waits(start_story: StartStory) -> None:
    async with start_story() as story:
        # Given 1.0.0, which has its turn, and 1.1.0, which waits for one
        holder = await story.start("1.0.0")
        await story.until(holder, lambda s: s.approval is not None)
        waiting = await story.start("1.1.0")
        await story.until(waiting, lambda s: s.queue_position == 1)
        # When 1.3.0 comes
        newest = await story.start("1.3.0")
        # Then 1.1.0 is turned away, and 1.3.0 waits in its place
        assert (await result(waiting)).reason == "superseded by 1.3.0"
        await holder.signal("reject", {"actor": "change.board@example.com", "comment": "no"})
        await story.until(newest, lambda s: s.state != "Pending")


async def test_a_busy_environment_can_refuse_a_second(start_story: StartStory) -> None:
    async with start_story(changes=REJECT) as story:
        holder = await story.start("1.0.0")
        await story.until(holder, lambda s: s.approval is not None)
        ended = await result(await story.start("1.1.0"))
        assert ended.state == "Rejected"
        assert "busy with 1.0.0" in (ended.reason or "")


async def test_the_same_version_twice_is_one_run(start_story: StartStory) -> None:
    async with start_story() as story:
        # Given a version that was deployed
        first = await story.deploy("1.0.0")
        assert first.state == "Completed"
        # When it is asked for again
        again = await story.deploy("1.0.0")
        # Then nothing is built or deployed a second time
        assert again.state == "Completed"
        assert again.reason == "1.0.0 is live in production already"
        assert story.built() == ["1.0.0"]
        applied = [w for w in story.proxy.writes if w.path.endswith("/deployments/erlsample")]
        assert len(applied) == 1


async def test_a_turn_is_taken_from_a_deployment_that_was_terminated(start_story: StartStory) -> None:
    async with start_story(changes=QUEUE) as story:
        # Given a deployment that has its turn and is terminated, so that it cannot give it back
        holder = await story.start("1.0.0")
        await story.until(holder, lambda s: s.approval is not None)
        await holder.terminate("somebody pulled the plug")
        # When the next one comes
        handle = await story.start("1.1.0")
        await story.approve(handle)
        # Then it gets the turn
        assert (await result(handle)).state == "Completed"
