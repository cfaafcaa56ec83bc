"""What people see in Slack, and who they are there."""

from __future__ import annotations

from typing import Any

from sandbox.configuration import APPLICATION, APPROVER, DEVELOPER, SECOND_APPROVER, TECH_LEAD
from sandbox.slack import Delivery, SlackMessage, SlackUser
from sandbox.world import PEOPLE, World

_BY_ADDRESS = {user.email: user for user in PEOPLE}
BOARD: SlackUser = _BY_ADDRESS[APPROVER]
SECOND: SlackUser = _BY_ADDRESS[SECOND_APPROVER]
LEAD: SlackUser = _BY_ADDRESS[TECH_LEAD]
DEV: SlackUser = _BY_ADDRESS[DEVELOPER]


async def card_of(world: World, version: str, environment: str = "production") -> SlackMessage:
    """The open approval of a version."""
    title = f"Approve {APPLICATION} {version} for {environment}?"
    return await world.slack.wait_for(lambda m: m.text.startswith(title), timeout=90)


async def card_says(world: World, card: SlackMessage, *said: str) -> SlackMessage:
    """The same card, once all of this can be read on it."""
    return await world.slack.wait_for(
        lambda m: m.ts == card.ts and all(text in words(m) for text in said), timeout=60
    )


async def taken(world: World, delivery: Delivery) -> Delivery:
    """What a person did, once it was taken: on a busy machine not always at once; then it is sent again."""
    for _ in range(10):
        if delivery.acknowledged:
            return delivery
        delivery = await world.slack.redeliver(delivery)
    raise AssertionError(f"Slack could not hand over {delivery}")


def words(message: SlackMessage) -> str:
    """All that can be read in a message."""
    return "\n".join([message.text, *_texts(message.blocks)])


def buttons(message: SlackMessage) -> list[str]:
    elements = [e for block in message.blocks for e in block.get("elements", [])]
    return [e["action_id"] for e in elements if e.get("type") == "button"]


def thread_of(world: World, message: SlackMessage) -> list[SlackMessage]:
    """The replies to a message."""
    return [m for m in world.slack.messages if m.thread_ts == message.ts and m.channel == message.channel]


def _texts(node: Any) -> list[str]:
    if isinstance(node, list):
        return [text for part in node for text in _texts(part)]
    if not isinstance(node, dict):
        return []
    own = [node["text"]] if isinstance(node.get("text"), str) else []
    return own + [text for part in node.values() for text in _texts(part)]
