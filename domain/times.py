"""Moments, as people and programs write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator


def in_utc(time: datetime) -> datetime:
    """A time that names no zone is taken as UTC: a signal that is refused would vanish without a word."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


Time = Annotated[datetime, AfterValidator(in_utc)]
