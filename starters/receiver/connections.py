"""Connections: bounded in number, and closed when no request comes, so that silence shuts nobody out."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from starters.receiver.temporal import RETRY_AFTER

logger = logging.getLogger(__name__)

HEAD_LIMIT = 10.0
"""Seconds from a connection, or from an answer, to the end of the next request's headers."""
RESERVED = 192
"""Descriptors for what is no connection of a sender: Temporal, Slack, files, and those being accepted."""
FEWEST = 16
_ACCEPTING = "socket.accept()"
_SAID_EVERY = 60.0
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    % RETRY_AFTER
)


def bounded_connections(limit: int, head_limit: float = HEAD_LIMIT) -> type[H11Protocol]:
    """The protocol of a server that holds no more than `limit` connections.

    One more takes the place of the one that has waited longest without a request; while all have one, it is
    answered 503.

    Args:
        head_limit: seconds for the headers of a request.
    """

    class Bounded(_Bounded):
        most, patience = limit, head_limit

    return Bounded


class _Bounded(H11Protocol):
    most: int
    patience: float

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._look: asyncio.TimerHandle | None = None
        self._since = 0.0

    @property
    def waits(self) -> bool:
        """No request is being read or answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(self.connections) > self.most and not self._make_room():
            self.connections.discard(self)
            transport.write(_FULL)
            transport.close()
            return
        self._look = self.loop.call_later(self.patience, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def _make_room(self) -> bool:
        others = (c for c in self.connections if isinstance(c, _Bounded) and c is not self and c.waits)
        oldest = min(others, key=lambda c: c._since, default=None)
        if oldest is None:
            return False
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _look_again(self) -> None:
        left = self.patience
        if self.waits:
            left = self._since + self.patience - self.loop.time()
            if left <= 0:
                self.transport.abort()
                return
        self._look = self.loop.call_later(left, self._look_again)


def possible_connections(wanted: int) -> int:
    """How many connections the process may hold: `wanted`, or fewer where its descriptors do not suffice."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems call the limit infinite, and take no such number.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted + RESERVED:
        return wanted
    possible = min(wanted, max(FEWEST, soft - RESERVED))
    logger.warning(
        "%d connections at a time instead of %d: the process may open only %d files (ulimit -n)",
        possible,
        wanted,
        soft,
    )
    return possible


def say_seldom() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An event loop's exception handler that says once a minute, and not in a flood, that files run out."""
    said = -_SAID_EVERY

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal said
        if not str(context.get("message", "")).startswith(_ACCEPTING):
            loop.default_exception_handler(context)
            return
        now = time.monotonic()
        if now - said >= _SAID_EVERY:
            said = now
            logger.error("no further connection can be accepted: %s", context.get("exception"))

    return handle
