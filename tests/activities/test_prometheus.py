"""One number per query, and a reason wherever there is none: a real Prometheus scrapes a real exporter."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from activities.metrics import Prometheus, PrometheusError, Sample
from activities.metrics.sources import MetricSources
from domain.analysis import Comparison, Metric, MetricReading
from domain.configuration import CRASH_RATE_QUERY, ERROR_RATE_QUERY, LATENCY_P95_QUERY, LATENCY_P99_QUERY
from sandbox.asgi import serve
from sandbox.metrics import MetricsTarget
from sandbox.metrics.prometheus import run_prometheus

SECOND = timedelta(seconds=1)
STABLE = 'erlmcp_requests_total{track="stable"}'
NATIVE = {
    "resultType": "vector",
    "result": [{"metric": {}, "histogram": [1435781451.781, {"count": "60", "sum": "33.4", "buckets": []}]}],
}


class Exporter:
    """A service and its cluster, scraped every second.

    A tenth of the stable side's requests fails, more of pod b than of pod a; none of the canary's ever did;
    nobody asks the idle track. Of 100 requests 90 are done within 0.5 s, 98 within 10 s and all within 30 s.
    """

    def __init__(self) -> None:
        self.scrapes = 0

    async def metrics(self, _: Request) -> PlainTextResponse:
        self.scrapes += 1
        n = self.scrapes
        requests = [
            ("stable", "a", "200", 19 * n),
            ("stable", "a", "500", n),
            ("stable", "b", "200", 17 * n),
            ("stable", "b", "500", 3 * n),
            ("canary", "c", "200", 20 * n),
            ("idle", "d", "200", 0),
        ]
        lines = [
            f'erlmcp_requests_total{{track="{track}",pod="{pod}",status="{status}"}} {count}'
            for track, pod, status, count in requests
        ]
        lines += [
            f'erlmcp_request_duration_seconds_bucket{{track="stable",le="{bound}"}} {count * n}'
            for bound, count in (("0.5", 90), ("10", 98), ("30", 100), ("+Inf", 100))
        ]
        lines.append(f'kube_pod_container_status_restarts_total{{namespace="prod",pod="erlmcp-1"}} {n}')
        lines += ["broken_ratio NaN", "endless_ratio +Inf", "bottomless_ratio -Inf", ""]
        return PlainTextResponse("\n".join(lines))


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A real Prometheus that has scraped the exporter a few times."""
    if shutil.which("prometheus") is None:
        reason = "prometheus not on PATH: apt-get install --no-install-recommends prometheus"
        if os.environ.get("CI_FORBID_SKIPS") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    exporter = Exporter()
    async with serve(Starlette(routes=[Route("/metrics", exporter.metrics)])) as url:
        target = MetricsTarget(url.removeprefix("http://"))
        async with run_prometheus([target], tmp_path_factory.mktemp("prometheus")) as prometheus:
            async with asyncio.timeout(60):
                while exporter.scrapes < 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            yield prometheus


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
        self.delay = 0.0

    def says(self, status: int, document: dict[str, Any]) -> None:
        self.status, self.body = status, json.dumps(document)

    async def answer(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        await asyncio.sleep(self.delay)
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


# One number


@pytest.mark.parametrize(("promql", "value"), [("vector(4.2)", 4.2), ("2 * 21", 42.0)])
async def test_a_vector_of_one_and_a_scalar_are_numbers(
    prometheus: Prometheus, server: str, promql: str, value: float
) -> None:
    assert await prometheus.query(server, promql) == MetricReading(value=value)


@pytest.mark.parametrize(
    ("template", "value", "tolerance"),
    [
        (ERROR_RATE_QUERY, 10, 1e-6),
        (LATENCY_P95_QUERY, 0.5 + 9.5 * 5 / 8, 1e-6),
        (LATENCY_P99_QUERY, 20, 1e-6),
        (CRASH_RATE_QUERY, 60, 0.3),  # the counts are exact, the times of the scrapes are not
    ],
)
async def test_the_default_queries_measure_the_triggers(
    prometheus: Prometheus, server: str, template: str, value: float, tolerance: float
) -> None:
    names = {"namespace": "prod", "pod": "erlmcp-.*", "window": "5s", "window_minutes": 5 / 60}

    reading = await prometheus.query(server, template.format(selector='track="stable"', **names))

    assert reading.error is None
    assert reading.value == pytest.approx(value, rel=tolerance)


async def test_no_failed_request_is_zero_and_no_request_is_no_data(
    prometheus: Prometheus, server: str
) -> None:
    def of(track: str) -> str:
        return ERROR_RATE_QUERY.format(selector=f'track="{track}"', window="5s")

    assert await prometheus.query(server, of("canary")) == MetricReading(value=0)
    assert await prometheus.query(server, of("idle")) == MetricReading()
    assert await prometheus.query(server, of("missing")) == MetricReading()


async def test_two_windows_must_both_burn(prometheus: Prometheus, server: str) -> None:
    failed = 'erlmcp_requests_total{track="stable",status="500"}'

    def burning(window: str, limit: int) -> str:
        return f"(100 * sum(rate({failed}[{window}])) / sum(rate({STABLE}[{window}])) > {limit})"

    both = await prometheus.query(server, f"{burning('5s', 8)} and {burning('3s', 8)}")
    one = await prometheus.query(server, f"{burning('5s', 8)} and {burning('3s', 12)}")

    assert both.value == pytest.approx(10)
    assert one == MetricReading()


@pytest.mark.parametrize(
    "promql", ["broken_ratio", "sum(rate(erlmcp_requests_total{track='idle'}[5s])) / 0", "vector(0) / 0"]
)
async def test_not_a_number_stays_not_a_number(prometheus: Prometheus, server: str, promql: str) -> None:
    reading = await prometheus.query(server, promql)

    assert reading.value is not None
    assert math.isnan(reading.value)
    assert reading.error is None


@pytest.mark.parametrize(
    ("promql", "reason"),
    [
        ("endless_ratio", "+Inf"),
        ("bottomless_ratio", "-Inf"),
        ("vector(1) / 0", "+Inf"),
        ("erlmcp_requests_total", "gives 6 series"),
        (f"sum by (pod) ({STABLE})", 'gives 2 series ({pod="a"}, {pod="b"}), not one'),
        ("sum(", "HTTP 400, bad_data"),
        (f"{STABLE} * on () {STABLE}", "HTTP 422, execution"),
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


async def test_a_query_can_be_asked_for_a_moment_that_has_passed(prometheus: Prometheus, server: str) -> None:
    now = datetime.now(UTC)

    before = await prometheus.query(server, f"sum({STABLE})", now - 2.5 * SECOND)
    later = await prometheus.query(server, f"sum({STABLE})", now)

    assert before.value is not None
    assert later.value is not None
    assert before.value < later.value
    assert await prometheus.query(server, f"sum({STABLE})", now - timedelta(hours=1)) == MetricReading()


# A range


async def test_a_range_is_what_the_query_says_at_each_moment(prometheus: Prometheus, server: str) -> None:
    # given a range that begins before the first scrape
    query, half = f"sum(rate({STABLE}[2s]))", SECOND / 2
    end = datetime.now(UTC).replace(microsecond=0) - SECOND
    start = end - 10 * SECOND

    found = await prometheus.range(server, query, start, end, half)

    # then it has every moment, and says of each what a query for that moment says
    assert [sample.at for sample in found] == [start + half * number for number in range(21)]
    readings = await asyncio.gather(*(prometheus.query(server, query, sample.at) for sample in found))
    assert [sample.value for sample in found] == [reading.value for reading in readings]
    assert found[0].value is None
    assert found[-1].value == pytest.approx(40, rel=0.3)


async def test_a_range_keeps_what_is_no_finite_number(prometheus: Prometheus, server: str) -> None:
    even = datetime(2026, 11, 23, tzinfo=UTC)
    parity = "floor(vector(time())) % 2"

    nans = await prometheus.range(server, f"0 / ({parity})", even, even + SECOND, SECOND)
    infinite = await prometheus.range(server, f"1 / ({parity})", even, even + SECOND, SECOND)
    missing = await prometheus.range(server, f"{parity} == 1", even, even + SECOND, SECOND)

    assert nans[0].value is not None
    assert math.isnan(nans[0].value)
    assert nans[1] == Sample(even + SECOND, 0)
    assert [sample.value for sample in infinite] == [math.inf, 1]
    assert [sample.value for sample in missing] == [None, 1]


async def test_a_range_of_more_points_than_the_server_gives_at_once(
    prometheus: Prometheus, server: str
) -> None:
    # given more points than Prometheus gives in one answer (11,000)
    end = datetime.now(UTC).replace(microsecond=7000)

    found = await prometheus.range(server, "vector(time())", end - 12 * SECOND, end, SECOND / 1000)

    assert len(found) == 12_001
    assert all(sample.value == pytest.approx(sample.at.timestamp(), abs=1e-4) for sample in found)


async def test_series_that_follow_each_other_are_one_and_side_by_side_they_are_none(
    prometheus: Prometheus, server: str
) -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    moment = f"{start.timestamp() + 2:.0f}"

    def named(pod: str, condition: str) -> str:
        return f'label_replace(vector(time()) {condition} {moment}, "pod", "{pod}", "", "")'

    followed = f"{named('a', '<')} or {named('b', '>=')}"
    found = await prometheus.range(server, followed, start, start + 3 * SECOND, SECOND)
    assert [sample.value for sample in found] == [start.timestamp() + n for n in range(4)]

    with pytest.raises(PrometheusError, match=r'gives 2 series \(\{pod="a"\}, \{pod="b"\}\), not one'):
        await prometheus.range(
            server, f"{named('a', '<=')} or {named('b', '>=')}", start, start + 3 * SECOND, SECOND
        )


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("sum(", 5, SECOND), "HTTP 400, bad_data"),
        (("up[5m]", 5, SECOND), "HTTP 400, bad_data"),
        ((f"{STABLE} * on () {STABLE}", 5, SECOND), "HTTP 422, execution"),
        (("up", -5, SECOND), "lies before the start"),
        (("up", 5, SECOND / 10_000), "is too short"),
    ],
)
async def test_a_range_that_cannot_be_had_is_an_error(
    prometheus: Prometheus, server: str, asked: tuple[str, int, timedelta], reason: str
) -> None:
    promql, seconds, step = asked
    end = datetime.now(UTC)

    with pytest.raises(PrometheusError, match=reason):
        await prometheus.range(server, promql, end - seconds * SECOND, end, step)


