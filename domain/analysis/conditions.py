"""Conditions of a metric: ``<= 5``, ``>= 99``, a range ``>= 10 and <= 20``, or outside one ``< 1 or > 5``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from domain.conditions import parse_comparison

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_OR, _AND = re.compile(r"\s+or\s+"), re.compile(r"\s+and\s+")
_TIME = re.compile(r"[\d.]\s*(ms|s|m|h)\s*$")
_MILLISECONDS_IN = {"ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Condition:
    """Holds for a value if all bounds of one of its alternatives do."""

    alternatives: tuple[tuple[tuple[str, float], ...], ...]

    def holds(self, value: float) -> bool:
        return any(
            all(_OPERATORS[sign](value, limit) for sign, limit in bounds) for bounds in self.alternatives
        )

    @property
    def limits(self) -> set[float]:
        """Where it begins or ceases to hold."""
        return {limit for bounds in self.alternatives for _, limit in bounds}


@cache
def parse_condition(text: str, unit: str = "") -> Condition:
    """Read a condition on a value in `unit`.

    A limit may carry ``%``, which changes nothing, or a unit of time where the metric's is ``s`` or ``ms``.

    Raises:
        ValueError: with the accepted forms.
    """
    return Condition(
        tuple(tuple(_bound(part, unit) for part in _AND.split(side)) for side in _OR.split(text.strip()))
    )


def _bound(text: str, unit: str) -> tuple[str, float]:
    comparison = parse_comparison(text)
    if comparison is None:
        raise ValueError(
            f"{text.strip()!r} is no comparison with a number; write for example <= 5, >= 99, "
            "a range such as >= 10 and <= 20, or < 1 or > 5"
        )
    sign, limit = comparison
    if _TIME.search(text) is None:
        return sign, limit
    if unit not in _MILLISECONDS_IN:
        raise ValueError(
            f"{text.strip()!r} has a unit of time, and the metric's unit is {unit!r}; "
            "write unit: s or unit: ms, or the number alone"
        )
    return sign, limit / _MILLISECONDS_IN[unit]


def sample_values(*conditions: Condition) -> list[float]:
    """Values that tell these conditions apart: each limit, between two of them, and beyond all.

    Whatever holds for some number, alone or together, holds for one of these.
    """
    limits = sorted(set[float]().union(*(condition.limits for condition in conditions)))
    if not limits:
        return [0.0]
    between = [(low + high) / 2 for low, high in pairwise(limits)]
    return [limits[0] - 1, *limits, *between, limits[-1] + 1]
