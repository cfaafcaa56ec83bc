"""A stand-in for Slack: incoming webhooks and the part of the Web API that deployments use.

It speaks Slack's HTTP, so the official clients work against it unchanged, keeps every message it received,
and can be told to fail, to throttle or to be slow. Nothing leaves the machine.
"""

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.asgi import serve

_TEAM: Final = "T0SANDBOX"
_BOT: Final = "U0BOT"
_WEBHOOK_SECRET: Final = "sandbox"
BOT_TOKEN: Final = "xoxb-sandbox"


@dataclass(frozen=True)
class SlackMessage:
    """One message as it stands now; ``edits`` counts its updates."""

    channel: str  # name without '#'
    ts: str
    text: str
    blocks: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    thread_ts: str | None = None
    via: str = "api"  # or "webhook"
    edits: int = 0
    reactions: tuple[str, ...] = ()


@dataclass(frozen=True)
class SlackUser:
    """One member of the workspace."""

    id: str
    email: str
    name: str


@dataclass(frozen=True)
class _Fault:
    status: int
    error: str
    retry_after: int
    method: str | None  # None: any call


class _ApiError(Exception):
    """Answered as ``ok: false``."""


class SlackServer:
    """A workspace with one bot. Channels and people not named at the start do not exist."""

    def __init__(
        self,
        *,
        token: str = BOT_TOKEN,
        channels: Iterable[str] = ("deployments", "approvals", "incidents"),
        users: Iterable[SlackUser] = (),
    ) -> None:
        self.token = token
        self.latency = 0.0  # seconds before every answer
        self.calls: list[tuple[str, dict[str, Any]]] = []  # every call and its arguments, failed ones too
        self._channels = {f"C{number:08d}": name for number, name in enumerate(channels, 1)}
        self._users = list(users)
        self._messages: list[SlackMessage] = []
        self._faults: deque[_Fault] = deque()
        self._numbers = itertools.count(1)
        self._arrived = asyncio.Condition()
        self._base_url = ""
        self._methods: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post_message,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.list": self._list,
            "conversations.replies": self._replies,
            "reactions.add": self._add_reaction,
            "users.info": self._user_info,
            "users.lookupByEmail": self._user_by_email,
        }

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        *,
        token: str = BOT_TOKEN,
        channels: Iterable[str] = ("deployments", "approvals", "incidents"),
        users: Iterable[SlackUser] = (),
    ) -> AsyncIterator[Self]:
        """A running server on a free loopback port."""
        slack = cls(token=token, channels=channels, users=users)
        app = Starlette(
            routes=[
                Route("/services/{team}/{channel}/{secret}", slack._webhook, methods=["POST"]),
                Route("/api/{method}", slack._api, methods=["GET", "POST"]),
            ]
        )
        async with serve(app) as slack._base_url:
            yield slack

    @property
    def api_url(self) -> str:
        """``base_url`` for the official clients."""
        return f"{self._base_url}/api/"

    def webhook_url(self, channel: str) -> str:
        """URL of the incoming webhook of a channel."""
        if channel not in self._channels.values():
            raise KeyError(f"channel {channel!r} does not exist; there are {sorted(self._channels.values())}")
        return f"{self._base_url}/services/{_TEAM}/{channel}/{_WEBHOOK_SECRET}"

    @property
    def messages(self) -> list[SlackMessage]:
        """All messages in order of arrival, as they stand now."""
        return list(self._messages)

    def fail_next(
        self,
        times: int = 1,
        *,
        status: int = 200,
        error: str = "internal_error",
        retry_after: int = 1,
        method: str | None = None,
    ) -> None:
        """Let the next calls fail before they have an effect.

        ``status`` 200 answers ``ok: false`` with ``error``; 429 sends ``Retry-After`` (seconds). ``method``
        limits it to one Web API method or to "webhook".
        """
        self._faults.extend([_Fault(status, error, retry_after, method)] * times)

    async def wait_for(
        self, predicate: Callable[[SlackMessage], bool], *, timeout: float = 30
    ) -> SlackMessage:
        """Wait for a message that satisfies ``predicate``; ``TimeoutError`` after ``timeout`` s."""
        async with asyncio.timeout(timeout), self._arrived:
            while True:
                if found := next(filter(predicate, self._messages), None):
                    return found
                await self._arrived.wait()

    # Transport

    async def _webhook(self, request: Request) -> Response:
        channel, secret = request.path_params["channel"], request.path_params["secret"]
        body = await request.body()
        try:
            payload = json.loads(body)
        except ValueError:
            payload = None
        self.calls.append(("webhook", payload if isinstance(payload, dict) else {}))
        await asyncio.sleep(self.latency)
        if fault := self._fault("webhook"):
            return _failed(fault, PlainTextResponse(fault.error, status_code=500))
        if channel not in self._channels.values() or secret != _WEBHOOK_SECRET:
            return PlainTextResponse("no_service", status_code=404)
        if not isinstance(payload, dict):
            return PlainTextResponse("invalid_payload", status_code=400)
        try:
            self._add(channel, payload, via="webhook")
        except _ApiError as error:
            return PlainTextResponse(str(error), status_code=400)
        await self._announce()
        return PlainTextResponse("ok")

    async def _api(self, request: Request) -> Response:
        method, arguments = request.path_params["method"], await _arguments(request)
        authorization = request.headers.get("authorization", "")
        token = authorization.removeprefix("Bearer ") or arguments.pop("token", "")
        self.calls.append((method, arguments))
        await asyncio.sleep(self.latency)
        if fault := self._fault(method):
            return _failed(fault, JSONResponse({"ok": False, "error": fault.error}))
        try:
            if not token:
                raise _ApiError("not_authed")
            if token != self.token:
                raise _ApiError("invalid_auth")
            if method not in self._methods:
                raise _ApiError("unknown_method")
            answer = self._methods[method](arguments)
        except _ApiError as error:
            return JSONResponse({"ok": False, "error": str(error)})
        await self._announce()
        return JSONResponse({"ok": True, **answer})

    def _fault(self, method: str) -> _Fault | None:
        for fault in self._faults:
            if fault.method in (None, method):
                self._faults.remove(fault)
                return fault
        return None

    async def _announce(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    # Methods of the Web API

    def _auth_test(self, _: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._base_url}/"
        return {
            "url": url,
            "team": "sandbox",
            "user": "deploy",
            "team_id": _TEAM,
            "user_id": _BOT,
            "bot_id": "B0BOT",
        }

    def _post_message(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel_id, channel = self._channel(arguments)
        message = self._add(channel, arguments, via="api")
        return {"channel": channel_id, "ts": message.ts, "message": _public(message)}

    def _update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel_id, channel = self._channel(arguments)
        index, message = self._find(channel, arguments.get("ts"))
        changed = replace(
            message,
            text=arguments.get("text", message.text),
            blocks=_structure(arguments, "blocks", message.blocks),
            attachments=_structure(arguments, "attachments", message.attachments),
            metadata=_structure(arguments, "metadata", message.metadata),
            edits=message.edits + 1,
        )
        self._messages[index] = changed
        return {"channel": channel_id, "ts": changed.ts, "text": changed.text, "message": _public(changed)}

    def _history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        _, channel = self._channel(arguments)
        found = [m for m in reversed(self._messages) if m.channel == channel and m.thread_ts in (None, m.ts)]
        return _page(found, arguments)

    def _list(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"channels": [{"id": i, "name": name} for i, name in self._channels.items()]}

    def _replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        _, channel = self._channel(arguments)
        thread = arguments.get("ts")
        if not any(m.ts == thread and m.channel == channel for m in self._messages):
            raise _ApiError("thread_not_found")
        found = [m for m in self._messages if m.channel == channel and thread in (m.ts, m.thread_ts)]
        return _page(found, arguments)

    def _add_reaction(self, arguments: dict[str, Any]) -> dict[str, Any]:
        _, channel = self._channel(arguments)
        index, message = self._find(channel, arguments.get("timestamp"))
        name = arguments.get("name")
        if not name:
            raise _ApiError("invalid_name")
        if name in message.reactions:
            raise _ApiError("already_reacted")
        self._messages[index] = replace(message, reactions=(*message.reactions, name))
        return {}

    def _user_info(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for user in self._users:
            if user.id == arguments.get("user"):
                return {"user": _profile(user)}
        raise _ApiError("user_not_found")

    def _user_by_email(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for user in self._users:
            if user.email.lower() == str(arguments.get("email", "")).lower():
                return {"user": _profile(user)}
        raise _ApiError("users_not_found")

    # State

    def _channel(self, arguments: dict[str, Any]) -> tuple[str, str]:
        wanted = str(arguments.get("channel", ""))
        for channel_id, name in self._channels.items():
            if wanted in (channel_id, name, f"#{name}"):
                return channel_id, name
        raise _ApiError("channel_not_found")

    def _find(self, channel: str, ts: object) -> tuple[int, SlackMessage]:
        for index, message in enumerate(self._messages):
            if message.channel == channel and message.ts == ts:
                return index, message
        raise _ApiError("message_not_found")

    def _add(self, channel: str, payload: dict[str, Any], *, via: str) -> SlackMessage:
        text = payload.get("text") or payload.get("markdown_text") or ""
        blocks = _structure(payload, "blocks", [])
        attachments = _structure(payload, "attachments", [])
        if not (text or blocks or attachments):
            raise _ApiError("no_text")
        message = SlackMessage(
            channel=channel,
            ts=f"{int(time.time())}.{next(self._numbers):06d}",
            text=text,
            blocks=blocks,
            attachments=attachments,
            metadata=_structure(payload, "metadata", None),
            thread_ts=payload.get("thread_ts"),
            via=via,
        )
        self._messages.append(message)
        return message


async def _arguments(request: Request) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(request.query_params)
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        with contextlib.suppress(ValueError):
            arguments |= json.loads(body)
    elif body:
        arguments |= dict(parse_qsl(body.decode()))
    return arguments


def _structure(arguments: Mapping[str, Any], key: str, default: Any) -> Any:
    """Blocks, attachments and metadata arrive as JSON or, in forms, as JSON inside a string."""
    value = arguments.get(key)
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise _ApiError(f"invalid_{key}") from None
    return default if value is None else value


def _page(found: list[SlackMessage], arguments: Mapping[str, Any]) -> dict[str, Any]:
    inclusive = _true(arguments.get("inclusive"))
    oldest, latest = str(arguments.get("oldest") or "0"), str(arguments.get("latest") or "9" * 10)
    inside = [m for m in found if oldest < m.ts < latest or (inclusive and m.ts in (oldest, latest))]
    start, limit = int(arguments.get("cursor") or 0), int(arguments.get("limit") or 100)
    page, more = inside[start : start + limit], len(inside) > start + limit
    with_metadata = _true(arguments.get("include_all_metadata"))
    answer: dict[str, Any] = {"messages": [_public(m, with_metadata) for m in page], "has_more": more}
    if more:
        answer["response_metadata"] = {"next_cursor": str(start + limit)}
    return answer


def _public(message: SlackMessage, with_metadata: bool = True) -> dict[str, Any]:
    public: dict[str, Any] = {"type": "message", "ts": message.ts, "text": message.text, "bot_id": "B0BOT"}
    public |= {"user": _BOT, "team": _TEAM}
    if message.blocks:
        public["blocks"] = message.blocks
    if message.attachments:
        public["attachments"] = message.attachments
    if message.thread_ts:
        public["thread_ts"] = message.thread_ts
    if message.metadata and with_metadata:
        public["metadata"] = message.metadata
    if message.edits:
        public["edited"] = {"user": _BOT, "ts": message.ts}
    return public


def _profile(user: SlackUser) -> dict[str, Any]:
    handle = re.sub(r"@.*", "", user.email)
    profile = {"email": user.email, "real_name": user.name, "display_name": handle}
    return {"id": user.id, "team_id": _TEAM, "name": handle, "real_name": user.name, "profile": profile}


def _failed(fault: _Fault, refused: Response) -> Response:
    if fault.status == 429:
        return JSONResponse(
            {"ok": False, "error": "ratelimited"}, 429, headers={"Retry-After": str(fault.retry_after)}
        )
    if fault.status != 200:
        return PlainTextResponse("Internal Server Error", status_code=fault.status)
    return refused


def _true(value: object) -> bool:
    return str(value).lower() in ("1", "true")