# Metrics with a baseline


async def test_a_baseline_is_measured_when_it_is_wanted(http: httpx.AsyncClient, server: str) -> None:
    sources = MetricSources(http, None, {})
    total = f"sum({STABLE})"
    metric = Metric(name="requests", query=total, baseline_query=total)
    then = datetime.now(UTC) - 2.5 * SECOND

    same = await sources.measure(metric, server)
    before = await sources.measure(metric.model_copy(update={"baseline_at": then}), server)

    assert same.baseline == same.value
    assert before.baseline is not None
    assert before.value is not None
    assert before.baseline < before.value


async def test_samples_of_both_sides_are_compared(http: httpx.AsyncClient, server: str) -> None:
    # given a comparison over the last two seconds
    comparison = Comparison(window=2 * SECOND, step=SECOND / 4, min_samples=5)

    def failing(track: str) -> str:
        return ERROR_RATE_QUERY.format(selector=f'track="{track}"', window="3s")

    metric = Metric(
        name="errors", query=failing("stable"), baseline_query=failing("canary"), comparison=comparison
    )

    # when it is measured
    reading = await MetricSources(http, None, {}).measure(metric, server)

    # then both sides have their samples, one each step, and the newest is the value
    assert reading.error is None
    assert reading.samples == pytest.approx([10] * 8)
    assert reading.baseline_samples == (0,) * 8
    assert reading.value == pytest.approx(10)
    assert reading.baseline == 0

    # and a side without traffic has none
    idle = await MetricSources(http, None, {}).measure(
        metric.model_copy(update={"query": failing("idle")}), server
    )
    assert idle == MetricReading(baseline=0, baseline_samples=(0,) * 8)


