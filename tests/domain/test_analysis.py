"""Watches: one round after the other, and the verdict as soon as there is one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.analysis import (
    HealthProbe,
    HealthReport,
    Metric,
    MetricReading,
    NoData,
    Phase,
    Round,
    WatchOutcome,
    WatchPolicy,
    WatchTally,
    WatchVerdict,
    begin,
    judge,
    judge_reading,
)

ERRORS = Metric(name="error_rate", query="q", limit=5, unit="%")
AGAINST_STABLE = ERRORS.model_copy(update={"baseline_query": "b", "max_increase": 50})
GOOD_AT_99 = Metric(name="hits", query="q", success=">= 99%", unit="%")
BAD_FROM_500MS = Metric(name="delay", query="q", failure=">= 500ms", unit="s")
GOOD_OR_BAD = Metric(name="pool", query="q", success=">= 5 and <= 20", failure="< 5 or > 30")
ONLY_COMPARED = Metric(name="depth", query="q", baseline_query="b", max_increase=50)
PROBE = HealthProbe(base_url="http://erlmcp:8080")


def policy(**changes: Any) -> WatchPolicy:
    return WatchPolicy(subject="test", **changes)


def reads(value: float | None = None, *, baseline: float | None = None, error: str | None = None) -> Round:
    return Round(readings={"error_rate": MetricReading(value=value, baseline=baseline, error=error)})


def well(healthy: bool = True) -> Round:
    return Round(health=HealthReport(healthy=healthy, reason="" if healthy else "/health answered 503"))


def watch(rules: WatchPolicy, *rounds: Round) -> tuple[int, WatchVerdict | None]:
    """The verdict, and after how many rounds it came."""
    tally = begin(rules)
    for number, observed in enumerate(rounds, start=1):
        # The tally travels in heartbeats between the rounds.
        tally = WatchTally.model_validate_json(tally.model_dump_json())
        tally, verdict = judge(rules, tally, observed)
        if verdict is not None:
            return number, verdict
    return len(rounds), None


# One measurement


@pytest.mark.parametrize(
    ("metric", "reading", "phase"),
    [
        (ERRORS, MetricReading(value=0), Phase.SUCCESSFUL),
        (ERRORS, MetricReading(value=5), Phase.SUCCESSFUL),
        (ERRORS, MetricReading(value=5.01), Phase.FAILED),
        (ERRORS, MetricReading(value=math.inf), Phase.FAILED),
        # could not be measured
        (ERRORS, MetricReading(error="connection refused"), Phase.ERROR),
        (ERRORS, MetricReading(value=0, error="connection refused"), Phase.ERROR),
        # no traffic
        (ERRORS, MetricReading(), Phase.INCONCLUSIVE),
        (ERRORS, MetricReading(value=math.nan), Phase.ERROR),
        (ERRORS.model_copy(update={"no_data": NoData.FAIL}), MetricReading(), Phase.FAILED),
        (ERRORS.model_copy(update={"no_data": NoData.IGNORE}), MetricReading(), Phase.SUCCESSFUL),
        (ERRORS, MetricReading(value=-math.inf), Phase.ERROR),
        # conditions: what is not good is bad, and the other way round
        (GOOD_AT_99, MetricReading(value=99), Phase.SUCCESSFUL),
        (GOOD_AT_99, MetricReading(value=98.9), Phase.FAILED),
        (GOOD_AT_99, MetricReading(value=math.inf), Phase.ERROR),
        (BAD_FROM_500MS, MetricReading(value=0.499), Phase.SUCCESSFUL),
        (BAD_FROM_500MS, MetricReading(value=0.5), Phase.FAILED),
        (BAD_FROM_500MS, MetricReading(value=math.inf), Phase.FAILED),
        # both given: what is neither is neither
        (GOOD_OR_BAD, MetricReading(value=10), Phase.SUCCESSFUL),
        (GOOD_OR_BAD, MetricReading(value=25), Phase.INCONCLUSIVE),
        (GOOD_OR_BAD, MetricReading(value=31), Phase.FAILED),
        (GOOD_OR_BAD, MetricReading(value=4), Phase.FAILED),
        # only against a baseline: without one it tells nothing
        (ONLY_COMPARED, MetricReading(value=1, baseline=1), Phase.SUCCESSFUL),
        (ONLY_COMPARED, MetricReading(value=2, baseline=1), Phase.FAILED),
        (ONLY_COMPARED, MetricReading(value=2), Phase.INCONCLUSIVE),
        (ONLY_COMPARED, MetricReading(value=2, baseline=0), Phase.INCONCLUSIVE),
        (ONLY_COMPARED, MetricReading(value=0, baseline=0), Phase.SUCCESSFUL),
        # against the stable side: at most half as much again
        (AGAINST_STABLE, MetricReading(value=3, baseline=2), Phase.SUCCESSFUL),
        (AGAINST_STABLE, MetricReading(value=3.01, baseline=2), Phase.FAILED),
        (AGAINST_STABLE, MetricReading(value=1, baseline=2), Phase.SUCCESSFUL),
        # the limit holds whatever the stable side does
        (AGAINST_STABLE, MetricReading(value=6, baseline=9), Phase.FAILED),
        # nothing to compare with: the limit alone
        (AGAINST_STABLE, MetricReading(value=4, baseline=0), Phase.SUCCESSFUL),
        (AGAINST_STABLE, MetricReading(value=4), Phase.SUCCESSFUL),
        (AGAINST_STABLE, MetricReading(value=4, baseline=math.nan), Phase.SUCCESSFUL),
    ],
)
def test_a_measurement(metric: Metric, reading: MetricReading, phase: Phase) -> None:
    assert judge_reading(metric, reading)[0] is phase


def test_a_failed_measurement_says_by_how_much() -> None:
    _, limit = judge_reading(AGAINST_STABLE, MetricReading(value=7.25, baseline=7))
    _, increase = judge_reading(AGAINST_STABLE, MetricReading(value=4, baseline=2))

    assert limit == "error_rate is 7.25%, limit 5%"
    assert increase == "error_rate is 4%, 100% above the baseline's 2% (at most 50%)"
    assert judge_reading(GOOD_AT_99, MetricReading(value=98))[1] == "hits is 98%, wanted >= 99%"
    assert judge_reading(BAD_FROM_500MS, MetricReading(value=2))[1] == "delay is 2s, which is >= 500ms"


@pytest.mark.parametrize("condition", ["", "high", "<= ", "5", "<= 5 and", "<= 5s", "true", "<= nan"])
def test_a_metric_with_an_unreadable_condition_is_refused(condition: str) -> None:
    with pytest.raises(ValidationError, match=r"write .*<= 5|unit of time"):
        Metric(name="m", query="q", success=condition)


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="'error_rate' is the name of two metrics"):
        policy(metrics=(ERRORS, ERRORS))


# Health


@pytest.mark.parametrize(
    ("pattern", "after", "outcome"),
    [
        ("xxx", 3, WatchOutcome.FAILED),
        ("oxxx", 4, WatchOutcome.FAILED),
        ("xxoxxoo", 7, WatchOutcome.PASSED),
        ("ooooooo", 7, WatchOutcome.PASSED),
        # The last checks are bad: it goes on until it is clear which way.
        ("ooooooxo", 8, WatchOutcome.PASSED),
        ("ooooooxxx", 9, WatchOutcome.FAILED),
        ("xxoxxox", 7, None),
    ],
)
def test_three_failures_in_a_row_end_it_fewer_do_not(
    pattern: str, after: int, outcome: WatchOutcome | None
) -> None:
    rules = policy(health=PROBE, rounds=7)

    rounds, verdict = watch(rules, *(well(c == "o") for c in pattern))

    assert rounds == after
    assert (verdict.outcome if verdict else None) is outcome
    if outcome is WatchOutcome.FAILED:
        assert verdict is not None
        assert verdict.trigger == "health_checks"
        assert verdict.reason == "3 consecutive health checks failed: /health answered 503"


def test_health_that_was_not_checked_is_not_health() -> None:
    _, verdict = watch(policy(health=PROBE, rounds=3), Round(), Round(), Round())

    assert verdict is not None
    assert verdict.outcome is WatchOutcome.FAILED


@pytest.mark.parametrize(
    ("pattern", "after", "outcome"),
    [
        ("ooo", 3, WatchOutcome.PASSED),
        ("xxooo", 5, WatchOutcome.PASSED),
        ("xxoxxoxooo", 10, WatchOutcome.PASSED),
        ("xxoxxoxxoo", 10, WatchOutcome.FAILED),
        ("xoxoxoxoxo", 10, WatchOutcome.FAILED),
        ("oxoxoxoxox", 10, WatchOutcome.FAILED),
        ("xxx", 3, WatchOutcome.FAILED),
    ],
)
def test_verification_needs_three_good_checks_in_a_row_in_time(
    pattern: str, after: int, outcome: WatchOutcome
) -> None:
    rules = policy(health=PROBE, rounds=10, settle=3)

    rounds, verdict = watch(rules, *(well(c == "o") for c in pattern))

    assert rounds == after
    assert verdict is not None
    assert verdict.outcome is outcome


# Metrics


def test_one_bad_measurement_ends_it_at_once() -> None:
    rounds, verdict = watch(policy(metrics=(ERRORS,), rounds=20), reads(1), reads(9), reads(1))

    assert rounds == 2
    assert verdict is not None
    assert (verdict.outcome, verdict.trigger) == (WatchOutcome.FAILED, "error_rate")


def test_as_many_bad_measurements_as_allowed_are_tolerated() -> None:
    tolerant = ERRORS.model_copy(update={"failure_limit": 1})

    _, passed = watch(policy(metrics=(tolerant,), rounds=3), reads(9), reads(1), reads(1))
    _, failed = watch(policy(metrics=(tolerant,), rounds=3), reads(9), reads(1), reads(9))

    assert passed is not None
    assert passed.outcome is WatchOutcome.PASSED
    assert failed is not None
    assert failed.outcome is WatchOutcome.FAILED


def test_errors_use_up_no_round_until_they_are_too_many() -> None:
    refused = reads(error="connection refused")
    rules = policy(metrics=(ERRORS,), rounds=2)

    some, passed = watch(rules, reads(1), refused, refused, refused, refused, reads(1))
    many, failed = watch(rules, reads(1), refused, refused, refused, refused, refused)

    assert some == 6
    assert passed is not None
    assert passed.outcome is WatchOutcome.PASSED
    assert passed.tally.rounds == 2
    assert many == 6
    assert failed is not None
    assert failed.reason == "error_rate could not be measured: connection refused (5 times in a row)"


def test_a_metric_nobody_read_is_an_error_not_a_success() -> None:
    _, verdict = watch(policy(metrics=(ERRORS,), rounds=1), *([Round()] * 5))

    assert verdict is not None
    assert verdict.outcome is WatchOutcome.FAILED


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([1, 1, 1, 1], WatchOutcome.PASSED),
        ([1, None, 1, None], WatchOutcome.PASSED),
        ([1, None, None, None], WatchOutcome.INCONCLUSIVE),
        ([None, None, None, None], WatchOutcome.INCONCLUSIVE),
    ],
)
def test_without_traffic_there_is_no_success(values: list[float | None], outcome: WatchOutcome) -> None:
    rules = policy(metrics=(ERRORS,), rounds=4, inconclusive_limit=0.5)

    _, verdict = watch(rules, *(reads(v) for v in values))

    assert verdict is not None
    assert verdict.outcome is outcome


def test_what_the_window_still_shows_of_before_is_not_judged() -> None:
    rules = policy(metrics=(ERRORS.model_copy(update={"warm_up": 2}),), rounds=4)

    _, good = watch(rules, reads(90), reads(40), reads(1), reads(1))
    rounds, bad = watch(rules, reads(90), reads(40), reads(9))

    assert good is not None
    assert good.outcome is WatchOutcome.PASSED
    assert good.tally.metrics["error_rate"].successful == 2
    assert rounds == 3
    assert bad is not None
    assert bad.outcome is WatchOutcome.FAILED


def test_a_metric_that_was_never_judged_is_inconclusive() -> None:
    rules = policy(metrics=(ERRORS.model_copy(update={"warm_up": 9}),), rounds=2)

    _, verdict = watch(rules, reads(1), reads(1))

    assert verdict is not None
    assert verdict.outcome is WatchOutcome.INCONCLUSIVE


_READINGS = st.builds(
    MetricReading,
    value=st.none() | st.sampled_from([0.0, 1.0, 5.0, 5.1, 100.0, math.nan, math.inf]),
    baseline=st.none() | st.sampled_from([0.0, 1.0, 4.0]),
    error=st.none() | st.just("refused"),
)
_ROUNDS = st.builds(
    lambda healthy, reading: Round(
        health=None if healthy is None else HealthReport(healthy=healthy, reason="x"),
        readings={"error_rate": reading},
    ),
    st.sampled_from([True, True, True, False, None]),
    _READINGS,
)


@given(st.lists(_ROUNDS, max_size=40))
def test_nothing_passes_with_a_bad_measurement_or_bad_health(rounds: list[Round]) -> None:
    rules = policy(health=PROBE, metrics=(AGAINST_STABLE,), rounds=5)

    seen, verdict = watch(rules, *rounds)

    judged = rounds[:seen]
    bad = [r for r in judged if judge_reading(AGAINST_STABLE, r.readings["error_rate"])[0] is Phase.FAILED]
    if bad:
        assert verdict is not None
        assert verdict.outcome is WatchOutcome.FAILED
        assert bad == judged[-1:], "judged at once"
    if verdict is not None and verdict.outcome is WatchOutcome.PASSED:
        assert judged[-1].health is not None
        assert judged[-1].health.healthy
        measured = [r for r in judged if r.readings["error_rate"].error is None]
        assert len(measured) >= 5
