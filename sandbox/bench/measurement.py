"""One benchmark beside what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """Two durations of one run; only their ratio can be compared between machines."""

    what: str
    seconds: float
    beside: str
    beside_seconds: float
