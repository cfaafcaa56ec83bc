"""Watching a release: measurements, limits and the verdict over them (spec: Rollback Triggers)."""

from domain.analysis.judging import has_gone_on, judge, worth_reporting
from domain.analysis.measuring import judge_reading
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
from domain.analysis.schedule import begin, due, resumed
from domain.analysis.watch import (
    Due,
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
    "Due",
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
    "begin",
    "due",
    "has_gone_on",
    "judge",
    "judge_reading",
    "resumed",
    "worth_reporting",
]
