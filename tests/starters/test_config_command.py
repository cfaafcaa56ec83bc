"""``erlmcp-deploy config``: for people, editors and CI."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from activities.configuration import parse_configuration
from starters.cli import app
from starters.configuration_schema import attributes, json_schema, models, reference, summary

ROOT = Path(__file__).parents[2]
PEOPLE = "directory: {roles: {tech_lead: [tara@example.com], change_board: [carla@example.com]}}\n"


def config(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(app, ["config", *map(str, arguments)], env=environment)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.yaml"
    path.write_text(PEOPLE)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.yaml"
    path.write_text("environments:\n  qa:\n    monitoring: ful\n    soak: 1h\n")
    return path


# validate


def test_a_valid_file(file: Path) -> None:
    result = config("validate", file)

    assert result.exit_code == 0
    assert "valid; erlmcp through dev, qa, staging, production" in result.stdout


def test_the_file_comes_from_the_environment_if_none_is_named(file: Path, tmp_path: Path) -> None:
    assert config("validate", ERLMCP_DEPLOY_CONFIG=str(file)).exit_code == 0

    missing = config("validate", ERLMCP_DEPLOY_CONFIG=str(tmp_path / "nowhere.yaml"))

    assert missing.exit_code == 2
    assert "ERLMCP_DEPLOY_CONFIG" in missing.stderr


def test_every_mistake_is_told_on_stderr(broken: Path) -> None:
    result = config("validate", broken)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{broken}:3: environments.qa.monitoring" in result.stderr
    assert f"{broken}:4: environments.qa.soak" in result.stderr
    assert result.stderr.rstrip().endswith("2 problem(s)")


def test_programs_get_json(file: Path, broken: Path) -> None:
    valid, invalid = config("validate", file, "--json"), config("validate", broken, "--json")

    assert (valid.exit_code, invalid.exit_code) == (0, 2)
    assert json.loads(valid.stdout) == {"file": str(file), "valid": True, "problems": []}
    problem = json.loads(invalid.stdout)["problems"][0]
    assert problem["path"] == "environments.qa.monitoring"
    assert (problem["line"], problem["value"]) == (3, '"ful"')
    assert problem["remedy"]


# show


def test_what_is_shown_can_be_used_as_a_file(file: Path) -> None:
    result = config("show", file)

    assert result.exit_code == 0
    assert parse_configuration(result.stdout) == parse_configuration(file.read_text())


def test_durations_are_shown_as_the_specification_writes_them(file: Path) -> None:
    shown = YAML(typ="safe", pure=True).load(config("show", file).stdout)

    assert shown["gates"]["manual_approval"]["timeout"] == "72h"
    assert shown["environments"]["staging"]["soak_duration"] == "24h"
    assert shown["environments"]["production"]["canary"]["step_duration"] == "10m"
    assert shown["automatic_rollback_triggers"]["health_checks"]["check_interval"] == "30s"


def test_yaml_and_json_say_the_same(file: Path) -> None:
    as_yaml = YAML(typ="safe", pure=True).load(config("show", file).stdout)

    assert json.loads(config("show", file, "--json").stdout) == as_yaml


def test_the_plan_of_one_application_in_one_environment(file: Path) -> None:
    plan = json.loads(
        config("show", file, "-a", "erlmcp", "-e", "production", "--version", "3.1.0", "--json").stdout
    )

    assert plan["target"]["namespace"] == "erlmcp-prod"
    assert plan["image"].endswith(":3.1.0")
    assert plan["approval"]["members"] == {"change_board": ["carla@example.com"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-a", "erlmcp"], "a plan needs both --application and --environment"),
        (["-a", "erlmcp", "-e", "prod"], "choose one of: dev, production, qa, staging"),
        (["-a", "erlang", "-e", "qa"], "choose one of: erlmcp"),
        (["-a", "erlmcp", "-e", "qa", "--version", "v1"], "--version: 'v1' is no semantic version"),
    ],
)
def test_a_plan_that_cannot_be_made(file: Path, arguments: list[str], message: str) -> None:
    result = config("show", file, *arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_an_invalid_file_is_not_shown(broken: Path) -> None:
    result = config("show", broken)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "environments.qa.monitoring" in result.stderr


# schema and reference


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_committed_schema_is_current() -> None:
    committed = (ROOT / "docs/deployment.schema.json").read_text()

    assert config("schema").stdout == committed, (
        "run: erlmcp-deploy config schema > docs/deployment.schema.json"
    )


def test_the_committed_reference_is_current() -> None:
    committed = (ROOT / "docs/configuration.md").read_text().partition("<!-- reference -->\n\n")[2]

    assert config("reference").stdout == committed, "put the output of: erlmcp-deploy config reference there"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "environments: {qa: null, production: {canary: {step_duration: 20m}}}",
        "gates: {test: {conditions: {coverage: null, ct_pass_rate: 0.98}}}",
        "applications: {erlmcp: {health: {timeout: 1s}, overrides: {qa: {workload: {liveness: null}}}}}",
        "triggers: {nightly_builds: {trigger: {cron: 0 3 * * *}}}",
    ],
)
def test_the_schema_accepts_what_a_file_may_say(validator: Draft202012Validator, text: str) -> None:
    document = YAML(typ="safe", pure=True).load(text)

    assert list(validator.iter_errors(document)) == []
    parse_configuration(PEOPLE + text)


def test_the_schema_accepts_the_shipped_example_and_the_whole_configuration(
    validator: Draft202012Validator, file: Path
) -> None:
    shipped = YAML(typ="safe", pure=True).load((ROOT / "deployment.yaml").read_text())

    assert list(validator.iter_errors(shipped)) == []
    assert list(validator.iter_errors(json.loads(config("show", file, "--json").stdout))) == []


@pytest.mark.parametrize(
    "document",
    [
        {"enviroments": {}},
        {"environments": {"qa": {"soak": "1h"}}},
        {"environments": {"qa": {"soak_duration": 5}}},
        {"environments": {"qa": {"soak_duration": "5"}}},
        {"environments": {"qa": {"monitoring": "ful"}}},
        {"applications": {"erlmcp": {"workload": {"replicas": 0}}}},
        {"applications": {"erlmcp": {"overrides": {"qa": {"workload": {"replica": 1}}}}}},
        {"gates": {"test": {"conditions": {"coverage": [80]}}}},
        {"version": 2},
        [],
    ],
)
def test_the_schema_refuses_what_a_file_must_not_say(validator: Draft202012Validator, document: Any) -> None:
    assert list(validator.iter_errors(document))


def test_every_field_is_described_for_people_and_editors() -> None:
    schema = json_schema()
    for model in models():
        described = schema if model.__name__ == "Configuration" else schema["$defs"][model.__name__]
        assert summary(model), model
        for name in model.model_fields:
            assert attributes(model).get(name), f"{model.__name__}.{name} has no description"
            assert described["properties"][name]["description"] == attributes(model)[name]


def test_the_reference_links_only_to_what_it_holds() -> None:
    text = reference()
    titles = {t.lower() for t in re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)}

    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= titles
