"""How a roll-back is done (spec: Rollback Strategies)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from domain.durations import Duration
from domain.model import Model
from domain.version import SemVer


class RollbackStrategy(StrEnum):
    """The spec's ``rollback_strategy`` type."""

    IMMEDIATE = "immediate"
    BLUE_GREEN = "blue_green"
    GRADUAL = "gradual"


class RollbackSettings(Model):
    """The spec's ``rollback_config`` record (its two funs are the health probe and the notification)."""

    strategy: RollbackStrategy = RollbackStrategy.IMMEDIATE
    timeout: Duration = timedelta(minutes=5)
    max_attempts: int = Field(default=3, ge=1)
    backup_version: SemVer | None = None
