"""Conditions as the specification writes them: ``0``, ``true``, ``pass``, ``">= 80%"``, ``errors == 0``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator

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
_EQUALITY = re.compile(r"\s*(==|!=)\s*([A-Za-z][\w.-]*)\s*")
_EXPRESSION = re.compile(r"\s*([A-Za-z_][\w.]*)\s*((?:>=|<=|==|!=|>|<).*)")


def parse_comparison(text: str) -> tuple[str, float] | None:
    """Read ``">= 80%"`` as ``(">=", 80.0)``; durations become milliseconds; none if it is a plain word."""
    match = _COMPARISON.fullmatch(text)
    if match is None:
        return None
    sign, number, unit = match.groups()
    if unit in (None, "%"):
        return sign, float(number)
    return sign, parse_duration(f"{number.lstrip('+')}{unit}").total_seconds() * 1000


def parse_expression(text: str) -> tuple[str, str]:
    """Read ``errors == 0`` as ``("errors", "== 0")``.

    Raises:
        ValueError: it is no measurement with a comparison.
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no condition; write a name and a comparison, for example errors == 0")
    name, comparison = match.groups()
    check_expectation(comparison)
    return name, comparison.strip()


def check_expectation(expected: Scalar) -> None:
    """Refuse what looks like a comparison and is none: as a word it could never hold.

    Raises:
        ValueError: with the accepted forms.
    """
    if isinstance(expected, float) and not math.isfinite(expected):
        raise ValueError(f"{expected} can never hold; write a number")
    if not isinstance(expected, str):
        return
    if not expected.strip():
        raise ValueError("is empty; write a value or a comparison, for example >= 80%")
    if expected.strip()[0] not in "<>=!":
        return
    if parse_comparison(expected) is None and _EQUALITY.fullmatch(expected) is None:
        raise ValueError(
            f"{expected!r} is no comparison; write <, <=, ==, !=, >= or > and a number, "
            'with % or a unit of time if it has one, for example ">= 80%" or "< 500ms"'
        )


def _checked_expression(text: str) -> str:
    parse_expression(text)
    return text


def _checked_expectation(expected: Scalar) -> Scalar:
    check_expectation(expected)
    return expected


Expression = Annotated[str, AfterValidator(_checked_expression)]
"""A measurement and its comparison: ``errors == 0``."""
Expectation = Annotated[Scalar, AfterValidator(_checked_expectation)]
"""A value, or a comparison with one: ``0``, ``pass``, ``">= 80%"``."""


def _same(expected: Scalar, measured: Scalar) -> bool:
    if isinstance(expected, bool) or isinstance(measured, bool):
        return expected is measured
    if isinstance(expected, str) or isinstance(measured, str):
        return str(expected).strip().lower() == str(measured).strip().lower()
    return math.isclose(float(expected), float(measured))


def _holds(expected: Scalar, measured: Scalar) -> bool:
    if not isinstance(expected, str):
        return _same(expected, measured)
    comparison = parse_comparison(expected)
    if comparison is not None:
        sign, limit = comparison
        if isinstance(measured, bool | str):
            return False
        return math.isfinite(measured) and _OPERATORS[sign](float(measured), limit)
    equality = _EQUALITY.fullmatch(expected)
    if equality is None:
        return _same(expected, measured)
    sign, word = equality.groups()
    wanted: Scalar = word.lower() == "true" if word.lower() in ("true", "false") else word
    if isinstance(wanted, bool) is not isinstance(measured, bool):
        return False  # of another kind: neither the same nor provably different
    return _same(wanted, measured) is (sign == "==")


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
