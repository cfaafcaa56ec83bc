"""How Slack reaches an app: signed requests to its URL, or envelopes over its Socket Mode connections."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode

import httpx
from aiohttp import WSMsgType, web
from slack_sdk.signature import SignatureVerifier

from sandbox.slack.workspace import APP

ACKNOWLEDGED_WITHIN: Final = 3.0
"""Seconds that Slack waits."""
_DISCONNECTED_AFTER: Final = 5.0

Kind = Literal["interactive", "slash_commands"]


class UnreachableError(Exception):
    """The app has neither a request URL nor a connection."""


@dataclass(frozen=True)
class Delivery:
    """One thing a person did, and what the app made of it.

    Attributes:
        payload: what was sent, in Slack's shape.
        status: of the app's HTTP answer; none over Socket Mode, or if there was no answer.
        body: of the answer, or of the acknowledgement.
        acknowledged: in time; otherwise the person is shown that it failed.
        retry_reason: as Slack calls it: ``http_timeout``, ``http_error``, ``timeout``.
    """

    kind: Kind
    payload: dict[str, Any]
    status: int | None = None
    body: Any = None
    acknowledged: bool = False
    retry_reason: str | None = None
    attempt: int = 0
    envelope_id: str = field(default_factory=lambda: secrets.token_hex(16))


def signed(secret: str, body: str, timestamp: int) -> dict[str, str]:
    """The headers by which an app knows a request as Slack's."""
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(timestamp), body=body)
    return {"X-Slack-Request-Timestamp": str(timestamp), "X-Slack-Signature": signature or ""}


class HttpWay:
    """Request URLs."""

    def __init__(self, signing_secret: str) -> None:
        self._secret = signing_secret
        self._client = httpx.AsyncClient(trust_env=False)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def send(self, url: str, delivery: Delivery, limit: float) -> Delivery:
        """Post the payload as a form."""
        payload = delivery.payload
        form = payload if delivery.kind == "slash_commands" else {"payload": json.dumps(payload)}
        body = urlencode(form)
        headers = signed(self._secret, body, int(time.time()))
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        headers["User-Agent"] = "Slackbot 1.0 (+https://api.slack.com/robots)"
        if delivery.attempt:
            headers["X-Slack-Retry-Num"] = str(delivery.attempt)
            headers["X-Slack-Retry-Reason"] = delivery.retry_reason or "unknown_error"
        try:
            async with asyncio.timeout(limit):
                answer = await self._client.post(url, content=body, headers=headers, timeout=None)
        except TimeoutError:
            return replace(delivery, retry_reason="http_timeout")
        except httpx.TransportError:
            return replace(delivery, retry_reason="connection_failed")
        if answer.status_code != 200:
            return replace(delivery, status=answer.status_code, body=answer.text, retry_reason="http_error")
        return replace(delivery, status=200, body=_read(answer), acknowledged=True, retry_reason=None)


def _read(answer: httpx.Response) -> Any:
    if not answer.content:
        return None
    if answer.headers.get("content-type", "").startswith("application/json"):
        return answer.json()
    return {"text": answer.text}


class SocketWay:
    """Socket Mode: the connections that an app has opened."""

    def __init__(self) -> None:
        self._tickets: set[str] = set()
        self._open: list[web.WebSocketResponse] = []
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._turn = itertools.count()
        self._changed = asyncio.Condition()
        self._base_url = ""
        self.acknowledgements: list[dict[str, Any]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls) -> AsyncIterator[Self]:
        way = cls()
        app = web.Application()
        app.router.add_get("/link", way._link)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await web.SockSite(runner, listener).start()
            way._base_url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
            try:
                yield way
            finally:
                await way.drop()
                await runner.cleanup()

    @property
    def connections(self) -> int:
        return len(self._open)

    def ticket(self) -> str:
        """An address for one connection."""
        ticket = secrets.token_hex(8)
        self._tickets.add(ticket)
        return f"{self._base_url}/link?ticket={ticket}&app_id={APP}"

    async def wait_for(self, connections: int) -> None:
        """Wait until so many connections are open."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._open) == connections)

    async def drop(self, reason: str | None = None) -> None:
        """End the connections; with a reason after a ``disconnect`` message, to which apps have a moment."""
        for connection in list(self._open):
            if reason is not None:
                debug = {"host": "applink-sandbox"}
                await connection.send_json({"type": "disconnect", "reason": reason, "debug_info": debug})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DISCONNECTED_AFTER):
                        await self._left(connection)
            await connection.close()
            await self._left(connection)

    async def _left(self, connection: web.WebSocketResponse) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: connection not in self._open)

    async def send(self, delivery: Delivery, limit: float) -> Delivery:
        """Send an envelope over one of the connections and wait for its acknowledgement."""
        if not self._open:
            raise UnreachableError("no Socket Mode connection is open")
        connection = self._open[next(self._turn) % len(self._open)]
        # A modal may be answered with another one, a command with a message; a button only taken note of.
        envelope: dict[str, Any] = {
            "envelope_id": delivery.envelope_id,
            "type": delivery.kind,
            "accepts_response_payload": delivery.payload.get("type") != "block_actions",
            "payload": delivery.payload,
        }
        if delivery.attempt:
            envelope |= {"retry_attempt": delivery.attempt, "retry_reason": delivery.retry_reason}
        waiting = self._waiting[delivery.envelope_id] = asyncio.get_running_loop().create_future()
        try:
            await connection.send_json(envelope)
            async with asyncio.timeout(limit):
                body = await waiting
        except (TimeoutError, ConnectionError):
            return replace(delivery, retry_reason="timeout")
        finally:
            del self._waiting[delivery.envelope_id]
        return replace(delivery, body=body, acknowledged=True, retry_reason=None)

    async def _link(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            return web.Response(status=403, text="invalid ticket")
        self._tickets.remove(ticket)
        connection = web.WebSocketResponse(autoping=True)
        await connection.prepare(request)
        debug = {"host": "applink-sandbox", "build_number": 1, "approximate_connection_time": 18060}
        hello: Mapping[str, Any] = {
            "type": "hello",
            "num_connections": len(self._open) + 1,
            "debug_info": debug,
            "connection_info": {"app_id": APP},
        }
        await connection.send_json(hello)
        await self._enter(connection)
        try:
            async for message in connection:
                if message.type is WSMsgType.TEXT:
                    self._acknowledged(json.loads(message.data))
        finally:
            await self._leave(connection)
        return connection

    def _acknowledged(self, answer: dict[str, Any]) -> None:
        self.acknowledgements.append(answer)
        waiting = self._waiting.get(str(answer.get("envelope_id")))
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.get("payload"))

    async def _enter(self, connection: web.WebSocketResponse) -> None:
        async with self._changed:
            self._open.append(connection)
            self._changed.notify_all()

    async def _leave(self, connection: web.WebSocketResponse) -> None:
        async with self._changed:
            self._open.remove(connection)
            self._changed.notify_all()
