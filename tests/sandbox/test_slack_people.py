"""The people of the Slack stand-in press buttons, fill in modals and type commands as Slack passes it on."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.asgi import serve
from sandbox.slack import APP_TOKEN, SIGNING_SECRET, SlackMessage, SlackServer, SlackUser, UnreachableError

ANNA = SlackUser(id="U1ANNA", email="anna@example.com", name="Anna Example")
VIEW = {
    "type": "modal",
    "callback_id": "why",
    "private_metadata": "m",
    "title": {"type": "plain_text", "text": "Why?"},
    "submit": {"type": "plain_text", "text": "Send"},
    "blocks": [
        {
            "type": "input",
            "block_id": "reason",
            "label": {"type": "plain_text", "text": "Reason"},
            "element": {"type": "plain_text_input", "action_id": "typed"},
        }
    ],
}


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer.start(users=[ANNA]) as server:
        yield server


@pytest.fixture
def client(slack: SlackServer) -> AsyncWebClient:
    return AsyncWebClient(token=slack.token, base_url=slack.api_url, retry_handlers=[])


class App:
    """An app behind a request URL; it keeps what comes, and answers what it is told to."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[Response] = []
        self.holding: asyncio.Event | None = None

    async def take(self, request: Request) -> Response:
        body = await request.body()
        assert SignatureVerifier(SIGNING_SECRET).is_valid_request(body, dict(request.headers))
        form = dict(parse_qsl(body.decode()))
        self.heard.append(json.loads(form["payload"]) if "payload" in form else form)
        self.headers.append(dict(request.headers))
        answer = self.answers.pop(0) if self.answers else Response()
        if self.holding is not None:
            await self.holding.wait()
        return answer


@asynccontextmanager
async def _listening(slack: SlackServer) -> AsyncIterator[App]:
    app = App()
    async with serve(Starlette(routes=[Route("/", app.take, methods=["POST"])])) as url:
        slack.request_url = f"{url}/"
        yield app


async def _with_button(slack: SlackServer, client: AsyncWebClient) -> SlackMessage:
    button = {
        "type": "button",
        "action_id": "go",
        "value": "v1",
        "text": {"type": "plain_text", "text": "Go"},
    }
    blocks = [{"type": "actions", "block_id": "b1", "elements": [button]}]
    await client.chat_postMessage(channel="approvals", text="Go?", blocks=blocks)
    return slack.messages[-1]


async def test_a_click_arrives_signed_in_slacks_shape(slack: SlackServer, client: AsyncWebClient) -> None:
    message = await _with_button(slack, client)

    async with _listening(slack) as app:
        click = await slack.click(message, "go", user="U1ANNA")

    assert (click.acknowledged, click.status) == (True, 200)
    [payload] = app.heard
    assert payload["type"] == "block_actions"
    assert payload["user"] == {"id": "U1ANNA", "username": "anna", "name": "anna", "team_id": "T0SANDBOX"}
    assert payload["channel"] == {"id": slack.channel_id("approvals"), "name": "approvals"}
    assert payload["message"]["ts"] == payload["container"]["message_ts"] == message.ts
    [action] = payload["actions"]
    assert (action["action_id"], action["block_id"], action["value"]) == ("go", "b1", "v1")
    with pytest.raises(LookupError, match="no button 'stop'"):
        await slack.click(message, "stop", user="U1ANNA")


