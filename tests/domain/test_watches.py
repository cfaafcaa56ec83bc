"""Watches: what each state of a deployment measures, how long, and against what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.analysis import Metric, NoData, WatchPolicy, WorkloadMeasure
from domain.analysis.settings import Occasion
from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.deployment import DeploymentRequest
from domain.feature_flags import FlagRollout
from domain.merging import overlay
from domain.plan import DeploymentPlan, resolve_plan
from domain.rollback_triggers import TRIGGER_NAMES
from domain.watches import (
    canary_watch,
    flag_watch,
    health_probe,
    monitoring_watch,
    node_watch,
    preview_watch,
    switched_watch,
    verification_watch,
)
from domain.workload import Side, Track

BEFORE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def plan(environment: str = "production", **settings: Any) -> DeploymentPlan:
    request = DeploymentRequest(
        application="erlmcp", environment=environment, version="3.0.0", actor="dev@example.com"
    )
    return resolve_plan(Configuration.model_validate(overlay(DEFAULTS, settings)), request)


def erlmcp(**settings: Any) -> dict[str, Any]:
    return {"erlmcp": settings}


def analysed(environment: str = "production", *, score: Any = None, **metrics: Any) -> DeploymentPlan:
    analysis = {"metrics": metrics, "score": score}
    return plan(environment, applications=erlmcp(analysis=analysis))


def production(**settings: Any) -> DeploymentPlan:
    return plan(environments={"production": settings})


def metric(limits: tuple[Metric, ...], name: str) -> Metric:
    return next(m for m in limits if m.name == name)


def named(watch: WatchPolicy) -> list[str]:
    return [m.name for m in watch.metrics]


# The spec's triggers


def test_verification_is_three_good_checks_within_five_minutes() -> None:
    watch = verification_watch(plan(), "3.0.0")

    assert (watch.interval, watch.rounds, watch.settle) == (timedelta(seconds=30), 10, 3)
    assert watch.consecutive_failures == 3
    assert watch.health is not None
    assert watch.health.version == "3.0.0"
    assert watch.metrics == ()


def test_a_canary_step_is_watched_for_ten_minutes() -> None:
    watch = canary_watch(plan(), "3.0.0")

    assert watch.rounds * watch.interval == timedelta(minutes=10)
    assert watch.health is not None
    assert watch.health.base_url == "http://erlmcp-canary.erlmcp-prod.svc:8080"
    errors = metric(watch.metrics, "error_rate")
    assert (errors.limit, errors.max_increase) == (5, 50)
    assert 'track="canary"' in errors.query
    assert errors.baseline_query is not None
    assert 'track="stable"' in errors.baseline_query
    assert "[5m]" in errors.query


def test_with_an_absolute_comparison_the_stable_side_is_not_asked() -> None:
    triggers = {"error_rate": {"comparison": "absolute"}}

    errors = metric(canary_watch(plan(automatic_rollback_triggers=triggers), "3.0.0").metrics, "error_rate")

    assert errors.baseline_query is None
    assert errors.max_increase is None


def test_without_an_address_of_its_own_the_canary_s_health_is_not_the_stable_side_s() -> None:
    made = plan(applications=erlmcp(health={"canary_url": None}))

    assert health_probe(made, "3.0.0", Track.CANARY) is None
    assert health_probe(made, "3.0.0", Track.STABLE) is not None


def test_an_environment_without_canary_has_no_canary_watch() -> None:
    with pytest.raises(ValueError, match="qa has no canary"):
        canary_watch(plan("qa"), "3.0.0")


@pytest.mark.parametrize(
    ("environment", "metrics", "duration"),
    [
        ("dev", [], timedelta(minutes=5)),
        ("qa", [], timedelta(hours=1)),
        ("staging", ["error_rate", "latency_p95", "latency_p99", "crash_rate"], timedelta(hours=24)),
        ("production", ["error_rate", "latency_p95", "latency_p99", "crash_rate"], timedelta(hours=1)),
    ],
)
def test_monitoring_watches_what_the_environment_s_level_says(
    environment: str, metrics: list[str], duration: timedelta
) -> None:
    watch = monitoring_watch(plan(environment), "3.0.0")

    assert [m.name for m in watch.metrics] == metrics
    assert watch.rounds * watch.interval == duration


def test_the_specification_s_limits() -> None:
    limits = monitoring_watch(plan(), "3.0.0").metrics

    assert [(m.name, m.limit) for m in limits] == [
        ("error_rate", 5),
        ("latency_p95", 10),
        ("latency_p99", 30),
        ("crash_rate", 1),
    ]
    crashes = metric(limits, "crash_rate").query
    assert crashes.endswith('pod=~"erlmcp-[a-z0-9]+-[a-z0-9]+"}[2m])) / 2')
    assert "0.99" in metric(limits, "latency_p99").query


def test_standard_monitoring_watches_the_error_rate_unless_only_health_rolls_back() -> None:
    automatic = plan("qa", environments={"qa": {"rollback_strategy": "automatic"}})

    assert [m.name for m in monitoring_watch(automatic, "3.0.0").metrics] == ["error_rate"]
    assert monitoring_watch(plan("qa"), "3.0.0").metrics == ()


@pytest.mark.parametrize(
    ("step", "interval", "window", "warm_up"),
    [
        ("10m", "30s", "5m", 9),
        ("20m", "1m", "5m", 4),
        ("4m", "30s", "2m", 3),
        ("10s", "1s", "5s", 4),
        ("1s", "1s", "500ms", 0),
    ],
)
def test_no_measurement_sees_what_was_before_its_step(
    step: str, interval: str, window: str, warm_up: int
) -> None:
    canary = {"step_duration": step, "analysis_interval": interval}

    watch = canary_watch(plan(environments={"production": {"canary": canary}}), "3.0.0")

    errors = metric(watch.metrics, "error_rate")
    assert f"[{window}]" in errors.query
    assert errors.warm_up == warm_up
    assert errors.warm_up < watch.rounds, "something is judged"


def test_the_error_rate_is_zero_not_unknown_while_no_request_has_failed() -> None:
    query = metric(canary_watch(plan(), "3.0.0").metrics, "error_rate").query

    assert query == (
        '100 * (sum(rate(erlmcp_requests_total{namespace="erlmcp-prod",track="canary",status=~"5.."}[5m]))'
        ' or 0 * sum(rate(erlmcp_requests_total{namespace="erlmcp-prod",track="canary"}[5m])))'
        ' / sum(rate(erlmcp_requests_total{namespace="erlmcp-prod",track="canary"}[5m])) >= 0'
    )


def test_monitoring_warns_of_an_error_rate_that_rose_with_the_deployment() -> None:
    watch = monitoring_watch(plan(), "3.0.0", BEFORE)

    # the threshold rolls back, the rise is a warning
    threshold, rise = metric(watch.metrics, "error_rate"), metric(watch.metrics, "error_rate_increase")
    assert (threshold.limit, threshold.max_increase, threshold.warn_only) == (5, None, False)
    assert (rise.limit, rise.max_increase, rise.warn_only) == (None, 50, True)
    assert rise.baseline_at == BEFORE
    assert rise.query == rise.baseline_query == threshold.query


def test_with_an_absolute_comparison_monitoring_compares_nothing() -> None:
    made = plan(automatic_rollback_triggers={"error_rate": {"comparison": "absolute"}})

    assert "error_rate_increase" not in named(monitoring_watch(made, "3.0.0", BEFORE))


def test_the_triggers_have_their_names_to_themselves() -> None:
    assert {*named(monitoring_watch(plan(), "3.0.0", BEFORE)), "health_checks"} == TRIGGER_NAMES


# Metrics of the application


def test_a_metric_of_the_application_joins_the_triggers() -> None:
    made = analysed(
        queue={
            "query": 'max(queue{{{selector},pod=~"{pod}",v="{version}"}}[{window}]) / {window_minutes}',
            "success": "<= 100",
            "window": "2m",
            "failure_limit": 2,
            "interval": "1m",
        }
    )

    watch = canary_watch(made, "3.0.0")

    assert named(watch) == ["error_rate", "latency_p95", "latency_p99", "crash_rate", "queue"]
    queue = watch.metrics[-1]
    assert queue.query == (
        'max(queue{namespace="erlmcp-prod",track="canary",pod=~"erlmcp-canary-[a-z0-9]+-[a-z0-9]+",'
        'v="3.0.0"}[2m]) / 2'
    )
    assert (queue.success, queue.failure_limit, queue.interval) == ("<= 100", 2, timedelta(minutes=1))
    assert queue.baseline_query is None
    assert queue.warm_up == 3


def test_metrics_are_watched_on_their_occasions_alone() -> None:
    made = analysed(
        everywhere={"query": "up", "success": "> 0"},
        canary={"query": "up", "success": "> 0", "occasions": [Occasion.CANARY]},
        later={"query": "up", "success": "> 0", "occasions": [Occasion.MONITORING]},
    )

    assert named(canary_watch(made, "3.0.0"))[4:] == ["everywhere", "canary"]
    assert named(monitoring_watch(made, "3.0.0"))[4:] == ["everywhere", "later"]


@pytest.mark.parametrize("environment", ["dev", "qa"])
def test_where_only_health_counts_no_metric_is_watched(environment: str) -> None:
    made = analysed(environment, queue={"query": "up", "success": "> 0"})

    assert monitoring_watch(made, "3.0.0").metrics == ()


def test_other_sources_need_no_prometheus() -> None:
    made = plan(
        applications=erlmcp(
            metrics={"prometheus_url": None},
            analysis={
                "metrics": {
                    "query": {"query": "up", "success": "> 0"},
                    "ready": {"workload": "ready_pods", "success": ">= 90"},
                    "orders": {
                        "web": {"url": "http://shop.{namespace}.svc/{version}", "json_path": "$.rate"},
                        "success": "> 0",
                    },
                }
            },
        )
    )

    watch = canary_watch(made, "3.0.0")

    assert named(watch) == ["ready", "orders"]
    ready, orders = watch.metrics
    assert ready.workload is not None
    assert ready.workload.measure is WorkloadMeasure.READY_PODS
    assert (ready.workload.namespace, ready.workload.deployment) == ("erlmcp-prod", "erlmcp-canary")
    assert orders.web is not None
    assert orders.web.url == "http://shop.erlmcp-prod.svc/3.0.0"


def test_a_baseline_is_the_stable_side_or_else_what_was_before() -> None:
    made = analysed(depth={"query": 'q{{pod=~"{pod}",{selector}}}', "max_increase": 20})

    canary = metric(canary_watch(made, "3.0.0").metrics, "depth")
    monitoring = metric(monitoring_watch(made, "3.0.0", BEFORE).metrics, "depth")

    assert canary.baseline_query is not None
    assert 'track="stable"' in canary.baseline_query
    assert 'pod=~"erlmcp-[a-z0-9]+-[a-z0-9]+"' in canary.baseline_query
    assert canary.baseline_at is None
    assert monitoring.baseline_query == monitoring.query == canary.baseline_query
    assert monitoring.baseline_at == BEFORE


def test_without_a_baseline_its_conditions_hold_and_a_metric_without_any_is_left_out() -> None:
    made = analysed(
        both={"query": "q", "max_increase": 20, "success": "< 5"}, only={"query": "q", "max_increase": 20}
    )

    watch = monitoring_watch(made, "3.0.0")

    assert named(watch)[4:] == ["both"]
    assert (watch.metrics[4].success, watch.metrics[4].max_increase) == ("< 5", None)


@pytest.mark.parametrize(
    ("step", "window", "samples", "every"),
    [
        ("20m", "1m", timedelta(minutes=5), timedelta(seconds=15)),
        ("6m", "30s", timedelta(minutes=2.5), timedelta(seconds=7.5)),
    ],
)
def test_a_statistical_comparison_sees_both_sides_and_nothing_of_before(
    step: str, window: str, samples: timedelta, every: timedelta
) -> None:
    made = analysed(delay={"query": "q{{{selector}}}[{window}]", "comparison": {}})
    settings = made.settings.model_copy(
        update={"canary": production(canary={"step_duration": step}).settings.canary}
    )

    delay = metric(canary_watch(made.model_copy(update={"settings": settings}), "3.0.0").metrics, "delay")

    assert delay.comparison is not None
    assert (delay.comparison.window, delay.comparison.step) == (samples, every)
    assert delay.query == f'q{{namespace="erlmcp-prod",track="canary"}}[{window}]'
    assert delay.baseline_query == f'q{{namespace="erlmcp-prod",track="stable"}}[{window}]'
    assert (delay.warm_up + 1) * timedelta(seconds=30) >= samples + every * 4


def test_a_burn_rate_over_two_windows_is_one_query() -> None:
    query = "burn{{{selector}}}[5m] > 14 and burn{{{selector}}}[1h] > 14"
    made = analysed(burn={"query": query, "failure": "> 0", "no_data": NoData.IGNORE})

    burn = metric(monitoring_watch(made, "3.0.0").metrics, "burn")

    assert burn.query.count('{namespace="erlmcp-prod",track="stable"}') == 2


def test_a_score_leaves_the_triggers_in_force() -> None:
    made = analysed(queue={"query": "up", "success": "> 0"}, score={"passing": 80, "marginal": 50})

    watch = canary_watch(made, "3.0.0")

    assert watch.score is not None
    assert [(m.weight, m.critical) for m in watch.metrics] == [(0, True)] * 4 + [(1, False)]


# The other ways of delivering


def test_before_the_switch_the_new_side_is_watched_alone() -> None:
    made = production(blue_green={"preview_checks": "2m"})
    green = made.model_copy(update={"target": made.target.on(Side.GREEN)})

    watch = preview_watch(green, "3.0.0")

    assert watch.rounds * watch.interval == timedelta(minutes=2)
    assert watch.health is not None
    assert watch.health.base_url == "http://erlmcp-canary.erlmcp-prod.svc:8080"
    errors = metric(watch.metrics, "error_rate")
    assert 'track="green"' in errors.query
    assert errors.baseline_query is not None
    assert 'track!="green"' in errors.baseline_query
    assert watch.inconclusive_limit == 1, "nobody uses it yet"


def test_after_the_switch_the_new_side_is_held_against_the_time_before() -> None:
    made = production(blue_green={})
    blue = made.model_copy(update={"target": made.target.on(Side.BLUE)})

    watch = switched_watch(blue, "3.0.0", BEFORE)

    assert watch.rounds * watch.interval == timedelta(minutes=5)
    assert watch.health is not None
    assert watch.health.base_url == "http://erlmcp.erlmcp-prod.svc:8080"
    errors = metric(watch.metrics, "error_rate")
    assert 'track="blue"' in errors.query
    assert (errors.limit, errors.max_increase, errors.baseline_at) == (5, 50, BEFORE)
    assert not errors.warn_only


def test_where_no_side_is_named_the_one_that_serves_is_watched() -> None:
    made = production(blue_green={})

    switched = metric(switched_watch(made, "3.0.0", BEFORE).metrics, "error_rate")
    monitoring = metric(monitoring_watch(made, "3.0.0").metrics, "error_rate")

    assert 'track=~"stable|blue|green"' in switched.query
    assert 'track=~"stable|blue|green"' in monitoring.query
    assert switched.baseline_query == switched.query


def test_a_hot_upgraded_node_is_watched_at_its_own_address() -> None:
    made = production(hot_upgrade={"verify": "1m", "pods": "app=erlmcp"})

    own, shared = node_watch(made, "3.0.0", "http://10.0.0.7:8080"), node_watch(made, "3.0.0", None)

    assert own.rounds * own.interval == timedelta(minutes=1)
    assert own.health is not None
    assert (own.health.base_url, own.health.version) == ("http://10.0.0.7:8080", "3.0.0")
    assert named(own) == ["error_rate", "latency_p95", "latency_p99", "crash_rate"]
    # the service's other nodes still run the version before
    assert shared.health is not None
    assert shared.health.version is None


def test_a_step_of_a_flag_is_watched_on_the_whole_service() -> None:
    rollout = FlagRollout(flag="new-parser", step_duration=timedelta(minutes=4))

    watch = flag_watch(plan(), "3.0.0", rollout, 10)

    assert watch.subject == "flag new-parser at 10%"
    assert watch.rounds * watch.interval == timedelta(minutes=4)
    assert 'track="stable"' in metric(watch.metrics, "error_rate").query


@pytest.mark.parametrize(
    "watch",
    [
        lambda made: preview_watch(made, "3.0.0"),
        lambda made: switched_watch(made, "3.0.0", BEFORE),
        lambda made: node_watch(made, "3.0.0", None),
    ],
)
def test_an_environment_that_delivers_otherwise_has_no_such_watch(watch: Any) -> None:
    with pytest.raises(ValueError, match="production has no"):
        watch(plan())
