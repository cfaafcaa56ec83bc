"""Replaying a watch over recorded values: the engine's own clock, moved instead of waited for."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from domain.analysis import Comparison, HealthProbe, Metric, Phase, WatchOutcome, WatchPolicy
from domain.backtest import Recording, Series, bad_since, length, lookback, pace, replay

NOON = datetime(2026, 2, 2, 12, tzinfo=UTC)


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def series(value: Callable[[float], float | None], until: float = 600, step: float = 10) -> Series:
    """What a query gave each `step`, by the seconds since noon."""
    return Series(NOON, s(step), tuple(value(n * step) for n in range(int(until / step) + 1)))


def metric(**changes: object) -> Metric:
    return Metric.model_validate({"name": "errors", "query": "errors", "limit": 5, **changes})


def policy(*metrics: Metric, **changes: object) -> WatchPolicy:
    fields = {"subject": "a canary", "interval": s(30), "rounds": 5, "metrics": metrics or (metric(),)}
    return WatchPolicy.model_validate({**fields, **changes})


def test_a_value_holds_until_the_next_one_was_recorded() -> None:
    recorded = series(lambda at: at, until=30)

    assert [recorded.at(NOON + s(at)) for at in (0, 9.9, 10, 25, 30)] == [0, 0, 10, 20, 30]
    assert recorded.at(NOON - s(1)) is None
    assert recorded.at(NOON + s(41)) is None
    assert recorded.end == NOON + s(30)


def test_a_watch_measures_at_the_moments_of_its_policy() -> None:
    # given one metric of the watch's own pace, and one that is measured twice, later and less often
    rare = metric(name="rare", interval=s(60), count=2, initial_delay=s(45))
    good = series(lambda _: 1)

    found = replay(policy(metric(), rare), Recording({"errors": good, "rare": good}), NOON, good.end)

    assert found.outcome is WatchOutcome.PASSED
    assert [(m.at - NOON).total_seconds() for m in found.measurements["errors"]] == [0, 30, 60, 90, 120]
    assert [(m.at - NOON).total_seconds() for m in found.measurements["rare"]] == [45, 105]
    assert found.decided_at == NOON + s(120)
    assert found.detection_delay is None


def test_the_verdict_knows_since_when_it_was_bad() -> None:
    # given errors from 61 s on, after a shorter burst that nobody measured
    bad = series(lambda at: 9 if at in (40, 50) or at > 61 else 1)

    found = replay(policy(), Recording({"errors": bad}), NOON, bad.end)

    assert found.outcome is WatchOutcome.FAILED
    assert found.decided_at == NOON + s(90)
    assert found.bad_since == NOON + s(70)
    assert found.detection_delay == s(20)
    assert found.counts("errors") == {Phase.SUCCESSFUL: 3, Phase.FAILED: 1}


def test_what_was_bad_before_the_watch_is_not_counted_against_it() -> None:
    bad = series(lambda _: 9)

    assert bad_since(metric(), Recording({"errors": bad}), NOON + s(60), NOON + s(90)) == NOON + s(60)


@pytest.mark.parametrize(
    ("value", "phase"),
    [
        (None, Phase.INCONCLUSIVE),
        (math.nan, Phase.ERROR),
        (math.inf, Phase.ERROR),
        (5.0, Phase.SUCCESSFUL),
        (5.1, Phase.FAILED),
    ],
)
def test_every_kind_of_value_is_what_it_would_have_been(value: float | None, phase: Phase) -> None:
    recorded = series(lambda _: value)

    found = replay(policy(), Recording({"errors": recorded}), NOON, recorded.end)

    assert found.measurements["errors"][0].phase is phase


def test_a_baseline_may_be_of_another_moment() -> None:
    # given a stable side that became as bad as the watched one
    compared = metric(limit=None, baseline_query="stable", max_increase=50)
    recording = Recording({"errors": series(lambda _: 4)}, {"errors": series(lambda at: 1 if at < 60 else 4)})

    now = replay(policy(compared), recording, NOON + s(60), NOON + s(600))
    before = replay(
        policy(compared.model_copy(update={"baseline_at": NOON})), recording, NOON + s(60), NOON + s(600)
    )

    assert now.outcome is WatchOutcome.PASSED
    assert before.outcome is WatchOutcome.FAILED


def test_samples_are_those_of_the_window_before_each_moment() -> None:
    compared = metric(
        limit=None, baseline_query="stable", comparison=Comparison(window=s(120), step=s(10), min_samples=10)
    )
    recording = Recording(
        {"errors": series(lambda at: at % 7 + (50 if at > 300 else 0))}, {"errors": series(lambda at: at % 7)}
    )
    watched = policy(compared, rounds=15)

    found = replay(watched, recording, NOON + lookback(watched), NOON + s(600))

    assert lookback(watched) == s(120)
    assert len(found.measurements["errors"][0].reading.samples) == 12
    assert found.outcome is WatchOutcome.FAILED
    assert NOON + s(300) < found.decided_at < NOON + s(420)


def test_a_recording_that_ends_first_leaves_the_watch_without_a_verdict() -> None:
    short = series(lambda _: 1, until=60)

    found = replay(policy(), Recording({"errors": short}), NOON, short.end)

    assert found.verdict is None
    assert found.outcome is WatchOutcome.INCONCLUSIVE
    assert found.decided_at == short.end
    assert len(found.measurements["errors"]) == 3


def test_health_checks_count_as_healthy() -> None:
    probed = policy(health=HealthProbe(base_url="http://shop.example.com"))
    good = series(lambda _: 1)

    assert replay(probed, Recording({"errors": good}), NOON, good.end).outcome is WatchOutcome.PASSED


def test_the_grid_of_a_recording_holds_every_moment_of_the_watch() -> None:
    assert pace(policy()) == s(30)
    assert pace(policy(initial_delay=s(45))) == s(15)
    assert pace(policy(metric(interval=s(20)))) == s(10)
    assert pace(policy(metric(comparison=Comparison(step=s(15)), baseline_query="stable"))) == s(15)
    assert pace(policy(), s(100)) == s(10)


def test_a_watch_is_as_long_as_its_last_measurement() -> None:
    assert length(policy()) == s(120)
    assert length(policy(initial_delay=s(30))) == s(150)
    assert length(policy(metric(count=4, interval=s(60), initial_delay=s(10)))) == s(190)