async def test_a_modal_is_opened_once_filled_in_corrected_and_closed(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    message = await _with_button(slack, client)
    async with _listening(slack) as app:
        await slack.click(message, "go", user="U1ANNA")
        trigger = app.heard[0]["trigger_id"]
        opened = await client.views_open(trigger_id=trigger, view=VIEW)
        for wrong, error in ((trigger, "exchanged_trigger_id"), ("1.2.3", "invalid_trigger_id")):
            with pytest.raises(SlackApiError, match=error):
                await client.views_open(trigger_id=wrong, view=VIEW)
        with pytest.raises(SlackApiError, match="hash_conflict"):
            await client.views_update(view_id=opened["view"]["id"], hash="old", view=VIEW)
        view = await slack.wait_for_view()

        # when nothing is filled in, Slack itself objects; when the app objects, the modal stays
        with pytest.raises(ValueError, match="reason is required"):
            await slack.submit(view, {"reason": ""})
        app.answers = [JSONResponse({"response_action": "errors", "errors": {"reason": "too short"}})]
        await slack.submit(view, {"reason": "no"})
        assert (slack.views[0].errors, slack.views[0].open) == ({"reason": "too short"}, True)
        await slack.submit(view, {"reason": "because"})

    assert not slack.views[0].open
    submission = app.heard[-1]
    assert submission["type"] == "view_submission"
    assert submission["view"]["private_metadata"] == "m"
    assert submission["view"]["state"]["values"] == {
        "reason": {"typed": {"type": "plain_text_input", "value": "because"}}
    }


async def test_a_command_is_answered_to_the_person_alone_and_later_by_its_response_url(
    slack: SlackServer,
) -> None:
    async with _listening(slack) as app:
        app.answers = [JSONResponse({"response_type": "ephemeral", "text": "at once"})]
        await slack.command("/deploy", "status a<b", user=ANNA)

    form = app.heard[0]
    assert (form["command"], form["text"], form["user_id"]) == ("/deploy", "status a&lt;b", "U1ANNA")
    later = AsyncWebhookClient(form["response_url"])
    assert [(await later.send(text=f"later {n}")).status_code for n in range(6)] == [200] * 5 + [404]
    assert [e.text for e in slack.ephemerals] == ["at once", *(f"later {n}" for n in range(5))]
    assert {(e.channel, e.user) for e in slack.ephemerals} == {("deployments", "U1ANNA")}


async def test_a_response_url_may_replace_or_delete_the_message(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    message = await _with_button(slack, client)
    async with _listening(slack) as app:
        await slack.click(message, "go", user=ANNA)
    answer = AsyncWebhookClient(app.heard[0]["response_url"])

    await answer.send(text="Gone!", blocks=[], replace_original=True)
    replaced = slack.messages
    await answer.send_dict({"delete_original": True})

    assert [(m.text, m.blocks, m.edits) for m in replaced] == [("Gone!", [], 1)]
    assert slack.messages == []


async def test_what_was_not_acknowledged_is_sent_again_with_its_number_and_reason(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    message = await _with_button(slack, client)
    slack.patience = 0.2
    async with _listening(slack) as app:
        app.holding = asyncio.Event()
        late = await slack.click(message, "go", user=ANNA)
        app.holding.set()
        slack.patience = 30
        app.answers = [Response(status_code=503)]
        failed = await slack.redeliver(late)
        taken = await slack.redeliver(failed)

    assert [d.acknowledged for d in (late, failed, taken)] == [False, False, True]
    again = [(h["x-slack-retry-num"], h["x-slack-retry-reason"]) for h in app.headers[1:]]
    assert again == [("1", "http_timeout"), ("2", "http_error")]
    assert app.heard[0] == app.heard[1] == app.heard[2]


Listener = Callable[[AsyncBaseSocketModeClient, SocketModeRequest], Any]


@asynccontextmanager
async def _connected(slack: SlackServer, listener: Listener) -> AsyncIterator[SocketModeClient]:
    client = SocketModeClient(app_token=APP_TOKEN, web_client=AsyncWebClient(base_url=slack.api_url))
    client.socket_mode_request_listeners.append(listener)
    await client.connect()  # type: ignore[no-untyped-call]
    try:
        await slack.wait_for_connections(1)
        yield client
    finally:
        await client.close()  # type: ignore[no-untyped-call]


async def test_the_official_client_gets_envelopes_over_socket_mode(slack: SlackServer) -> None:
    requests: list[SocketModeRequest] = []

    async def answer(client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        requests.append(request)
        await client.send_socket_mode_response(SocketModeResponse(request.envelope_id, {"text": "heard"}))

    async with _connected(slack, answer):
        command = await slack.command("/deploy", "help", user=ANNA)

    assert command.acknowledged
    assert [(r.type, r.payload["text"], r.accepts_response_payload) for r in requests] == [
        ("slash_commands", "help", True)
    ]
    assert [(e.text, e.via) for e in slack.ephemerals] == [("heard", "answer")]


async def test_an_envelope_without_acknowledgement_is_sent_again(slack: SlackServer) -> None:
    requests: list[SocketModeRequest] = []
    slack.patience = 0.2

    async def silent(_: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        requests.append(request)

    async with _connected(slack, silent):
        command = await slack.command("/deploy", "help", user=ANNA)
        again = await slack.redeliver(command)

    assert not command.acknowledged
    assert not again.acknowledged
    assert [(r.envelope_id, r.retry_attempt, r.retry_reason) for r in requests] == [
        (command.envelope_id, None, None),
        (command.envelope_id, 1, "timeout"),
    ]


@pytest.mark.parametrize("reason", [None, "refresh_requested"], ids=["broken off", "announced"])
async def test_a_lost_connection_is_made_again(slack: SlackServer, reason: str | None) -> None:
    async def answer(client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        await client.send_socket_mode_response(SocketModeResponse(request.envelope_id))

    async with _connected(slack, answer):
        await slack.drop_connections(reason)
        await slack.wait_for_connections(1)
        assert (await slack.command("/deploy", "help", user=ANNA)).acknowledged


async def test_socket_mode_wants_an_app_token_and_a_ticket(slack: SlackServer) -> None:
    for token, error in (("xapp-wrong", "invalid_auth"), (slack.token, "not_allowed_token_type")):
        with pytest.raises(SlackApiError, match=error):
            await AsyncWebClient(base_url=slack.api_url).apps_connections_open(app_token=token)
    with pytest.raises(UnreachableError):
        await slack.command("/deploy", "help", user=ANNA)


async def test_one_person_alone_is_told_and_messages_are_deleted(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    await client.chat_postEphemeral(channel="approvals", user="U1ANNA", text="only you")
    with pytest.raises(SlackApiError, match="user_not_in_channel"):
        await client.chat_postEphemeral(channel="approvals", user="U9NOBODY", text="only you")
    direct = await client.conversations_open(users=["U1ANNA"])
    posted = await client.chat_postMessage(channel=direct["channel"]["id"], text="hello")
    info = await client.conversations_info(channel=direct["channel"]["id"])

    assert [(e.channel, e.user, e.text) for e in slack.ephemerals] == [("approvals", "U1ANNA", "only you")]
    assert [(m.channel, m.text) for m in slack.messages] == [("@U1ANNA", "hello")]
    assert info["channel"]["is_im"]
    await client.chat_delete(channel=posted["channel"], ts=posted["ts"])
    assert slack.messages == []
