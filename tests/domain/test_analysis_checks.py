"""Analysis blocks that cannot work are refused, with the reason and a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from domain.analysis.checks import problems
from domain.analysis.settings import AnalysisSettings

GOOD = {"query": "max(queue{{{selector}}}[{window}])", "success": "<= 100"}


def found(score: Any = None, **metrics: Any) -> list[tuple[str, str]]:
    settings = AnalysisSettings.model_validate({"metrics": metrics, "score": score})
    return [(".".join(map(str, path)), fault) for path, _, fault, remedy in problems(settings) if remedy]


@pytest.mark.parametrize(
    "metric",
    [
        GOOD,
        {"query": "q", "failure": "> 5"},
        {"query": "q", "success": "< 5", "failure": "> 6"},
        {"query": "q", "success": ">= 5 and <= 6", "failure": "< 5 or > 6"},
        {"query": "q", "success": "< 500ms", "unit": "s"},
        {"query": "q", "max_increase": 10},
        {"query": "q", "comparison": {}},
        {"workload": "restarts", "success": "== 0"},
        {"web": {"url": "http://shop.{namespace}.svc", "json_path": "$.a"}, "success": "> 0"},
        {**GOOD, "count": 5, "failure_limit": 4, "inconclusive_limit": 4, "success_limit": 5},
        {**GOOD, "query": "burn{{{selector}}}[5m] > 14 and burn{{{selector}}}[1h] > 14"},
    ],
)
def test_what_works_is_accepted(metric: dict[str, Any]) -> None:
    assert found(queue=metric) == []


@pytest.mark.parametrize(
    ("metric", "where", "fault"),
    [
        ({"success": "< 5"}, "", "has no source, so nothing is measured"),
        ({**GOOD, "workload": "restarts"}, "workload", "is a second source beside query"),
        ({**GOOD, "query": " "}, "query", "is empty, so nothing is measured"),
        ({**GOOD, "query": "q{a='b'}"}, "query", "cannot be filled in: no {a='b'} is known here"),
        ({**GOOD, "query": "q[{windows}]"}, "query", "cannot be filled in: no {windows} is known here"),
        (
            {"web": {"url": "http://{host}", "json_path": "$"}, "success": "> 1"},
            "web.url",
            "cannot be filled in: no {host} is known here",
        ),
        ({"query": "q"}, "", "has no condition, so it could never fail"),
        ({**GOOD, "success": "low"}, "success", "cannot be read"),
        ({**GOOD, "success": "< 5s"}, "success", "cannot be read"),
        ({**GOOD, "success": "> 5 and < 5"}, "success", "holds for no value at all"),
        ({**GOOD, "success": "> 5 or < 6"}, "success", "holds for every value"),
        (
            {"query": "q", "success": "<= 5", "failure": ">= 5"},
            "failure",
            "holds for 5, and so does success: <= 5",
        ),
        (
            {"query": "q", "success": "< 9", "failure": "> 5"},
            "failure",
            "holds for 7, and so does success: < 9",
        ),
        (
            {"workload": "restarts", "max_increase": 5},
            "max_increase",
            "needs a baseline, and only a query has one",
        ),
        (
            {"workload": "restarts", "comparison": {}},
            "comparison",
            "needs a baseline, and only a query has one",
        ),
        (
            {**GOOD, "count": 3, "failure_limit": 3},
            "failure_limit",
            "tolerates all 3 measurements (count), so it could never fail",
        ),
        (
            {**GOOD, "count": 3, "inconclusive_limit": 3},
            "inconclusive_limit",
            "tolerates all 3 measurements (count), so it could pass without having told anything",
        ),
        (
            {**GOOD, "count": 3, "success_limit": 4},
            "success_limit",
            "can never be reached with 3 measurements (count)",
        ),
        (
            {"query": "q", "comparison": {"window": "1m"}},
            "comparison.min_samples",
            "can never be reached: 1m every 15s are 5 samples",
        ),
        (
            {"query": "q", "comparison": {"window": "15s", "min_samples": 2}},
            "comparison.confidence",
            "can never be reached with 2 samples on each side (15s every 15s)",
        ),
        (
            {**GOOD, "dry_run": True, "critical": True},
            "critical",
            "contradicts dry_run: nothing follows from its failure",
        ),
        (
            {**GOOD, "warn_only": True, "critical": True},
            "critical",
            "contradicts warn_only: nothing follows from its failure",
        ),
        (
            {**GOOD, "warn_only": True, "dry_run": True},
            "warn_only",
            "contradicts dry_run, which warns of nothing",
        ),
        ({**GOOD, "occasions": []}, "occasions", "is empty, so it is never watched"),
    ],
)
def test_what_cannot_work_is_refused(metric: dict[str, Any], where: str, fault: str) -> None:
    assert found(queue=metric) == [(f"metrics.queue.{where}".rstrip("."), fault)]


@pytest.mark.parametrize(
    "name", ["error_rate", "latency_p95", "crash_rate", "health_checks", "error_rate_increase"]
)
def test_the_triggers_names_are_taken(name: str) -> None:
    assert found(**{name: GOOD}) == [(f"metrics.{name}", "is the name of a rollback trigger")]


def test_names_that_people_cannot_tell_apart_are_one() -> None:
    assert found(**{"Queue-depth": GOOD, "queue depth ": GOOD}) == [
        ("metrics.queue depth ", "is the same name as 'Queue-depth'")
    ]


@pytest.mark.parametrize(
    ("metrics", "fault"),
    [
        ({}, "has no metric that counts"),
        ({"a": {**GOOD, "dry_run": True}, "b": {**GOOD, "warn_only": True}}, "has no metric that counts"),
        ({"a": {**GOOD, "weight": 0}}, "has nothing to be made of: all weights are 0"),
    ],
)
def test_a_score_of_nothing_is_refused(metrics: dict[str, Any], fault: str) -> None:
    assert found(score={}, **metrics) == [("score", fault)]


def test_a_count_needs_an_interval_where_there_is_none_to_inherit() -> None:
    settings = AnalysisSettings.model_validate({"metrics": {"queue": {**GOOD, "count": 3}}})

    assert not list(problems(settings))
    ((path, value, fault, _),) = problems(settings, inherits_interval=False)
    assert (path, value) == (("metrics", "queue", "count"), 3)
    assert fault == "needs an interval between its measurements"
