"""Schedules of the configuration, and the times that their cron expressions mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from activities.configuration import ConfigurationError, parse_configuration
from domain.configuration import Configuration
from domain.dependency_plan import gates_for, resolve_dependency_update
from domain.dependency_update import (
    BranchHead,
    DependencyUpdateRequest,
    PackageChange,
    package_changes,
)
from domain.schedules import (
    Calendar,
    Overlap,
    ScheduledEvent,
    ScheduledOccurrence,
    ScheduleGoneError,
    calendars,
    definitions,
    route_of,
)
from domain.triggers import RouteOutcome
from domain.validation import ValidationKind

EVERY_DAY, EVERY_MONTH, EVERY_WEEKDAY = frozenset(range(1, 32)), frozenset(range(1, 13)), frozenset(range(7))
HEAD = BranchHead(branch="main", commit="a" * 40)
SHOP: dict[str, Any] = {
    "repository": "https://git.example.com/acme/shop.git",
    "image": "registry.example.com/shop:{version}",
    "build": {"steps": {"compile": {"command": ["make"]}}},
}


def configured(**settings: Any) -> Configuration:
    described = {
        "directory": {"roles": {"tech_lead": ["tara@example.com"], "change_board": ["carla@example.com"]}},
        "environments": {"qa": None, "staging": None, "production": None},
        "applications": {"shop": SHOP},
        "gates": {"compile": {"steps": ["compile"]}, "test": None, "security": None, "performance": None},
        **settings,
    }
    return parse_configuration(json.dumps(described))


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 2 * * *", [{"minutes": {0}, "hours": {2}}]),
        ("0 6 * * 1", [{"minutes": {0}, "hours": {6}, "weekdays": {1}}]),
        ("0 6 * * mon", [{"minutes": {0}, "hours": {6}, "weekdays": {1}}]),
        ("*/20 0-2 * * *", [{"minutes": {0, 20, 40}, "hours": {0, 1, 2}}]),
        ("5/25 0 * * *", [{"minutes": {5, 30, 55}, "hours": {0}}]),
        ("0 0 * jan,12 5-7", [{"minutes": {0}, "hours": {0}, "months": {1, 12}, "weekdays": {5, 6, 0}}]),
        ("@monthly", [{"minutes": {0}, "hours": {0}, "days": {1}}]),
        ("@weekly", [{"minutes": {0}, "hours": {0}, "weekdays": {0}}]),
        # either is enough, where both are restricted …
        (
            "0 0 13 * 5",
            [{"minutes": {0}, "hours": {0}, "days": {13}}, {"minutes": {0}, "hours": {0}, "weekdays": {5}}],
        ),
        # … and a star with a step does not restrict
        ("0 0 */10 * 5", [{"minutes": {0}, "hours": {0}, "days": {1, 11, 21, 31}, "weekdays": {5}}]),
    ],
)
def test_a_cron_expression_means_what_posix_says(cron: str, expected: list[dict[str, set[int]]]) -> None:
    always = Calendar(frozenset(), frozenset(), EVERY_DAY, EVERY_MONTH, EVERY_WEEKDAY)
    wanted = [always._replace(**{n: frozenset(v) for n, v in times.items()}) for times in expected]
    assert list(calendars(cron)) == wanted


def test_the_specifications_schedules_are_those_of_erlmcp() -> None:
    defaults = parse_configuration(
        "directory: {roles: {tech_lead: [tara@example.com], change_board: [carla@example.com]}}"
    )
    nightly, updates = definitions(defaults)[0]
    assert (nightly.id, nightly.cron, nightly.overlap) == (
        "schedule:erlmcp:nightly_builds",
        "0 2 * * *",
        Overlap.SKIP,
    )
    assert (updates.id, updates.cron, updates.overlap) == (
        "schedule:erlmcp:dependency_updates",
        "0 6 * * 1",
        Overlap.BUFFER_ONE,
    )


def test_an_application_that_nobody_can_update_gets_no_schedule_and_says_why() -> None:
    made, omitted = definitions(configured())
    assert [d.id for d in made] == ["schedule:shop:nightly_builds"]
    [omission] = omitted
    assert omission.id == "schedule:shop:dependency_updates"
    assert "write applications.shop.dependencies: {command: […], paths: […]}" in omission.reason
    with_command = configured(
        applications={"shop": {**SHOP, "dependencies": {"command": ["make", "update"]}}}
    )
    assert len(definitions(with_command)[0]) == 2


def occurrence(rule: str, cron: str, head: BranchHead | None = HEAD) -> ScheduledOccurrence:
    return ScheduledOccurrence(
        event=ScheduledEvent(application="shop", rule=rule, cron=cron),
        id="schedule:shop:x-2026-11-23T02:00:00Z",
        at=datetime(2026, 11, 23, 2, tzinfo=UTC),
        head=head,
    )


def test_a_night_validates_the_head_under_the_contracts_id() -> None:
    route = route_of(configured(), occurrence("nightly_builds", "0 2 * * *"))
    assert route.outcome is RouteOutcome.START
    assert route.validation is not None
    assert route.validation.kind is ValidationKind.NIGHTLY
    assert route.validation.validation_id == f"validation:shop:{'a' * 40}:nightly"
    assert (route.validation.ref, route.validation.actor) == ("refs/heads/main", "schedule nightly_builds")


def test_two_rules_at_one_time_are_not_confused() -> None:
    second = {"trigger": {"event": "schedule", "cron": "0 2 * * *"}, "action": "dependency_update"}
    configuration = configured(triggers={"also_at_two": second})
    route = route_of(configuration, occurrence("also_at_two", "0 2 * * *", head=None))
    assert route.validation is None
    assert route.dependency_update is not None
    assert route.dependency_update.update_id == "dependency-update:shop"


def test_a_schedule_that_the_configuration_has_left_behind_starts_nothing() -> None:
    late = configured(triggers={"nightly_builds": {"trigger": {"cron": "0 3 * * *"}}})
    route = route_of(late, occurrence("nightly_builds", "0 2 * * *"))
    assert route.outcome is RouteOutcome.IGNORE
    assert route.reason.endswith("run erlmcp-deploy schedules apply")
    gone = configured(triggers={"nightly_builds": None})
    with pytest.raises(ScheduleGoneError, match="no schedule 'nightly_builds' any more"):
        route_of(gone, occurrence("nightly_builds", "0 2 * * *"))


def test_an_update_is_held_against_the_gates_of_pull_requests_into_its_base() -> None:
    rules = {
        "pr_validation": {"trigger": {"branches": ["release/*"]}, "gates": ["all_quality_gates"]},
        "of_main": {
            "trigger": {"event": "pull_request", "types": ["opened"], "branches": ["main"]},
            "action": "validate_pr",
            "gates": ["compile"],
        },
    }
    application = {**SHOP, "dependencies": {"command": ["make", "update"]}}
    configuration = configured(triggers=rules, applications={"shop": application})
    request = DependencyUpdateRequest(application="shop", actor="dev@example.com")
    plan = resolve_dependency_update(configuration, request)
    assert gates_for(plan, "main") == ("compile",)
    assert gates_for(plan, "release/3") == ("all_quality_gates",)
    assert gates_for(plan, "elsewhere") == ()


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"command": []}, "dependencies.command"),
        ({"branch": "refs/heads/x"}, "'refs/heads/x' is no name of a branch"),
        ({"branch": "a..b"}, "'a..b' is no name of a branch"),
        ({"branch": "-x"}, "'-x' is no name of a branch"),
        ({"branch": "main", "base": "main"}, "base and branch are both 'main', which would be overwritten"),
        ({"paths": ["../other"]}, "'../other' is no path in the repository"),
        ({"paths": ["/etc/passwd"]}, "'/etc/passwd' is no path in the repository"),
        ({"labels": [""]}, "dependencies.labels"),
    ],
)
def test_settings_that_would_do_harm_are_refused(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        configured(applications={"shop": {**SHOP, "dependencies": settings}})
    assert fault in str(failure.value)


def test_rebars_lock_tells_versions_and_revisions() -> None:
    before = """{"1.2.0",
[{<<"cowboy">>,{pkg,<<"cowboy">>,<<"2.9.0">>},0},
 {<<"cowlib">>,{pkg,<<"cowlib">>,<<"2.11.0">>},1},
 {<<"jobs">>,{git,"https://github.com/uwiger/jobs.git",{ref,"0d2c8e9b1d4e4d5c9a7f4a3e7b0b5f3a2c1d0e9f"}},0}]}.
[{pkg_hash,[{<<"cowboy">>, <<"865DD8B6607E14CF03282E10E934023A1BD8BE6F6BACF921A7E2A96D800CD452">>}]}].
"""
    after = (
        before.replace("2.9.0", "2.10.0")
        .replace("0d2c8e9b1d4e", "ffffffffffff")
        .replace(
            ' {<<"cowlib">>,{pkg,<<"cowlib">>,<<"2.11.0">>},1},\n',
            ' {<<"ranch">>,{pkg,<<"ranch">>,<<"1.8.0">>},1},\n',
        )
    )
    assert package_changes(before, after) == (
        PackageChange(name="cowboy", before="2.9.0", after="2.10.0"),
        PackageChange(name="cowlib", before="2.11.0"),
        PackageChange(name="jobs", before="0d2c8e9b1d4e", after="ffffffffffff"),
        PackageChange(name="ranch", after="1.8.0"),
    )
