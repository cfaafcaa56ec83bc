"""What Slack sends when people press a button, submit a modal or type a command, in Slack's shapes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sandbox.slack.workspace import APP, DOMAIN, TEAM, Ephemeral, SlackMessage, SlackUser, SlackView

_Channel = tuple[str, str]
"""Id and name."""


def find_button(message: SlackMessage | Ephemeral, action_id: str) -> tuple[dict[str, Any], str]:
    """A button of a message, and the id of its block.

    Raises:
        LookupError: there is none of that name.
    """
    attachments = message.attachments if isinstance(message, SlackMessage) else []
    blocks = [*message.blocks, *(block for a in attachments for block in a.get("blocks", []))]
    known = []
    for number, block in enumerate(blocks):
        for element in [*block.get("elements", []), *filter(None, [block.get("accessory")])]:
            if element.get("action_id") == action_id and "url" not in element:
                return element, block.get("block_id") or f"block-{number}"
            known.append(element.get("action_id"))
    raise LookupError(f"the message has no button {action_id!r}, but {[k for k in known if k]}")


def block_actions(
    *,
    message: SlackMessage | Ephemeral,
    button: dict[str, Any],
    block_id: str,
    channel: _Channel,
    person: SlackUser,
    trigger_id: str,
    response_url: str,
) -> dict[str, Any]:
    """A pressed button."""
    channel_id, name = channel
    action: dict[str, Any] = {
        "type": "button",
        "action_id": button["action_id"],
        "block_id": block_id,
        "text": {"emoji": True, **button["text"]},
        "action_ts": f"{time.time():.6f}",
        **{key: button[key] for key in ("value", "style") if key in button},
    }
    shown = {"message": message.public()} if isinstance(message, SlackMessage) else {}
    container = {"type": "message", "message_ts": message.ts, "channel_id": channel_id}
    return {
        "type": "block_actions",
        **_who(person),
        "container": {**container, "is_ephemeral": isinstance(message, Ephemeral)},
        "trigger_id": trigger_id,
        "channel": {"id": channel_id, "name": "directmessage" if name.startswith("@") else name},
        **shown,
        "state": {"values": {}},
        "response_url": response_url,
        "actions": [action],
    }


def view_submission(
    view: SlackView, values: Mapping[str, str | None], person: SlackUser, *, trigger_id: str
) -> dict[str, Any]:
    """A modal that was filled in.

    Raises:
        ValueError: Slack's client holds it back.
    """
    inputs = {b["block_id"]: b for b in view.definition["blocks"] if b["type"] == "input"}
    if view.definition.get("submit") is None:
        raise ValueError("the modal has nothing to submit")
    if unknown := set(values) - set(inputs):
        raise ValueError(f"the modal has no input {sorted(unknown)}, but {sorted(inputs)}")
    state: dict[str, Any] = {}
    for block_id, block in inputs.items():
        element, typed = block["element"], values.get(block_id)
        if not typed and not block.get("optional"):
            raise ValueError(f"{block_id} is required")
        if typed and len(typed) > element.get("max_length", 3000):
            raise ValueError(f"{block_id} is too long")
        if typed and len(typed) < element.get("min_length", 0):
            raise ValueError(f"{block_id} is too short")
        answer = {"type": element["type"], "value": typed or None}
        state[block_id] = {element["action_id"]: answer}
    return {
        "type": "view_submission",
        **_who(person),
        "trigger_id": trigger_id,
        "view": view.public(state),
        "response_urls": [],
    }


def slash_command(
    command: str, text: str, *, channel: _Channel, person: SlackUser, trigger_id: str, response_url: str
) -> dict[str, str]:
    """A typed command. Slack writes its control characters as entities."""
    return {
        "token": "sandbox",
        "team_id": person.team,
        "team_domain": DOMAIN,
        "channel_id": channel[0],
        "channel_name": channel[1],
        "user_id": person.id,
        "user_name": person.handle,
        "command": command,
        "text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        "api_app_id": APP,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": trigger_id,
    }


def _who(person: SlackUser) -> dict[str, Any]:
    name = person.handle
    return {
        "team": {"id": TEAM, "domain": DOMAIN},
        "user": {"id": person.id, "username": name, "name": name, "team_id": person.team},
        "api_app_id": APP,
        "token": "sandbox",
        "enterprise": None,
        "is_enterprise_install": False,
    }
