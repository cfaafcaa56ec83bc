"""Both engines scrape the deployed services; the stand-in calculates what Prometheus calculates."""

import asyncio
import math
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sandbox.asgi import serve
from sandbox.kubernetes.emulator import Emulator
from sandbox.metrics import MetricsTarget, TrafficGenerator, start_metrics
from sandbox.metrics.promql import Matrix, QueryError, evaluate
from sandbox.metrics.series import SeriesStore, parse_exposition
from tests.activities.kubernetes.workload import Onlooker

_NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="apt-get install --no-install-recommends prometheus",
)
_TOTAL = "erlsample_requests_total"
_BUCKET = "erlsample_request_duration_seconds_bucket"
_ERROR_RATIO = f'100 * sum(rate({_TOTAL}{{status=~"5.."}}[5s])) / sum(rate({_TOTAL}[5s]))'
_P95 = f"histogram_quantile(0.95, sum by (le) (rate({_BUCKET}[5s])))"


class GrowingService:
    """Counts that grow with every scrape and start again at zero once, as after a restart."""

    def __init__(self) -> None:
        self.scrapes = 0

    async def metrics(self, _: Request) -> PlainTextResponse:
        self.scrapes += 1
        n = self.scrapes if self.scrapes < 3 else self.scrapes - 2
        lines = [f'{_TOTAL}{{status="200",version="1.0.0"}} {19 * n}']
        lines += [f'{_TOTAL}{{status="500",version="1.0.0"}} {n}', "idle_total 0"]
        for bound, count in (("0.1", 10 * n), ("0.5", 15 * n), ("10", 19 * n), ("+Inf", 20 * n)):
            lines.append(f'{_BUCKET}{{le="{bound}",version="1.0.0"}} {count}')
        return PlainTextResponse("# HELP x y\n# TYPE x counter\n" + "\n".join(lines) + "\n")


@pytest.fixture
async def service() -> AsyncIterator[tuple[GrowingService, MetricsTarget]]:
    service = GrowingService()
    async with serve(Starlette(routes=[Route("/metrics", service.metrics)])) as url:
        yield service, MetricsTarget(url.removeprefix("http://"), {"track": "stable", "namespace": "prod"})


async def _query(url: str, query: str, at: float | None = None) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.post(
            f"{url}/api/v1/query", data={"query": query} | ({"time": str(at)} if at else {})
        )


async def _query_range(url: str, query: str, start: Any, end: Any, step: Any) -> httpx.Response:
    asked = {"query": query, "start": start, "end": end, "step": step}
    async with httpx.AsyncClient() as http:
        return await http.post(f"{url}/api/v1/query_range", data=asked)


async def _scraped(service: GrowingService, times: int) -> None:
    async with asyncio.timeout(60):
        while service.scrapes < times:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@_NEEDS_PROMETHEUS
async def test_the_stand_in_calculates_exactly_what_prometheus_calculates(
    service: tuple[GrowingService, MetricsTarget], tmp_path: Path
) -> None:
    # given samples that the real Prometheus scraped, a counter reset among them, also in the stand-in's store
    growing, target = service
    async with start_metrics([target], tmp_path, engine="prometheus") as metrics:
        await _scraped(growing, 5)
        at = round(time.time(), 3)  # Prometheus counts in milliseconds
        store = SeriesStore()
        answer = (await _query(metrics.url, '{job="erlsample"}[1m]', at)).json()
        for row in answer["data"]["result"]:
            for moment, value in row["values"]:
                store.append(moment, {frozenset(row["metric"].items()): float(value)})

        for query in (
            _TOTAL,
            f'{_TOTAL}{{status!="500",track="stable"}}',
            f"rate({_TOTAL}[5s])",
            f"increase({_TOTAL}[1m])",
            f"sum without (status, instance) (rate({_TOTAL}[5s]))",
            _ERROR_RATIO,
            _P95,
            f"histogram_quantile(0.99, rate({_BUCKET}[1m]))",
            f"{_P95} > 1",
            f"{_P95} > bool 1",
            "rate(idle_total[5s]) / rate(idle_total[5s])",
            f'sum(rate({_TOTAL}{{status="404"}}[5s])) or vector(0)',
            "sum(rate(missing_total[5s]))",
            "avg(up) + max(up) * 2 - -1",
            "2 * 3",
        ):
            # when both evaluate the query at the same moment
            real = (await _query(metrics.url, query, at)).json()
            assert real["status"] == "success", real
            mine = evaluate(query, store, at)
            # then they answer the same
            assert not isinstance(mine, Matrix)
            assert _comparable(mine) == pytest.approx(_from_json(real["data"]), nan_ok=True), query


