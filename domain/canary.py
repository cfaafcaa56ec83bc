"""Canary releases: steps, weights and verdicts (spec: Stage Configuration, ``canary``)."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from domain.analysis import WatchPolicy, WatchVerdict
from domain.durations import Duration, Interval, format_duration
from domain.handover import HandoverReading, HandoverSettings
from domain.model import Message, Model
from domain.workload import WorkloadTarget


class CanarySettings(Model):
    """The spec's ``canary`` block.

    Attributes:
        initial_percentage: weight of the first step.
        increment_steps: the weights, ascending, ending with 100.
        step_duration: how long each step is watched.
        rollback_threshold: error rate in percent above which the canary fails.
        analysis_interval: between two measurements in a step.
        on_inconclusive: what a step means whose analysis cannot tell: ``abort``, or ``pause`` until a person
            promotes, resumes (which analyses the step again) or aborts.
        handover: let Flagger or Argo Rollouts steer the canary, and watch theirs.
    """

    initial_percentage: int = Field(default=10, ge=1, le=100)
    increment_steps: tuple[int, ...] = (10, 50, 100)
    step_duration: Duration = timedelta(minutes=10)
    rollback_threshold: float = Field(default=5, ge=0, le=100, allow_inf_nan=False)
    analysis_interval: Interval = timedelta(seconds=30)
    on_inconclusive: Literal["abort", "pause"] = "abort"
    handover: HandoverSettings | None = None

    @field_validator("increment_steps")
    @classmethod
    def _steps_lead_to_all(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1 or steps[-1] != 100:
            raise ValueError("steps must ascend from 1 or more to 100; write for example [10, 50, 100]")
        return steps

    @model_validator(mode="after")
    def _analysed_in_each_step(self) -> CanarySettings:
        if self.analysis_interval > self.step_duration:
            raise ValueError(
                f"analysis_interval ({format_duration(self.analysis_interval)}) must not be longer than "
                f"step_duration ({format_duration(self.step_duration)}); a step would end unmeasured"
            )
        return self

    @property
    def weights(self) -> tuple[int, ...]:
        """The weights in order, beginning with `initial_percentage`."""
        later = [s for s in self.increment_steps if s > self.initial_percentage]
        return (self.initial_percentage, *later)


class CanaryRequest(Model):
    """The input of CanaryWorkflow.

    Attributes:
        watch: the analysis of one step; its rounds cover the step's duration.
        template: a pod template to run as it is: a gradual roll-back to an earlier version.
        abort_on_alerts: severities of alerts that abort it; without any, all do.
    """

    deployment_id: str
    actor: str
    target: WorkloadTarget
    version: str
    image: str
    replicas: int
    settings: CanarySettings
    watch: WatchPolicy
    prometheus_url: str | None = None
    paused: bool = False
    commit: str | None = None
    artefact: str | None = None
    digest: str | None = None
    template: dict[str, Any] | None = None
    abort_on_alerts: tuple[str, ...] = ()

    def split(self, weight: int) -> tuple[int, int]:
        """Pods of (stable, canary) at a weight."""
        return split_replicas(self.replicas, weight)


class CanaryPhase(StrEnum):
    STARTING = "Starting"
    ANALYSING = "Analysing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    ABORTED = "Aborted"


class StepVerdict(Model):
    """How one weight did.

    Attributes:
        observed_weight: what the router took; `note` why that is not what was asked.
    """

    weight: int
    observed_weight: float | None = None
    note: str = ""
    started_at: datetime
    finished_at: datetime | None = None
    verdict: WatchVerdict | None = None
    promoted_by: str | None = None


class CanaryStatus(Model):
    """The answer of the ``status`` query and the result of CanaryWorkflow.

    Attributes:
        revision: grows with each change: what is told by signal may arrive in another order.
    """

    id: str
    phase: CanaryPhase
    weight: int = 0
    steps: tuple[StepVerdict, ...] = ()
    paused: bool = False
    reason: str | None = None
    trigger: str | None = None
    warnings: tuple[str, ...] = ()
    handover: HandoverReading | None = None
    revision: int = 0

    @property
    def succeeded(self) -> bool:
        return self.phase is CanaryPhase.SUCCEEDED

    @property
    def ended(self) -> bool:
        return self.phase in (CanaryPhase.SUCCEEDED, CanaryPhase.FAILED, CanaryPhase.ABORTED)


class Alert(Message):
    """A push abort: an alert of the monitoring system, or of the person who passes it on (`actor`)."""

    name: str = ""
    severity: str = ""
    actor: str = ""

    def counts(self, severities: tuple[str, ...]) -> bool:
        """Whether it aborts where only these severities do; without any, all do."""
        return not severities or self.severity.lower() in {s.lower() for s in severities}

    def __str__(self) -> str:
        return f"alert {self.name or 'without a name'} ({self.severity or 'no severity'})"


UNNAMED_ALERT = Alert()
"""A signal that came without any input: still an alert."""


def split_replicas(total: int, weight: int) -> tuple[int, int]:
    """Pods of (stable, canary) for a weight in percent.

    While both serve, neither is left without a pod, whatever the rounding says; at 0 and at 100 one
    side has them all.

    Raises:
        ValueError: the weight is no percentage, or there is no pod to split.
    """
    if not 0 <= weight <= 100:
        raise ValueError(f"weight {weight} is no percentage")
    if total < 1:
        raise ValueError("a canary needs at least one replica")
    if weight in (0, 100):
        return (total, 0) if weight == 0 else (0, total)
    canary = min(max(1, (total * weight + 50) // 100), max(1, total - 1))
    return max(1, total - canary), canary
