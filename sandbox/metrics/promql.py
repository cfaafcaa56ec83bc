"""Evaluation of a subset of PromQL at one point in time.

The grammar and the types are checked by ``promql-parser``; what is evaluated: selectors, ``rate``,
``increase``, ``histogram_quantile``, ``clamp_min``, ``clamp_max``, ``vector``, the aggregations ``sum avg min
max count`` with ``by`` and ``without``, arithmetic, comparisons and ``or`` between scalars and vectors with
equal labels. Anything else is a ``QueryError``, never a guess. The arithmetic is that of Prometheus 2,
extrapolation included.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import promql_parser as ast

from sandbox.metrics.series import Matches, SeriesStore

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]


def _divide(a: float, b: float) -> float:
    """IEEE 754, as in Go: 0/0 is NaN, x/0 is infinite."""
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)
    return a / b


_ARITHMETIC: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
}
_COMPARISON: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_AGGREGATION: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "sum": math.fsum,
    "avg": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "count": len,
}


class QueryError(ValueError):
    """The query is not valid, or not in the subset."""


@dataclass(frozen=True)
class Matrix:
    """The samples of each series in a range, as a query for a range selector answers."""

    series: dict[Labels, list[tuple[float, float]]]


Result = float | Vector | Matrix


def evaluate(query: str, store: SeriesStore, time: float) -> Result:
    """The answer at ``time`` (seconds since the epoch): a scalar, a vector or a matrix."""
    try:
        expression = ast.parse(query)
    except ValueError as error:
        raise QueryError(f"parse error: {error}") from None
    return _Evaluation(store, time).value(expression)


class _Evaluation:
    def __init__(self, store: SeriesStore, time: float) -> None:
        self._store = store
        self._time = time

    def value(self, node: Any) -> Result:
        match node:
            case ast.NumberLiteral():
                return node.val
            case ast.ParenExpr():
                return self.value(node.expr)
            case ast.UnaryExpr():
                return _each(self.value(node.expr), operator.neg)
            case ast.VectorSelector():
                found = self._store.instant(_matcher(node), self._time)
                return {frozenset(labels.items()): sample.value or 0.0 for labels, sample in found}
            case ast.MatrixSelector():
                return Matrix({frozenset(labels.items()): samples for labels, samples in self._window(node)})
            case ast.Call():
                return self._call(node)
            case ast.AggregateExpr():
                return self._aggregate(node)
            case ast.BinaryExpr():
                return self._binary(node)
        raise QueryError(f"not supported here: {node.prettify()}")

    def _vector(self, node: Any) -> Vector:
        value = self.value(node)
        if not isinstance(value, dict):
            raise QueryError(f"an instant vector is expected instead of {node.prettify()}")
        return value

    def _scalar(self, node: Any) -> float:
        value = self.value(node)
        if not isinstance(value, float):
            raise QueryError(f"a scalar is expected instead of {node.prettify()}")
        return value

    def _window(self, node: ast.MatrixSelector) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        start = self._time - node.range.total_seconds()
        return list(self._store.window(_matcher(node.vector_selector), start, self._time))

    def _call(self, node: ast.Call) -> Result:
        name, arguments = node.func.name, node.args
        match name:
            case "rate" | "increase":
                selector = arguments[0]
                if not isinstance(selector, ast.MatrixSelector):
                    raise QueryError(f"not supported here: {selector.prettify()}")
                seconds = selector.range.total_seconds()
                increases = {
                    _nameless(labels): _increase(samples, self._time - seconds, self._time)
                    for labels, samples in self._window(selector)
                    if len(samples) > 1
                }
                return {k: v / seconds for k, v in increases.items()} if name == "rate" else increases
            case "histogram_quantile":
                return _quantiles(self._scalar(arguments[0]), self._vector(arguments[1]))
            case "clamp_min" | "clamp_max":
                bound, clamp = self._scalar(arguments[1]), max if name == "clamp_min" else min
                return {_without(k, ()): clamp(v, bound) for k, v in self._vector(arguments[0]).items()}
            case "vector":
                return {frozenset(): self._scalar(arguments[0])}
        raise QueryError(f"function {name}() is not supported here")

    def _aggregate(self, node: ast.AggregateExpr) -> Vector:
        name, by = re.split(r"\W", str(node.op), maxsplit=1)[0], node.modifier
        if name not in _AGGREGATION:
            raise QueryError(f"aggregation {name} is not supported here")
        groups: dict[Labels, list[float]] = {}
        for labels, value in self._vector(node.expr).items():
            if by is not None and by.type == ast.AggModifierType.Without:
                key = _without(labels, by.labels)
            else:
                key = frozenset((n, v) for n, v in labels if by is not None and n in by.labels)
            groups.setdefault(key, []).append(value)
        return {key: float(_AGGREGATION[name](values)) for key, values in groups.items()}

    def _binary(self, node: ast.BinaryExpr) -> Result:
        symbol, modifier = re.split(r"\s", str(node.op), maxsplit=1)[0], node.modifier
        if modifier is not None and modifier.matching is not None:
            raise QueryError("on() and ignoring() are not supported here: aggregate both sides alike")
        as_number = modifier is not None and modifier.return_bool
        left, right = self.value(node.lhs), self.value(node.rhs)
        if symbol == "or" and isinstance(left, dict) and isinstance(right, dict):
            mine = {_without(labels, ()) for labels in left}
            return left | {k: v for k, v in right.items() if _without(k, ()) not in mine}
        if symbol not in _ARITHMETIC and symbol not in _COMPARISON:
            raise QueryError(f"operator {symbol} is not supported here")
        if isinstance(left, float) and isinstance(right, float):
            return (
                _ARITHMETIC[symbol](left, right)
                if symbol in _ARITHMETIC
                else float(_COMPARISON[symbol](left, right))
            )
        answer: Vector = {}
        for labels, kept, a, b in _pairs(left, right):
            if symbol in _ARITHMETIC:
                answer[_without(labels, ())] = _ARITHMETIC[symbol](a, b)
            elif as_number:
                answer[_without(labels, ())] = float(_COMPARISON[symbol](a, b))
            elif _COMPARISON[symbol](a, b):
                answer[labels] = kept
        return answer


def _pairs(left: Result, right: Result) -> list[tuple[Labels, float, float, float]]:
    """Labels and value of the vector's side, and both operands."""
    if isinstance(left, dict) and isinstance(right, float):
        return [(labels, value, value, right) for labels, value in left.items()]
    if isinstance(left, float) and isinstance(right, dict):
        return [(labels, value, left, value) for labels, value in right.items()]
    if isinstance(left, dict) and isinstance(right, dict):
        others: Vector = {}
        for labels, value in right.items():
            if _without(labels, ()) in others:
                raise QueryError("found duplicate series on the right side: aggregate it")
            others[_without(labels, ())] = value
        if len({_without(labels, ()) for labels in left}) < len(left):
            raise QueryError("multiple matches for labels: many-to-one matching is not supported here")
        return [(k, v, v, others[_without(k, ())]) for k, v in left.items() if _without(k, ()) in others]
    raise QueryError("binary expression must contain only scalar and instant vector types")


