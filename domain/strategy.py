"""How a roll-back is done (spec: Rollback Strategies)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field, field_validator

from domain.durations import Interval
from domain.hooks import Hook
from domain.model import Model
from domain.version import SemVer


class RollbackStrategy(StrEnum):
    """The spec's ``rollback_strategy`` type.

    ``immediate`` restores the earlier version at once; ``blue_green`` switches back to the side that still
    runs it; ``gradual`` gives it its traffic back step by step. Where a strategy cannot work, the roll-back
    is immediate.
    """

    IMMEDIATE = "immediate"
    BLUE_GREEN = "blue_green"
    GRADUAL = "gradual"


class RollbackSettings(Model):
    """The spec's ``rollback_config`` record (its two funs are the health probe and the notification).

    Attributes:
        strategy: how the earlier version takes over.
        timeout: after which no further attempt begins.
        max_attempts: before people are called.
        backup_version: where to go if the environment remembers no good version.
        steps: weights of a gradual roll-back.
        step_duration: how long each of them is watched.
        before: hooks that run before the earlier version comes back, in order.
        after: hooks that run when it is back and verified.
    """

    strategy: RollbackStrategy = RollbackStrategy.IMMEDIATE
    timeout: Interval = timedelta(minutes=5)
    max_attempts: int = Field(default=3, ge=1, le=10)
    backup_version: SemVer | None = None
    steps: tuple[int, ...] = (50, 100)
    step_duration: Interval = timedelta(minutes=1)
    before: tuple[Hook, ...] = ()
    after: tuple[Hook, ...] = ()

    @field_validator("steps")
    @classmethod
    def _steps_lead_to_all(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1 or steps[-1] != 100:
            raise ValueError("steps must ascend from 1 or more to 100; write for example [50, 100]")
        return steps
