"""Watching a release: health endpoints and metrics, round by round (spec: Automatic Rollback Triggers)."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.addresses import Address, AddressError
from activities.errors import INVALID_CONFIGURATION, fail
from activities.prometheus import Prometheus
from activities.signatures import WatchSignatures
from domain.analysis import (
    HealthProbe,
    HealthReport,
    Metric,
    MetricReading,
    Round,
    Watch,
    WatchTally,
    WatchVerdict,
    judge,
)
from domain.durations import format_duration

STILL_WATCHING = "StillWatching"
"""No verdict yet: the next attempt is the next round."""

_LONGEST_BODY = 256 * 1024
_SHORT_PAUSE = timedelta(seconds=2)
_ATTEMPT_BUDGET_SECONDS = 10.0
_SOONEST = timedelta(milliseconds=10)


class WatchActivities(WatchSignatures):
    """Measures over one shared HTTP client, which its creator closes."""

    def __init__(self, http: httpx.AsyncClient, prometheus: Prometheus | None = None) -> None:
        self._http = http
        self._prometheus = prometheus or Prometheus(http)

    @activity.defn
    async def check_health(self, probe: HealthProbe) -> HealthReport:
        return await self._check(probe)

    @activity.defn
    async def watch_release(self, watch: Watch) -> WatchVerdict:
        """One attempt measures one round (several if they follow each other closely) and then fails on
        purpose, so that its retry comes an interval later. What was counted travels in the heartbeat; if
        it is lost with a worker, the watch begins anew: longer, never shorter.
        """
        policy = watch.policy
        if policy.metrics and watch.prometheus_url is None:
            fail(
                INVALID_CONFIGURATION,
                f"{policy.subject}: metrics {[m.name for m in policy.metrics]} are to be watched, "
                "but metrics.prometheus_url is not set",
            )
        loop = asyncio.get_running_loop()
        budget_ends = loop.time() + _ATTEMPT_BUDGET_SECONDS
        tally = _resumed_tally()
        if tally is None:
            tally = WatchTally()
            activity.heartbeat(tally)
            if policy.initial_delay > timedelta(0):
                await _pause(watch, tally, policy.initial_delay, budget_ends)
        while True:
            activity.heartbeat(tally)
            started = loop.time()
            tally, verdict = judge(policy, tally, await self._measure(watch))
            if verdict is not None:
                return verdict
            activity.heartbeat(tally)
            spent = timedelta(seconds=loop.time() - started)
            await _pause(watch, tally, policy.interval, budget_ends, spent)

    async def _measure(self, watch: Watch) -> Round:
        policy = watch.policy
        health, *readings = await asyncio.gather(
            self._health(policy.health),
            *(self._read(watch.prometheus_url or "", metric) for metric in policy.metrics),
        )
        named = zip((m.name for m in policy.metrics), readings, strict=True)
        return Round(health=health, readings=dict(named))

    async def _health(self, probe: HealthProbe | None) -> HealthReport | None:
        return None if probe is None else await self._check(probe)

    async def _read(self, url: str, metric: Metric) -> MetricReading:
        if metric.baseline_query is None:
            return await self._prometheus.query(url, metric.query)
        reading, baseline = await asyncio.gather(
            self._prometheus.query(url, metric.query), self._prometheus.query(url, metric.baseline_query)
        )
        if baseline.error is not None and reading.error is None:
            return MetricReading(value=reading.value, error=f"its baseline: {baseline.error}")
        return reading.model_copy(update={"baseline": baseline.value})

    async def _check(self, probe: HealthProbe) -> HealthReport:
        address = _address_of(probe)
        outcomes = await asyncio.gather(*(self._ask(probe, address, path) for path in probe.paths))
        checks = {path: text for path, (_, text) in zip(probe.paths, outcomes, strict=True)}
        reasons = [
            f"{path}: {text}" for path, (good, text) in zip(probe.paths, outcomes, strict=True) if not good
        ]
        return HealthReport(healthy=not reasons, reason="; ".join(reasons), checks=checks)

    async def _ask(self, probe: HealthProbe, address: Address, path: str) -> tuple[bool, str]:
        """Whether an endpoint says that all is well, and what it said."""
        seconds = probe.timeout.total_seconds()
        try:
            async with (
                asyncio.timeout(seconds),
                self._http.stream(
                    "GET",
                    address.at(path),
                    auth=address.auth or httpx.USE_CLIENT_DEFAULT,
                    timeout=seconds,
                    follow_redirects=False,
                ) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    return False, f"HTTP {answer.status_code}"
                body = bytearray()
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > _LONGEST_BODY:
                        return False, f"the answer is longer than {_LONGEST_BODY // 1024} KiB"
                return _judge_body(probe, bytes(body), answer.headers.get("Content-Type", ""))
        except (TimeoutError, httpx.TimeoutException):
            return False, f"no answer within {format_duration(probe.timeout)}"
        except httpx.ConnectError:
            return False, f"no connection to {address}"
        except (httpx.HTTPError, httpx.StreamError) as error:
            return False, f"the request failed ({type(error).__name__})"


def _judge_body(probe: HealthProbe, body: bytes, content_type: str) -> tuple[bool, str]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/html":
        return False, "an HTML page, not an answer of a health endpoint"
    try:
        document = json.loads(body)
    except ValueError:
        if kind.endswith("json"):
            return False, "the answer is called JSON, but cannot be read as such"
        return True, "HTTP 200"
    if not isinstance(document, dict):
        return True, "HTTP 200"
    faults = list(_faults(probe, document))
    return (False, ", ".join(faults)) if faults else (True, str(document.get("status", "HTTP 200")))


def _faults(probe: HealthProbe, document: dict[str, Any]) -> list[str]:
    faults = []
    status = document.get("status")
    if "status" in document and str(status).lower() not in {word.lower() for word in probe.healthy_words}:
        faults.append(f"status is {_shown(status)}, not one of {', '.join(probe.healthy_words)}")
    for field in ("ready", "alive"):
        value = document.get(field, True)
        if value is not True and str(value).lower() != "true":
            faults.append(f"{field} is {_shown(value)}")
    version = document.get("version")
    if probe.version is not None and version is not None and str(version) != probe.version:
        faults.append(f"version is {_shown(version)}, not {probe.version}")
    return faults


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]


def _address_of(probe: HealthProbe) -> Address:
    """A wrong address is the configuration's fault, and no round of measuring will mend it."""
    try:
        return Address.parse(probe.base_url)
    except AddressError as error:
        fail(
            INVALID_CONFIGURATION,
            f"health.url: {error}; write for example http://erlmcp.erlmcp-prod.svc:8080",
        )


def _resumed_tally() -> WatchTally | None:
    """What the attempts before this one have counted, if it is still known."""
    details = activity.info().heartbeat_details
    if not details:
        return None
    try:
        return WatchTally.model_validate(details[0])
    except ValidationError:
        return None


async def _pause(
    watch: Watch, tally: WatchTally, pause: timedelta, budget_ends: float, spent: timedelta = timedelta(0)
) -> None:
    """Until the next round: a short pause is slept here, a long one lies between two attempts."""
    rest = max(pause - spent, _SOONEST)
    ends = asyncio.get_running_loop().time() + rest.total_seconds()
    if pause >= _SHORT_PAUSE or ends > budget_ends:
        raise ApplicationError(
            f"{watch.policy.subject}: {tally.rounds} of {watch.policy.rounds} rounds",
            type=STILL_WATCHING,
            next_retry_delay=rest,
            category=ApplicationErrorCategory.BENIGN,
        )
    await asyncio.sleep(rest.total_seconds())
