"""How a roll-back is done (spec: Rollback Strategies)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from domain.durations import Interval
from domain.model import Model
from domain.version import SemVer


class RollbackStrategy(StrEnum):
    """The spec's ``rollback_strategy`` type."""

    IMMEDIATE = "immediate"
    BLUE_GREEN = "blue_green"
    GRADUAL = "gradual"


class RollbackSettings(Model):
    """The spec's ``rollback_config`` record (its two funs are the health probe and the notification).

    Attributes:
        strategy: how the earlier version takes over.
        timeout: for one attempt.
        max_attempts: before people are called.
        backup_version: where to go if the environment remembers no good version.
    """

    strategy: RollbackStrategy = RollbackStrategy.IMMEDIATE
    timeout: Interval = timedelta(minutes=5)
    max_attempts: int = Field(default=3, ge=1, le=10)
    backup_version: SemVer | None = None
