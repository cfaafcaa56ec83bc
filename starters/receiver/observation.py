"""Around every request: one line in the log, the metrics, and headers that make browsers careful.

The line holds no query, body, signature or token.
"""

from __future__ import annotations

import json
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starters.receiver.answer import Answer
from starters.receiver.git_hosts import GITHUB, GITLAB
from starters.receiver.metrics import ReceiverMetrics
from starters.receiver.webhook import ANSWER, remote_address
from starters.rendering import clean

logger = logging.getLogger(__name__)

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Unless an endpoint, such as the dashboard, sets its own."""
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_WEBHOOKS = "/webhooks/"
_LENGTH = 200


class Observed:
    """ASGI middleware.

    Args:
        endpoints: names of webhooks; anything else that is not found is ``unknown`` in the metrics.
    """

    def __init__(self, app: ASGIApp, metrics: ReceiverMetrics, endpoints: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            with self._metrics.in_flight.track_inprogress():
                await self._app(scope, receive, sending)
        finally:
            self._note(scope, status, time.monotonic() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        answer: Answer | None = scope.get(ANSWER)
        endpoint = self._endpoint(scope["path"], status)
        outcome = None if answer is None else answer.outcome
        self._metrics.answered(endpoint, status, outcome, seconds)
        level = logging.INFO
        if status >= 400:
            level = logging.WARNING
        elif scope["path"] in _PROBES:
            level = logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        line = {
            "endpoint": endpoint,
            "method": scope["method"],
            "path": clean(scope["path"])[:_LENGTH],
            "status": status,
            "outcome": outcome,
            "reason": None if answer is None else answer.reason[: 2 * _LENGTH],
            "workflow_id": None if answer is None else answer.workflow_id,
            "remote": remote_address(Request(scope)),
            "delivery": _delivery(endpoint, Headers(scope=scope)),
            "milliseconds": round(seconds * 1000),
        }
        logger.log(level, "%s", json.dumps({k: v for k, v in line.items() if v is not None}))

    def _endpoint(self, path: str, status: int) -> str:
        name = path.removeprefix(_WEBHOOKS)
        if path.startswith(_WEBHOOKS) and name in self._endpoints:
            return name
        if path in _PROBES:
            return path.removeprefix("/")
        return "unknown" if status in (404, 405) else "pages"


def _delivery(endpoint: str, headers: Headers) -> str | None:
    names = next((host.delivery_headers for host in (GITHUB, GITLAB) if host.name == endpoint), ())
    value = next((headers[name] for name in names if name in headers), None)
    return None if value is None else clean(value)[:_LENGTH]
