"""deployment.yaml is read with its lines, and refused with every mistake at once."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from activities.configuration import ConfigurationError, load_configuration, parse_configuration
from domain.configuration import Configuration

ROOT = Path(__file__).parents[2]
PEOPLE = "directory: {roles: {tech_lead: [tara@example.com], change_board: [carla@example.com]}}\n"


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        parse_configuration(text)
    return str(error.value).splitlines()


def accepted(text: str) -> Configuration:
    return parse_configuration(PEOPLE + text)


# The file and the defaults


def test_the_shipped_example_is_complete_and_the_specification_holds() -> None:
    configuration = load_configuration(ROOT / "deployment.yaml")

    assert list(configuration.applications) == ["erlmcp"]
    production = configuration.environments["production"]
    assert production.canary is not None
    assert production.canary.weights == (10, 50, 100)
    assert configuration.gates["manual_approval"].timeout == timedelta(hours=72)
    assert len(configuration.directory.roles["change_board"]) > production.min_approvals


def test_the_examples_of_the_documentation_can_be_used() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/configuration.md").read_text(), flags=re.DOTALL)

    assert len(examples) == 2
    applications = [list(parse_configuration(e).applications) for e in examples]
    assert applications == [["erlmcp"], ["shop"]]


def test_a_file_says_only_what_differs() -> None:
    configuration = accepted("environments: {production: {canary: {step_duration: 20m}}}\n")

    canary = configuration.environments["production"].canary
    assert canary is not None
    assert canary.step_duration == timedelta(minutes=20)
    assert canary.increment_steps == (10, 50, 100)


def test_null_removes_an_entry_and_switches_a_setting_off() -> None:
    configuration = accepted(
        """
environments: {production: {canary: null}}
gates: {test: {conditions: {ct_pass_rate: null}}}
applications:
  erlmcp: {workload: {liveness: null, template: {spec: {hostname: null}}}, namespaces: {dr: null}}
triggers: {nightly_builds: null}
"""
    )

    assert configuration.environments["production"].canary is None
    assert "ct_pass_rate" not in configuration.gates["test"].conditions
    erlmcp = configuration.applications["erlmcp"]
    assert erlmcp.workload.liveness is None
    assert erlmcp.workload.template == {"spec": {"hostname": None}}, (
        "a merge patch for Kubernetes keeps its null"
    )
    assert "dr" not in erlmcp.namespaces
    assert "nightly_builds" not in configuration.triggers


def test_an_environment_is_removed_with_what_the_defaults_say_of_it() -> None:
    configuration = accepted("environments: {dev: null, qa: null}\n")

    assert list(configuration.environments) == ["staging", "production"]
    assert [(p.from_env, p.to_env) for p in configuration.promotions] == [("staging", "production")]
    assert set(configuration.applications["erlmcp"].namespaces) == {"staging", "production", "dr"}
    assert "dev_deployment" not in configuration.triggers
    choice = configuration.triggers["adhoc_deployment"].trigger.inputs["environment"]
    assert choice.options == ("staging", "production")


def test_an_environment_the_file_itself_still_names_is_missed() -> None:
    lines = refused(PEOPLE + "environments: {qa: null}\npromotions:\n  - {from_env: dev, to_env: qa}\n")

    assert lines == [
        'deployment.yaml:4: promotions.0.to_env: "qa" — is no environment; choose one of: '
        "dev, production, staging"
    ]


SHOP = """
  shop:
    repository: git@example.com:shop.git
    image: shop:{version}
    health: {url: "http://shop", canary_url: "http://shop-canary"}
    metrics: {prometheus_url: "http://prometheus:9090"}
    build:
      steps: {compile: &step {command: [make]}, test: *step, security: *step, performance: *step}
gates: {test: {steps: [test]}, security: {steps: [security]}}
"""


@pytest.mark.parametrize(
    ("applications", "names"),
    [
        ("", ["erlmcp"]),
        ("applications:" + SHOP, ["shop"]),
        ("applications:\n  erlmcp: null" + SHOP, ["shop"]),
    ],
)
def test_erlmcp_holds_until_the_file_describes_another(applications: str, names: list[str]) -> None:
    assert list(accepted(applications).applications) == names


# Mistakes


def test_every_mistake_is_told_with_line_path_value_and_remedy() -> None:
    lines = refused(
        """environments:
  production:
    canary:
      increment_steps: [50, 10]
    soak_duratoin: 1h
    min_approvals: true
  qa:
    monitoring: ful
    soak_duration: 10
gates:
  test:
    conditions:
      coverage: "=> 80%"
      ct_pass_rate: [1]
      eunit_failures: .nan
applications:
  shop:
    repository: git@example.com:shop.git
