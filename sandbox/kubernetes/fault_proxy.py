"""A reverse proxy in front of an API server that can be told to fail, and remembers what got through."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPMethod, HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp
import yaml
from aiohttp import web
from kubernetes.aio import client
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.certificates import create_server_certificate

WRITES: Final = frozenset({HTTPMethod.POST, HTTPMethod.PUT, HTTPMethod.PATCH, HTTPMethod.DELETE})
READS: Final = frozenset({HTTPMethod.GET, HTTPMethod.HEAD})
MAX_BODY_BYTES: Final = 3 * 1024 * 1024  # what the API server itself accepts

# Headers of one connection, RFC 9110 section 7.6.1; the length and coding are decided per connection too.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# `reason` of metav1.Status for the statuses tests ask for.
STATUS_REASONS: Final = {
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.NOT_FOUND: "NotFound",
    HTTPStatus.CONFLICT: "Conflict",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Invalid",
    HTTPStatus.TOO_MANY_REQUESTS: "TooManyRequests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable",
    HTTPStatus.GATEWAY_TIMEOUT: "Timeout",
}


@dataclass(frozen=True, slots=True)
class RecordedWrite:
    """A write the API server accepted; `body` is parsed from JSON or YAML, None when there was none."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int


@dataclass(slots=True)
class Fault:
    """One way to fail, for matching requests, `times` times or until it is cleared.

    `path` is searched in the path without its query; `hits` counts the requests the fault has met.
    """

    kind: Literal["refuse", "delay", "drop_request", "drop_response"]
    methods: frozenset[HTTPMethod]
    path: re.Pattern[str]
    times: int | None
    status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE
    message: str = ""
    retry_after: int | None = None
    delay_seconds: float = 0.0
    hits: int = field(default=0, init=False)

    def meets(self, request: web.Request) -> bool:
        """Whether this request is to fail; counts the hit."""
        if self.times is not None and self.hits >= self.times:
            return False
        if request.method not in self.methods or not self.path.search(request.path):
            return False
        self.hits += 1
        return True


