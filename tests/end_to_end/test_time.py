"""Long waits, with time skipped on the real server: nobody sleeps for 72 hours here."""

from datetime import timedelta

from temporalio.testing import TimeSkipper

from domain.approval import ApprovalState
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.story import result, states


async def test_an_approval_nobody_gives_expires_after_72_hours(start_story: StartStory) -> None:
    async with start_story() as story:
        # Given a deployment whose waiting time is skipped
        story.client = TimeSkipper(story.client).client
        handle = await story.start("1.0.0")
        # When nobody decides
        ended = await result(handle)
        # Then it is rejected as expired, 72 hours later by the gate's clock
        assert ended.state == "Rejected"
        assert (ended.reason or "").startswith("expired")
        assert ended.approval is not None
        assert ended.approval.state is ApprovalState.EXPIRED
        assert ended.approval.decided_at is not None
        waited = ended.approval.decided_at - ended.approval.created_at
        assert timedelta(hours=72) <= waited < timedelta(hours=73)
        assert states(ended) == ["Pending", "Validation", "Building", "Testing", "Approval", "Rejected"]
        # And nothing was deployed
        assert story.proxy.writes == []