def _comparable(result: float | dict[Any, float]) -> dict[Any, float]:
    return result if isinstance(result, dict) else {"scalar": result}


def _from_json(data: dict[str, Any]) -> dict[Any, float]:
    if data["resultType"] == "scalar":
        return {"scalar": float(data["result"][1])}
    return {frozenset(row["metric"].items()): float(row["value"][1]) for row in data["result"]}


async def test_the_stand_in_scrapes_a_service_with_the_labels_of_its_front(
    service: tuple[GrowingService, MetricsTarget], tmp_path: Path
) -> None:
    growing, target = service
    dead = MetricsTarget("127.0.0.1:1", {"track": "canary", "namespace": "prod"})
    async with start_metrics([target, dead], tmp_path, engine="embedded") as metrics:
        await _scraped(growing, 3)

        up = _from_json((await _query(metrics.url, "sum by (track) (up)")).json()["data"])
        assert up == {frozenset({("track", "stable")}): 1.0, frozenset({("track", "canary")}): 0.0}

        ratio = (await _query(metrics.url, _ERROR_RATIO)).json()["data"]["result"]
        assert float(ratio[0]["value"][1]) == pytest.approx(5.0)

        # no data, not a number and a bad query are three different answers
        missing = await _query(metrics.url, f'sum(rate({_TOTAL}{{track="canary"}}[5s]))')
        assert missing.json() == {"status": "success", "data": {"resultType": "vector", "result": []}}
        idle = await _query(metrics.url, "sum(rate(idle_total[5s])) / sum(rate(idle_total[5s]))")
        assert idle.json()["data"]["result"][0]["value"][1] == "NaN"
        wrong = await _query(metrics.url, "sum(rate(")
        assert wrong.status_code == 400
        assert (wrong.json()["status"], wrong.json()["errorType"]) == ("error", "bad_data")


async def test_a_range_of_the_stand_in_is_what_it_says_at_each_moment(
    service: tuple[GrowingService, MetricsTarget], tmp_path: Path
) -> None:
    growing, target = service
    async with start_metrics([target], tmp_path, engine="embedded") as metrics:
        await _scraped(growing, 4)
        end = round(time.time() - 0.5, 3)  # a scrape under way belongs to a later moment
        moments = [end - 2, end - 1.5, end - 1, end - 0.5, end]

        for query in (f"sum(rate({_TOTAL}[3s]))", "2 * 3"):
            answer = (await _query_range(metrics.url, query, end - 2, end, 0.5)).json()["data"]
            said: dict[float, float] = {}
            for moment in moments:
                data = (await _query(metrics.url, query, moment)).json()["data"]
                said |= {round(moment, 3): value for value in _from_json(data).values()}
            [row] = answer["result"]
            assert answer["resultType"] == "matrix"
            assert {moment: float(value) for moment, value in row["values"]} == pytest.approx(said)

        # and what Prometheus would refuse is refused
        for start, step, reason in (
            (end + 1, 1, "end timestamp"),
            (end - 20, 0.001, "11,000 points"),
            (end - 2, 0, "zero or negative"),
            (end - 2, "15s", "seconds only"),
        ):
            refused = await _query_range(metrics.url, "up", start, end, step)
            assert refused.status_code == 400
            assert reason in refused.json()["error"]
        assert (await _query_range(metrics.url, "up[5m]", end, end, 1)).status_code == 400


