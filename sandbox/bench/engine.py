"""The analysis engine alone: what a day of watching costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from domain.analysis import (
    HealthProbe,
    HealthReport,
    Metric,
    MetricReading,
    Round,
    WatchPolicy,
    WatchTally,
    begin,
    judge,
)
from sandbox.bench.measurement import Measurement

_DAY = timedelta(hours=24)
_INTERVAL = timedelta(seconds=30)


def measure_engine() -> Iterator[Measurement]:
    """A soak of 24 h with four metrics, judged round by round, with the tally written as heartbeats are."""
    metrics = tuple(
        Metric(name=name, query="q", limit=5)
        for name in ("error_rate", "latency_p95", "latency_p99", "crash_rate")
    )
    policy = WatchPolicy(
        subject="a day",
        interval=_INTERVAL,
        rounds=_DAY // _INTERVAL,
        health=HealthProbe(base_url="http://service"),
        metrics=metrics,
    )
    well = Round(
        health=HealthReport(healthy=True), readings={m.name: MetricReading(value=1) for m in metrics}
    )
    begun, tally, verdict = time.perf_counter(), begin(policy), None
    while verdict is None:
        tally, verdict = judge(policy, tally, well)
    judging = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(policy.rounds):
        tally = WatchTally.model_validate_json(tally.model_dump_json())
    heartbeats = time.perf_counter() - begun
    yield Measurement("judging a soak of 24 h", judging, "writing and reading its heartbeats", heartbeats)
