"""Durations as the specification writes them: ``30s``, ``10m``, ``72h``, ``7y``, or combined (``1h30m``)."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from annotated_types import Gt
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_MILLISECONDS_PER_UNIT = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_TEXT = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[ywdhms]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[ywdhms])")
_HOURS_UNTIL = timedelta(days=4)
"""Up to here hours are the largest unit that is written, as the specification has it (``24h``, ``72h``)."""


def parse_duration(text: str) -> timedelta:
    """Read a duration such as ``10m`` or ``1h30m``.

    Raises:
        ValueError: the text is no duration; the message shows the accepted form.
    """
    compact = text.strip().lower()
    if not _TEXT.fullmatch(compact):
        raise ValueError(
            f"{text!r} is no duration; write a number and a unit, such as 30s, 10m, 72h or 1h30m"
        )
    # Decimal, as the sum of floats would lose milliseconds.
    milliseconds = sum(
        (Decimal(number) * _MILLISECONDS_PER_UNIT[unit] for number, unit in _PART.findall(compact)), Decimal()
    )
    try:
        return timedelta(microseconds=int(milliseconds * 1000))
    except OverflowError:
        raise ValueError(f"{text!r} is too long; write at most a few thousand years") from None


def format_duration(duration: timedelta) -> str:
    """Write a duration in the form `parse_duration` reads, to the millisecond: ``8m32s``; ``0s`` for none."""
    sign = "-" if duration < timedelta(0) else ""
    rest, milliseconds = divmod(abs(duration) // timedelta(milliseconds=1), 1000)
    parts = []
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    for unit, size in units if abs(duration) >= _HOURS_UNTIL else units[1:]:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    if milliseconds:
        parts.append(f"{milliseconds}ms")
    return sign + ("".join(parts) or "0s")


def _duration(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith("P"):
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value != 0:
        raise ValueError(f"{value!r} has no unit; write for example {value}s or {value}m")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|[ywdhms]))+$", "examples": ["30s", "10m", "72h"]}
    ),
]
"""A span of time, written with its unit."""

Interval = Annotated[Duration, Gt(timedelta(0))]
"""A `Duration` that something is divided by or repeated in: never nothing."""
