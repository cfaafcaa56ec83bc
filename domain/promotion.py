"""Promotion from one environment to the next (spec: Promotion Criteria)."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from domain.durations import Duration
from domain.model import Model


class PromotionCriteria(Model):
    """The spec's ``promotion_criteria`` record.

    Attributes:
        from_env: where the version has proven itself.
        to_env: where it wants to go.
        minimum_soak: continuous, verified stay in `from_env`.
        required_checks: gates that must have passed there.
        success_rate: share of the checks (0 to 1) that must have passed.
        error_budget: share of failed requests (0 to 1) that is allowed.
        manual_review: somebody must have said yes.
    """

    from_env: str
    to_env: str
    minimum_soak: Duration = timedelta(0)
    required_checks: tuple[str, ...] = ()
    success_rate: float = Field(default=1.0, ge=0, le=1)
    error_budget: float = Field(default=0.0, ge=0, le=1)
    manual_review: bool = False
