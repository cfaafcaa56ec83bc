"""A watch: what is measured, how often and how long, and what has been counted so far."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field, model_validator

from domain.analysis.metric import Metric, MetricReading, Phase
from domain.durations import Duration
from domain.model import Message, Model


class HealthProbe(Model):
    """Requests to a service's health endpoints (spec: ``/health``, ``/ready``, ``/live``).

    Attributes:
        base_url: scheme, host and port.
        paths: all must answer 200 with an accepted word where they name one.
        healthy_words: accepted values of the ``status`` field.
        version: if set, the ``version`` field must say so when the answer has one.
        timeout: per request.
    """

    base_url: str
    paths: tuple[str, ...] = ("/health", "/ready", "/live")
    healthy_words: tuple[str, ...] = ("healthy", "ok", "up")
    version: str | None = None
    timeout: Duration = timedelta(seconds=5)


class HealthReport(Model):
    """The outcome of one `HealthProbe`."""

    healthy: bool
    reason: str = ""
    checks: dict[str, str] = {}


class ScorePolicy(Model):
    """Judge by the weights of the good metrics instead of by each single one.

    Attributes:
        passing: percent of the weights from which the watch passes.
        marginal: percent from which it is inconclusive instead of failed.
    """

    passing: float = Field(default=90, gt=0, le=100)
    marginal: float = Field(default=70, ge=0, le=100)

    @model_validator(mode="after")
    def _marginal_below_passing(self) -> ScorePolicy:
        if self.marginal > self.passing:
            raise ValueError(
                f"marginal ({self.marginal:g}) must not be above passing ({self.passing:g}); "
                "write for example passing: 90 and marginal: 70"
            )
        return self


class WatchPolicy(Model):
    """What to watch, how often and how long.

    Attributes:
        interval: between two rounds.
        rounds: good rounds needed; errors use up none.
        consecutive_failures: failed health checks in a row that fail the watch (spec: 3).
        inconclusive_limit: share of a metric's measurements (0..1) that may be inconclusive; 1 tolerates all.
        settle: the watch passes as soon as this many healthy rounds came in a row, and fails if that
            does not happen within `rounds`; 0 = all rounds are needed.
        score: judge the metrics by their weights.
    """

    subject: str
    interval: Duration = timedelta(seconds=30)
    initial_delay: Duration = timedelta(0)
    rounds: int = 1
    health: HealthProbe | None = None
    consecutive_failures: int = 3
    settle: int = 0
    metrics: tuple[Metric, ...] = ()
    inconclusive_limit: float = 1.0
    score: ScorePolicy | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> WatchPolicy:
        names = [metric.name for metric in self.metrics]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"metrics: {name!r} is the name of two metrics; give each its own")
        return self


class MetricTally(Model):
    """How a metric has done so far.

    Attributes:
        measured: measurements that used up its count: neither errors nor those of a pause.
        next_at: when it is due next, on the clock of the watch; none = not any more.
        advisory: nothing follows from its failures (dry run, or a warning only).
        warning: what is wrong with it, but tolerated; as it was when it began.
    """

    failed: int = 0
    consecutive_errors: int = 0
    consecutive_successes: int = 0
    inconclusive: int = 0
    successful: int = 0
    measured: int = 0
    last: float | None = None
    last_phase: Phase | None = None
    last_reason: str = ""
    next_at: Duration | None = timedelta(0)
    advisory: bool = False
    warning: str = ""


class WatchTally(Model):
    """The state of a watch between two rounds; small, as it travels in heartbeats.

    Attributes:
        clock: time on the watch, as far as it was watched: pauses and a worker's absence do not count.
        health_at: when the next round is due, with the health check if there is one.
        warnings: what is not well, but tolerated (spec: Rollback State Machine, ``Warning``).
        health_warning: that of the health checks; also one of `warnings`.
        recoveries: how often a warning went away; the more often, the longer until that is believed.
    """

    clock: Duration = timedelta(0)
    rounds: int = 0
    health_failures: int = 0
    health_streak: int = 0
    health_at: Duration = timedelta(0)
    last_health: str = ""
    metrics: dict[str, MetricTally] = {}
    warnings: tuple[str, ...] = ()
    health_warning: str = ""
    recoveries: int = 0


class Due(Model):
    """What must be measured at one moment; nothing, where only the clock moves on."""

    health: bool
    metrics: tuple[str, ...] = ()


class Watch(Model):
    """The input of a watch.

    Attributes:
        prometheus_url: where PromQL is asked (a Prometheus HTTP API).
        tally: what an interrupted watch has counted; the watch goes on from there.
        guard: only look out for failures: nothing counts towards the end, which never comes (a pause).
        report: signal ``watch_changed`` with a `WatchProgress` to the workflow when failures or warnings
            change, so that a pause forgets nothing and people see the warning.
        progress: also report what was counted, at most a hundred times.
        key: names this watch in its reports.
    """

    policy: WatchPolicy
    prometheus_url: str | None = None
    tally: WatchTally | None = None
    guard: bool = False
    report: bool = False
    progress: bool = False
    key: str = ""


class WatchProgress(Message):
    """What a running watch tells its workflow."""

    subject: str
    tally: WatchTally
    key: str = ""


class WatchOutcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class WatchVerdict(Model):
    """The end of a watch, with the trigger and reason if it failed.

    Attributes:
        trigger: the metric or check that decided: the first of the most severe.
        score: percent of the weights that were good, where the policy has a score.
    """

    outcome: WatchOutcome
    trigger: str | None = None
    reason: str = ""
    tally: WatchTally = WatchTally()
    score: float | None = None


class Round(Model):
    """All measurements of one moment."""

    health: HealthReport | None = None
    readings: dict[str, MetricReading] = {}
