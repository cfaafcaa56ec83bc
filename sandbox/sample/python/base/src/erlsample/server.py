"""Minimal HTTP listener: /health /ready /live /metrics /bump."""

from __future__ import annotations

import json
import os
import socketserver
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler

from erlsample.counter import VERSION, Counter, CounterError
from erlsample.metrics import Metrics

# Probes and scrapes would dilute the error ratio that users see.
_NOT_COUNTED = frozenset({"/health", "/ready", "/live", "/metrics"})


class Server(socketserver.ThreadingTCPServer):
    """The listener with the state it serves."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.counter = Counter()
        self.metrics = Metrics(VERSION)
        self.node = environ.get("ERLSAMPLE_NODE", "erlsample@localhost")
        self._started = time.monotonic()
        address = (environ.get("ERLSAMPLE_IP", "127.0.0.1"), int(environ.get("ERLSAMPLE_PORT", "8080")))
        super().__init__(address, Handler)

    @property
    def port(self) -> int:
        """The TCP port in use."""
        return int(self.server_address[1])

    def respond(self, path: str) -> tuple[int, str, str]:
        """Status, content type and body of the answer to one path."""
        if path == "/health":
            healthy = self.counter.healthy
            status = {"status": "healthy" if healthy else "unhealthy", "version": VERSION}
            return (
                (200 if healthy else 503),
                "application/json",
                json.dumps({**status, "uptime": int(self._uptime()), "node": self.node}),
            )
        if path == "/ready":
            return 200, "application/json", '{"ready":true}'
        if path == "/live":
            return 200, "application/json", '{"alive":true}'
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4", self._gauges() + self.metrics.exposition()
        if path == "/bump":
            try:
                return 200, "text/plain", str(self.counter.bump())
            except CounterError as error:
                return 500, "text/plain", str(error)
        return 404, "text/plain", "not found"

    def _uptime(self) -> float:
        return time.monotonic() - self._started

    def _gauges(self) -> str:
        return (
            "# HELP erlsample_bumps_total Bumps served\n# TYPE erlsample_bumps_total counter\n"
            f"erlsample_bumps_total {self.counter.value()}\n"
            "# HELP erlsample_uptime_seconds Uptime\n# TYPE erlsample_uptime_seconds gauge\n"
            f"erlsample_uptime_seconds {int(self._uptime())}\n"
        )


class Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    server: Server
    timeout = 5
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer, and count the request before its client can see the answer."""
        start = time.monotonic()
        status, kind, body = self.server.respond(self.path)
        if self.path not in _NOT_COUNTED:
            self.server.metrics.observe(status, time.monotonic() - start)
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is given
        """Metrics say it better."""


def main() -> None:
    """Serve until killed."""
    with Server(os.environ) as server:
        print(f"erlsample {VERSION} listens on port {server.port}", flush=True)
        server.serve_forever()
