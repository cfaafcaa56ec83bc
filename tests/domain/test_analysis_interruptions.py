"""Watches that are interrupted: what is reported, what a pause forgets, and what is seen during one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.analysis import (
    HealthProbe,
    HealthReport,
    Metric,
    MetricReading,
    Round,
    WatchOutcome,
    WatchPolicy,
    WatchTally,
    WatchVerdict,
    begin,
    due,
    has_gone_on,
    judge,
    resumed,
    worth_reporting,
)

PROBE = HealthProbe(base_url="http://erlmcp:8080")
STEP = timedelta(seconds=30)
READINGS = {
    "o": MetricReading(value=1),
    "x": MetricReading(value=9),
    "?": MetricReading(),
    "!": MetricReading(error="refused"),
}


def metric(name: str, **changes: object) -> Metric:
    return Metric.model_validate({"name": name, "query": "q", "success": "<= 5", **changes})


TOLERANT = metric("m", failure_limit=2)
RULES = WatchPolicy(
    subject="test", initial_delay=STEP, rounds=10, health=PROBE, metrics=(TOLERANT,), inconclusive_limit=0.5
)


class Course:
    """A watch with its workflow, which knows of it only what was reported."""

    def __init__(self, rules: WatchPolicy, tally: WatchTally | None = None, *, guard: bool = False) -> None:
        self.rules, self.guard = rules, guard
        self.tally = tally or begin(rules)
        self.reported = tally
        self.reports = 0

    def see(self, answer: str, health: str = "o") -> WatchVerdict | None:
        wanted = due(self.rules, self.tally)
        observed = Round(
            health=HealthReport(healthy=health == "o", reason="503") if wanted.health else None,
            readings=dict.fromkeys(wanted.metrics, READINGS[answer]),
        )
        before = self.tally
        self.tally, verdict = judge(self.rules, before, observed, guard=self.guard)
        worth = worth_reporting(before, self.tally)
        self.reports += worth
        if worth or has_gone_on(self.rules, before, self.tally):
            self.reported = WatchTally.model_validate_json(self.tally.model_dump_json())
        return verdict

    def see_all(self, answers: str) -> WatchVerdict | None:
        verdicts = [self.see(answer) for answer in answers]
        return verdicts[-1] if verdicts else None


def to_the_end(course: Course, answer: str = "o", most: int = 100) -> tuple[int, WatchVerdict]:
    for number in range(1, most + 1):
        verdict = course.see(answer)
        if verdict is not None:
            return number, verdict
    raise AssertionError("the watch never ends")


# Resuming


def test_a_watch_goes_on_where_it_was_interrupted() -> None:
    # given a watch of ten rounds that saw four, one of them bad
    course = Course(RULES)
    course.see_all("oxoo")

    # when it is interrupted ten seconds later, and goes on
    watched = STEP * 4 + timedelta(seconds=10)
    tally = resumed(RULES, course.reported, watched)

    # then it waits for the rest of the interval, and needs the six that are left
    assert (tally.clock, tally.health_at, tally.rounds) == (watched, STEP * 5, 4)
    assert tally.metrics["m"].failed == 1
    assert due(RULES, tally) == due(RULES, tally).model_copy(update={"health": False, "metrics": ()})
    again = Course(RULES, tally)
    assert again.see("x") is None
    assert again.tally.clock == STEP * 5
    rounds, verdict = to_the_end(again)
    assert rounds == 6
    assert verdict.outcome is WatchOutcome.PASSED
    assert verdict.tally.metrics["m"].failed == 1


def test_a_watch_that_was_interrupted_before_its_first_round_begins_there() -> None:
    tally = resumed(RULES, None, timedelta(seconds=12))

    assert (tally.clock, tally.health_at, tally.rounds) == (timedelta(seconds=12), STEP, 0)


def test_nothing_is_assumed() -> None:
    # given a worker that was away: the time went by, but was not watched
    course = Course(RULES)
    course.see_all("oo")

    tally = resumed(RULES, course.reported, timedelta(hours=9))

    # then the next round is due at once, and eight are left
    assert (tally.rounds, tally.clock) == (2, tally.health_at)
    rounds, verdict = to_the_end(Course(RULES, tally))
    assert (rounds, verdict.outcome) == (8, WatchOutcome.PASSED)


def test_measurements_that_could_not_be_made_count_for_nothing_across_pauses() -> None:
    # given a metric source that is down, and somebody who pauses before each fifth error
    course = Course(RULES)
    for _ in range(50):
        assert course.see_all("!!!!") is None
        watched = course.tally.clock
        course = Course(RULES, resumed(RULES, course.reported, watched))

    # then the watch has not come one round further
    assert course.tally.rounds == 0


def test_no_data_before_a_pause_is_not_forgotten() -> None:
    course = Course(RULES)
    course.see_all("???????")

    again = Course(RULES, resumed(RULES, course.reported, STEP * 7))

    _, verdict = to_the_end(again, "?")
    assert verdict.outcome is WatchOutcome.INCONCLUSIVE


@given(st.text("ooooox?!", max_size=12), st.integers(0, 30), st.text("ooooox?!", max_size=30))
def test_failures_are_never_forgotten(before: str, seconds: int, after: str) -> None:
    # given a watch that is interrupted at any moment
    course = Course(RULES)
    for answer in before:
        if course.see(answer) is not None:
            return
    watched = max(timedelta(0), course.tally.clock - STEP) + timedelta(seconds=seconds)

    # when it goes on
    tally = resumed(RULES, course.reported, watched)

    # then it knows every failure, its clock is not ahead, and something is still to be measured
    seen = course.tally.metrics.get("m")
    known = tally.metrics.get("m")
    assert (known.failed if known else 0) == (seen.failed if seen else 0)
    assert tally.clock <= course.tally.clock
    assert tally.health_at >= tally.clock
    assert tally.rounds < RULES.rounds
    assert resumed(RULES, tally, tally.clock) == tally, "a pause without a report changes nothing"
    # and the end is the same as if all had been in one
    again = Course(RULES, tally)
    failed = before.count("x")
    for answer in ["o", *after]:
        measured = again.tally.clock == again.tally.health_at
        verdict = again.see(answer)
        failed += measured and answer == "x"
        if verdict is not None:
            assert (verdict.outcome is WatchOutcome.FAILED) is (failed > 2 or "(5 times" in verdict.reason)
            return
    assert failed <= 2


# Guarding a pause


def test_a_guard_never_ends_well() -> None:
    guard = Course(RULES, guard=True)

    assert guard.see_all("o?" * 200) is None
    tally = guard.tally.metrics["m"]
    assert (guard.tally.rounds, tally.measured, tally.successful, tally.inconclusive) == (0, 0, 0, 0)


def test_a_guard_ends_with_the_failure_that_is_one_too_many() -> None:
    # given a watch that has tolerated one failure, and is paused
    course = Course(RULES)
    course.see_all("oxo")
    tally = resumed(RULES, course.reported, STEP * 3)

    # when two more come during the pause
    guard = Course(RULES, tally, guard=True)
    assert guard.see_all("oooxooo") is None
    verdict = guard.see("x")

    assert verdict is not None
    assert (verdict.outcome, verdict.trigger) == (WatchOutcome.FAILED, "m")


@pytest.mark.parametrize("pause", [1, 5, 200])
def test_after_a_guarded_pause_the_clock_stands_where_it_stood(pause: int) -> None:
    # given a pause after three of ten rounds, in which one measurement was bad
    course = Course(RULES)
    course.see_all("ooo")
    before = resumed(RULES, course.reported, STEP * 3)
    guard = Course(RULES, before, guard=True)
    guard.see("o")
    guard.see_all("o" * (pause - 1) + "x")

    # when the watch goes on
    tally = resumed(RULES, guard.reported, before.clock)

    # then it needs the other seven, the first of them an interval later, and knows of the bad one
    assert (tally.clock, tally.rounds, tally.health_at) == (before.clock, 3, before.clock + STEP)
    assert tally.metrics["m"].failed == 1
    again = Course(RULES, tally)
    again.see("o")
    rounds, verdict = to_the_end(again)
    assert (rounds, verdict.outcome) == (7, WatchOutcome.PASSED)


def test_a_guard_fails_by_health_as_well() -> None:
    guard = Course(RULES, guard=True)

    verdicts = [guard.see("o", health) for health in "oxxoxxx"]

    assert [verdict is not None for verdict in verdicts] == [False] * 6 + [True]


# Reporting


def test_what_the_workflow_is_told() -> None:
    course = Course(RULES)
    told = []
    for answer in "ooxo??oo??!o":
        reports = course.reports
        course.see(answer)
        told.append("." if course.reports == reports else answer)

    assert "".join(told) == "..xo??.." + ".?.."


@pytest.mark.parametrize("pattern", ["xo", "xxo", "xooo", "?", "x?o!"])
def test_a_day_of_flapping_is_not_a_day_of_reports(pattern: str) -> None:
    day = WatchPolicy(
        subject="soak",
        rounds=2880,
        health=PROBE,
        metrics=(metric("advice", warn_only=True), metric("try", dry_run=True), TOLERANT),
    )
    course = Course(day)

    for number in range(2880):
        wanted = due(day, course.tally)
        answer = pattern[number % len(pattern)]
        calm = "?" if answer == "?" else "o"
        readings = {name: READINGS[calm if name == "m" else answer] for name in wanted.metrics}
        health = HealthReport(healthy=answer != "x", reason="503")
        before = course.tally
        course.tally, verdict = judge(day, before, Round(health=health, readings=readings))
        course.reports += worth_reporting(before, course.tally)
        assert verdict is None or number == 2879

    assert course.reports < 200
