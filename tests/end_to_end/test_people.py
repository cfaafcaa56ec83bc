"""People decide: in Slack, at a terminal, and only they; whatever is down at the moment."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from domain.approval import DecisionMessage, Verb
from domain.audit import AuditEvent
from domain.identity import SIGNING_KEY
from domain.merging import overlay
from domain.signing import SigningKey
from sandbox.configuration import APPLICATION, APPROVER, DEVELOPER, RECEIVER, SECOND_APPROVER, TECH_LEAD
from sandbox.slack import APP_TOKEN
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.slack import (
    BOARD,
    DEV,
    LEAD,
    SECOND,
    buttons,
    card_of,
    card_says,
    taken,
    thread_of,
    words,
)
from tests.end_to_end.story import Story, result

TWO_OF_THE_BOARD: dict[str, Any] = {
    # What is built and how it is rolled out is told elsewhere.
    "applications": {APPLICATION: {"workload": {"replicas": 1}}},
    "environments": {
        "production": {
            "required_gates": ["compile", "manual_approval"],
            "compliance": "off",
            "canary": None,
            "soak_duration": "1s",
            "min_approvals": 2,
        }
    },
}
VERIFIED: dict[str, Any] = {"environments": {"production": {"require_verified_identity": True}}}
BREAK_GLASS: dict[str, Any] = {
    "directory": {"roles": {"incident_lead": [TECH_LEAD, SECOND_APPROVER]}},
    "gates": {"manual_approval": {"timeout": "10m"}},
    # The button comes with the escalation, which comes a second after the request.
    "environments": {
        "production": {"approvals": {"emergency_roles": ["incident_lead"], "escalate_before": "599s"}}
    },
}
APPROVE, REJECT = "approval_approve", "approval_reject"


@pytest.fixture(scope="module")
async def shared(start_story: StartStory) -> AsyncIterator[Story]:
    async with start_story(changes=TWO_OF_THE_BOARD, traffic_rate=0) as story:
        await story.world.start_receiver()
        yield story


@pytest.fixture
async def story(shared: Story) -> AsyncIterator[Story]:
    """The world as it was, whatever the story before left of it."""
    yield shared
    shared.world.configure(TWO_OF_THE_BOARD)


def configure(story: Story, *changes: Mapping[str, Any]) -> None:
    described = TWO_OF_THE_BOARD
    for change in changes:
        described = overlay(described, change)
    story.world.configure(described)


def deploy(story: Story, version: str) -> asyncio.Task[Any]:
    """A developer deploys at a terminal, and waits there."""
    waiting = story.erlmcp_deploy("deploy", "production", version, "--wait", "--actor", DEVELOPER)
    return asyncio.create_task(waiting)


async def audited(
    story: Story, handle: WorkflowHandle[Any, Any], event_type: str, status: str, *, number: int = 1
) -> list[AuditEvent]:
    """The events of the deployment's last run, once there are so many."""
    begun = (await handle.describe()).start_time
    while True:
        kind = (handle.id, event_type, status)
        events = [e for e in story.audit() if (e.deployment_id, e.event_type, e.status) == kind]
        found = [e for e in events if e.timestamp >= begun]
        if len(found) >= number:
            return found
        await asyncio.sleep(0.05)


