"""The Slack server: webhooks, Web API, response URLs, and what people do in the workspace."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.asgi import serve
from sandbox.slack.blocks import block_mistakes, view_mistakes
from sandbox.slack.delivery import (
    ACKNOWLEDGED_WITHIN,
    Delivery,
    HttpWay,
    Kind,
    SocketWay,
    UnreachableError,
)
from sandbox.slack.people import block_actions, find_button, slash_command, view_submission
from sandbox.slack.workspace import (
    APP_TOKEN,
    BOT,
    BOT_TOKEN,
    BOT_USER,
    DOMAIN,
    SIGNING_SECRET,
    TEAM,
    Ephemeral,
    SlackMessage,
    SlackUser,
    SlackView,
)

T = TypeVar("T")

_WEBHOOK_SECRET: Final = "sandbox"
_RESPONSES: Final = 5  # to one response URL


@dataclass(frozen=True)
class _Fault:
    status: int
    error: str
    retry_after: int
    method: str | None  # None: any call


@dataclass
class _ResponseUrl:
    """Where an app may answer what one person did, for a while."""

    channel: str
    user: str
    message: SlackMessage | None
    uses: int = 0


class _ApiError(Exception):
    """Answered as ``ok: false``."""

    def __init__(self, code: str, messages: Iterable[str] = ()) -> None:
        super().__init__(code)
        self.messages = list(messages)


class SlackServer:
    """A workspace with one bot. Channels and people not named at the start do not exist.

    Attributes:
        latency: seconds before every answer of the Web API.
        calls: every call and its arguments, failed ones too.
        request_url: where the app takes what people do, unless it has a Socket Mode connection.
        patience: seconds that Slack waits for the app.
    """

    def __init__(
        self,
        *,
        token: str = BOT_TOKEN,
        channels: Iterable[str] = ("deployments", "approvals", "incidents"),
        users: Iterable[SlackUser] = (),
        signing_secret: str = SIGNING_SECRET,
        app_token: str = APP_TOKEN,
    ) -> None:
        self.token = token
        self.app_token = app_token
        self.signing_secret = signing_secret
        self.latency = 0.0
        self.patience = ACKNOWLEDGED_WITHIN
        self.request_url: str | None = None
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.ephemerals: list[Ephemeral] = []
        self._channels = {f"C{number:08d}": name for number, name in enumerate(channels, 1)}
        self._users = list(users)
        self._messages: list[SlackMessage] = []
        self._views: dict[str, SlackView] = {}
        self._triggers: dict[str, str | None] = {}  # trigger id → user; none once it was exchanged
        self._response_urls: dict[str, _ResponseUrl] = {}
        self._faults: deque[_Fault] = deque()
        self._numbers = itertools.count(1)
        self._arrived = asyncio.Condition()
        self._base_url = ""
        self._http: HttpWay
        self._socket: SocketWay
        self._methods: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "auth.test": self._auth_test,
            "chat.delete": self._delete,
            "chat.postEphemeral": self._post_ephemeral,
            "chat.postMessage": self._post_message,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.info": self._channel_info,
            "conversations.list": self._list,
            "conversations.open": self._open_conversation,
            "conversations.replies": self._replies,
            "reactions.add": self._add_reaction,
            "users.info": self._user_info,
            "users.lookupByEmail": self._user_by_email,
            "views.open": self._open_view,
            "views.update": self._update_view,
        }

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        *,
        token: str = BOT_TOKEN,
        channels: Iterable[str] = ("deployments", "approvals", "incidents"),
        users: Iterable[SlackUser] = (),
        signing_secret: str = SIGNING_SECRET,
        app_token: str = APP_TOKEN,
    ) -> AsyncIterator[Self]:
        """A running server on free loopback ports."""
        slack = cls(
            token=token, channels=channels, users=users, signing_secret=signing_secret, app_token=app_token
        )
        app = Starlette(
            routes=[
                Route("/services/{team}/{channel}/{secret}", slack._webhook, methods=["POST"]),
                Route("/{kind:str}/respond/{secret}", slack._respond, methods=["POST"]),
                Route("/api/{method}", slack._api, methods=["GET", "POST"]),
            ]
        )
        async with (
            contextlib.aclosing(HttpWay(signing_secret)) as slack._http,
            SocketWay.start() as slack._socket,
            serve(app) as slack._base_url,
        ):
            yield slack

    @property
    def api_url(self) -> str:
        """``base_url`` for the official clients."""
        return f"{self._base_url}/api/"

    def webhook_url(self, channel: str) -> str:
        """URL of the incoming webhook of a channel."""
        if channel not in self._channels.values():
            raise KeyError(f"channel {channel!r} does not exist; there are {sorted(self._channels.values())}")
        return f"{self._base_url}/services/{TEAM}/{channel}/{_WEBHOOK_SECRET}"

    def channel_id(self, channel: str) -> str:
        """The id of a channel by its name."""
        return next(i for i, name in self._channels.items() if name == channel)

    @property
    def messages(self) -> list[SlackMessage]:
        """All messages in order of arrival, as they stand now."""
        return list(self._messages)

    @property
    def views(self) -> list[SlackView]:
        """All modals in the order they were opened, as they stand now."""
        return list(self._views.values())

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
        limits it to one Web API method, to "webhook" or to "response_url".
        """
        self._faults.extend([_Fault(status, error, retry_after, method)] * times)

    async def wait_for(
        self, predicate: Callable[[SlackMessage], bool], *, timeout: float = 30
    ) -> SlackMessage:
        """Wait for a message that satisfies ``predicate``; ``TimeoutError`` after ``timeout`` s."""
        return await self._await(lambda: next(filter(predicate, self._messages), None), timeout)

    async def wait_for_ephemeral(
        self, predicate: Callable[[Ephemeral], bool] = lambda _: True, *, timeout: float = 30
    ) -> Ephemeral:
        """Wait for words that one person alone is shown."""
        return await self._await(lambda: next(filter(predicate, self.ephemerals), None), timeout)

    async def wait_for_view(
        self, predicate: Callable[[SlackView], bool] = lambda _: True, *, timeout: float = 30
    ) -> SlackView:
        """Wait for a modal that is open."""
        return await self._await(
            lambda: next((v for v in self._views.values() if v.open and predicate(v)), None), timeout
        )

    async def wait_for_connections(self, number: int = 1) -> None:
        """Wait until the app has so many Socket Mode connections open."""
        await self._socket.wait_for(number)

    async def drop_connections(self, reason: str | None = None) -> None:
        """End the Socket Mode connections; with a reason, as Slack does it: by ``disconnect`` messages."""
        await self._socket.drop(reason)

    @property
    def acknowledgements(self) -> list[dict[str, Any]]:
        """All that came back over Socket Mode."""
        return list(self._socket.acknowledgements)

    # What people do

    async def click(
        self, message: SlackMessage | Ephemeral, action_id: str, *, user: SlackUser | str
    ) -> Delivery:
        """Press a button of a message, as it stands now.

        Raises:
            LookupError: the message has no such button.
            UnreachableError: the app cannot be reached.
        """
        person = self._person(user)
        if isinstance(message, SlackMessage):
            _, message = self._find(message.channel, message.ts)
        button, block = find_button(message, action_id)
        payload = block_actions(
            message=message,
            button=button,
            block_id=block,
            channel=(self.channel_id(message.channel), message.channel),
            person=person,
            trigger_id=self._trigger(person),
            response_url=self._response_url("actions", message.channel, person, message),
        )
        return await self._send("interactive", payload)

    async def submit(
        self, view: SlackView, values: Mapping[str, str | None], *, user: SlackUser | str | None = None
    ) -> Delivery:
        """Fill in a modal and submit it; what the app answers happens to the modal.

        Args:
            values: block id → what is typed there.

        Raises:
            ValueError: Slack's own client would not let the person submit this.
        """
        view = self._views[view.id]
        if not view.open:
            raise ValueError(f"the modal {view.id} is closed")
        person = self._person(user or view.user)
        payload = view_submission(view, values, person, trigger_id=self._trigger(person))
        delivery = await self._send("interactive", payload)
        if delivery.acknowledged:
            self._after_submission(view, delivery.body)
            await self._announce()
        return delivery

    async def command(
        self, command: str, text: str, *, user: SlackUser | str, channel: str = "deployments"
    ) -> Delivery:
        """Type a slash command into a channel; what the app answers at once is shown there."""
        person = self._person(user)
        form = slash_command(
            command,
            text,
            channel=(self.channel_id(channel), channel),
            person=person,
            trigger_id=self._trigger(person),
            response_url=self._response_url("commands", channel, person, None),
        )
        delivery = await self._send("slash_commands", form)
        if delivery.acknowledged and delivery.body:
            self._show(_ResponseUrl(channel, person.id, None), delivery.body, via="answer")
            await self._announce()
        return delivery

    async def redeliver(self, delivery: Delivery, *, reason: str | None = None) -> Delivery:
        """Send once more what was sent already, as Slack does when it saw no acknowledgement."""
        reason = reason or delivery.retry_reason or "http_timeout"
        return await self._deliver(
            replace(
                delivery,
                attempt=delivery.attempt + 1,
                retry_reason=reason,
                status=None,
                body=None,
                acknowledged=False,
            )
        )

    async def _send(self, kind: Kind, payload: dict[str, Any]) -> Delivery:
        return await self._deliver(Delivery(kind, payload))

    async def _deliver(self, delivery: Delivery) -> Delivery:
        if self._socket.connections:
            return await self._socket.send(delivery, self.patience)
        if self.request_url is None:
            raise UnreachableError("the app has no Socket Mode connection; set slack.request_url")
        return await self._http.send(self.request_url, delivery, self.patience)

    def _after_submission(self, view: SlackView, answer: Any) -> None:
        action = answer.get("response_action") if isinstance(answer, dict) else None
        if action == "errors":
            inputs = {b.get("block_id") for b in view.definition["blocks"] if b["type"] == "input"}
            unknown = set(answer["errors"]) - inputs
            if unknown or not answer["errors"]:
                raise ValueError(f"Slack shows errors at input blocks only; there is no {sorted(unknown)}")
            self._views[view.id] = replace(view, errors=dict(answer["errors"]))
        elif action == "update":
            _check_view(answer.get("view"))
            self._views[view.id] = replace(view, definition=answer["view"], hash=self._hash(), errors={})
        elif action in (None, "clear"):
            self._views[view.id] = replace(view, open=False, errors={})
        else:
            raise ValueError(f"response_action is {action!r}, which this workspace does not know")

    def _person(self, user: SlackUser | str) -> SlackUser:
        if isinstance(user, SlackUser):
            return user
        return next(person for person in self._users if person.id == user)

    def _trigger(self, person: SlackUser) -> str:
        trigger = f"{next(self._numbers)}.{int(time.time())}.{secrets.token_hex(16)}"
        self._triggers[trigger] = person.id
        return trigger

    def _response_url(
        self, kind: str, channel: str, person: SlackUser, message: SlackMessage | Ephemeral | None
    ) -> str:
        secret = secrets.token_hex(12)
        origin = message if isinstance(message, SlackMessage) else None
        self._response_urls[secret] = _ResponseUrl(channel, person.id, origin)
        return f"{self._base_url}/{kind}/respond/{secret}"

    # Transport

    async def _webhook(self, request: Request) -> Response:
        channel, secret = request.path_params["channel"], request.path_params["secret"]
        payload = _json_object(await request.body())
        self.calls.append(("webhook", payload or {}))
        await asyncio.sleep(self.latency)
        if fault := self._fault("webhook"):
            return _failed(fault, PlainTextResponse(fault.error, status_code=500))
        if channel not in self._channels.values() or secret != _WEBHOOK_SECRET:
            return PlainTextResponse("no_service", status_code=404)
        if payload is None:
            return PlainTextResponse("invalid_payload", status_code=400)
        try:
            self._add(channel, payload, via="webhook")
        except _ApiError as error:
            return PlainTextResponse(str(error), status_code=400)
        await self._announce()
        return PlainTextResponse("ok")

    async def _respond(self, request: Request) -> Response:
        payload = _json_object(await request.body())
        self.calls.append(("response_url", payload or {}))
        await asyncio.sleep(self.latency)
        if fault := self._fault("response_url"):
            return _failed(fault, PlainTextResponse(fault.error, status_code=500))
        place = self._response_urls.get(request.path_params["secret"])
        if place is None or place.uses == _RESPONSES:
            return JSONResponse({"ok": False, "error": "used_url" if place else "expired_url"}, 404)
        if payload is None:
            return JSONResponse({"ok": False, "error": "invalid_payload"}, 400)
        place.uses += 1
        try:
            self._show(place, payload, via="response_url")
        except _ApiError as error:
            return JSONResponse({"ok": False, "error": str(error)}, 400)
        await self._announce()
        return JSONResponse({"ok": True})

    async def _api(self, request: Request) -> Response:
        method, arguments = request.path_params["method"], await _arguments(request)
        authorization = request.headers.get("authorization", "")
        token = authorization.removeprefix("Bearer ") or arguments.pop("token", "")
        self.calls.append((method, arguments))
        await asyncio.sleep(self.latency)
        if fault := self._fault(method):
            return _failed(fault, JSONResponse({"ok": False, "error": fault.error}))
        try:
            answer = self._call(method, token, arguments)
        except _ApiError as error:
            refusal: dict[str, Any] = {"ok": False, "error": str(error)}
            if error.messages:
                refusal["response_metadata"] = {"messages": error.messages}
            return JSONResponse(refusal)
        await self._announce()
        return JSONResponse({"ok": True, **answer})

    def _call(self, method: str, token: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if not token:
            raise _ApiError("not_authed")
        if token not in (self.token, self.app_token):
            raise _ApiError("invalid_auth")
        connecting = method == "apps.connections.open"
        if connecting != (token == self.app_token):
            raise _ApiError("not_allowed_token_type")
        if connecting:
            return {"url": self._socket.ticket()}
        if method not in self._methods:
            raise _ApiError("unknown_method")
        return self._methods[method](arguments)

    def _fault(self, method: str) -> _Fault | None:
        for fault in self._faults:
            if fault.method in (None, method):
                self._faults.remove(fault)
                return fault
        return None

    async def _announce(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def _await(self, look: Callable[[], T | None], timeout: float) -> T:
        async with asyncio.timeout(timeout), self._arrived:
            while (found := look()) is None:
                await self._arrived.wait()
            return found

    # Methods of the Web API

    def _auth_test(self, _: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._base_url}/"
        return {
            "url": url,
            "team": DOMAIN,
            "user": "deploy",
            "team_id": TEAM,
            "user_id": BOT_USER,
            "bot_id": BOT,
        }

    def _post_message(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel_id, channel = self._channel(arguments, may_open=True)
        message = self._add(channel, arguments, via="api")
        return {"channel": channel_id, "ts": message.ts, "message": message.public()}

    def _post_ephemeral(self, arguments: dict[str, Any]) -> dict[str, Any]:
        _, channel = self._channel(arguments)
        if not any(user.id == arguments.get("user") for user in self._users):
            raise _ApiError("user_not_in_channel")
        shown = self._add_ephemeral(channel, arguments["user"], arguments, via="api")
        return {"message_ts": shown.ts}

    def _update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel_id, channel = self._channel(arguments)
        index, message = self._find(channel, arguments.get("ts"))
        changed = self._changed(message, arguments)
        self._messages[index] = changed
        public = changed.public()
        return {"channel": channel_id, "ts": changed.ts, "text": changed.text, "message": public}

    def _delete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel_id, channel = self._channel(arguments)
        index, message = self._find(channel, arguments.get("ts"))
        del self._messages[index]
        return {"channel": channel_id, "ts": message.ts}

    def _history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        _, channel = self._channel(arguments)
        found = [m for m in reversed(self._messages) if m.channel == channel and m.thread_ts in (None, m.ts)]
        return _page(found, arguments)

    def _list(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"channels": [{"id": i, "name": n} for i, n in self._channels.items() if n[0] != "@"]}

    def _channel_info(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel_id, name = self._channel(arguments)
        direct = name.startswith("@")
        facts = {"user": name[1:]} if direct else {"name": name, "name_normalized": name, "is_member": True}
        return {"channel": {"id": channel_id, "is_channel": not direct, "is_im": direct, **facts}}

    def _open_conversation(self, arguments: dict[str, Any]) -> dict[str, Any]:
        users = [u for u in str(arguments.get("users") or "").split(",") if u]
        if len(users) != 1:
            raise _ApiError("users_list_not_supplied" if not users else "not_supported")
        return {"channel": {"id": self._conversation_with(users[0])}}

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
                return {"user": user.profile()}
        raise _ApiError("user_not_found")

    def _user_by_email(self, arguments: dict[str, Any]) -> dict[str, Any]:
        wanted = str(arguments.get("email", "")).lower()
        for user in self._users:
            if user.email is not None and user.email.lower() == wanted:
                return {"user": user.profile()}
        raise _ApiError("users_not_found")

    def _open_view(self, arguments: dict[str, Any]) -> dict[str, Any]:
        trigger = str(arguments.get("trigger_id", ""))
        if trigger not in self._triggers:
            raise _ApiError("invalid_trigger_id")
        definition = _structure(arguments, "view", None)
        _check_view(definition)
        user = self._triggers[trigger]
        if user is None:
            raise _ApiError("exchanged_trigger_id")
        self._triggers[trigger] = None
        view = SlackView(
            id=f"V{next(self._numbers):08d}", user=user, definition=definition, hash=self._hash()
        )
        self._views[view.id] = view
        return {"view": view.public()}

    def _update_view(self, arguments: dict[str, Any]) -> dict[str, Any]:
        view = self._views.get(str(arguments.get("view_id", "")))
        if view is None or not view.open:
            raise _ApiError("not_found")
        if arguments.get("hash") not in (None, view.hash):
            raise _ApiError("hash_conflict")
        definition = _structure(arguments, "view", None)
        _check_view(definition)
        changed = replace(view, definition=definition, hash=self._hash(), errors={})
        self._views[view.id] = changed
        return {"view": changed.public()}

    # State

    def _hash(self) -> str:
        return f"{int(time.time())}.{secrets.token_hex(4)}"

    def _channel(self, arguments: dict[str, Any], *, may_open: bool = False) -> tuple[str, str]:
        wanted = str(arguments.get("channel", ""))
        if may_open and any(user.id == wanted for user in self._users):
            wanted = self._conversation_with(wanted)
        for channel_id, name in self._channels.items():
            if wanted in (channel_id, name, f"#{name}"):
                return channel_id, name
        raise _ApiError("channel_not_found")

    def _conversation_with(self, user: str) -> str:
        if not any(person.id == user for person in self._users):
            raise _ApiError("user_not_found")
        channel_id = f"D{user[1:]}"
        self._channels.setdefault(channel_id, f"@{user}")
        return channel_id

    def _find(self, channel: str, ts: object) -> tuple[int, SlackMessage]:
        for index, message in enumerate(self._messages):
            if message.channel == channel and message.ts == ts:
                return index, message
        raise _ApiError("message_not_found")

    def _show(self, place: _ResponseUrl, payload: dict[str, Any], *, via: str) -> None:
        """What comes back to where a person acted."""
        origin = place.message
        if origin is not None and _true(payload.get("delete_original")):
            index, _ = self._find(origin.channel, origin.ts)
            del self._messages[index]
        elif origin is not None and _true(payload.get("replace_original")):
            index, message = self._find(origin.channel, origin.ts)
            self._messages[index] = self._changed(message, payload)
        elif payload.get("response_type") == "in_channel":
            self._add(place.channel, payload, via=via)
        else:
            self._add_ephemeral(place.channel, place.user, payload, via=via)

    def _changed(self, message: SlackMessage, arguments: Mapping[str, Any]) -> SlackMessage:
        return replace(
            message,
            text=arguments.get("text", message.text),
            blocks=_checked_blocks(arguments, message.blocks),
            attachments=_structure(arguments, "attachments", message.attachments),
            metadata=_structure(arguments, "metadata", message.metadata),
            edits=message.edits + 1,
        )

    def _add(self, channel: str, payload: dict[str, Any], *, via: str) -> SlackMessage:
        message = SlackMessage(
            channel=channel,
            metadata=_structure(payload, "metadata", None),
            attachments=_structure(payload, "attachments", []),
            via=via,
            **self._content(payload),
        )
        self._messages.append(message)
        return message

    def _add_ephemeral(self, channel: str, user: str, payload: dict[str, Any], *, via: str) -> Ephemeral:
        shown = Ephemeral(channel=channel, user=user, via=via, **self._content(payload))
        self.ephemerals.append(shown)
        return shown

    def _content(self, payload: dict[str, Any]) -> dict[str, Any]:
        text = payload.get("text") or payload.get("markdown_text") or ""
        blocks = _checked_blocks(payload, [])
        if not (text or blocks or _structure(payload, "attachments", [])):
            raise _ApiError("no_text")
        ts = f"{int(time.time())}.{next(self._numbers):06d}"
        return {"ts": ts, "text": text, "blocks": blocks, "thread_ts": payload.get("thread_ts")}


async def _arguments(request: Request) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(request.query_params)
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        arguments |= _json_object(body) or {}
    elif body:
        arguments |= dict(parse_qsl(body.decode()))
    return arguments


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        payload = json.loads(body)
    except ValueError:
        return None
    return payload if isinstance(payload, dict) else None


def _structure(arguments: Mapping[str, Any], key: str, default: Any) -> Any:
    """Blocks, attachments and metadata arrive as JSON or, in forms, as JSON inside a string."""
    value = arguments.get(key)
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise _ApiError(f"invalid_{key}") from None
    return default if value is None else value


def _checked_blocks(arguments: Mapping[str, Any], default: list[dict[str, Any]]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = _structure(arguments, "blocks", default)
    attached = [a.get("blocks", []) for a in _structure(arguments, "attachments", [])]
    for group in (blocks, *attached):
        if mistakes := block_mistakes(group):
            raise _ApiError("invalid_blocks", mistakes)
    return blocks


def _check_view(view: object) -> None:
    if mistakes := view_mistakes(view):
        raise _ApiError("invalid_arguments", mistakes)


def _page(found: list[SlackMessage], arguments: Mapping[str, Any]) -> dict[str, Any]:
    inclusive = _true(arguments.get("inclusive"))
    oldest, latest = str(arguments.get("oldest") or "0"), str(arguments.get("latest") or "9" * 10)
    inside = [m for m in found if oldest < m.ts < latest or (inclusive and m.ts in (oldest, latest))]
    start, limit = int(arguments.get("cursor") or 0), int(arguments.get("limit") or 100)
    page, more = inside[start : start + limit], len(inside) > start + limit
    with_metadata = _true(arguments.get("include_all_metadata"))
    public = [m.public(with_metadata=with_metadata) for m in page]
    answer: dict[str, Any] = {"messages": public, "has_more": more}
    if more:
        answer["response_metadata"] = {"next_cursor": str(start + limit)}
    return answer


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
