"""Conditions as the specification writes them: ``0``, ``true``, ``pass``, ``">= 80%"``, ``"< 500ms"``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping

from domain.durations import parse_duration
from domain.model import Model

Scalar = bool | int | float | str
"""What can be measured or expected."""


class Check(Model):
    """One condition of a gate or checklist, with what was measured."""

    name: str
    expected: str
    measured: str | None = None
    passed: bool
    reason: str | None = None


_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_COMPARISON = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([-+]?\d+(?:\.\d+)?)\s*(%|ms|s|m|h)?\s*")


def parse_comparison(text: str) -> tuple[str, float] | None:
    """Read ``">= 80%"`` as ``(">=", 80.0)``; durations become milliseconds; none if it is a plain word."""
    match = _COMPARISON.fullmatch(text)
    if match is None:
        return None
    sign, number, unit = match.groups()
    if unit in (None, "%"):
        return sign, float(number)
    return sign, parse_duration(f"{number}{unit}").total_seconds() * 1000


def _holds(expected: Scalar, measured: Scalar) -> bool:
    comparison = parse_comparison(expected) if isinstance(expected, str) else None
    if comparison is not None:
        sign, limit = comparison
        if isinstance(measured, bool | str):
            return False
        return math.isfinite(measured) and _OPERATORS[sign](float(measured), limit)
    if isinstance(expected, bool) or isinstance(measured, bool):
        return expected is measured
    if isinstance(expected, str) or isinstance(measured, str):
        return str(expected).strip().lower() == str(measured).strip().lower()
    return math.isclose(float(expected), float(measured))


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def evaluate_condition(name: str, expected: Scalar, facts: Mapping[str, Scalar]) -> Check:
    """Hold one expectation against the measured facts; a fact that is missing fails it."""
    wanted = _text(expected)
    if name not in facts:
        return Check(
            name=name, expected=wanted, passed=False, reason=f"{name} was not measured (wanted {wanted})"
        )
    measured = facts[name]
    if _holds(expected, measured):
        return Check(name=name, expected=wanted, measured=_text(measured), passed=True)
    reason = f"{name} is {_text(measured)}, wanted {wanted}"
    return Check(name=name, expected=wanted, measured=_text(measured), passed=False, reason=reason)
