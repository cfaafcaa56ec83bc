"""The worker is killed with SIGKILL in every state; the deployment goes on, and nothing is done twice."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from activities.audit_sqlite import SqliteAuditTrail
from domain.deployment import DeploymentState
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.story import HAPPY_PATH, Story, result, states

SLOW_STEPS = {
    # Real steps that take a moment longer, so that a test can hit them.
    "applications": {
        "erlsample": {
            "build": {
                "steps": {
                    "compile": {"command": ["sh", "-c", "sleep 1; exec gates/compile"]},
                    "test": {"command": ["sh", "-c", "sleep 1; exec gates/test"]},
                }
            }
        }
    }
}
KILLED_IN = [
    DeploymentState.VALIDATION,
    DeploymentState.BUILDING,
    DeploymentState.TESTING,
    DeploymentState.APPROVAL,
    DeploymentState.DEPLOYING,
    DeploymentState.VERIFYING,
    DeploymentState.MONITORING,
]


async def _kill_in(story: Story, handle: WorkflowHandle[Any, Any], state: DeploymentState) -> str:
    """Kill the worker as soon as the server shows the state; answers the state it was really killed in."""
    while await story.shown_state(handle) != state:  # noqa: ASYNC110 - the server is asked, nobody tells
        await asyncio.sleep(0.01)
    await story.world.kill_worker()
    killed_in = await story.shown_state(handle)
    await story.world.start_worker()
    return killed_in


def _applied(story: Story, deployment: str) -> list[str]:
    """The effect keys of the writes of one Deployment's pod template that the API server took."""
    keys = []
    for write in story.proxy.writes:
        if (
            write.method == "PATCH"
            and write.path.endswith(f"/deployments/{deployment}")
            and write.status < 300
        ):
            body = write.body if isinstance(write.body, dict) else {}
            template = body.get("spec", {}).get("template", {})
            key = template.get("metadata", {}).get("annotations", {}).get("erlmcp-deploy/key")
            if key is not None:
                keys.append(key)
    return keys


def _told(story: Story) -> Counter[tuple[str, str]]:
    return Counter(
        (m.metadata["event_payload"]["key"], m.channel) for m in story.world.slack.messages if m.metadata
    )


@pytest.mark.timeout(900)
async def test_killed_in_every_state_of_the_straight_path(start_story: StartStory) -> None:
    async with start_story(changes=SLOW_STEPS) as story:
        # Given 1.0.0 in production, so that the next version goes by canary
        assert (await story.deploy("1.0.0")).state == "Completed"
        # And another version that holds the turn, so that 1.1.0 is Pending
        blocking = await story.start("1.3.0")
        await story.until(blocking, lambda s: s.approval is not None)
        handle = await story.start("1.1.0")
        await story.until(handle, lambda s: s.queue_position == 1)

        # When the worker dies while it is Pending
        killed_in = [await _kill_in(story, handle, DeploymentState.PENDING)]
        await blocking.signal("reject", {"actor": "change.board@example.com", "comment": "later"})
        # And in every state after it
        for state in KILLED_IN:
            killed_in.append(await _kill_in(story, handle, state))
            if state is DeploymentState.APPROVAL:
                await story.approve(handle)
        ended = await result(handle, within=180)

        # Then it ends as if nothing had been
        assert states(ended) == HAPPY_PATH
        assert killed_in == HAPPY_PATH[:-1]
        # And each outside effect happened once: the build,
        assert Counter(story.built()) == {"1.0.0": 1, "1.1.0": 1, "1.3.0": 1}
        # the writes to the cluster,
        assert all(n == 1 for n in Counter(_applied(story, "erlsample")).values())
        assert all(n == 1 for n in Counter(_applied(story, "erlsample-canary")).values())
        # the messages,
        assert all(n == 1 for n in _told(story).values())
        # and the audit events, whose chains hold
        transitions = [
            e.details["to_state"]
            for e in story.audit()
            if e.event_type == "deployment.transition" and e.deployment_id == handle.id
        ]
        assert transitions == HAPPY_PATH[1:]
        with SqliteAuditTrail.open(story.world.home / "audit.db") as trail:
            assert trail.verify().intact
        assert await story.replay_all() >= 8


async def test_killed_while_rolling_back(start_story: StartStory) -> None:
    async with start_story() as story:
        # Given 1.0.0 in production and 1.1.0 on its canary
        assert (await story.deploy("1.0.0")).state == "Completed"
        handle = await story.start("1.1.0")
        await story.approve(handle)
        await story.until(handle, lambda s: s.canary is not None and s.canary.weight > 0)
        # When somebody rolls it back, and the worker dies in the middle
        await handle.signal("rollback", {"actor": "oncall@example.com", "reason": "customers complain"})
        assert await _kill_in(story, handle, DeploymentState.ROLLING_BACK) == "RollingBack"
        ended = await result(handle)
        # Then the roll-back is finished, once
        assert ended.state == "Failed"
        assert ended.reason == "rolled back by oncall@example.com: customers complain"
        assert ended.rollback is not None
        assert ended.rollback.succeeded
        assert ended.rollback.to_version == "1.0.0"
        assert all(n == 1 for n in _told(story).values())
        started = [e for e in story.audit() if e.event_type == "rollback.started"]
        assert len(started) == 1
