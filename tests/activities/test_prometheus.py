"""One number per query, and a reason wherever there is none."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web

from activities.prometheus import Prometheus
from domain.analysis import MetricReading
from sandbox.metrics.prometheus import run_prometheus

HISTOGRAM = {
    "resultType": "vector",
    "result": [{"metric": {}, "histogram": [1435781451.781, {"count": "60", "sum": "33.4", "buckets": []}]}],
}


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The real Prometheus; the queries bring their own numbers, so it scrapes nothing."""
    if shutil.which("prometheus") is None:
        reason = "prometheus not on PATH: apt-get install --no-install-recommends prometheus"
        if os.environ.get("CI_FORBID_SKIPS") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    async with run_prometheus([], tmp_path_factory.mktemp("prometheus")) as url:
        yield url


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def prometheus(http: httpx.AsyncClient) -> Prometheus:
    return Prometheus(http, timeout=timedelta(seconds=10))


class Answering:
    """A server that answers every query alike, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str | None, dict[str, Any]]] = []
        self.status = 200
        self.body = ""
        self.content_type = "application/json"

    def says(self, status: int, document: dict[str, Any]) -> None:
        self.status, self.body = status, json.dumps(document)

    async def answer(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        self.requests.append((request.path, request.headers.get("Authorization"), form))
        return web.Response(status=self.status, text=self.body, content_type=self.content_type)


@pytest.fixture
async def answering() -> AsyncIterator[Answering]:
    behaviour = Answering()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", behaviour.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    behaviour.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield behaviour
    await runner.cleanup()


@pytest.mark.parametrize(("promql", "value"), [("vector(4.2)", 4.2), ("2 * 21", 42.0)])
async def test_a_vector_of_one_and_a_scalar_are_numbers(
    prometheus: Prometheus, server: str, promql: str, value: float
) -> None:
    assert await prometheus.query(server, promql) == MetricReading(value=value)


async def test_no_series_is_no_value_and_no_error(prometheus: Prometheus, server: str) -> None:
    assert await prometheus.query(server, "erlmcp_requests_total") == MetricReading()


async def test_zero_by_zero_stays_not_a_number(prometheus: Prometheus, server: str) -> None:
    reading = await prometheus.query(server, "vector(0) / 0")

    assert reading.value is not None
    assert math.isnan(reading.value)
    assert reading.error is None


@pytest.mark.parametrize(
    ("promql", "reason"),
    [
        ("vector(1) / 0", "+Inf"),
        (
            'label_replace(vector(1), "pod", "a", "", "") or label_replace(vector(2), "pod", "b", "", "")',
            'pod="b"',
        ),
        ("sum(", "bad_data"),
        ("up[5m]", "gives a matrix"),
        ('"text"', "gives a string"),
    ],
)
async def test_what_is_not_one_number_is_an_error_with_its_reason(
    prometheus: Prometheus, server: str, promql: str, reason: str
) -> None:
    reading = await prometheus.query(server, promql)

    assert reading.value is None
    assert reading.error is not None
    assert reason in reading.error


@pytest.mark.parametrize(
    ("status", "document", "reason"),
    [
        (
            503,
            {"status": "error", "errorType": "timeout", "error": "query timed out"},
            "timeout: query timed out",
        ),
        (500, {}, "HTTP 500"),
        (302, {}, "HTTP 302"),
        (200, {"status": "success"}, "without data"),
        (200, {"status": "success", "data": {"resultType": "vector", "result": [{}]}}, "histogram"),
        (200, {"status": "success", "data": HISTOGRAM}, "native histogram"),
        (200, {"status": "success", "data": {"resultType": "scalar", "result": []}}, "cannot be read"),
        (
            200,
            {
                "status": "success",
                "warnings": ["store-1 did not answer"],
                "data": {"resultType": "vector", "result": []},
            },
            "store-1 did not answer",
        ),
    ],
)
async def test_a_server_that_fails_is_an_error(
    prometheus: Prometheus, answering: Answering, status: int, document: dict[str, Any], reason: str
) -> None:
    answering.says(status, document)

    reading = await prometheus.query(answering.url, "up")

    assert reading.value is None
    assert reading.error is not None
    assert reason in reading.error


async def test_a_page_in_place_of_json_is_an_error(prometheus: Prometheus, answering: Answering) -> None:
    answering.status, answering.body, answering.content_type = 200, "<html>log in</html>", "text/html"

    assert "without readable JSON" in str((await prometheus.query(answering.url, "up")).error)


async def test_a_server_that_does_not_answer_in_time_is_an_error(
    http: httpx.AsyncClient, answering: Answering
) -> None:
    hasty = Prometheus(http, timeout=timedelta(microseconds=1))

    assert "did not answer within" in str((await hasty.query(answering.url, "up")).error)


async def test_credentials_are_sent_but_shown_nowhere(
    prometheus: Prometheus, answering: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    # given a Prometheus under a prefix that wants a password, and refuses it
    caplog.set_level("DEBUG")
    answering.says(401, {"status": "error", "errorType": "unauthorized", "error": "no"})
    url = answering.url.replace("http://", "http://reader:hunter2@") + "/prefix/?token=hunter3"

    # when it is asked
    reading = await prometheus.query(url, "up")

    # then the password has arrived, and neither error nor log shows it
    ((path, authorization, form),) = answering.requests
    assert (path, form) == ("/prefix/api/v1/query", {"query": "up"})
    assert authorization == httpx.BasicAuth("reader", "hunter2")._auth_header
    assert reading.error == f"{answering.url} answered HTTP 401, unauthorized: no"
    assert "hunter" not in caplog.text


@pytest.mark.parametrize(
    "url", ["http://reader:hunter2@127.0.0.1:9", "prometheus:9090", "http://reader:hunter2@["]
)
async def test_an_address_without_prometheus_is_an_error_that_keeps_secrets(
    prometheus: Prometheus, url: str
) -> None:
    reading = await prometheus.query(url, "up")

    assert reading.error is not None
    assert "hunter2" not in reading.error
