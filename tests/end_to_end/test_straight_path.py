"""A version goes to production, driven by the stock Temporal CLI alone."""

import json

from domain.audit import AuditEvent
from sandbox.configuration import APPLICATION, APPROVER
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.story import HAPPY_PATH, Story, result, states


def _input(version: str, environment: str = "production") -> str:
    return json.dumps(
        {
            "application": APPLICATION,
            "environment": environment,
            "version": version,
            "actor": "developer@example.com",
        }
    )


async def _start_by_cli(story: Story, version: str) -> str:
    workflow_id = f"deployment:{APPLICATION}:production:{version}"
    await story.temporal_cli(
        "workflow", "start", "--task-queue", "deployments", "--type", "DeploymentWorkflow",
        "--workflow-id", workflow_id, "--input", _input(version),
    )  # fmt: skip
    return workflow_id


async def test_the_stock_cli_alone_starts_approves_rejects_and_watches(start_story: StartStory) -> None:
    async with start_story() as story:
        # Given 1.0.0 in production, approved with the CLI while its gate is open
        first = await _start_by_cli(story, "1.0.0")
        handle = story.handle(first)
        waiting = await story.until(handle, lambda s: s.approval is not None)
        assert waiting.state == "Approval"
        assert waiting.approval is not None
        assert waiting.approval.time_left is not None
        await story.temporal_cli(
            "workflow", "signal", "--workflow-id", first, "--name", "approve",
            "--input", json.dumps({"actor": APPROVER, "comment": "first release"}),
        )  # fmt: skip
        shown = json.loads(
            await story.temporal_cli("workflow", "result", "--workflow-id", first, "-o", "json")
        )
        assert shown["result"]["state"] == "Completed"

        # When 1.1.0 follows it
        second = await _start_by_cli(story, "1.1.0")
        handle = story.handle(second)
        await story.until(handle, lambda s: s.approval is not None)
        await story.temporal_cli(
            "workflow", "signal", "--workflow-id", f"approval:{APPLICATION}:production:1.1.0:manual_approval",
            "--name", "approve", "--input", json.dumps({"actor": APPROVER, "comment": "go"}),
        )  # fmt: skip
        # Then its canary shows its weights, and it completes by the drawing
        await story.until(handle, lambda s: s.canary is not None and s.canary.weight == 10)
        queried = await story.temporal_cli(
            "workflow", "query", "--workflow-id", second, "--name", "status", "-o", "json"
        )
        assert '"canary"' in queried
        ended = await result(handle)
        assert states(ended) == HAPPY_PATH
        assert ended.canary is not None
        assert [step.weight for step in ended.canary.steps] == [10, 50, 100]
        assert ended.previous_version == "1.0.0"
        assert ended.approval is not None
        assert [d.actor for d in ended.approval.received_approvals] == [APPROVER]

        # And a third version is rejected with the CLI
        third = await _start_by_cli(story, "1.3.0")
        handle = story.handle(third)
        await story.until(handle, lambda s: s.approval is not None)
        await story.temporal_cli(
            "workflow", "signal", "--workflow-id", third, "--name", "reject",
            "--input", json.dumps({"actor": APPROVER, "comment": "not on a Friday"}),
        )  # fmt: skip
        ended = await result(handle)
        assert ended.state == "Rejected"
        assert ended.reason == f"rejected by {APPROVER}: not on a Friday"

        # And every history replays
        assert await story.replay_all() >= 7


async def test_who_asked_may_not_approve_and_strangers_count_for_nothing(start_story: StartStory) -> None:
    async with start_story() as story:
        # Given a deployment asked for by a member of the change board
        handle = await story.start("1.0.0", actor=APPROVER)
        await story.until(handle, lambda s: s.approval is not None)
        # When that person and a stranger approve
        await story.approve(handle, APPROVER)
        await story.approve(handle, "stranger@example.com")
        await story.until(handle, lambda _: len(_refusals(story)) == 2)
        # Then nothing changed, and both refusals are in the audit trail
        status = await story.status(handle)
        assert status.state == "Approval"
        assert {e.actor for e in _refusals(story)} == {APPROVER, "stranger@example.com"}
        # And one reject ends it, whoever had the role
        await handle.signal("reject", {"actor": "release.board@example.com", "comment": "no"})
        assert (await result(handle)).state == "Rejected"


async def test_an_early_decision_is_kept_for_its_gate(start_story: StartStory) -> None:
    async with start_story() as story:
        # Given a deployment that was approved before it was even built
        handle = await story.start("1.0.0")
        await story.approve(handle)
        # Then it never waits
        ended = await result(handle)
        assert ended.state == "Completed"
        # And the notifications are the spec's, in order, each told once, with the progress between them
        told = [m.metadata["event_payload"] for m in story.world.slack.messages if m.metadata]
        types = [payload["notification"]["type"] for payload in told if "notification" in payload]
        assert [t for t in types if t != "deployment.progress"] == [
            "deployment.started",
            "deployment.completed",
        ]
        # And the approval is one message of its own
        cards = [payload for payload in told if payload["key"].startswith("approval:")]
        assert len(cards) == 1


def _refusals(story: Story) -> list[AuditEvent]:
    return [e for e in story.audit() if e.status == "refused"]
