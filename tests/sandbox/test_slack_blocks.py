"""The Slack stand-in refuses the messages and modals that Slack refuses."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from sandbox.slack import SlackServer
from sandbox.slack.blocks import view_mistakes

Blocks = list[dict[str, Any]]


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def _button(text: str = "Approve", action_id: str = "approve", **more: Any) -> dict[str, Any]:
    return {"type": "button", "text": _plain(text), "action_id": action_id, **more}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _actions(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": list(buttons)}


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer.start() as server:
        yield server


@pytest.mark.parametrize(
    "blocks",
    [
        [_section("x")] * 50,
        [{"type": "header", "text": _plain("h" * 150)}],
        [_section("s" * 3000)],
        [_actions(*(_button("b" * 75, f"{number:0>255}", value="v" * 2000) for number in range(25)))],
        [_actions(_button()), _actions(_button())],
        [{"type": "context", "elements": [{"type": "mrkdwn", "text": "c"}] * 10}],
    ],
    ids=["blocks", "header", "section", "buttons", "same action in two blocks", "context"],
)
async def test_what_is_just_small_enough_is_taken(slack: SlackServer, blocks: Blocks) -> None:
    client = AsyncWebClient(token=slack.token, base_url=slack.api_url)

    await client.chat_postMessage(channel="deployments", text="x", blocks=blocks)

    assert slack.messages[0].blocks == blocks


@pytest.mark.parametrize(
    ("blocks", "pointer"),
    [
        ([_section("x")] * 51, "/blocks"),
        ([{"type": "header", "text": _plain("h" * 151)}], "/blocks/0"),
        ([{"type": "header", "text": {"type": "mrkdwn", "text": "h"}}], "/blocks/0"),
        ([_section("s" * 3001)], "/blocks/0"),
        ([_section("")], "/blocks/0"),
        ([{"type": "section"}], "/blocks/0"),
        ([{"type": "section", "fields": [{"type": "mrkdwn", "text": "f" * 2001}]}], "/blocks/0"),
        ([_actions(_button("b" * 76))], "/blocks/0"),
        ([_actions(_button(action_id="a" * 256))], "/blocks/0"),
        ([_actions(_button(value="v" * 2001))], "/blocks/0"),
        ([_actions(_button(style="green"))], "/blocks/0"),
        ([_actions(_button(), _button("Again"))], "/blocks/0"),
        ([_actions()], "/blocks/0"),
        (
            [{**_section("x"), "block_id": "same"}, {**_section("y"), "block_id": "same"}],
            "/blocks/1/block_id",
        ),
        ([{"type": "approval"}], "/blocks/0"),
        ([{**_section("x"), "colour": "red"}], "/blocks/0"),
        ([_button()], "/blocks/0"),
    ],
)
async def test_blocks_that_break_a_limit_are_refused_and_named(
    slack: SlackServer, blocks: Blocks, pointer: str
) -> None:
    client = AsyncWebClient(token=slack.token, base_url=slack.api_url)

    with pytest.raises(SlackApiError, match="invalid_blocks") as refused:
        await client.chat_postMessage(channel="deployments", text="x", blocks=blocks)
    webhook = await AsyncWebhookClient(slack.webhook_url("deployments")).send(text="x", blocks=blocks)

    messages = refused.value.response["response_metadata"]["messages"]
    assert any(f"[json-pointer:{pointer}" in message for message in messages)
    assert (webhook.status_code, webhook.body) == (400, "invalid_blocks")
    assert slack.messages == []


def _view(**changes: Any) -> dict[str, Any]:
    comment = {
        "type": "input",
        "block_id": "comment",
        "label": _plain("Why?"),
        "element": {"type": "plain_text_input", "action_id": "comment", "multiline": True},
    }
    view = {"type": "modal", "title": _plain("Reject"), "submit": _plain("Reject"), "blocks": [comment]}
    return {name: part for name, part in {**view, **changes}.items() if part is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"title": _plain("t" * 25)},
        {"title": None},
        {"submit": _plain("s" * 25)},
        {"submit": None},
        {"close": _plain("c" * 25)},
        {"private_metadata": "p" * 3001},
        {"callback_id": "c" * 256},
        {"blocks": [_section("x")] * 101},
        {"type": "popup"},
    ],
)
def test_modals_that_break_a_limit_are_refused(changes: dict[str, Any]) -> None:
    assert view_mistakes(_view()) == []
    assert view_mistakes(_view(**changes))
