"""The statistical comparison of two sides: Mann-Whitney U, with the size of the effect (spec: ``baseline``).

The test asks whether values of one side tend to be greater than the other's, whatever their distribution; the
effect size tells by how much, as a test alone finds any difference significant if only the samples are many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from domain.analysis.metric import Comparison

_EXACT = 8
"""Up to so many samples the library counts all orders; beyond it takes the normal distribution."""
_ROUNDING = 1e-12
_ALTERNATIVES = {"increase": "greater", "decrease": "less", "either": "two-sided"}


@dataclass(frozen=True)
class Difference:
    """How the watched side's samples differ from the baseline's.

    Attributes:
        p_value: how likely such samples are if both sides are the same.
        effect: rank-biserial correlation, -1..1: above 0 the watched side tends to be greater.
        bad: it is sure enough, large enough, in the bad direction, and beyond the tolerance.
    """

    p_value: float
    effect: float
    watched: float
    baseline: float
    bad: bool


def finite(samples: Iterable[float]) -> list[float]:
    return [sample for sample in samples if math.isfinite(sample)]


def compare(comparison: Comparison, watched: list[float], baseline: list[float]) -> Difference:
    """Test finite samples of both sides, at least one each."""
    medians = median(watched), median(baseline)
    if len({*watched, *baseline}) == 1:
        return Difference(1.0, 0.0, *medians, bad=False)
    result = load()(watched, baseline, alternative=_ALTERNATIVES[comparison.direction])
    effect = 2 * float(result.statistic) / (len(watched) * len(baseline)) - 1
    difference = medians[0] - medians[1]
    towards = {"increase": 1.0, "decrease": -1.0, "either": math.copysign(1, effect)}[comparison.direction]
    bad = (
        is_sure(comparison, float(result.pvalue))
        and effect * towards >= comparison.effect_size
        and difference * towards > abs(medians[1]) * comparison.tolerance / 100
    )
    return Difference(float(result.pvalue), effect, *medians, bad=bad)


def is_sure(comparison: Comparison, p_value: float) -> bool:
    return p_value <= 1 - comparison.confidence + _ROUNDING


def smallest_p_value(comparison: Comparison, samples: int) -> float:
    """What the test says at best of so many samples on each side: all of one above all of the other."""
    if samples <= _EXACT:
        one_sided = 1 / math.comb(2 * samples, samples)
    else:
        deviation = math.sqrt(samples**2 * (2 * samples + 1) / 12)
        one_sided = math.erfc((samples**2 / 2 - 0.5) / deviation / math.sqrt(2)) / 2
    return one_sided * (2 if comparison.direction == "either" else 1)


def load() -> Callable[..., Any]:
    """The test. Its library takes seconds to import, once: on an event loop, let a thread call this first."""
    from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]  # noqa: PLC0415

    return mannwhitneyu  # type: ignore[no-any-return]
