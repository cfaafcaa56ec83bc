"""Promotion from one environment to the next (spec: Promotion Criteria)."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from domain.durations import Duration
from domain.model import Model


class PromotionCriteria(Model):
    """The spec's ``promotion_criteria`` record; rates as shares of one."""

    from_env: str
    to_env: str
    minimum_soak: Duration = timedelta(0)
    required_checks: tuple[str, ...] = ()
    success_rate: float = Field(default=1.0, ge=0, le=1)
    error_budget: float = Field(default=0.0, ge=0, le=1)
    manual_review: bool = False
