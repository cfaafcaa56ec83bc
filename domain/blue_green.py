"""Blue/green: the new version beside the old one, and one switch between them (spec: Core Principles)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from domain.durations import Duration, Interval
from domain.model import Model
from domain.workload import Side, WorkloadObservation, WorkloadTarget


class BlueGreenSettings(Model):
    """A stage's ``blue_green`` block.

    Attributes:
        auto_promote: switch as soon as the checks before the switch passed; else a person promotes.
        preview_checks: how long the new side is checked before the switch.
        watch: how long the new side is analysed after the switch, before Verifying.
        analysis_interval: between two measurements.
        scale_down_delay: how long the old side keeps its pods after the switch, for the instant way back.
            They are kept at least until Monitoring is over.
    """

    auto_promote: bool = True
    preview_checks: Interval = timedelta(minutes=1)
    watch: Interval = timedelta(minutes=5)
    analysis_interval: Interval = timedelta(seconds=30)
    scale_down_delay: Duration = timedelta(minutes=10)


class Colours(Model):
    """Both sides as the cluster shows them.

    Attributes:
        active: the side the Service sends traffic to; none = the plain Deployment, as before the first
            blue/green deployment.
        serving: what runs on the active side.
        idle: what runs on the other one; `exists` false if there is nothing.
        endpoints: ready addresses behind the Service.
    """

    active: Side | None
    serving: WorkloadObservation
    idle: WorkloadObservation
    endpoints: int = 0

    @property
    def next_side(self) -> Side:
        """Where the next version goes."""
        return Side.GREEN if self.active is Side.BLUE else Side.BLUE


class Switch(Model):
    """Send all traffic to one side, if that side can take it.

    Attributes:
        to: the side; none = the plain Deployment.
        version: what must run there; a side that runs something else, or has no ready pod, gets no traffic.
    """

    key: str
    target: WorkloadTarget
    to: Side | None
    version: str


class SideScale(Model):
    """Give one side a number of pods; one that serves is never scaled down."""

    key: str
    target: WorkloadTarget
    side: Side | None
    replicas: int = Field(ge=0)


class BlueGreenPhase(StrEnum):
    PREPARING = "Preparing"
    PREVIEW = "Preview"
    WAITING = "WaitingForPromotion"
    SWITCHED = "Switched"
