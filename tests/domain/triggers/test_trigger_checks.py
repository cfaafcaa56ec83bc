"""Rules that could never fire, or would fire when nobody means it, are refused when they are written."""

from __future__ import annotations

from typing import Any

import pytest

from domain.findings import Finding
from domain.trigger_checks import triggers
from tests.domain.triggers.events import configuration, rule

PUSH = {"event": "push", "branches": ["main"]}
MERGED = {"event": "pull_request", "types": ["closed"], "branches": ["main"]}
MANUAL = {"event": "workflow_dispatch"}
PRODUCTION = {"version": {"required": True}}


def found(written: dict[str, Any]) -> dict[str, Finding]:
    return {".".join(map(str, f.path)): f for f in triggers(configuration(**written))}


@pytest.mark.parametrize(
    ("written", "place", "message", "remedy"),
    [
        (
            rule(trigger=PUSH, action="deploy_staging", condition="branchs == main"),
            "condition",
            "looks at 'branchs', which no event has",
            "did you mean 'branch'?",
        ),
        (
            rule(trigger=PUSH, action="deploy_staging", condition="merged == true"),
            "condition",
            "looks at 'merged', which no push has",
            "actor, branch, tag",
        ),
        (
            rule(trigger=MERGED, action="validate_pr", condition="fork == no"),
            "condition",
            "fork is true or false",
            "fork == true",
        ),
        (
            rule(
                trigger={**MANUAL, "inputs": PRODUCTION},
                action="deploy_production",
                condition="inputs.verson == 3.0.0",
            ),
            "condition",
            "inputs.verson is no input of this rule",
            "did you mean 'inputs.version'?",
        ),
        (
            rule(trigger=MERGED, action="promote_to_staging", condition="merged == true", forks=True),
            "forks",
            "is never looked at for promote_to_staging",
            "remove it",
        ),
        (
            rule(
                trigger={**MERGED, "types": ["opened"]}, action="promote_to_staging", condition="merged==true"
            ),
            "trigger.types",
            "merged when it is closed",
            "types: [closed]",
        ),
        (
            rule(trigger={**PUSH, "paths": ["**.erl"]}, action="deploy_staging"),
            "trigger.paths.0",
            "has ** beside other text",
            "**/*.erl",
        ),
        (
            rule(trigger={**PUSH, "branches": ["!main"]}, action="deploy_staging"),
            "trigger.branches",
            "takes nothing",
            "'**'",
        ),
        (
            rule(trigger=PUSH, action="deploy_dev", approval="required"),
            "approval",
            "dev has no approval gate",
            "environments.dev.approval",
        ),
        (
            rule(trigger=PUSH, action="validate_pr", gates=["compile", "manual_approval"]),
            "gates.1",
            "cannot be measured",
            "remove it",
        ),
        (
            rule(trigger=PUSH, action="validate_pr", gates=["staging_soak_complete"]),
            "gates.0",
            "cannot be measured",
            "remove it",
        ),
        (
            rule(trigger=MANUAL, action="deploy_production"),
            "trigger.inputs.version",
            "cannot do without",
            "version: {required: true}",
        ),
        (
            rule(trigger=MANUAL, action="nightly_validation"),
            "trigger.inputs.commit",
            "cannot do without",
            "commit: {required: true}",
        ),
        (
            rule(
                trigger={**MANUAL, "inputs": {**PRODUCTION, "skip_tests": {}}},
                action="deploy_production",
            ),
            "trigger.inputs.skip_tests.type",
            "is yes or no",
            "type: boolean",
        ),
        (
            rule(
                trigger={
                    **MANUAL,
                    "inputs": {**PRODUCTION, "skip_tests": {"type": "boolean", "default": True}},
                },
                action="deploy_production",
            ),
            "trigger.inputs.skip_tests.default",
            "whenever nobody says otherwise",
            "default: false",
        ),
        (
            rule(
                trigger={
                    **MANUAL,
                    "inputs": {**PRODUCTION, "application": {"type": "choice", "options": ["erlmpc"]}},
                },
                action="deploy_production",
            ),
            "trigger.inputs.application.options.0",
            "is no application",
            "did you mean 'erlmcp'?",
        ),
    ],
)
def test_refused(written: dict[str, Any], place: str, message: str, remedy: str) -> None:
    findings = found(written)

    assert set(findings) == {f"triggers.mine.{place}"}
    finding = findings[f"triggers.mine.{place}"]
    assert message in finding.message
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "written",
    [
        {},
        rule(trigger=MERGED, action="promote_to_staging", condition=" merged==true "),
        rule(
            trigger={**MERGED, "types": ["opened"]},
            action="validate_pr",
            forks=True,
            condition="fork == false",
        ),
        rule(trigger={**PUSH, "tags": ["v*", "!v*-*"]}, action="deploy_staging", condition="actor != bot"),
        rule(
            trigger={**MANUAL, "inputs": PRODUCTION},
            action="deploy_production",
            condition="inputs.reason != x",
        ),
        rule(trigger=PUSH, action="deploy_staging", approval="required"),
    ],
)
def test_accepted(written: dict[str, Any]) -> None:
    assert found(written) == {}