async def test_two_people_approve_in_slack(story: Story) -> None:
    slack = story.world.slack
    # Given a deployment to production; the card of its approval has buttons
    terminal = deploy(story, "1.0.0")
    card = await card_of(story.world, "1.0.0")
    assert buttons(card) == [APPROVE, REJECT, "approval_comment"]
    # When a developer approves it
    await taken(story.world, await slack.click(card, APPROVE, user=DEV))
    # Then that person alone is told why it does not count, and the card stays as it is
    refusal = f"{DEVELOPER} holds none of the roles change_board"
    await slack.wait_for_ephemeral(lambda e: e.user == DEV.id and refusal in e.words)
    assert next(m for m in slack.messages if m.ts == card.ts) == card
    # When one of the board approves, one more is missing
    await taken(story.world, await slack.click(card, APPROVE, user=BOARD))
    card = await card_says(story.world, card, f"approved by {APPROVER}, 1 more needed", "1 missing")
    assert APPROVE in buttons(card)
    # When another one does, there is nothing to press any more, and it says by whom
    await taken(story.world, await slack.click(card, APPROVE, user=SECOND))
    card = await card_says(story.world, card, f"Approved: {APPLICATION} 1.0.0", APPROVER, SECOND_APPROVER)
    assert buttons(card) == []
    # And the deployment goes on to its end, which the terminal and the thread tell
    ran = await terminal
    assert ran.code == 0, ran.output
    opening = await slack.wait_for(lambda m: m.text.startswith("Deployment Started"))
    replies = [words(m) for m in thread_of(story.world, opening)]
    for said in ("Deploying: 1.0.0", "Monitoring: 1.0.0", "Deployment Completed"):
        assert any(said in reply for reply in replies), replies
    # And the trail has who decided, and that the receiver has checked who they are
    handle = story.handle(f"deployment:{APPLICATION}:production:1.0.0")
    counted = await audited(story, handle, "approval.approve", "success", number=2)
    assert {(e.actor, e.details["source"], e.details["verified"]) for e in counted} == {
        (APPROVER, "slack", True),
        (SECOND_APPROVER, "slack", True),
    }


async def test_one_rejects_with_a_reason(story: Story) -> None:
    slack = story.world.slack
    # Given a deployment that waits for the board
    terminal = deploy(story, "1.1.0")
    card = await card_of(story.world, "1.1.0")
    # When one of the board rejects it, and says why
    await taken(story.world, await slack.click(card, REJECT, user=BOARD))
    modal = await slack.wait_for_view()
    await taken(story.world, await slack.submit(modal, {"comment": "not on a Friday"}))
    # Then that is the end: on the card, in the thread and at the terminal
    card = await card_says(story.world, card, f"Rejected: {APPLICATION} 1.1.0", "not on a Friday")
    assert buttons(card) == []
    ran = await terminal
    assert ran.code == 3, ran.output
    assert f"rejected by {APPROVER}: not on a Friday" in ran.output


async def test_people_decide_by_command_where_slack_cannot_reach_us(story: Story) -> None:
    world, slack = story.world, story.world.slack
    # Given a receiver behind a firewall, which opens the connection itself (Socket Mode)
    await world.stop_receiver()
    await world.start_receiver(SLACK_APP_TOKEN=APP_TOKEN)
    await slack.wait_for_connections(1)
    try:
        handle = await story.start("1.1.0")
        card = await card_of(world, "1.1.0")
        # When somebody asks how it stands
        asked = await taken(world, await slack.command("/deploy", "status production 1.1.0", user=DEV))
        assert "*Approval*" in json.dumps(asked.body)
        # And one of the board approves by command, another one by the button
        asked = await taken(
            world, await slack.command("/deploy", "approve production 1.1.0 looks good", user=BOARD)
        )
        assert "went to its open gate" in json.dumps(asked.body)
        await card_says(world, card, f"approved by {APPROVER}, 1 more needed", "looks good")
        await taken(story.world, await slack.click(card, APPROVE, user=SECOND))
        # Then both count
        ended = await result(handle)
        assert ended.state == "Completed"
        assert ended.approval is not None
        assert [d.actor for d in ended.approval.received_approvals] == [APPROVER, SECOND_APPROVER]
    finally:
        await world.stop_receiver()
        await world.start_receiver()


async def test_clicks_while_parts_are_down(story: Story) -> None:
    world, slack = story.world, story.world.slack
    # Given an approval that is open when the worker dies
    handle = await story.start("1.3.0")
    card = await card_of(world, "1.3.0")
    await story.settled(handle.id, f"approval:{APPLICATION}:production:1.3.0:manual_approval")
    await world.kill_worker()
    # When one of the board approves, then Slack has it taken: Temporal keeps it
    click = await taken(world, await slack.click(card, APPROVE, user=BOARD))
    # And when the receiver dies as well, and the same click is sent again to the next one
    await world.kill_receiver()
    await world.start_receiver()
    await taken(world, await slack.redeliver(click))
    # When another one approves while Temporal is down, then Slack is told that it failed
    await world.temporal.kill()
    lost = await slack.click(card, APPROVE, user=SECOND)
    assert (lost.acknowledged, lost.status) == (False, 503)
    # And once all are back the first one counts, once
    await world.temporal.restart()
    await world.start_worker()
    await card_says(world, card, f"approved by {APPROVER}, 1 more needed")
    status = await story.status(handle)
    assert status.approval is not None
    assert [d.actor for d in status.approval.received_approvals] == [APPROVER]
    # And the one who saw it fail clicks again
    await taken(story.world, await slack.click(card, APPROVE, user=SECOND))
    assert (await result(handle)).state == "Completed"


