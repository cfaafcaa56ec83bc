"""Instant queries to a Prometheus HTTP API (Prometheus, Thanos, Mimir, VictoriaMetrics)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx

from activities.addresses import Address, AddressError
from domain.analysis import MetricReading

_SERIES_NAMED = 3
_LONGEST_TEXT = 300


class PrometheusError(Exception):
    """A value could not be measured; the text says why, without credentials."""


class Prometheus:
    """Reads one number per query. Holds no address: each watch brings its own."""

    def __init__(self, http: httpx.AsyncClient, *, timeout: timedelta = timedelta(seconds=10)) -> None:
        self._http = http
        self._timeout = timeout

    async def query(self, base_url: str, promql: str) -> MetricReading:
        """The value of a query at this moment.

        An empty answer is a reading without value, ``NaN`` (0/0: no traffic) one with that value; whatever
        cannot be taken for one number is an error. Never raises for what the server does.
        """
        try:
            return MetricReading(value=await self._value(base_url, promql))
        except PrometheusError as error:
            return MetricReading(error=str(error))

    async def _value(self, base_url: str, promql: str) -> float | None:
        try:
            address = Address.parse(base_url)
        except AddressError as error:
            raise PrometheusError(f"the address of Prometheus is wrong: {error}") from None
        where = str(address)
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                answer = await self._http.post(
                    address.at("api/v1/query"),
                    data={"query": promql},
                    headers={"Accept": "application/json"},
                    auth=address.auth or httpx.USE_CLIENT_DEFAULT,
                    timeout=self._timeout.total_seconds(),
                    follow_redirects=False,
                )
        except (TimeoutError, httpx.TimeoutException):
            raise PrometheusError(
                f"{where} did not answer within {self._timeout.total_seconds():g} s"
            ) from None
        except httpx.HTTPError as error:
            raise PrometheusError(f"{where} cannot be reached ({type(error).__name__})") from None
        return _number(_data(answer, where), where)


def _data(answer: httpx.Response, where: str) -> Mapping[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise PrometheusError(f"{where} answered HTTP {answer.status_code} without readable JSON")
    if document.get("status") != "success":
        said = str(document.get("error") or "no reason given")[:_LONGEST_TEXT]
        kind = document.get("errorType") or "error"
        raise PrometheusError(f"{where} answered HTTP {answer.status_code}, {kind}: {said}")
    if document.get("warnings"):
        # Thanos and Mimir say so when a store did not answer: half the truth is no measurement.
        said = "; ".join(map(str, document["warnings"]))[:_LONGEST_TEXT]
        raise PrometheusError(f"{where} warns: {said}")
    data = document.get("data")
    if not answer.is_success or not isinstance(data, dict):
        raise PrometheusError(f"{where} answered HTTP {answer.status_code} without data")
    return data


def _number(data: Mapping[str, Any], where: str) -> float | None:
    kind, result = data.get("resultType"), data.get("result")
    try:
        if kind == "scalar":
            return _finite(result[1])  # type: ignore[index]
        if kind != "vector" or not isinstance(result, list):
            raise PrometheusError(
                f"the query gives a {kind}; write one that gives an instant vector or scalar"
            )
        if not result:
            return None
        if len(result) > 1:
            named = ", ".join(_labels(series) for series in result[:_SERIES_NAMED])
            more = ", …" if len(result) > _SERIES_NAMED else ""
            raise PrometheusError(
                f"the query gives {len(result)} series ({named}{more}), not one; aggregate it with sum()"
            )
        if "value" not in result[0]:
            raise PrometheusError("the query gives a native histogram; take a quantile or a rate of it")
        return _finite(result[0]["value"][1])
    except (IndexError, KeyError, TypeError, ValueError):
        raise PrometheusError(f"{where} gave a result that cannot be read") from None


def _finite(text: Any) -> float:
    """The number; NaN stays, as the policy decides what no data means. Infinity is a broken query."""
    value = float(text)
    if math.isinf(value):
        raise PrometheusError(f"the query gives {text}: it divides by zero")
    return value


def _labels(series: Mapping[str, Any]) -> str:
    metric = series.get("metric") or {}
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(metric.items())) + "}"
