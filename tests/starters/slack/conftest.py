"""A Slack workspace in front of the desk, over HTTP or Socket Mode, and a real Temporal server behind it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pytest
import yaml
from pydantic import BaseModel
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.client import Client, WorkflowHandle

from activities.configuration import parse_configuration
from domain.approval import DecisionMessage
from domain.configuration import Configuration
from domain.merging import merge
from sandbox.asgi import serve
from sandbox.slack import APP_TOKEN, BOT_TOKEN, SIGNING_SECRET, SlackMessage, SlackServer, SlackUser
from sandbox.temporal import TemporalServer
from starters.receiver.answer import Answer
from starters.receiver.temporal import Temporal
from starters.slack.desk import SlackDesk
from starters.slack.socket_mode import run_socket_mode
from tests.starters.world import ADA, BOB, DEPLOYMENT_YAML

M = TypeVar("M", bound=BaseModel)

_numbers = itertools.count(1)

ANNA = SlackUser(id="U1ADA", email=ADA, name="Ada")
BERT = SlackUser(id="U2BOB", email=BOB, name="Bob")
LISTED = SlackUser(id="U3EVE", email="private@example.net", name="Eve")
"""Slack knows another address of hers; the directory names her account."""
HIDDEN = SlackUser(id="U4HIDDEN", email=None, name="Hidden")
GONE = SlackUser(id="U5GONE", email="gone@example.com", name="Gone", deleted=True)
ROBOT = SlackUser(id="U6ROBOT", email="robot@example.com", name="Robot", is_bot=True)
GUEST = SlackUser(id="U7GUEST", email=ADA, name="Guest", team="T9OTHER")
CLAIMED = SlackUser(id="U8CLAIM", email=ADA, name="Claim", email_confirmed=False)
NINA = SlackUser(id="U9NINA", email="nina@example.com", name="Nina")
"""Of this company, and without a role."""
PEOPLE = (ANNA, BERT, LISTED, HIDDEN, GONE, ROBOT, GUEST, CLAIMED, NINA)


class Approval:
    """An approval that waits at the server; no worker is needed for signals to be kept."""

    def __init__(self, handle: WorkflowHandle[Any, Any]) -> None:
        self.handle = handle
        self.id = handle.id

    async def decisions(self) -> list[tuple[str, DecisionMessage]]:
        """The signals in its history."""
        return await signals_of(self.handle, DecisionMessage)


async def signals_of(handle: WorkflowHandle[Any, Any], model: type[M]) -> list[tuple[str, M]]:
    """Name and payload of what was signalled to a workflow, in order."""
    found = []
    for event in (await handle.fetch_history()).events:
        if event.HasField("workflow_execution_signaled_event_attributes"):
            signal = event.workflow_execution_signaled_event_attributes
            found.append((signal.signal_name, model.model_validate_json(signal.input.payloads[0].data)))
    return found


@dataclass
class Office:
    """Slack, the desk, and what the desk was asked."""

    slack: SlackServer
    desk: SlackDesk
    client: Client
    application: str
    environment: dict[str, str]
    settings: Configuration
    answers: list[Answer] = field(default_factory=list)

    async def approval(self, version: str = "3.0.0", environment: str = "production") -> Approval:
        name = f"approval:{self.application}:{environment}:{version}:manual_approval"
        return Approval(await self.client.start_workflow("Waiting", id=name, task_queue="nobody-works-here"))

    async def card(self, approval: Approval, *, by_webhook: bool = False) -> SlackMessage:
        """The message with the buttons, as the worker posts it, or a forged one."""
        value = json.dumps({"approval_id": approval.id, "gate": "manual_approval"})
        buttons = [
            {
                "type": "button",
                "action_id": f"approval_{name}",
                "value": value,
                "text": {"type": "plain_text", "text": name},
            }
            for name in ("approve", "reject", "comment", "break_glass")
        ]
        blocks = [{"type": "actions", "elements": buttons}]
        if by_webhook:
            webhook = AsyncWebhookClient(self.slack.webhook_url("approvals"))
            await webhook.send(text="Approve something harmless?", blocks=blocks)
            return self.slack.messages[-1]
        bot = AsyncWebClient(token=BOT_TOKEN, base_url=self.slack.api_url)
        await bot.chat_postMessage(channel="approvals", text="Approve?", blocks=blocks)
        return self.slack.messages[-1]

    def configure(self, **changes: Any) -> None:
        """What deployment.yaml says otherwise from now on."""
        described = yaml.safe_load(DEPLOYMENT_YAML.format(application=self.application))
        own = {
            "notification_channels": {"slack": {"api_url": self.slack.api_url}},
            "directory": {"accounts": {"eve@example.com": {"slack": LISTED.id}}},
        }
        self.settings = parse_configuration(json.dumps(merge(merge(described, own), changes)))

    def calls(self, method: str) -> int:
        return len([name for name, _ in self.slack.calls if name == method])


class _Front:
    """The receiver's part: it checks the signature, and passes the form on."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def take(self, request: Request) -> Response:
        body = await request.body()
        assert SignatureVerifier(SIGNING_SECRET).is_valid_request(body, dict(request.headers))
        reply = await self._office.desk.handle(dict(parse_qsl(body.decode())))
        self._office.answers.append(reply.answer)
        return Response(status_code=reply.status) if reply.body is None else JSONResponse(reply.body)


Open = Callable[..., Any]


@pytest.fixture
async def open_office(
    server: TemporalServer, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Open]:
    """Open an office: ``await open_office("http" | "socket", environment=…, address=…)``."""
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    monkeypatch.setenv("TEMPORAL_UI_URL", "http://temporal.example.com")
    async with AsyncExitStack() as stack:

        async def opened(
            way: str = "http", *, address: str | None = None, **environment: str | None
        ) -> Office:
            slack = await stack.enter_async_context(SlackServer.start(users=PEOPLE))
            variables = {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_APP_TOKEN": APP_TOKEN, **environment}
            known = {name: value for name, value in variables.items() if value is not None}
            monkeypatch.setenv("TEMPORAL_ADDRESS", address or server.address)
            desk = SlackDesk(Temporal(), lambda: place.settings, environment=known)
            stack.push_async_callback(desk.close)
            place = Office(slack, desk, client, f"shop-{next(_numbers)}", known, Configuration())
            place.configure()
            if way == "http":
                app = Starlette(routes=[Route("/", _Front(place).take, methods=["POST"])])
                slack.request_url = await stack.enter_async_context(serve(app))
            else:
                stopping = asyncio.Event()
                running = asyncio.create_task(run_socket_mode(desk, known, lambda: place.settings, stopping))
                stack.push_async_callback(_stopped, running, stopping)
                await slack.wait_for_connections(1)
            return place

        yield opened


OpenDesk = Callable[[Office], Any]


@pytest.fixture
async def open_desk() -> AsyncIterator[OpenDesk]:
    """Open another receiver's desk: it remembers nothing of what the first one did."""
    async with AsyncExitStack() as stack:

        async def opened(office: Office) -> SlackDesk:
            desk = SlackDesk(Temporal(), lambda: office.settings, environment=office.environment)
            stack.push_async_callback(desk.close)
            return desk

        yield opened


async def _stopped(running: asyncio.Task[None], stopping: asyncio.Event) -> None:
    stopping.set()
    await running


@pytest.fixture(params=["http", "socket"])
async def office(open_office: Open, request: pytest.FixtureRequest) -> Office:
    """An office, once behind each way."""
    opened: Office = await open_office(request.param)
    return opened
