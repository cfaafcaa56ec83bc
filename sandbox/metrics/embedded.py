"""A stand-in for Prometheus, where it is not installed: the same scrapes, and queries over HTTP."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.asgi import serve
from sandbox.metrics.promql import Labels, Matrix, QueryError, Result, evaluate
from sandbox.metrics.series import SeriesStore, format_value, parse_exposition
from sandbox.metrics.target import MetricsTarget

_INTERVAL: Final = 1.0  # seconds
_TIMEOUT: Final = 0.9
_MOST_POINTS: Final = 11_000  # per series of a range query, as in Prometheus

Parameters = dict[str, Any]


@contextlib.asynccontextmanager
async def serve_embedded(targets: Sequence[MetricsTarget]) -> AsyncIterator[str]:
    """Scrape in the background and serve both kinds of query; yields the base URL."""
    store = SeriesStore()

    def endpoint(
        answer: Callable[[Parameters, SeriesStore], Parameters],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def serve_query(request: Request) -> Response:
            parameters: Parameters = dict(request.query_params)
            if request.method == "POST":
                parameters |= dict(parse_qsl((await request.body()).decode()))
            try:
                return JSONResponse({"status": "success", "data": answer(parameters, store)})
            except QueryError as error:
                problem = {"status": "error", "errorType": "bad_data", "error": f"invalid parameter: {error}"}
                return JSONResponse(problem, status_code=400)

        return serve_query

    async def ready(_: Request) -> Response:
        return PlainTextResponse("Prometheus stand-in is Ready.\n")

    app = Starlette(
        routes=[
            Route("/api/v1/query", endpoint(_instant), methods=["GET", "POST"]),
            Route("/api/v1/query_range", endpoint(_range), methods=["GET", "POST"]),
            Route("/-/ready", ready),
            Route("/-/healthy", ready),
        ]
    )
    async with serve(app) as url, httpx.AsyncClient(timeout=_TIMEOUT) as http:
        scrapers = [asyncio.create_task(_scrape_forever(http, target, store)) for target in targets]
        try:
            yield url
        finally:
            for scraper in scrapers:
                scraper.cancel()
            await asyncio.gather(*scrapers, return_exceptions=True)


async def _scrape_forever(http: httpx.AsyncClient, target: MetricsTarget, store: SeriesStore) -> None:
    known: set[Labels] = set()
    while True:
        start = time.time()
        found: dict[Labels, float | None] = {}
        try:
            answer = await http.get(f"http://{target.address}/metrics")
            found = parse_exposition(answer.raise_for_status().text, target.all_labels)
            up = 1.0
        except (httpx.HTTPError, ValueError):
            up = 0.0
        ended = known - found.keys()
        known = set(found)
        own = frozenset({"__name__": "up", **target.all_labels}.items())
        store.append(start, {**found, **dict.fromkeys(ended), own: up})
        await asyncio.sleep(max(0.0, start + _INTERVAL - time.time()))


def _instant(parameters: Parameters, store: SeriesStore) -> Parameters:
    at = _time(parameters.get("time"))
    return _data(evaluate(str(parameters.get("query", "")), store, at), at)


def _range(parameters: Parameters, store: SeriesStore) -> Parameters:
    """The answers at ``start`` and every ``step`` seconds after it, until ``end``."""
    missing = [name for name in ("start", "end", "step") if name not in parameters]
    if missing:
        raise QueryError(f"{', '.join(missing)} is missing")
    start, end, step = _time(parameters["start"]), _time(parameters["end"]), _step(parameters["step"])
    if end < start:
        raise QueryError("end timestamp must not be before start time")
    count = math.floor((end - start) / step + 1e-9) + 1
    if count > _MOST_POINTS:
        raise QueryError(f"exceeded maximum resolution of {_MOST_POINTS:,} points per timeseries")
    series: dict[Labels, list[list[Any]]] = {}
    for moment in (round(start + number * step, 3) for number in range(count)):
        result = evaluate(str(parameters.get("query", "")), store, moment)
        if isinstance(result, Matrix):
            raise QueryError("a range query needs an expression that gives a scalar or an instant vector")
        found = {frozenset[tuple[str, str]](): result} if isinstance(result, float) else result
        for labels, value in found.items():
            series.setdefault(labels, []).append([moment, format_value(value)])
    rows = [{"metric": dict(labels), "values": values} for labels, values in series.items()]
    return {"resultType": "matrix", "result": rows}


def _step(given: Any) -> float:
    try:
        step = float(given)
    except ValueError:
        raise QueryError(f"step {given!r}: this stand-in knows steps in seconds only") from None
    if not 0 < step < math.inf:
        raise QueryError(f"step {given!r}: zero or negative query resolution steps are not accepted")
    return step


def _time(given: Any) -> float:
    if given is None:
        return time.time()
    with contextlib.suppress(ValueError):
        return float(given)
    try:
        return datetime.fromisoformat(str(given)).timestamp()
    except ValueError:
        raise QueryError(f"time {given!r} is neither seconds nor RFC 3339") from None


def _data(result: Result, at: float) -> dict[str, Any]:
    if isinstance(result, float):
        return {"resultType": "scalar", "result": [at, format_value(result)]}
    if isinstance(result, Matrix):
        rows: list[dict[str, Any]] = [
            {"metric": dict(labels), "values": [[time, format_value(value)] for time, value in samples]}
            for labels, samples in result.series.items()
        ]
        return {"resultType": "matrix", "result": rows}
    rows = [{"metric": dict(labels), "value": [at, format_value(value)]} for labels, value in result.items()]
    return {"resultType": "vector", "result": rows}