async def test_only_proven_identities_count(story: Story) -> None:
    world, slack = story.world, story.world.slack
    # Given an environment that counts signed decisions only, and a person with a key
    key = SigningKey.generate("board-laptop")
    signer = {"public_key": key.public_key, "speaks_for": [APPROVER]}
    configure(story, VERIFIED, {"directory": {"signers": {key.name: signer}}})
    with_key = {SIGNING_KEY: key.environment_value}
    handle = await story.start("1.0.0")
    card = await card_of(world, "1.0.0")
    approval_id = f"approval:{APPLICATION}:production:1.0.0:manual_approval"

    # When somebody who can reach Temporal approves in the name of the board, with the stock CLI
    await story.temporal_cli(
        "workflow", "signal", "--workflow-id", approval_id, "--name", "approve",
        "--input", json.dumps({"actor": APPROVER, "comment": "I am the board"}),
    )  # fmt: skip
    # Then it is refused and audited, and the status says how to decide instead
    [refused] = await audited(story, handle, "approval.approve", "refused")
    assert "counts signed decisions only" in (refused.reason or "")
    shown = await story.erlmcp_deploy("status", approval_id)
    assert SIGNING_KEY in shown.output, shown.output

    # When the signature of the receiver is forged, it is refused too
    forger = SigningKey("receiver", os.urandom(32))
    forged = DecisionMessage(actor=SECOND_APPROVER, source="slack", gate="manual_approval")
    signed = forger.sign(handle.id, Verb.APPROVE, forged, datetime.now(UTC))
    await story.client.get_workflow_handle(approval_id).signal("approve", signed)
    [_, refused] = await audited(story, handle, "approval.approve", "refused", number=2)
    assert "does not belong to this decision" in (refused.reason or "")
    # And so is a person's own key under another person's name
    ran = await story.erlmcp_deploy("approve", "production", "1.0.0", "--actor", SECOND_APPROVER, **with_key)
    assert ran.code == 1, ran.output
    assert f"does not speak for {SECOND_APPROVER}" in ran.output

    # When that person approves with the key, and another one in Slack
    ran = await story.erlmcp_deploy("approve", "production", "1.0.0", "--actor", APPROVER, **with_key)
    assert ran.code == 0, ran.output
    await taken(story.world, await slack.click(card, APPROVE, user=SECOND))
    # Then both count as verified
    ended = await result(handle)
    assert ended.approval is not None
    assert [(d.actor, d.source, d.verified) for d in ended.approval.received_approvals] == [
        (APPROVER, "cli", True),
        (SECOND_APPROVER, "slack", True),
    ]
    counted = await audited(story, handle, "approval.approve", "success", number=2)
    assert [e.details["signer"] for e in counted] == ["board-laptop", RECEIVER]


async def test_two_people_break_the_glass(story: Story) -> None:
    world, slack = story.world, story.world.slack
    # Given that nobody of the board is there, and that two incident leads may break the glass
    configure(story, VERIFIED, BREAK_GLASS)
    handle = await story.start("1.1.0")
    card = await card_of(world, "1.1.0")
    card = await card_says(world, card, "break the glass")
    # When both do, each with a reason
    for user, reason in ((LEAD, "customers cannot log in"), (SECOND, "confirmed by support")):
        await taken(story.world, await slack.click(card, "approval_break_glass", user=user))
        modal = await slack.wait_for_view()
        await taken(story.world, await slack.submit(modal, {"comment": reason}, user=user))
    # Then it goes on,
    ended = await result(handle)
    assert ended.state == "Completed"
    # loudly: where incidents are told, and in the trail under its own name
    told = await slack.wait_for(lambda m: m.channel == "incidents" and "Breaking The Glass" in words(m))
    assert all(said in words(told) for said in (TECH_LEAD, SECOND_APPROVER, "customers cannot log in"))
    [broken] = await audited(story, handle, "approval.break_glass", "warning")
    assert broken.details["people"] == [TECH_LEAD, SECOND_APPROVER]