"""
    )

    assert lines[0] == (
        "deployment.yaml:4: environments.production.canary.increment_steps: [50, 10] — "
        "steps must ascend from 1 or more to 100; write for example [10, 50, 100]"
    )
    assert lines[1] == (
        'deployment.yaml:5: environments.production.soak_duratoin: "1h" — is not known here; '
        "did you mean 'soak_duration'?"
    )
    assert lines[2:] == [
        "deployment.yaml:6: environments.production.min_approvals: true — "
        "must be a whole number; write for example 3",
        'deployment.yaml:8: environments.qa.monitoring: "ful" — '
        "must be 'basic', 'standard' or 'full'; choose one of them",
        "deployment.yaml:9: environments.qa.soak_duration: 10 — 10 has no unit; write for example 10s or 10m",
        "deployment.yaml:13: gates.test.conditions.coverage: \"=> 80%\" — '=> 80%' is no comparison; "
        "write <, <=, ==, !=, >= or > and a number, with % or a unit of time if it has one, "
        'for example ">= 80%" or "< 500ms"',
        "deployment.yaml:14: gates.test.conditions.ct_pass_rate: [1] — "
        "must be a number, true or false, or text; write one value, not several",
        'deployment.yaml:15: gates.test.conditions.eunit_failures: "nan" — '
        "is no number to compare with; write a finite number",
        "deployment.yaml:17: applications.shop.image: is required; add it",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "deployment.yaml:2:1: the key 'a' is there twice; keep one of them"),
        ("environments:\n\tdev: {}\n", "deployment.yaml:2:1: there is a tab; indent with spaces"),
        ("environments: [dev\n", "deployment.yaml:2:1: "),
        ("a: *nowhere\n", "deployment.yaml:1:4: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "deployment.yaml:2:1: but found another document; keep one document per file"),
        ("- dev\n", "deployment.yaml:1: holds no settings"),
        ("just words\n", "deployment.yaml:1: holds no settings"),
        ("a: \x07\n", "deployment.yaml: cannot be read as YAML"),
        ("version: !!python/object:os.system 1\n", "deployment.yaml:1: version: has a tag"),
        ("version: 2\n", "deployment.yaml:1: version: 2 — must be 1"),
        ("environments: 5\n", "deployment.yaml:1: environments: 5 — must be a map"),
        (
            "environments: {qa: {auto_deploy: 'no'}}\n",
            'deployment.yaml:1: environments.qa.auto_deploy: "no" — must be true',
        ),
        ("environments: {qa: {required_gates: compile}}\n", "must be a list; write for example [a, b]"),
        ("environments: {qa: {soak_duration: -5m}}\n", "is no duration"),
        ("environments: {qa: {auto_deploy: null}}\n", "must not be null"),
        ("automatic_rollback_triggers: {health_checks: {check_interval: 0s}}\n", "must be greater than 0s"),
        ("automatic_rollback_triggers: {error_rate: {threshold: .inf}}\n", "is no number to compare with"),
        ("applications: {erlmcp: {workload: {port: 0}}}\n", "must be greater than or equal to 1"),
        ("applications: {erlmcp: {repository: 5}}\n", "must be text; put it in quotes"),
        ("triggers: {nightly_builds: {trigger: {cron: 0 25 * * *}}}\n", "'25' is no hour"),
        ("directory: {roles: {tech_lead: tara@example.com}}\n", "must be a list"),
        ("enviroments: {}\n", "did you mean 'environments'?"),
        ("applications: {erlmcp: {build: {steps: {x: {tool: make}}}}}\n", "must be 'rebar3.compile'"),
        ("applications: {erlmcp: {build: {steps: {ct: {command: [x]}}}}}\n", "tool: null to replace"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    assert any(message in line for line in refused(text)), refused(text)


def test_an_alias_to_itself_does_not_hang() -> None:
    with pytest.raises(ConfigurationError):
        parse_configuration("environments: &e\n  production: {canary: &c {x: *c}}\n  y: *e\n")


@pytest.mark.parametrize(
    "text",
    [
        "notification_channels: {teams: {webhook: SECRET}}\n",
        "notification_channels: {slack: {webhooks: {alerts: SECRET}}}\n",
        "notification_channels: {teams: {webhok: SECRET}}\n",
        "applications: {erlmcp: {image: SECRET, bogus: SECRET}}\n",
        "environments: {qa: {monitoring: SECRET}}\n",
    ],
)
@pytest.mark.parametrize(
    "secret", ["https://hooks.slack.com/services/T0/B0/S3cr3tV4lue", "xoxb-1234567890-S3cr3tV4lue"]
)
def test_a_secret_in_clear_is_refused_and_never_repeated(text: str, secret: str) -> None:
    lines = refused(PEOPLE + text.replace("SECRET", f'"{secret}"'))

    assert any("is a secret written in clear" in line for line in lines)
    assert "S3cr3tV4lue" not in "\n".join(lines)
    if "webhook:" in text or "alerts" in text:
        assert any("write ${NAME}" in line for line in lines)


def test_mistakes_are_in_the_order_of_the_file_and_told_once() -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_configuration("zebra: 1\nenvironments:\n  qa: {zebra: 1}\n  dev: {zebra: 2}\n")

    assert [p.line for p in error.value.problems] == [1, 3, 4]
    assert error.value.problems[1].path == "environments.qa.zebra"


# The file itself


def test_a_file_that_is_not_there_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"there is no such file; create it, .* ERLMCP_DEPLOY_CONFIG"
    ):
        load_configuration(tmp_path / "deployment.yaml")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory"):
        load_configuration(tmp_path)


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_bytes("directory: {roles: {größe: []}}".encode("latin-1"))

    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load_configuration(file)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(PEOPLE, encoding="utf-8-sig")

    assert load_configuration(file).directory.roles["tech_lead"] == ("tara@example.com",)


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(PEOPLE)

    with pytest.raises(ConfigurationError, match="cannot be read: Not a directory; create it, or name"):
        load_configuration(file / "inside.yaml")
