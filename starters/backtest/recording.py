"""Reading the recorded values of a policy's metrics from Prometheus."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import httpx

from activities.metrics.prometheus import Prometheus, PrometheusError
from domain.analysis import Metric, WatchPolicy
from domain.backtest import Recording, Series
from domain.durations import format_duration
from starters.errors import usage_error

_TIMEOUT = timedelta(seconds=60)
_MOST_POINTS = 500_000
_AT_ONCE = 4
"""Requests at a time: production's Prometheus has other work."""


async def record(
    policy: WatchPolicy, prometheus_url: str, start: datetime, end: datetime, step: timedelta
) -> Recording:
    """The values of all queries of the policy, on one grid.

    Raises:
        CommandError: they cannot be read, or there are too many (exit code 2).
    """
    points = (end - start) // step + 1
    if points > _MOST_POINTS:
        coarser = format_duration(max(timedelta(seconds=1), (end - start) / _MOST_POINTS * 2))
        raise usage_error(
            f"{points} values of each metric, one every {format_duration(step)}, are too many",
            remedy=f"take a longer --step, such as {coarser}, or a shorter time",
        )
    slots = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient() as http:
        prometheus = Prometheus(http, timeout=_TIMEOUT)

        async def read(metric: Metric, promql: str, whose: str) -> Series:
            async with slots:
                try:
                    samples = await prometheus.range(prometheus_url, promql, start, end, step)
                except PrometheusError as error:
                    raise usage_error(
                        f"the {whose} of {metric.name} cannot be read: {error}",
                        remedy=f"correct its query, or --prometheus: {promql}",
                    ) from None
            return Series(start=start, step=step, values=tuple(s.value for s in samples))

        async def both(metric: Metric) -> tuple[Series, Series | None]:
            watched = read(metric, metric.query, "record")
            if metric.baseline_query is None:
                return await watched, None
            return await asyncio.gather(watched, read(metric, metric.baseline_query, "baseline"))

        found = await asyncio.gather(*(both(metric) for metric in policy.metrics))
    named = {metric.name: pair for metric, pair in zip(policy.metrics, found, strict=True)}
    return Recording(
        watched={name: watched for name, (watched, _) in named.items()},
        baseline={name: baseline for name, (_, baseline) in named.items() if baseline is not None},
    )
