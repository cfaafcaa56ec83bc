"""Conditions look at fields of events; inputs are typed; tags hold versions."""

from __future__ import annotations

from typing import Any

import pytest

from domain.triggers import InputDefinition
from domain.triggers.conditions import FIELDS, holds
from domain.triggers.inputs import InputRefusedError, typed
from domain.version import version_of_tag
from tests.domain.triggers.events import event

INPUTS = {
    "environment": InputDefinition(type="choice", options=("dev", "production"), default="dev"),
    "skip_tests": InputDefinition(type="boolean", default=False),
    "note": InputDefinition(),
}


@pytest.mark.parametrize(
    ("condition", "name", "expected"),
    [
        ("merged == true", "github_pull_request_closed_merged", True),
        ("merged == True", "github_pull_request_closed_merged", True),
        ("merged == true", "github_pull_request_closed_unmerged", False),
        ("merged != true", "github_pull_request_closed_unmerged", True),
        ("action == opened", "github_pull_request_opened", True),
        ("action == Opened", "github_pull_request_opened", False),
        ("fork == true", "github_pull_request_closed_merged", True),
        ("fork == false", "github_pull_request_opened", True),
        ("number == 2", "github_pull_request_opened", True),
        ("branch == master", "github_push_master_commit", True),
        ("branch != master", "github_push_master_commit", False),
        ("tag == v0.0.1", "github_push_tag_created_v0.0.1", True),
        ("tag == v0.0.1", "github_push_master_commit", False),
        ("actor == codertocat", "github_push_master_commit", True),
        ("actor != codertocat", "github_push_master_commit", False),
        ("merge == true", "github_pull_request_closed_merged", False),
        ("merge != true", "github_pull_request_closed_merged", False),
        ("inputs.x == y", "github_push_master_commit", False),
    ],
)
def test_conditions_on_events(condition: str, name: str, expected: bool) -> None:
    assert holds(condition, event(name), {}) is expected


@pytest.mark.parametrize(
    ("condition", "given", "expected"),
    [
        ("inputs.environment == production", {"environment": "production"}, True),
        ("inputs.environment == dev", {}, True),
        ("inputs.environment == dev", {"environment": ""}, True),
        ("inputs.environment == Dev", {"environment": "dev"}, False),
        ("inputs.skip_tests == false", {}, True),
        ("inputs.skip_tests == false", {"skip_tests": "FALSE"}, True),
        ("inputs.skip_tests == true", {"skip_tests": True}, True),
        ("inputs.note != x", {}, True),
        ("inputs.nowhere == x", {}, False),
    ],
)
def test_conditions_on_inputs(condition: str, given: dict[str, Any], expected: bool) -> None:
    assert holds(condition, event("github_workflow_dispatch", inputs=given), INPUTS) is expected


def test_every_field_of_conditions_is_known_to_events() -> None:
    happened = event("github_workflow_dispatch")

    assert [f for f in FIELDS if holds(f"{f} == x", happened, {}) == holds(f"{f} != x", happened, {})] == []


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({}, "environment", "dev"),
        ({"environment": "production"}, "environment", "production"),
        ({}, "skip_tests", False),
        ({"skip_tests": "true"}, "skip_tests", True),
        ({"skip_tests": "True "}, "skip_tests", True),
        ({"skip_tests": "false"}, "skip_tests", False),
        ({"skip_tests": True}, "skip_tests", True),
        ({"note": "  two words "}, "note", "two words"),
        ({"note": True}, "note", "true"),
        ({"note": ""}, "note", None),
        ({"reason": "why"}, "reason", "why"),
    ],
)
def test_inputs(given: dict[str, Any], name: str, expected: object) -> None:
    found = typed(INPUTS, given)[name]

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"environment": "Production"}, "did you mean 'production'"),
        ({"environment": "Dev"}, "did you mean 'dev'"),
        ({"skip_tests": "1"}, "write true or false"),
        ({"nite": "x"}, "input 'nite' is unknown; did you mean 'note'?"),
    ],
)
def test_inputs_of_another_type(given: dict[str, Any], because: str) -> None:
    with pytest.raises(InputRefusedError, match=because.replace("?", r"\?")):
        typed(INPUTS, given)


def test_a_number_is_text() -> None:
    assert event("github_workflow_dispatch", inputs={"version": 3, "n": None}).inputs == {"version": "3"}


@pytest.mark.parametrize(
    ("template", "tag", "expected"),
    [
        ("v{version}", "v3.0.0", "3.0.0"),
        ("v{version}", "v1.0", "1.0"),
        ("v{version}", "3.0.0", None),
        ("v{version}", "v", None),
        ("{version}", "3.0.0", "3.0.0"),
        ("{application}/v{version}", "api/v3.0.0", "3.0.0"),
        ("{application}/v{version}", "web/v3.0.0", None),
        ("r+{version}-{environment}", "r+3.0.0-dev", "3.0.0"),
        ("{version}/{version}", "3.0.0/3.0.0", "3.0.0"),
        ("{version}/{version}", "3.0.0/3.0.1", None),
        ("latest", "latest", None),
    ],
)
def test_the_version_in_a_tag(template: str, tag: str, expected: str | None) -> None:
    assert version_of_tag(template, tag, application="api", environment="dev") == expected
