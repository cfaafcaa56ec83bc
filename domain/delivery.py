"""What a delivery shows of itself: the steps of blue/green, hot upgrades and flags."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from domain.model import Model


class DeliveryKind(StrEnum):
    """How a version gets into an environment."""

    ROLLING = "rolling"
    CANARY = "canary"
    BLUE_GREEN = "blue_green"
    HOT_UPGRADE = "hot_upgrade"


class StepState(StrEnum):
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


class DeliveryStep(Model):
    """One step of a delivery, with what came of it."""

    name: str
    state: StepState = StepState.RUNNING
    started_at: datetime
    finished_at: datetime | None = None
    detail: str = ""


class DeliveryStatus(Model):
    """The steps of a delivery so far."""

    kind: DeliveryKind
    phase: str = ""
    steps: tuple[DeliveryStep, ...] = ()