async def test_restarts_of_the_clusters_containers_can_be_queried(emulator: Emulator, tmp_path: Path) -> None:
    async with (
        Onlooker.at(emulator.access) as onlooker,
        start_metrics([], tmp_path, kubeconfig=emulator.kubeconfig_path) as metrics,
    ):
        # given a pod whose kubelet is the test
        pods = "/api/v1/namespaces/crashing/pods"
        await onlooker.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "crashing"}})
        spec = {"containers": [{"name": "main", "image": "x"}], "nodeSelector": {"test": "kubelet"}}
        await onlooker.ask("POST", pods, {"metadata": {"name": "erlmcp-0"}, "spec": spec})

        async def show(restarts: int) -> None:
            status = {"name": "main", "restartCount": restarts, "ready": True, "image": "x", "imageID": "x"}
            patch = {"status": {"containerStatuses": [status]}}
            await onlooker.ask(
                "PATCH", f"{pods}/erlmcp-0/status", patch, content_type="application/merge-patch+json"
            )

        async def wait_for(query: str, wanted: float) -> None:
            async with asyncio.timeout(60):
                while True:
                    result = (await _query(metrics.url, query)).json()["data"]["result"]
                    if [float(row["value"][1]) for row in result] >= [wanted]:
                        return
                    await asyncio.sleep(0.1)

        # when it crashes
        series = 'kube_pod_container_status_restarts_total{namespace="crashing",pod=~"erlmcp-.*"}'
        await show(0)
        await wait_for(f"{series} + 1", 1)
        await show(3)

        # then the restarts and their rate are there
        await wait_for(series, 3)
        await wait_for(f"max(increase({series}[1m])) / 1", 1)


@pytest.mark.parametrize(
    "query", ["", "topk(1, up)", "absent(up)", "up offset 5m", "a / on (x) b", "rate(up[5m:1m])", "up ^ 2"]
)
def test_what_the_stand_in_cannot_calculate_is_refused(query: str) -> None:
    with pytest.raises(QueryError):
        evaluate(query, SeriesStore(), 0.0)


def test_a_series_ends_when_a_scrape_no_longer_shows_it() -> None:
    store, labels = SeriesStore(), frozenset({("__name__", "x_total")})
    store.append(10.0, {labels: 1.0})
    store.append(11.0, {labels: None})

    assert evaluate("x_total", store, 10.5) == {labels: 1.0}
    assert evaluate("x_total", store, 11.5) == {}


def test_labels_are_unescaped_and_those_of_the_target_win() -> None:
    found = parse_exposition('x{track="mine",path="a\\"b\\\\c,}"} +Inf 1700000000\n', {"track": "stable"})

    [(labels, value)] = found.items()
    expected = {"__name__": "x", "track": "stable", "exported_track": "mine", "path": 'a"b\\c,}'}
    assert dict(labels) == expected
    assert value == math.inf


async def test_traffic_is_split_as_the_share_says() -> None:
    # given two tracks of which the canary fails
    async def good(_: Request) -> PlainTextResponse:
        return PlainTextResponse("1")

    async def bad(_: Request) -> PlainTextResponse:
        return PlainTextResponse("no_lease", status_code=500)

    routes = [Route("/stable/bump", good), Route("/canary/bump", bad)]
    async with serve(Starlette(routes=routes)) as url:
        fronts = {"stable": f"{url}/stable", "canary": f"{url}/canary"}
        # when a quarter of the requests goes to the canary
        async with TrafficGenerator(fronts, lambda: 0.25, rate=200) as traffic, asyncio.timeout(60):
            while traffic.results.total() < 40:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            traffic.rate = 0
        results = dict(traffic.results)
    # then the counts show it
    assert set(results) == {("stable", 200), ("canary", 500)}
    assert traffic.errors("canary") == results["canary", 500]
    assert results["canary", 500] == pytest.approx(sum(results.values()) / 4, abs=2)
