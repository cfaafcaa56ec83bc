"""Which gates a validation holds its commit against."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from activities.configuration import parse_configuration
from domain.configuration import Configuration
from domain.gates import GateDefinition, StepReport, evaluate_gate
from domain.plan import UnknownNameError
from domain.validation import ValidationPlan, ValidationRequest
from domain.validation_plan import UnfitGateError, resolve_validation_plan

PEOPLE = """
directory: {roles: {tech_lead: [tara@example.com], change_board: [carla@example.com]}}
"""
SPEC_GATES = ("compile", "eunit", "ct", "dialyzer", "coverage", "security_scan")
"""Of the specification's trigger ``pr_validation``."""


def configured(text: str = "") -> Configuration:
    return parse_configuration(PEOPLE + dedent(text))


def plan(*gates: str, text: str = "", **request: Any) -> ValidationPlan:
    body = {"application": "erlmcp", "commit": "a" * 40, "kind": "pull_request", "actor": "dev@example.com"}
    asked = ValidationRequest.model_validate({**body, "gates": gates, **request})
    return resolve_validation_plan(configured(text), asked)


def holds(gate: GateDefinition, **measurements: Any) -> bool:
    report = StepReport(step="it", measured=True, measurements=measurements)
    return not evaluate_gate("it", gate, [report]).blocking


def test_the_specifications_trigger_names_gates_and_steps() -> None:
    gates = plan(*SPEC_GATES).gates

    assert list(gates) == ["compile", "eunit", "ct", "dialyzer", "coverage", "security"]
    assert gates["security"] == configured().gates["security"], "under the name it has here"
    assert {name: gate.steps for name, gate in gates.items() if name != "security"} == {
        name: (name,) for name in gates if name != "security"
    }


@pytest.mark.parametrize(
    ("step", "good", "bad"),
    [
        ("eunit", {"eunit_failures": 0}, {"eunit_failures": 1}),
        ("ct", {"ct_pass_rate": 1.0}, {"ct_pass_rate": 0.99}),
        ("coverage", {"coverage": 80.0}, {"coverage": 79.9}),
        ("dialyzer", {"dialyzer_clean": True}, {"dialyzer_clean": False}),
        ("xref", {"xref_undefined": 0}, {"xref_undefined": 2}),
    ],
)
def test_a_step_is_a_gate_that_passes_on_its_measurements_only(
    step: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    gate = plan(step).gates[step]

    assert holds(gate, **good)
    assert not holds(gate, **bad)
    assert not holds(gate, something_else=0), "what was not measured does not pass"


def test_without_gates_it_is_held_against_all_that_some_environment_requires() -> None:
    text = """
        gates: {style: {condition: violations == 0, steps: [format]}}
        environments: {dev: {required_gates: [compile, style]}}
    """

    assert list(plan(text=text).gates) == ["compile", "style", "test", "security", "performance"]
    assert list(plan("all_quality_gates", text=text).gates) == list(plan(text=text).gates)


def test_what_a_gate_expects_goes_before_what_the_checklist_and_the_tool_say() -> None:
    strict = "gates: {types: {conditions: {dialyzer_warnings: '<= 3'}, steps: [dialyzer]}}"

    assert plan("dialyzer", text=strict).gates["dialyzer"].conditions == {"dialyzer_warnings": "<= 3"}
    assert plan("dialyzer").gates["dialyzer"].conditions == {"dialyzer_clean": True}
    unlisted = "pre_deployment_compliance: {code_quality: []}"
    assert plan("dialyzer", text=unlisted).gates["dialyzer"].conditions == {"dialyzer_warnings": 0}


def test_commands_of_one_gate_are_judged_together() -> None:
    # Nobody knows which of the two measures what, so one alone would prove too little.
    gate = plan("licence").gates["licence"]

    assert set(gate.steps) == {"security", "licence"}
    assert gate.conditions == configured().gates["security"].conditions


def test_a_step_that_only_warns_in_its_gate_only_warns_alone() -> None:
    text = """
        gates: {performance: {steps: [bench]}}
        applications: {erlmcp: {build: {steps: {bench: {command: [bench]}}}}}
    """

    assert plan("bench", text=text).gates["bench"].on_failure == "warn"
    assert plan("ct", text=text).gates["ct"].on_failure == "block"


def test_a_step_whose_gates_contradict_each_other_must_be_named_by_its_gate() -> None:
    text = "gates: {young: {conditions: {coverage: '>= 50%'}, steps: [coverage]}}"

    with pytest.raises(UnfitGateError, match=r"gates 'test' and 'young' expect coverage >= 80% and >= 50%"):
        plan("coverage", text=text)
    assert list(plan("young", text=text).gates) == ["young"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smoke", "'smoke' is neither a gate nor a build step; choose of: all_quality_gates, compile"),
        ("manual_approval", "is decided by people"),
        ("staging_soak_complete", "needs a deployed version"),
        ("format", "step 'format' is no gate by itself"),
    ],
)
def test_what_cannot_be_a_gate_is_named(name: str, message: str) -> None:
    with pytest.raises((UnfitGateError, UnknownNameError), match=message):
        plan("compile", name)


def test_an_unknown_application_is_named() -> None:
    with pytest.raises(
        UnknownNameError, match=r"application 'shop' is not in deployment\.yaml; choose one of: erlmcp"
    ):
        plan(application="shop")


def test_a_check_goes_to_the_project_of_the_event_or_of_the_repository() -> None:
    assert plan().project == "banyan-platform/erlmcp"
    assert plan(project="fork/erlmcp").project == "fork/erlmcp"
    assert plan(text="applications: {erlmcp: {repository: /srv/erlmcp.git}}").project is None


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("refs/heads/feature/Login", "0.0.0-feature-login.gaaaaaaa"),
        ("feature/Login", "0.0.0-feature-login.gaaaaaaa"),
        ("refs/pull/12/head", "0.0.0-pr-12.gaaaaaaa"),
        (None, "0.0.0-commit.gaaaaaaa"),
    ],
)
def test_steps_are_told_a_version_that_names_branch_and_commit(ref: str | None, version: str) -> None:
    request = ValidationRequest(
        application="erlmcp", commit="a" * 40, kind="nightly", actor="dev@example.com", ref=ref
    )
    assert request.version == version
