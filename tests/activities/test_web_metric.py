"""A number somewhere in somebody's JSON, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web

from activities.metrics.sources import MetricSources, NotConfiguredError
from activities.metrics.web import WebMetrics, WebSettingError
from domain.analysis import Metric, MetricReading, WebSource

DOCUMENT = {
    "checks": {"total": 40, "failed": 0.5, "passed": True, "skipped": False, "last": None, "note": "12"},
    "zones": [{"name": "a", "load": 0.25}, {"name": "b", "load": 0.75}],
    "huge": 10**400,
}


class Server:
    """Answers what the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str], str]] = []
        self.status = 200
        self.body = json.dumps(DOCUMENT).encode()
        self.headers = {"Content-Type": "application/json"}
        self.delay = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        asked = (request.method, request.raw_path, dict(request.headers), await request.text())
        self.requests.append(asked)
        await asyncio.sleep(self.delay)
        return web.Response(status=self.status, body=self.body, headers=self.headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    behaviour = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", behaviour.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    behaviour.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield behaviour
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def environment() -> dict[str, str]:
    return {"API_TOKEN": "hunter2\n", "KEY": "hunter3&/x", "PASSWORD": "hunter4@b/c"}


@pytest.fixture
def metrics(http: httpx.AsyncClient, environment: dict[str, str]) -> WebMetrics:
    return WebMetrics(http, environment)


def source(server: Server, path: str = "$.checks.total", **fields: Any) -> WebSource:
    return WebSource.model_validate({"url": f"{server.url}/stats", "json_path": path, **fields})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.checks.total", 40),
        ("$['checks']['failed']", 0.5),
        ("$.checks.passed", 1),
        ("$.checks.skipped", 0),
        ("$.zones[?@.name == 'b'].load", 0.75),
        ("$.zones[-1].load", 0.75),
        ("$..total", 40),
    ],
)
async def test_the_value_at_the_path_is_the_measurement(
    metrics: WebMetrics, server: Server, path: str, value: float
) -> None:
    assert await metrics.measure(source(server, path)) == MetricReading(value=value)


