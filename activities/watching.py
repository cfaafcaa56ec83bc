"""Watching a release: health endpoints and metrics, round by round (spec: Automatic Rollback Triggers)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from activities.errors import INVALID_CONFIGURATION, fail
from activities.health import HealthChecks
from activities.kubernetes.connection import ClusterConnection
from activities.metrics.sources import MetricSources, NotConfiguredError
from activities.signatures import WatchSignatures
from domain.analysis import (
    Due,
    HealthProbe,
    HealthReport,
    Metric,
    MetricReading,
    Round,
    Watch,
    WatchProgress,
    WatchTally,
    WatchVerdict,
    begin,
    due,
    has_gone_on,
    judge,
    worth_reporting,
)
from domain.durations import format_duration

logger = logging.getLogger(__name__)

STILL_WATCHING = "StillWatching"
"""No verdict yet: the next attempt is the next round."""

WATCH_CHANGED = "watch_changed"
"""The signal that carries a `WatchProgress` to the workflow."""

_LONGEST_MEASUREMENT = timedelta(seconds=45)
"""Whatever a source's own timeout is: the attempt must end within its time."""
_LONGEST_SILENCE = timedelta(seconds=5)
_REPORT_TIMEOUT = timedelta(seconds=5)
_SHORT_PAUSE = timedelta(seconds=2)
_ATTEMPT_BUDGET_SECONDS = 10.0
_SOONEST = timedelta(milliseconds=10)


class WatchActivities(WatchSignatures):
    """Measures over one shared HTTP client, which its creator closes; `close` ends all else.

    Args:
        cluster: where the Kubernetes API is, for metrics that ask it.
        environment: what ``${NAME}`` in a web metric is taken from.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        cluster: ClusterConnection | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._health = HealthChecks(http)
        self._sources = MetricSources(http, cluster, environment)

    async def close(self) -> None:
        await self._sources.close()

    @activity.defn
    async def check_health(self, probe: HealthProbe) -> HealthReport:
        return await self._health.check(probe)

    @activity.defn
    async def watch_release(self, watch: Watch) -> WatchVerdict:
        """One attempt measures what is due at one moment (at several, if they follow each other closely) and
        then fails on purpose, so that its retry comes when the next is due. What was counted travels in the
        heartbeat; if it is lost with a worker, the watch begins anew, or where its input says: longer, never
        shorter.
        """
        try:
            for metric in watch.policy.metrics:
                self._sources.check(metric, watch.prometheus_url)
            return await self._watch(watch)
        except NotConfiguredError as error:
            fail(INVALID_CONFIGURATION, f"{watch.policy.subject}: {error}")

    async def _watch(self, watch: Watch) -> WatchVerdict:
        policy, loop = watch.policy, asyncio.get_running_loop()
        budget_ends = loop.time() + _ATTEMPT_BUDGET_SECONDS
        tally, unreported = _resumed() or (watch.tally, False)
        if tally is None:
            tally = begin(policy)
            activity.heartbeat(tally, False)
            if tally.clock > timedelta(0):
                await _pause(watch, tally, tally.clock, budget_ends)
        while True:
            started, before = loop.time(), tally
            async with _beating(before, unreported):
                observed = await self._measure(watch, due(policy, before))
            tally, verdict = judge(policy, before, observed, guard=watch.guard)
            if verdict is not None:
                return verdict
            unreported = unreported or (
                watch.report
                and (
                    worth_reporting(before, tally) or (watch.progress and has_gone_on(policy, before, tally))
                )
            )
            activity.heartbeat(tally, unreported)
            if unreported:
                unreported = not await _report(watch, tally)
                activity.heartbeat(tally, unreported)
            spent = timedelta(seconds=loop.time() - started)
            await _pause(watch, tally, tally.clock - before.clock, budget_ends, spent)

    async def _measure(self, watch: Watch, wanted: Due) -> Round:
        metrics = [metric for metric in watch.policy.metrics if metric.name in wanted.metrics]
        health, *readings = await asyncio.gather(
            self._check(watch.policy.health if wanted.health else None),
            *(self._read(metric, watch.prometheus_url) for metric in metrics),
        )
        named = zip((m.name for m in metrics), readings, strict=True)
        return Round(health=health, readings=dict(named))

    async def _check(self, probe: HealthProbe | None) -> HealthReport | None:
        if probe is None:
            return None
        timeout = min(probe.timeout, _LONGEST_MEASUREMENT)
        return await self._health.check(probe.model_copy(update={"timeout": timeout}))

    async def _read(self, metric: Metric, prometheus_url: str | None) -> MetricReading:
        try:
            async with asyncio.timeout(_LONGEST_MEASUREMENT.total_seconds()):
                return await self._sources.measure(metric, prometheus_url)
        except TimeoutError:
            return MetricReading(error=f"no answer within {format_duration(_LONGEST_MEASUREMENT)}")


@asynccontextmanager
async def _beating(tally: WatchTally, unreported: bool) -> AsyncIterator[None]:
    """Heartbeats beside a slow measurement: without them the server would take it for lost, for ever anew."""
    timeout = activity.info().heartbeat_timeout or _LONGEST_SILENCE

    async def beat() -> None:
        while True:
            activity.heartbeat(tally, unreported)
            await asyncio.sleep(min(timeout / 3, _LONGEST_SILENCE).total_seconds())

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


def _resumed() -> tuple[WatchTally, bool] | None:
    """What the attempts before this one have counted and not yet reported, if it is still known."""
    details = activity.info().heartbeat_details
    if not details:
        return None
    try:
        return WatchTally.model_validate(details[0]), details[1:2] == [True]
    except ValidationError:
        return None


async def _report(watch: Watch, tally: WatchTally) -> bool:
    """Tell the workflow; whether it was told. If not, the next report carries all that was counted."""
    info, progress = activity.info(), WatchProgress(subject=watch.policy.subject, tally=tally, key=watch.key)
    try:
        workflow = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        await workflow.signal(WATCH_CHANGED, progress, rpc_timeout=_REPORT_TIMEOUT)
    except (RPCError, TimeoutError, OSError, RuntimeError) as error:
        logger.warning(
            "%s: the workflow could not be told (%s), trying again in the next round",
            watch.policy.subject,
            error,
        )
        return False
    return True


async def _pause(
    watch: Watch, tally: WatchTally, pause: timedelta, budget_ends: float, spent: timedelta = timedelta(0)
) -> None:
    """Until something is due: a short pause is slept here, a long one lies between two attempts."""
    rest = max(pause - spent, _SOONEST)
    ends = asyncio.get_running_loop().time() + rest.total_seconds()
    if pause >= _SHORT_PAUSE or ends > budget_ends:
        guard = ", on guard" if watch.guard else ""
        raise ApplicationError(
            f"{watch.policy.subject}: {tally.rounds} of {watch.policy.rounds} rounds{guard}",
            type=STILL_WATCHING,
            next_retry_delay=rest,
            category=ApplicationErrorCategory.BENIGN,
        )
    await asyncio.sleep(rest.total_seconds())