async def test_samples_leave_out_what_is_not_a_number_and_refuse_infinity(
    http: httpx.AsyncClient, server: str
) -> None:
    comparison = Comparison(window=10 * SECOND, step=SECOND)
    parity = "(floor(vector(time())) % 2)"
    metric = Metric(
        name="parity", query=f"0 / {parity}", baseline_query=f"1 / {parity}", comparison=comparison
    )
    sources = MetricSources(http, None, {})

    half = await sources.measure(metric.model_copy(update={"baseline_query": "vector(1)"}), server)
    infinite = await sources.measure(metric, server)

    assert half.samples == (0,) * 5
    assert half.baseline_samples == (1,) * 10
    assert infinite == MetricReading(error="its baseline: the query gives +Inf: it divides by zero")


# A server that fails


@pytest.mark.parametrize(
    ("status", "document", "reason"),
    [
        (
            503,
            {"status": "error", "errorType": "timeout", "error": "query timed out"},
            "timeout: query timed out",
        ),
        (429, {"status": "error", "errorType": "too_many", "error": "slow down"}, "it is asked too much"),
        (500, {}, "HTTP 500"),
        (302, {}, "HTTP 302, a redirect, which is not followed"),
        (200, {"status": "success"}, "without data"),
        (200, {"status": "success", "data": {"resultType": "vector", "result": [{}]}}, "histogram"),
        (200, {"status": "success", "data": NATIVE}, "native histogram"),
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
        (
            200,
            {"status": "success", "isPartial": True, "data": {"resultType": "vector", "result": []}},
            "partial answer",
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
    end = datetime.now(UTC)
    with pytest.raises(PrometheusError):
        await prometheus.range(answering.url, "up", end - SECOND, end, SECOND)


@pytest.mark.parametrize("status", [200, 502])
async def test_a_page_of_a_proxy_in_place_of_json_is_an_error(
    prometheus: Prometheus, answering: Answering, status: int
) -> None:
    answering.status, answering.body, answering.content_type = status, "<html>log in</html>", "text/html"

    reading = await prometheus.query(answering.url, "up")

    assert reading.error == f"{answering.url} answered HTTP {status} without readable JSON (text/html)"


async def test_an_answer_for_other_moments_is_an_error(prometheus: Prometheus, answering: Answering) -> None:
    """Some servers move the range to whole steps to use their cache."""
    series = [{"metric": {}, "values": [[1435781451.5, "1"]]}]
    answering.says(200, {"status": "success", "data": {"resultType": "matrix", "result": series}})
    start = datetime.fromtimestamp(1435781451.781, UTC)

    with pytest.raises(PrometheusError, match="other moments"):
        await prometheus.range(answering.url, "up", start, start + SECOND, SECOND)


async def test_a_server_that_does_not_answer_in_time_is_an_error(
    http: httpx.AsyncClient, answering: Answering
) -> None:
    answering.delay = 0.5
    hasty = Prometheus(http, timeout=timedelta(milliseconds=50))

    assert (await hasty.query(answering.url, "up")).error == f"{answering.url}: no answer within 50ms"


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
    remedy = "check the credentials in metrics.prometheus_url"
    assert reading.error == f"{answering.url} answered HTTP 401, unauthorized: no; {remedy}"
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