def _matcher(selector: ast.VectorSelector) -> Matches:
    if selector.offset is not None or selector.at is not None or selector.matchers.or_matchers:
        raise QueryError(f"offset, @ and or are not supported here: {selector.prettify()}")
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    if selector.name is not None:
        tests.append(lambda labels: labels["__name__"] == selector.name)
    tests += [_label_test(m) for m in selector.matchers.matchers]
    return lambda labels: all(test(labels) for test in tests)


def _label_test(matcher: ast.Matcher) -> Callable[[Mapping[str, str]], bool]:
    name, value = matcher.name, matcher.value
    if matcher.op in (ast.MatchOp.Equal, ast.MatchOp.NotEqual):
        equal = matcher.op == ast.MatchOp.Equal
        return lambda labels: (labels.get(name, "") == value) is equal
    pattern, wanted = re.compile(value), matcher.op == ast.MatchOp.Re
    return lambda labels: (pattern.fullmatch(labels.get(name, "")) is not None) is wanted


def _increase(samples: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """Growth of a counter over the range, resets added up, extrapolated to its ends."""
    (first_time, first), (last_time, last) = samples[0], samples[-1]
    growth = last - first
    growth += math.fsum(a for (_, a), (_, b) in pairwise(samples) if b < a)
    sampled = last_time - first_time
    interval = sampled / (len(samples) - 1)
    to_start, to_end = first_time - start, end - last_time
    if growth > 0 and first >= 0:
        to_start = min(to_start, sampled * first / growth)  # a counter was never below zero
    covered = sampled
    for gap in (to_start, to_end):
        covered += gap if gap < 1.1 * interval else interval / 2
    return growth * covered / sampled


def _quantiles(quantile: float, buckets: Vector) -> Vector:
    histograms: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in buckets.items():
        bound = dict(labels).get("le")
        if bound is not None:
            histograms.setdefault(_without(labels, ("le",)), []).append((float(bound), count))
    return {labels: _quantile(quantile, sorted(found)) for labels, found in histograms.items()}


def _quantile(quantile: float, buckets: list[tuple[float, float]]) -> float:
    """By linear interpolation inside the bucket that holds the rank."""
    if not 0 <= quantile <= 1:
        return math.nan if math.isnan(quantile) else math.copysign(math.inf, quantile)
    if len(buckets) < 2 or buckets[-1][0] != math.inf:
        return math.nan
    highest, counts = 0.0, []
    for _, count in buckets:
        highest = max(highest, count)  # scrapes of several instances need not be consistent
        counts.append(highest)
    total = counts[-1]
    if total == 0 or math.isnan(total):
        return math.nan
    rank = quantile * total
    index = next(i for i, count in enumerate(counts) if count >= rank)
    if index == len(buckets) - 1:
        return buckets[-2][0]
    upper = buckets[index][0]
    if index == 0 and upper <= 0:
        return upper
    lower, below = (buckets[index - 1][0], counts[index - 1]) if index else (0.0, 0.0)
    return lower + (upper - lower) * _divide(rank - below, counts[index] - below)


def _each(value: Result, function: Callable[[float], float]) -> Result:
    if isinstance(value, Matrix):
        raise QueryError("unary expression only allowed on scalars and instant vectors")
    if isinstance(value, float):
        return function(value)
    return {_without(labels, ()): function(v) for labels, v in value.items()}


def _nameless(labels: Mapping[str, str]) -> Labels:
    return frozenset((name, value) for name, value in labels.items() if name != "__name__")


def _without(labels: Labels, names: Sequence[str]) -> Labels:
    return frozenset((name, value) for name, value in labels if name != "__name__" and name not in names)