@pytest.mark.parametrize("path", ["$.checks.missing", "$.zones[7].load", "$.checks.last"])
async def test_nothing_at_the_path_is_no_data(metrics: WebMetrics, server: Server, path: str) -> None:
    assert await metrics.measure(source(server, path)) == MetricReading()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("$.zones[*].load", "finds several values; narrow web.json_path down to one"),
        ("$.checks.note", "the value is a text, not a number"),
        ("$.checks", "the value is an object, not a number"),
        ("$.zones", "the value is an array, not a number"),
        ("$.huge", "the value is not finite"),
    ],
)
async def test_what_is_not_one_number_is_an_error(
    metrics: WebMetrics, server: Server, path: str, reason: str
) -> None:
    reading = await metrics.measure(source(server, path))

    assert reading.value is None
    assert reading.error is not None
    assert reading.error.startswith(f"{server.url}: ")
    assert reason in reading.error


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b'{"checks": {"total": NaN}}', "the document holds NaN"),
        (200, b'{"checks": {"total": -Infinity}}', "the document holds -Infinity"),
        (200, b'{"checks": {"total": 1e999}}', "not finite"),
        (200, b"<html>log in</html>", "without readable JSON (text/html)"),
        (200, b"", "without readable JSON"),
        (200, b"[" * 100_000, "without readable JSON"),
        (200, b"[" * 500 + b"]" * 500, "nested too deeply"),
        (200, b'"' + b"x" * 1024 * 1024 + b'"', "longer than 1024 KiB"),
        (404, b'{"checks": {"total": 1}}', "HTTP 404"),
        (503, b"", "HTTP 503"),
        (302, b'{"checks": {"total": 1}}', "HTTP 302, a redirect, which is not followed"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_an_error(
    metrics: WebMetrics, server: Server, status: int, body: bytes, reason: str
) -> None:
    server.status, server.body = status, body
    kind = "text/html" if body.startswith(b"<") else "application/json"
    server.headers = {"Content-Type": kind, "Location": f"{server.url}/elsewhere"}

    reading = await metrics.measure(source(server, "$..total"))

    assert reading.value is None
    assert reason in str(reading.error)
    assert len(server.requests) == 1


async def test_a_server_that_is_slow_or_gone_is_an_error(metrics: WebMetrics, server: Server) -> None:
    server.delay = 0.5
    slow = await metrics.measure(source(server, timeout=timedelta(milliseconds=50)))
    gone = await metrics.measure(source(server, url="http://user:hunter2@127.0.0.1:9/?token=hunter3"))

    assert slow.error == f"{server.url}: no answer within 50ms"
    assert gone.error == "http://127.0.0.1:9: no connection to http://127.0.0.1:9"


async def test_a_query_can_be_posted(metrics: WebMetrics, server: Server) -> None:
    await metrics.measure(source(server, method="POST", body='{"window": "5m"}'))
    await metrics.measure(
        source(
            server, method="POST", body="a=1", headers={"content-type": "application/x-www-form-urlencoded"}
        )
    )

    (_, _, json_headers, body), (_, _, form_headers, _) = server.requests
    assert (json_headers["Content-Type"], body) == ("application/json", '{"window": "5m"}')
    assert form_headers["Content-Type"] == "application/x-www-form-urlencoded"


async def test_secrets_are_sent_as_they_are_and_shown_nowhere(
    metrics: WebMetrics, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    # given a service that wants secrets in header, query and password, and fails
    caplog.set_level("DEBUG")
    server.status = 500
    url = server.url.replace("http://", "http://reader:${PASSWORD}@") + "/v1/${KEY}?key=${KEY}&plain=a%20b"

    # when it is asked
    reading = await metrics.measure(source(server, url=url, headers={"X-Token": "Token ${API_TOKEN}"}))

    # then all have arrived, none of them broke out of its place
    ((_, path, headers, _),) = server.requests
    assert path == "/v1/hunter3%26%2Fx?key=hunter3%26%2Fx&plain=a%20b"
    assert headers["X-Token"] == "Token hunter2"
    assert headers["Authorization"] == httpx.BasicAuth("reader", "hunter4@b/c")._auth_header
    # and neither error nor log shows them
    assert reading == MetricReading(error=f"{server.url}: HTTP 500")
    assert "hunter" not in caplog.text


async def test_the_whole_address_can_come_from_the_environment(
    metrics: WebMetrics, server: Server, environment: dict[str, str]
) -> None:
    # given an address that is set after the worker has started
    with pytest.raises(WebSettingError, match=r"web\.url: the variable STATS_URL is not set"):
        metrics.check(source(server, url="${STATS_URL}/stats"))
    environment["STATS_URL"] = f"{server.url}/v2"

    # when it is measured, then it is used, and errors do not show it
    assert (await metrics.measure(source(server, url="${STATS_URL}/stats"))).value == 40
    assert server.requests[0][1] == "/v2/stats"
    server.status = 500
    assert (await metrics.measure(source(server, url="${STATS_URL}"))).error == "web.url: HTTP 500"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"url": "https://127.0.0.1:9/${MISSING}"}, "web.url: the variable MISSING is not set"),
        ({"url": "ftp://reader:hunter2@127.0.0.1/"}, "web.url: it is no http:// or https:// address"),
        ({"url": "http://reader:hunter2@host:port/"}, "web.url: it cannot be read as an address"),
        ({"headers": {"X-Key": "${BROKEN}"}}, "web.headers.X-Key: a line break"),
        ({"json_path": "checks.total"}, "web.json_path 'checks.total' is no JSONPath"),
        ({"json_path": "$.zones[?nope(@)]"}, "is no JSONPath"),
    ],
)
async def test_a_source_that_cannot_be_asked_is_the_configurations_fault(
    http: httpx.AsyncClient, server: Server, fields: dict[str, Any], reason: str
) -> None:
    sources = MetricSources(http, None, {"BROKEN": "hunter2\r\nX-Admin: 1"})
    web_source = WebSource.model_validate({**source(server).model_dump(), **fields})
    metric = Metric(name="orders", web=web_source, success="> 1")

    for asked in (lambda: sources.check(metric, None), lambda: sources.measure(metric, None)):
        with pytest.raises(NotConfiguredError, match="metric orders: ") as failed:
            if (measuring := asked()) is not None:
                await measuring
        assert reason in str(failed.value)
        assert "hunter2" not in str(failed.value)
    assert server.requests == []
