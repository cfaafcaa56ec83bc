"""Queries to a Prometheus HTTP API (Prometheus, Thanos, Mimir, VictoriaMetrics)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx

from activities.addresses import Address, AddressError
from activities.metrics.fetching import Answer, FetchError, fetch
from domain.analysis import Comparison, MetricReading

_MOST_POINTS = 10_000
"""Of one range query; Prometheus refuses more than 11,000."""
_LONGEST_ANSWER = 8 * 1024 * 1024
_SERIES_NAMED = 3
_LONGEST_TEXT = 300
_MILLISECOND = timedelta(milliseconds=1)
_REMEDIES = {
    401: "check the credentials in metrics.prometheus_url",
    403: "check the credentials in metrics.prometheus_url",
    404: "check the path of metrics.prometheus_url",
    429: "it is asked too much",
    503: "it is overloaded, or the query takes too long",
}


class PrometheusError(Exception):
    """A value could not be measured; the text says why, without credentials."""


class Sample(NamedTuple):
    """The value of a query at one moment; none where it had none, and NaN and infinity as they are."""

    at: datetime
    value: float | None


class Prometheus:
    """Reads one series per query. Holds no address: each watch brings its own."""

    def __init__(self, http: httpx.AsyncClient, *, timeout: timedelta = timedelta(seconds=10)) -> None:
        self._http = http
        self._timeout = timeout

    async def query(self, base_url: str, promql: str, at: datetime | None = None) -> MetricReading:
        """The value of a query at a moment, by default now on the server's clock.

        An empty answer is a reading without value, ``NaN`` (0/0: no traffic) one with that value; whatever
        cannot be taken for one number is an error. Never raises for what the server does.
        """
        try:
            return MetricReading(value=await self._value(base_url, promql, at))
        except PrometheusError as error:
            return MetricReading(error=str(error))

    async def range(
        self, base_url: str, promql: str, start: datetime, end: datetime, step: timedelta
    ) -> list[Sample]:
        """The values of a query at `start` and every `step` after it until `end`, one sample for each moment.

        What `query` would have said at each of these moments, asked in as many requests as the server's
        limit of points needs. Times are exact to the millisecond.

        Raises:
            PrometheusError: the server gave no such answer, or several series at one moment.
        """
        first, last, pace = _milliseconds(start), _milliseconds(end), step // _MILLISECOND
        if pace < 1:
            raise PrometheusError(f"a step of {step} is too short; take at least a millisecond")
        if last < first:
            raise PrometheusError(f"the end, {end}, lies before the start, {start}")
        moments = range(first, last + 1, pace)
        found: dict[int, tuple[str, float]] = {}
        for offset in range(0, len(moments), _MOST_POINTS):
            part = moments[offset : offset + _MOST_POINTS]
            parameters = {"start": _seconds(part[0]), "end": _seconds(part[-1]), "step": _seconds(pace)}
            data, where = await self._ask(base_url, "query_range", {"query": promql, **parameters})
            for moment, labels, value in _points(data, where):
                if moment not in part:
                    raise PrometheusError(f"{where} answered for other moments than it was asked for")
                if (other := found.get(moment)) is not None:
                    raise _several([other[0], labels])
                found[moment] = labels, value
        return [
            Sample(datetime.fromtimestamp(m / 1000, UTC), found[m][1] if m in found else None)
            for m in moments
        ]

    async def samples(self, base_url: str, promql: str, of: Comparison, until: datetime) -> tuple[float, ...]:
        """The values of a query over the comparison's window before `until`, oldest first; NaN left out.

        Raises:
            PrometheusError: as `range`, or a value is infinite.
        """
        steps = max(1, of.window // of.step)
        found = await self.range(base_url, promql, until - of.step * (steps - 1), until, of.step)
        values = [sample.value for sample in found if sample.value is not None]
        return tuple(_not_infinite(value) for value in values if not math.isnan(value))

    async def _value(self, base_url: str, promql: str, at: datetime | None) -> float | None:
        moment = {} if at is None else {"time": _seconds(_milliseconds(at))}
        data, where = await self._ask(base_url, "query", {"query": promql, **moment})
        return _number(data, where)

    async def _ask(
        self, base_url: str, endpoint: str, parameters: Mapping[str, str]
    ) -> tuple[Mapping[str, Any], str]:
        """The ``data`` of an answer, and who gave it."""
        try:
            address = Address.parse(base_url)
        except AddressError as error:
            raise PrometheusError(f"the address of Prometheus is wrong: {error}") from None
        where = str(address)
        try:
            answer = await fetch(
                self._http,
                "POST",
                address.at(f"api/v1/{endpoint}"),
                timeout=self._timeout,
                limit=_LONGEST_ANSWER,
                data=dict(parameters),
                headers={"Accept": "application/json"},
                auth=address.auth or httpx.USE_CLIENT_DEFAULT,
            )
        except FetchError as error:
            raise PrometheusError(f"{where}: {error}") from None
        return _data(answer, where), where


def _milliseconds(moment: datetime) -> int:
    """Since the epoch; a moment without zone would be taken for local time."""
    if moment.tzinfo is None:
        raise PrometheusError(f"{moment} has no time zone; write it with one, such as Z")
    return (moment - datetime.fromtimestamp(0, UTC)) // _MILLISECOND


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03}"


def _data(answer: Answer, where: str) -> Mapping[str, Any]:
    if 300 <= answer.status < 400:
        raise PrometheusError(
            f"{where} answered HTTP {answer.status}, a redirect, which is not followed; "
            "set metrics.prometheus_url to where it leads"
        )
    remedy = f"; {_REMEDIES[answer.status]}" if answer.status in _REMEDIES else ""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        kind = f" ({answer.content_type})" if answer.content_type else ""
        raise PrometheusError(f"{where} answered HTTP {answer.status} without readable JSON{kind}{remedy}")
    if document.get("status") != "success":
        said = str(document.get("error") or "no reason given")[:_LONGEST_TEXT]
        kind = document.get("errorType") or "error"
        raise PrometheusError(f"{where} answered HTTP {answer.status}, {kind}: {said}{remedy}")
    # Thanos and Mimir warn when a store did not answer, VictoriaMetrics calls it partial: half the truth
    # is no measurement.
    if document.get("warnings"):
        said = "; ".join(map(str, document["warnings"]))[:_LONGEST_TEXT]
        raise PrometheusError(f"{where} warns: {said}")
    if document.get("isPartial") is True:
        raise PrometheusError(f"{where} gave a partial answer: some of its storage did not answer")
    data = document.get("data")
    if answer.status != httpx.codes.OK or not isinstance(data, dict):
        raise PrometheusError(f"{where} answered HTTP {answer.status} without data{remedy}")
    return data


def _number(data: Mapping[str, Any], where: str) -> float | None:
    kind, result = data.get("resultType"), data.get("result")
    try:
        if kind == "scalar":
            return _not_infinite(float(result[1]))  # type: ignore[index]
        if kind != "vector" or not isinstance(result, list):
            raise PrometheusError(
                f"the query gives a {kind}; write one that gives an instant vector or scalar"
            )
        if not result:
            return None
        if len(result) > 1:
            raise _several([_labels(series) for series in result])
        if "value" not in result[0]:
            raise _native_histogram()
        return _not_infinite(float(result[0]["value"][1]))
    except (IndexError, KeyError, TypeError, ValueError):
        raise _unreadable(where) from None


def _points(data: Mapping[str, Any], where: str) -> Iterator[tuple[int, str, float]]:
    """Moment, labels and value of each point of a matrix."""
    try:
        if data["resultType"] != "matrix":
            raise _unreadable(where)
        for series in data["result"]:
            if series.get("histograms"):
                raise _native_histogram()
            labels = _labels(series)
            for moment, value in series["values"]:
                yield round(moment * 1000), labels, float(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _unreadable(where) from None


def _not_infinite(value: float) -> float:
    """NaN stays, as the policy decides what no data means; infinity is a broken query."""
    if math.isinf(value):
        sign = "+" if value > 0 else "-"
        raise PrometheusError(f"the query gives {sign}Inf: it divides by zero")
    return value


def _unreadable(where: str) -> PrometheusError:
    return PrometheusError(f"{where} gave a result that cannot be read")


def _native_histogram() -> PrometheusError:
    return PrometheusError("the query gives a native histogram; take a quantile or a rate of it")


def _several(labels: list[str]) -> PrometheusError:
    named = ", ".join(labels[:_SERIES_NAMED])
    more = ", …" if len(labels) > _SERIES_NAMED else ""
    return PrometheusError(
        f"the query gives {len(labels)} series ({named}{more}), not one; aggregate it with sum()"
    )


def _labels(series: Mapping[str, Any]) -> str:
    metric = series.get("metric") or {}
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(metric.items())) + "}"
