"""Both sides compared by samples, against numbers that can be worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.analysis import Comparison, Metric, MetricReading, NoData, Phase, judge_reading
from domain.analysis.statistics import compare, smallest_p_value

LOW = [float(n) for n in range(10, 20)]
HIGH = [n + 10 for n in LOW]
STRICT = Comparison()


def against(**changes: Any) -> Comparison:
    return Comparison.model_validate(changes)


def test_sides_that_do_not_overlap_differ_as_much_as_can_be() -> None:
    found = compare(STRICT, HIGH, LOW)

    assert (found.effect, found.watched, found.baseline) == (1, 24.5, 14.5)
    assert found.bad


@pytest.mark.parametrize("samples", [2, 3, 8, 9, 10, 40])
@pytest.mark.parametrize("direction", ["increase", "either"])
def test_how_sure_the_test_can_be_at_best_is_known_beforehand(samples: int, direction: str) -> None:
    comparison = against(direction=direction)
    low = [float(n) for n in range(samples)]

    found = compare(comparison, [n + samples for n in low], low)

    assert found.p_value == pytest.approx(smallest_p_value(comparison, samples), rel=1e-6)


def test_the_effect_is_the_share_of_pairs_that_are_greater_less_those_that_are_smaller() -> None:
    # of the nine pairs six are greater and three smaller
    assert compare(STRICT, [2, 4, 6], [1, 3, 5]).effect == pytest.approx((6 - 3) / 9)


@pytest.mark.parametrize(
    ("changes", "watched", "baseline", "bad"),
    [
        ({}, HIGH, LOW, True),
        ({}, LOW, HIGH, False),
        ({}, LOW, LOW, False),
        ({}, [5.0] * 10, [5.0] * 10, False),
        ({"direction": "decrease"}, LOW, HIGH, True),
        ({"direction": "decrease"}, HIGH, LOW, False),
        ({"direction": "either"}, LOW, HIGH, True),
        ({"direction": "either"}, HIGH, LOW, True),
        # sure, but no more than is tolerated: 24.5 is 69 % above 14.5
        ({"tolerance": 60}, HIGH, LOW, True),
        ({"tolerance": 70}, HIGH, LOW, False),
        # a difference, but a small one
        ({"effect_size": 0}, [n + 3 for n in LOW * 5], LOW * 5, True),
        ({"effect_size": 0.9}, [n + 3 for n in LOW * 5], LOW * 5, False),
        # three samples on each side have 20 orders: one of them is worth 95 %, and no more
        ({}, [7.0, 8.0, 9.0], [1.0, 2.0, 3.0], True),
        ({}, [7.0, 8.0, 2.5], [1.0, 2.0, 3.0], False),
        ({"confidence": 0.951}, [7.0, 8.0, 9.0], [1.0, 2.0, 3.0], False),
        # a baseline of zero
        ({}, HIGH, [0.0] * 10, True),
        ({}, [0.0] * 10, [0.0] * 10, False),
    ],
)
def test_what_counts_as_worse(
    changes: dict[str, Any], watched: list[float], baseline: list[float], bad: bool
) -> None:
    assert compare(against(**changes), watched, baseline).bad is bad


_SAMPLES = st.lists(st.floats(0, 100), min_size=2, max_size=12)


@given(_SAMPLES, _SAMPLES)
def test_worse_one_way_is_never_worse_the_other_way(watched: list[float], baseline: list[float]) -> None:
    up = compare(against(effect_size=0), watched, baseline)
    down = compare(against(effect_size=0, direction="decrease"), watched, baseline)
    swapped = compare(against(effect_size=0, direction="decrease"), baseline, watched)

    assert not (up.bad and down.bad)
    assert -1 <= up.effect <= 1
    assert up.effect == pytest.approx(-swapped.effect, abs=1e-9)
    assert up.bad is swapped.bad or up.watched * up.baseline == 0


# As a measurement

DELAY = Metric(name="delay", query="q", baseline_query="b", comparison=STRICT, unit="ms")


def test_a_measurement_of_samples_says_what_was_found() -> None:
    phase, reason = judge_reading(
        DELAY, MetricReading(samples=tuple(HIGH), baseline_samples=tuple(LOW), value=29)
    )

    assert phase is Phase.FAILED
    assert reason == "delay: median 24.5ms, the baseline's 14.5ms, effect +1.00, p = 9.1e-05"


@pytest.mark.parametrize(
    ("metric", "reading", "phase"),
    [
        (DELAY, MetricReading(samples=tuple(LOW), baseline_samples=tuple(LOW)), Phase.SUCCESSFUL),
        (DELAY, MetricReading(samples=tuple(HIGH[:9]), baseline_samples=tuple(LOW)), Phase.INCONCLUSIVE),
        (DELAY, MetricReading(samples=tuple(HIGH), baseline_samples=tuple(LOW[:9])), Phase.INCONCLUSIVE),
        # what is no number is no sample
        (
            DELAY,
            MetricReading(samples=(*HIGH[:9], math.nan, math.inf), baseline_samples=tuple(LOW)),
            Phase.INCONCLUSIVE,
        ),
        (DELAY, MetricReading(), Phase.INCONCLUSIVE),
        (DELAY.model_copy(update={"no_data": NoData.IGNORE}), MetricReading(), Phase.SUCCESSFUL),
        (DELAY, MetricReading(error="refused", samples=tuple(HIGH)), Phase.ERROR),
        # a condition beside it is held by the newest value, else by the median
        (
            DELAY.model_copy(update={"success": "< 20"}),
            MetricReading(samples=tuple(HIGH), baseline_samples=tuple(HIGH)),
            Phase.FAILED,
        ),
    ],
)
def test_a_measurement_of_samples(metric: Metric, reading: MetricReading, phase: Phase) -> None:
    assert judge_reading(metric, reading)[0] is phase


def test_the_domain_is_imported_without_the_statistics_library() -> None:
    program = "import sys, domain.analysis, domain.watches; sys.exit('scipy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
