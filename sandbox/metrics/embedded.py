"""A stand-in for Prometheus, where it is not installed: the same scrapes, and instant queries over HTTP."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
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


@contextlib.asynccontextmanager
async def serve_embedded(targets: Sequence[MetricsTarget]) -> AsyncIterator[str]:
    """Scrape in the background and serve ``/api/v1/query``; yields the base URL."""
    store = SeriesStore()

    async def query(request: Request) -> Response:
        parameters: dict[str, Any] = dict(request.query_params)
        if request.method == "POST":
            parameters |= dict(parse_qsl((await request.body()).decode()))
        return _answer(parameters, store)

    async def ready(_: Request) -> Response:
        return PlainTextResponse("Prometheus stand-in is Ready.\n")

    app = Starlette(
        routes=[
            Route("/api/v1/query", query, methods=["GET", "POST"]),
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


def _answer(parameters: dict[str, Any], store: SeriesStore) -> Response:
    try:
        at = _time(parameters.get("time"))
        result = evaluate(str(parameters.get("query", "")), store, at)
    except QueryError as error:
        problem = {"status": "error", "errorType": "bad_data", "error": f'invalid parameter "query": {error}'}
        return JSONResponse(problem, status_code=400)
    return JSONResponse({"status": "success", "data": _data(result, at)})


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
