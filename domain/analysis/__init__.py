"""Watching a release: measurements, limits and the verdict over them (spec: Rollback Triggers)."""

from domain.analysis.judging import judge, judge_reading
from domain.analysis.metric import (
    Comparison,
    Metric,
    MetricReading,
    NoData,
    Phase,
    WebSource,
    WorkloadMeasure,
    WorkloadSource,
)
from domain.analysis.watch import (
    HealthProbe,
    HealthReport,
    MetricTally,
    Round,
    ScorePolicy,
    Watch,
    WatchOutcome,
    WatchPolicy,
    WatchProgress,
    WatchTally,
    WatchVerdict,
)

__all__ = [
    "Comparison",
    "HealthProbe",
    "HealthReport",
    "Metric",
    "MetricReading",
    "MetricTally",
    "NoData",
    "Phase",
    "Round",
    "ScorePolicy",
    "Watch",
    "WatchOutcome",
    "WatchPolicy",
    "WatchProgress",
    "WatchTally",
    "WatchVerdict",
    "WebSource",
    "WorkloadMeasure",
    "WorkloadSource",
    "judge",
    "judge_reading",
]
