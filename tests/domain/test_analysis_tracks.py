"""Metrics as tracks of a watch: intervals, counts, limits, severity, scores and warnings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.analysis import (
    Due,
    HealthProbe,
    HealthReport,
    Metric,
    MetricReading,
    Phase,
    Round,
    ScorePolicy,
    WatchOutcome,
    WatchPolicy,
    WatchTally,
    WatchVerdict,
    begin,
    due,
    judge,
)

PROBE = HealthProbe(base_url="http://erlmcp:8080")
SECONDS_30 = timedelta(seconds=30)
READINGS = {
    "o": MetricReading(value=1),
    "x": MetricReading(value=9),
    "?": MetricReading(),
    "!": MetricReading(error="refused"),
}


def metric(name: str, **changes: Any) -> Metric:
    return Metric(name=name, query="q", success="<= 5", **changes)


def policy(*metrics: Metric, **changes: Any) -> WatchPolicy:
    return WatchPolicy(subject="test", metrics=metrics, **changes)


class Watching:
    """A watch of which each metric answers by its own script; the last answer stays."""

    def __init__(self, rules: WatchPolicy, health: str = "o", **scripts: str) -> None:
        self.rules, self.scripts = rules, {"health": health, **scripts}
        self.asked: dict[str, list[timedelta]] = {name: [] for name in self.scripts}
        self.tally, self.verdict = begin(rules), None
        self.seen: list[WatchTally] = []

    def _answer(self, name: str) -> str:
        self.asked[name].append(self.tally.clock)
        script = self.scripts[name]
        return script[min(len(self.asked[name]), len(script)) - 1]

    def step(self, *, guard: bool = False) -> WatchVerdict | None:
        wanted = due(self.rules, self.tally)
        health = HealthReport(healthy=self._answer("health") == "o", reason="503") if wanted.health else None
        readings = {name: READINGS[self._answer(name)] for name in wanted.metrics}
        tally, verdict = judge(self.rules, self.tally, Round(health=health, readings=readings), guard)
        # It travels in heartbeats and signals.
        self.tally = WatchTally.model_validate_json(tally.model_dump_json())
        self.seen.append(self.tally)
        return verdict

    def until(self, over: Callable[[], bool]) -> WatchVerdict | None:
        for _ in range(1000):
            verdict = self.step()
            if verdict is not None or over():
                return verdict
        raise AssertionError("the watch never ends")

    def run(self) -> WatchVerdict:
        verdict = self.until(lambda: False)
        assert verdict is not None
        return verdict

    def minutes(self, name: str) -> list[float]:
        return [at / timedelta(minutes=1) for at in self.asked[name]]


def outcome(rules: WatchPolicy, health: str = "o", **scripts: str) -> tuple[WatchOutcome, str | None]:
    verdict = Watching(rules, health, **scripts).run()
    return verdict.outcome, verdict.trigger


PASSED = (WatchOutcome.PASSED, None)


# The clock


def test_each_metric_is_measured_at_its_own_interval_and_after_its_own_delay() -> None:
    slow = metric("slow", interval=timedelta(minutes=2))
    late = metric("late", initial_delay=timedelta(minutes=3))
    once = metric("once", count=1)
    watch = Watching(
        policy(slow, late, once, health=PROBE, rounds=10, initial_delay=SECONDS_30),
        slow="o",
        late="o",
        once="o",
    )

    assert watch.run().outcome is WatchOutcome.PASSED

    assert watch.minutes("health") == [n / 2 for n in range(1, 11)]
    assert watch.minutes("slow") == [0.5, 2.5, 4.5]
    assert watch.minutes("late") == [3, 3.5, 4, 4.5, 5]
    assert watch.minutes("once") == [0.5]


def test_the_clock_stands_at_the_next_moment_that_something_is_due() -> None:
    rules = policy(metric("fast", interval=timedelta(seconds=20)), health=PROBE, rounds=3)
    watch = Watching(rules, fast="o")

    moments = []
    while watch.tally.clock < timedelta(minutes=1):
        moments.append((watch.tally.clock.seconds, due(rules, watch.tally)))
        watch.step()

    assert moments == [
        (0, Due(health=True, metrics=("fast",))),
        (20, Due(health=False, metrics=("fast",))),
        (30, Due(health=True)),
        (40, Due(health=False, metrics=("fast",))),
    ]


def test_a_count_that_takes_longer_than_the_rounds_makes_the_watch_longer() -> None:
    watch = Watching(policy(metric("m", count=5), rounds=2, health=PROBE), m="o")

    watch.run()

    assert len(watch.asked["m"]) == len(watch.asked["health"]) == 5


def test_a_metric_that_would_never_be_due_in_time_is_measured_once() -> None:
    watch = Watching(policy(metric("m", initial_delay=timedelta(hours=1)), rounds=2), m="o")

    assert watch.run().outcome is WatchOutcome.PASSED
    assert watch.minutes("m") == [60]


def test_errors_use_up_no_count() -> None:
    watch = Watching(policy(metric("m", count=3)), m="o!!o!o")

    assert watch.run().outcome is WatchOutcome.PASSED
    assert len(watch.asked["m"]) == 6


def test_enough_good_measurements_in_a_row_are_enough() -> None:
    watch = Watching(policy(metric("m", success_limit=3, failure_limit=1), rounds=20), m="ooxooo" + "x" * 9)

    assert watch.run().outcome is WatchOutcome.PASSED
    assert len(watch.asked["m"]) == 6


def test_a_tally_of_before_there_was_a_clock_goes_on() -> None:
    rules = policy(metric("m", warm_up=1), health=PROBE, rounds=4, initial_delay=SECONDS_30)
    older = WatchTally.model_validate({"rounds": 3, "health_streak": 3, "metrics": {"m": {"successful": 2}}})

    assert due(rules, older) == Due(health=True, metrics=("m",))
    tally, verdict = judge(
        rules, older, Round(health=HealthReport(healthy=True), readings={"m": READINGS["o"]})
    )

    assert verdict is not None
    assert verdict.outcome is WatchOutcome.PASSED
    assert tally.clock == timedelta(seconds=150)


# Limits


@pytest.mark.parametrize(
    ("changes", "script", "expected"),
    [
        ({}, "oooo", PASSED),
        ({}, "ooox", (WatchOutcome.FAILED, "m")),
        ({"failure_limit": 2}, "xoxo", PASSED),
        ({"failure_limit": 2}, "xoxx", (WatchOutcome.FAILED, "m")),
        ({"error_limit": 1}, "o!o!oo", PASSED),
        ({"error_limit": 1}, "o!!", (WatchOutcome.FAILED, "m")),
        ({"inconclusive_limit": 1}, "o?oo", PASSED),
        ({"inconclusive_limit": 1}, "?o?x", (WatchOutcome.INCONCLUSIVE, "m")),
        ({"dry_run": True}, "x?!x", PASSED),
        ({"dry_run": True}, "!", PASSED),
        ({"warn_only": True}, "xxxx", PASSED),
        ({"warn_only": True}, "!", PASSED),
    ],
)
def test_limits_of_a_metric(
    changes: dict[str, Any], script: str, expected: tuple[WatchOutcome, str | None]
) -> None:
    assert outcome(policy(metric("m", **changes), rounds=4), m=script) == expected


def test_a_metric_without_effect_is_measured_and_shown() -> None:
    verdict = Watching(policy(metric("m", dry_run=True), rounds=3), m="xox").run()

    assert verdict.tally.metrics["m"].failed == 2
    assert "m is 9, wanted <= 5" in verdict.reason
    assert verdict.tally.warnings == ()


@pytest.mark.parametrize(
    ("scripts", "expected"),
    [
        ({"a": "?", "b": "!", "c": "x"}, (WatchOutcome.FAILED, "c")),
        ({"a": "?", "b": "!", "c": "o"}, (WatchOutcome.FAILED, "b")),
        ({"a": "?", "b": "o", "c": "o"}, (WatchOutcome.INCONCLUSIVE, "a")),
        ({"a": "x", "b": "o", "c": "x"}, (WatchOutcome.FAILED, "a")),
    ],
)
def test_the_most_severe_metric_decides(
    scripts: dict[str, str], expected: tuple[WatchOutcome, str | None]
) -> None:
    rules = policy(*(metric(name, error_limit=0, inconclusive_limit=0) for name in scripts))

    assert outcome(rules, **scripts) == expected


def test_the_reason_names_everything_that_failed() -> None:
    rules = policy(metric("a", error_limit=0), metric("b"), metric("c"), health=PROBE, consecutive_failures=1)

    verdict = Watching(rules, "x", a="!", b="x", c="o").run()

    assert verdict.trigger == "health_checks"
    assert verdict.reason == (
        "1 consecutive health checks failed: 503; b is 9, wanted <= 5; "
        "a could not be measured: refused (1 times in a row)"
    )


# Against a brute-force reading of the rules: the fate of each metric alone, and then the earliest

_SCRIPTS = st.text("oox?!", min_size=12, max_size=12)
_LIMITS = st.fixed_dictionaries(
    {
        "count": st.integers(1, 5),
        "failure_limit": st.integers(0, 2),
        "error_limit": st.integers(0, 2),
        "inconclusive_limit": st.integers(0, 2),
    }
)
_SEVERITY = [Phase.FAILED, Phase.ERROR, Phase.INCONCLUSIVE, Phase.SUCCESSFUL]
_OUTCOMES = [WatchOutcome.FAILED, WatchOutcome.FAILED, WatchOutcome.INCONCLUSIVE, WatchOutcome.PASSED]


def fate(limits: dict[str, int], script: str) -> tuple[int, Phase]:
    """After how many measurements a metric is decided, and how."""
    for number in range(1, len(script) + 1):
        answers = script[:number]
        if answers.count("x") > limits["failure_limit"]:
            return number, Phase.FAILED
        if len(answers) - len(answers.rstrip("!")) > limits["error_limit"]:
            return number, Phase.ERROR
        if answers.count("?") > limits["inconclusive_limit"]:
            return number, Phase.INCONCLUSIVE
        if len(answers.replace("!", "")) == limits["count"]:
            return number, Phase.SUCCESSFUL
    return len(script) + 1, Phase.SUCCESSFUL


@given(st.lists(st.tuples(_LIMITS, _SCRIPTS), min_size=1, max_size=3))
def test_a_watch_is_decided_by_the_first_metric_that_is(metrics: list[tuple[dict[str, int], str]]) -> None:
    names = [f"m{number}" for number in range(len(metrics))]
    fates = {name: fate(limits, script) for name, (limits, script) in zip(names, metrics, strict=True)}
    bad = [
        (at, _SEVERITY.index(phase), name) for name, (at, phase) in fates.items() if phase in _SEVERITY[:3]
    ]
    end, severity, trigger = min(bad) if bad else (max(at for at, _ in fates.values()), 3, None)
    rules = policy(*(metric(name, **limits) for name, (limits, _) in zip(names, metrics, strict=True)))
    watch = Watching(rules, **{n: s + "o" * 9 for n, (_, s) in zip(names, metrics, strict=True)})

    verdict = watch.run()

    assert len(watch.seen) == end
    assert verdict.trigger == trigger
    assert verdict.outcome is _OUTCOMES[severity]
    clocks = [tally.clock for tally in watch.seen]
    assert clocks == sorted(set(clocks)), "the clock only moves on"


# Scores

SCORED = ScorePolicy(passing=75, marginal=50)


def scored(**weights: float) -> WatchPolicy:
    return policy(*(metric(name, weight=w) for name, w in weights.items()), score=SCORED, rounds=4)


@pytest.mark.parametrize(
    ("bad", "expected", "score", "rounds"),
    [
        ("", WatchOutcome.PASSED, 100, 4),
        ("c", WatchOutcome.PASSED, 80, 4),
        ("b", WatchOutcome.INCONCLUSIVE, 70, 4),
        ("bc", WatchOutcome.INCONCLUSIVE, 50, 4),
        ("a", WatchOutcome.INCONCLUSIVE, 50, 4),
        # nothing to come can help any more
        ("ab", WatchOutcome.FAILED, 20, 1),
        ("abc", WatchOutcome.FAILED, 0, 1),
    ],
)
def test_a_score_weighs_what_is_good(bad: str, expected: WatchOutcome, score: float, rounds: int) -> None:
    scripts = {name: "x" if name in bad else "o" for name in "abc"}
    watch = Watching(scored(a=5, b=3, c=2), **scripts)

    verdict = watch.run()

    assert verdict.outcome is expected
    assert verdict.score == pytest.approx(score)
    assert len(watch.seen) == rounds
    assert verdict.trigger == (bad[0] if expected is not WatchOutcome.PASSED else None)


def test_what_is_no_measurement_is_not_good_in_a_score() -> None:
    assert outcome(scored(a=1, b=1), a="o", b="!") == (WatchOutcome.INCONCLUSIVE, "b")
    silent = scored(a=1, b=1).model_copy(update={"inconclusive_limit": 0.5})
    assert outcome(silent, a="o", b="?") == (WatchOutcome.INCONCLUSIVE, "b")


def test_a_critical_metric_fails_a_scored_watch_at_once() -> None:
    rules = policy(metric("a", weight=99), metric("b", weight=1, critical=True), score=SCORED, rounds=9)

    watch = Watching(rules, a="o", b="oox")

    verdict = watch.run()
    assert (verdict.outcome, verdict.trigger, len(watch.seen)) == (WatchOutcome.FAILED, "b", 3)


def test_no_score_makes_up_for_a_critical_metric_that_tells_nothing() -> None:
    rules = policy(
        metric("a", weight=1),
        metric("b", weight=0, critical=True),
        score=SCORED,
        rounds=4,
        inconclusive_limit=0.5,
    )

    assert outcome(rules, a="o", b="?") == (WatchOutcome.INCONCLUSIVE, "b")


def test_without_weights_there_is_no_score() -> None:
    rules = policy(metric("a", weight=0), metric("b", dry_run=True), score=SCORED)

    verdict = Watching(rules, a="x", b="o").run()

    assert (verdict.outcome, verdict.trigger, verdict.score) == (WatchOutcome.FAILED, "a", None)


# Warnings (spec: Rollback State Machine)


def warnings(rules: WatchPolicy, health: str = "o", **scripts: str) -> list[tuple[str, ...]]:
    watch = Watching(rules, health, **scripts)
    watch.run()
    return [tally.warnings for tally in watch.seen]


def test_a_tolerated_failure_is_a_warning_until_it_is_well_again() -> None:
    rules = policy(metric("m", failure_limit=2), rounds=4)

    first, second = (f"m is 9, wanted <= 5 (failure {n}, 2 tolerated)" for n in (1, 2))
    assert warnings(rules, m="xoxo") == [(first,), (), (second,), ()]


def test_a_failed_health_check_is_a_warning_until_it_is_a_failure() -> None:
    said = ("a health check failed: 503",)

    assert warnings(policy(health=PROBE, rounds=5), "oxxoo") == [(), said, said, (), ()]


def test_a_metric_that_only_warns_warns() -> None:
    rules = policy(metric("m", warn_only=True), rounds=3)

    assert warnings(rules, m="oxx") == [(), ("m is 9, wanted <= 5",), ("m is 9, wanted <= 5",)]


def test_the_more_often_a_warning_comes_back_the_longer_it_stays() -> None:
    shown = warnings(policy(health=PROBE, rounds=14), "xoxooxoooxoooo")

    assert "".join("x" if warned else "o" for warned in shown) == "xoxxoxxxoxxxxo"