class FaultProxy:
    """An API server's face that fails on demand; made by `FaultProxy.start`.

    Everything else is forwarded unchanged, watches as they stream. The credentials are the client's own:
    the proxy adds none.
    """

    def __init__(
        self, access: ClusterAccess, kubeconfig_path: Path, upstream: str, session: aiohttp.ClientSession
    ) -> None:
        self.access = access
        self.kubeconfig_path = kubeconfig_path
        self.writes: list[RecordedWrite] = []
        self._upstream = upstream
        self._session = session
        self._faults: list[Fault] = []
        self._streams: set[asyncio.Transport] = set()

    @classmethod
    @asynccontextmanager
    async def start(cls, upstream: ClusterAccess, data_dir: Path) -> AsyncIterator[FaultProxy]:
        """Serve on a free port of loopback for the time of the context; `data_dir` gets its kubeconfig."""
        data_dir.mkdir(parents=True, exist_ok=True)
        certificate = create_server_certificate(data_dir / "fault-proxy-pki")
        listener = socket.create_server(("127.0.0.1", 0))
        access = replace(
            upstream,
            name=f"{upstream.name}-faulty",
            server=f"https://127.0.0.1:{listener.getsockname()[1]}",
            certificate_authority=certificate.authority,
        )
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=upstream.ssl_context(), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
        ) as session:
            kubeconfig_path = access.write_kubeconfig(data_dir / "faulty.kubeconfig")
            proxy = cls(access, kubeconfig_path, upstream.server, session)
            application = web.Application(client_max_size=MAX_BODY_BYTES)
            application.router.add_route("*", "/{path:.*}", proxy._handle)
            # A client that goes away ends its watch upstream too.
            runner = web.AppRunner(
                application, access_log=None, handler_cancellation=True, shutdown_timeout=0.0
            )
            await runner.setup()
            try:
                await web.SockSite(runner, listener, ssl_context=certificate.ssl_context()).start()
                yield proxy
            finally:
                await runner.cleanup()

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """The kubeconfig that leads through the proxy."""
        return self.access.kubeconfig

    def client_configuration(self) -> client.Configuration:
        """A fresh `kubernetes.aio` configuration that leads through the proxy."""
        return self.access.client_configuration()

    def refuse(
        self,
        status: int | HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE,
        *,
        times: int | None = None,
        path: str = "",
        methods: frozenset[HTTPMethod] = WRITES,
        retry_after: int | None = None,
        message: str = "",
    ) -> Fault:
        """Answer matching requests with this status and a `metav1.Status`, without forwarding them.

        `retry_after` is in seconds.
        """
        return self._add(
            Fault(
                kind="refuse",
                methods=methods,
                path=re.compile(path),
                times=times,
                status=HTTPStatus(status),
                message=message,
                retry_after=retry_after,
            )
        )

    def delay(
        self,
        seconds: float,
        *,
        times: int | None = None,
        path: str = "",
        methods: frozenset[HTTPMethod] = WRITES,
    ) -> Fault:
        """Forward matching requests only after so many seconds."""
        return self._add(
            Fault(kind="delay", methods=methods, path=re.compile(path), times=times, delay_seconds=seconds)
        )

    def drop_requests(
        self, *, times: int | None = None, path: str = "", methods: frozenset[HTTPMethod] = WRITES
    ) -> Fault:
        """Close the connection of matching requests without forwarding them."""
        return self._add(Fault(kind="drop_request", methods=methods, path=re.compile(path), times=times))

    def drop_responses(
        self, *, times: int | None = None, path: str = "", methods: frozenset[HTTPMethod] = WRITES
    ) -> Fault:
        """Forward matching requests, then close the connection instead of answering.

        The write has happened and its client cannot know: what an idempotent effect must survive.
        """
        return self._add(Fault(kind="drop_response", methods=methods, path=re.compile(path), times=times))

    def break_streams(self) -> int:
        """Close the connections of all responses now streaming (watches, logs); returns how many."""
        streams, self._streams = self._streams, set()
        for transport in streams:
            transport.abort()
        return len(streams)

    def clear(self) -> None:
        """Forget all faults: from now on everything is forwarded."""
        self._faults.clear()

    def forget_writes(self) -> None:
        """Start counting writes afresh."""
        self.writes.clear()

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if "upgrade" in request.headers.get("Connection", "").lower():
            return _status_response(
                HTTPStatus.NOT_IMPLEMENTED, "the fault proxy forwards no protocol upgrades (exec, attach)"
            )
        body = await request.read()
        fault = next((each for each in self._faults if each.meets(request)), None)
        if fault is not None:
            if fault.kind == "refuse":
                return _status_response(fault.status, fault.message, fault.retry_after)
            if fault.kind == "drop_request":
                return _drop(request)
            await asyncio.sleep(fault.delay_seconds)
        try:
            async with self._session.request(
                request.method,
                URL(f"{self._upstream}{request.raw_path}", encoded=True),
                headers=_end_to_end(request.headers),
                data=body or None,
                allow_redirects=False,
            ) as answer:
                if request.method in WRITES and answer.ok:
                    self.writes.append(_recorded(request, body, answer.status))
                if fault is not None and fault.kind == "drop_response":
                    await answer.read()
                    return _drop(request)
                return await self._forward(request, answer)
        except aiohttp.ClientConnectionError:
            return _drop(request)  # no API server: its client sees what it would see without a proxy

    async def _forward(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        if answer.content_length is not None or request.method == HTTPMethod.HEAD:
            return web.Response(
                status=answer.status, headers=_end_to_end(answer.headers), body=await answer.read()
            )
        response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        self._streams.add(transport)
        try:
            with suppress(ConnectionError):
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
        except aiohttp.ClientPayloadError:
            transport.abort()  # cut short upstream: the client must not take it for complete
        finally:
            self._streams.discard(transport)
        return response


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


def _recorded(request: web.Request, body: bytes, status: int) -> RecordedWrite:
    content: Any = None
    if body:
        content = yaml.safe_load(body) if "yaml" in request.content_type else _json_or_text(body)
    return RecordedWrite(
        method=request.method, path=request.path, query=dict(request.query), body=content, status=status
    )


def _json_or_text(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _drop(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # goes nowhere


def _status_response(status: HTTPStatus, message: str, retry_after: int | None = None) -> web.Response:
    details = {} if retry_after is None else {"retryAfterSeconds": retry_after}
    return web.json_response(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message or f"refused on purpose: {status.phrase}",
            "reason": STATUS_REASONS.get(status, ""),
            "details": details,
            "code": int(status),
        },
        status=status,
        headers={} if retry_after is None else {"Retry-After": str(retry_after)},
    )
