"""A configuration that would fail later, or let something pass unmeasured, is refused when it is read."""

from __future__ import annotations

from typing import Any

import pytest

from domain.configuration import Configuration
from domain.configuration_checks import problems
from domain.defaults import DEFAULTS
from domain.findings import Finding
from domain.merging import overlay

PEOPLE = {
    "directory": {
        "roles": {
            "tech_lead": ["tara@example.com", "tom@example.com"],
            "change_board": ["carla@example.com", "chris@example.com"],
        }
    }
}


def found(*changes: dict[str, Any]) -> list[Finding]:
    settings = overlay(DEFAULTS, PEOPLE)
    for change in changes:
        settings = overlay(settings, change)
    return problems(Configuration.model_validate(settings))


def paths(findings: list[Finding]) -> dict[str, Finding]:
    return {".".join(map(str, f.path)): f for f in findings}


def production(**settings: Any) -> dict[str, Any]:
    return {"environments": {"production": settings}}


def erlmcp(**settings: Any) -> dict[str, Any]:
    return {"applications": {"erlmcp": settings}}


def trigger(**rule: Any) -> dict[str, Any]:
    return {"triggers": {"mine": rule}}


def test_the_defaults_with_people_in_their_roles_are_safe() -> None:
    assert found() == []


def test_without_people_production_and_staging_are_refused() -> None:
    findings = paths(problems(Configuration.model_validate(DEFAULTS)))

    assert set(findings) == {"directory.roles.tech_lead", "directory.roles.change_board"}
    assert "change_board: [alice@example.com]" in findings["directory.roles.change_board"].remedy


PUSH = {"event": "push", "branches": ["main"]}
MERGED = {"event": "pull_request", "types": ["closed"], "branches": ["main"]}

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # production is safe
    (
        "no automated gate",
        production(required_gates=["manual_approval"]),
        "environments.production.required_gates",
        "automated gate",
    ),
    (
        "only a gate that warns",
        production(required_gates=["performance", "manual_approval"]),
        "environments.production.required_gates",
        "blocks",
    ),
    (
        "nobody approves",
        production(required_gates=["compile"], approval=None),
        "environments.production.approval",
        "approval of a person",
    ),
    (
        "silence approves",
        {"gates": {"manual_approval": {"on_timeout": "approve"}}},
        "gates.manual_approval.on_timeout",
        "unapproved",
    ),
    (
        "more approvals than people",
        production(min_approvals=3),
        "environments.production.min_approvals",
        "is more than there are people",
    ),
    (
        "one person under two spellings",
        {**production(min_approvals=2), "directory": {"roles": {"change_board": ["a@b.c", "A@B.C "]}}},
        "environments.production.min_approvals",
        "change_board: 1",
    ),
    (
        "a role nobody holds",
        {"directory": {"roles": {"change_board": []}}},
        "directory.roles.change_board",
        "nobody holds the role",
    ),
    ("a role that does not exist", production(approval="board"), "directory.roles.board", "nobody holds"),
    (
        "a manual gate without approvers",
        {"gates": {"manual_approval": {"approvers": {"production": []}}}, **production(approval=None)},
        "gates.manual_approval.approvers.production",
        "nobody may approve",
    ),
    ("no health checks", erlmcp(health=None), "applications.erlmcp.health", "needs health checks"),
    (
        "health checks of nothing",
        erlmcp(health={"paths": []}),
        "applications.erlmcp.health.paths",
        "nothing is checked",
    ),
    (
        "no canary and hardly any monitoring",
        production(canary=None, monitoring="basic"),
        "environments.production.canary",
        "canary, or monitoring",
    ),
    (
        "monitoring without a source",
        erlmcp(metrics={"prometheus_url": None}),
        "applications.erlmcp.metrics.prometheus_url",
        "nothing to measure it with",
    ),
    (
        "a canary nothing judges",
        {**erlmcp(health={"canary_url": None}), **production(monitoring="basic")},
        "applications.erlmcp.health.canary_url",
        "judged by nothing",
    ),
    (
        "a canary that begins with all",
        production(canary={"initial_percentage": 100}),
        "environments.production.canary.initial_percentage",
        "nothing to compare with",
    ),
    (
        "a limit nothing exceeds",
        production(canary={"rollback_threshold": 100}),
        "environments.production.canary.rollback_threshold",
        "never be exceeded",
    ),
    (
        "an error rate nothing exceeds",
        {"automatic_rollback_triggers": {"error_rate": {"threshold": 100}}},
        "automatic_rollback_triggers.error_rate.threshold",
        "never be exceeded",
    ),
    (
        "no monitoring at all",
        production(soak_duration="0s"),
        "environments.production.soak_duration",
        "not be watched",
    ),
    # gates
    (
        "an unknown gate",
        production(required_gates=["compile", "tests", "manual_approval"]),
        "environments.production.required_gates.1",
        "is no gate",
    ),
    (
        "a gate twice",
        production(required_gates=["compile", "compile", "manual_approval"]),
        "environments.production.required_gates.1",
        "twice",
    ),
    (
        "a second manual gate",
        {
            "gates": {"board": {"type": "manual", "approvers": {"production": ["change_board"]}}},
            **production(required_gates=["compile", "manual_approval", "board"]),
        },
        "environments.production.required_gates.2",
        "only 'manual_approval' would be asked",
    ),
    (
        "a gate nothing measures",
        {"gates": {"compile": {"steps": []}}},
        "gates.compile.steps",
        "nothing measures it",
    ),
    (
        "a gate without conditions",
        {"gates": {"compile": {"condition": None}}},
        "gates.compile",
        "proves nothing",
    ),
    (
        "a manual gate with conditions",
        {"gates": {"manual_approval": {"conditions": {"errors": 0}}}},
        "gates.manual_approval.conditions",
        "never looked at",
    ),
    (
        "an automated gate with approvers",
        {"gates": {"compile": {"approvers": {"production": ["change_board"]}}}},
        "gates.compile.approvers",
        "never asked",
    ),
    (
        "approvers of an unknown environment",
        {"gates": {"manual_approval": {"approvers": {"prod": ["change_board"]}}}},
        "gates.manual_approval.approvers.prod",
        "is no environment",
    ),
    (
        "a quorum where nobody is asked",
        {"environments": {"dev": {"min_approvals": 2}}},
        "environments.dev.min_approvals",
        "there is no approval",
    ),
    # applications
    (
        "a step the gates need",
        {"gates": {"test": {"steps": ["eunits", "ct", "coverage"]}}},
        "applications.erlmcp.build.steps.eunits",
        "gate 'test' needs this step",
    ),
    (
        "an unknown placeholder",
        erlmcp(image="registry/{app}:{version}"),
        "applications.erlmcp.image",
        "no {app} is known here",
    ),
    (
        "an unknown placeholder of health",
        erlmcp(health={"url": "http://{host}"}),
        "applications.erlmcp.health.url",
        "no {host} is known here",
    ),
    (
        "a query with single braces",
        erlmcp(metrics={"error_rate": "rate(errors{app='x'}[{window}])"}),
        "applications.erlmcp.metrics.error_rate",
        "cannot be filled in",
    ),
    (
        "an address that is none",
        erlmcp(metrics={"prometheus_url": "prometheus:9090"}),
        "applications.erlmcp.metrics.prometheus_url",
        "is no address",
    ),
    (
        "the same tag for all versions",
        erlmcp(tag="stable"),
        "applications.erlmcp.tag",
        "same commit for every version",
    ),
    (
        "a namespace of an unknown environment",
        erlmcp(namespaces={"prodution": "x"}),
        "applications.erlmcp.namespaces.prodution",
        "is no environment",
    ),
    (
        "a namespace that is none",
        erlmcp(namespaces={"qa": "Erlmcp_QA"}),
        "applications.erlmcp.namespaces.qa",
        "Kubernetes namespace",
    ),
    (
        "an override that does not fit",
        erlmcp(overrides={"qa": {"workload": {"replicas": 0}}}),
        "applications.erlmcp.overrides.qa.workload.replicas",
        "does not fit",
    ),
    (
        "an override nobody knows",
        erlmcp(overrides={"qa": {"health": {"uri": "http://x"}}}),
        "applications.erlmcp.overrides.qa.health.uri",
        "does not fit",
    ),
    (
        "health that an override takes away",
        erlmcp(overrides={"production": {"health": {"paths": []}}}),
        "applications.erlmcp.health.paths",
        "nothing is checked",
    ),
    (
        "a Deployment that cannot be named so",
        erlmcp(workload={"deployment": "Erl_mcp"}),
        "applications.erlmcp.workload.deployment",
        "Kubernetes name",
    ),
    *(
        (
            f"a name that {field} cannot have",
            erlmcp(workload={"router": {field: resource}}),
            f"applications.erlmcp.workload.router.{field}",
            "Kubernetes name",
        )
        for field, resource in (
            ("service", "1web"),
            ("canary_service", "web.canary"),
            ("ingress", "i" * 247),
            ("http_route", "Shop"),
        )
    ),
    (
        "a Deployment whose canary's Service would have too long a name",
        erlmcp(workload={"deployment": "e" * 57, "router": {"kind": "gateway_api"}}),
        "applications.erlmcp.workload.router.service",
        "no room for -canary",
    ),
    (
        "a Service whose preview in blue/green would have too long a name",
        {**production(canary=None, blue_green={}), **erlmcp(workload={"router": {"service": "e" * 57}})},
        "applications.erlmcp.workload.router.service",
        "no room for -canary",
    ),
    (
        "a canary's Service that is the stable one, which is not written",
        erlmcp(workload={"router": {"kind": "ingress_nginx", "canary_service": "erlmcp"}}),
        "applications.erlmcp.workload.router.canary_service",
        "the stable version itself",
    ),
    (
        "an environment that cannot be named so",
        {"environments": {"Pre Prod": {}}},
        "environments.Pre Prod",
        "workflow id",
    ),
    # triggers
    (
        "a gate nobody knows",
        trigger(trigger=PUSH, action="deploy_staging", gates=["compilee"]),
        "triggers.mine.gates.0",
        "neither a gate nor a step",
    ),
    (
        "a field of another event",
        trigger(trigger={**PUSH, "cron": "0 2 * * *"}, action="deploy_staging"),
        "triggers.mine.trigger.cron",
        "never looked at",
    ),
    (
        "a schedule without a time",
        trigger(trigger={"event": "schedule"}, action="nightly_validation"),
        "triggers.mine.trigger.cron",
        "needs a time",
    ),
    (
        "an action of another event",
        trigger(trigger=PUSH, action="dependency_update"),
        "triggers.mine.trigger.event",
        "cannot start dependency_update",
    ),
    (
        "every branch to production",
        trigger(trigger={"event": "push"}, action="deploy_production"),
        "triggers.mine.trigger.branches",
        "any branch would deploy_production",
    ),
    (
        "pull requests that were not merged",
        trigger(trigger=MERGED, action="promote_to_staging"),
        "triggers.mine.condition",
        "not merged",
    ),
    (
        "a type that does not exist",
        trigger(
            trigger={**MERGED, "types": ["merged"]}, action="promote_to_staging", condition="merged == true"
        ),
        "triggers.mine.trigger.types.0",
        "no type of a pull request",
    ),
    (
        "a dispatch without a version",
        trigger(
            trigger={"event": "workflow_dispatch", "inputs": {"environment": {"required": True}}},
            action="deploy_environment",
        ),
        "triggers.mine.trigger.inputs.version",
        "cannot do without",
    ),
    (
        "a choice of environments that do not exist",
        {
            "triggers": {
                "adhoc_deployment": {"trigger": {"inputs": {"environment": {"options": ["dev", "prod"]}}}}
            }
        },
        "triggers.adhoc_deployment.trigger.inputs.environment.options.1",
        "is no environment",
    ),
    (
        "a choice without options",
        {"triggers": {"adhoc_deployment": {"trigger": {"inputs": {"x": {"type": "choice"}}}}}},
        "triggers.adhoc_deployment.trigger.inputs.x.options",
        "go together",
    ),
    (
        "a default of another kind",
        {"triggers": {"adhoc_deployment": {"trigger": {"inputs": {"skip_tests": {"default": "no"}}}}}},
        "triggers.adhoc_deployment.trigger.inputs.skip_tests.default",
        "is no boolean",
    ),
    # promotions, channels, people
    (
        "a promotion to nowhere",
        {"promotions": [{"from_env": "dev", "to_env": "prod"}]},
        "promotions.0.to_env",
        "is no environment",
    ),
    (
        "a promotion to itself",
        {"promotions": [{"from_env": "dev", "to_env": "dev"}]},
        "promotions.0.to_env",
        "where it comes from",
    ),
    (
        "a promotion twice",
        {"promotions": [{"from_env": "dev", "to_env": "qa"}] * 2},
        "promotions.1",
        "described twice",
    ),
    (
        "a check nobody knows",
        {"promotions": [{"from_env": "dev", "to_env": "qa", "required_checks": ["smoke"]}]},
        "promotions.0.required_checks.0",
        "is no gate",
    ),
    (
        "a severity PagerDuty does not know",
        {"notification_channels": {"pagerduty": {"severity_mapping": {"high": "high"}}}},
        "notification_channels.pagerduty.severity_mapping.high",
        "no severity of PagerDuty",
    ),
    (
        "a severity we do not know",
        {"notification_channels": {"pagerduty": {"severity_mapping": {"fatal": "critical"}}}},
        "notification_channels.pagerduty.severity_mapping.fatal",
        "is no severity",
    ),
    (
        "an address without @",
        {"notification_channels": {"email": {"recipients": {"incidents": ["oncall"]}}}},
        "notification_channels.email.recipients.incidents.0",
        "no email address",
    ),
    (
        "nobody in a role",
        {"directory": {"roles": {"guests": [" "]}}},
        "directory.roles.guests.0",
        "is nobody",
    ),
    (
        "a secret in clear",
        {"notification_channels": {"teams": {"webhook": "https://x.webhook.office.com/a"}}},
        "notification_channels.teams.webhook",
        "secret written in clear",
    ),
]


@pytest.mark.parametrize(("changes", "path", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_refused(changes: dict[str, Any], path: str, message: str) -> None:
    findings = paths(found(changes))

    assert path in findings
    finding = findings[path]
    assert message in finding.message
    assert finding.remedy, "every refusal says what to do"


def test_an_environment_that_is_removed_leaves_no_loose_ends() -> None:
    settings = overlay(DEFAULTS, PEOPLE)
    settings["environments"] = {n: e for n, e in settings["environments"].items() if n != "dev"}

    findings = paths(problems(Configuration.model_validate(settings)))

    assert set(findings) == {
        "applications.erlmcp.namespaces.dev",
        "promotions.0.from_env",
        "triggers.adhoc_deployment.trigger.inputs.environment.options.0",
        "triggers.dev_deployment.action",
    }


def test_every_mistake_is_told_once() -> None:
    findings = found(production(canary=None, monitoring="basic", min_approvals=9), erlmcp(health=None))

    assert len(paths(findings)) == len(findings) == 3


@pytest.mark.parametrize("kind", ["applications", "environments"])
def test_nothing_to_deploy_is_no_configuration(kind: str) -> None:
    settings = {**overlay(DEFAULTS, PEOPLE), kind: {}}

    assert kind in paths(problems(Configuration.model_validate(settings)))


@pytest.mark.parametrize(
    "changes",
    [
        # Unusual, and safe.
        production(canary=None),
        production(min_approvals=2),
        production(approval=None, min_approvals=2),
        production(canary={"initial_percentage": 1, "increment_steps": [1, 2, 3, 100]}),
        erlmcp(health={"canary_url": None}),
        erlmcp(health=None) | {"environments": {"production": {"production": False}}},
        {"environments": {"staging": {"approval": None}}},
        trigger(trigger=MERGED, action="deploy_staging", condition="merged == true"),
        trigger(
            trigger={"event": "push"}, action="validate_pr", gates=["all_quality_gates", "security_scan"]
        ),
        {"gates": {"manual_approval": {"timeout": "30d"}}},
    ],
)
def test_accepted(changes: dict[str, Any]) -> None:
    assert found(changes) == []


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ({"rollback": {"strategy": "blue_green"}}, "rollback.strategy"),
        ({"blue_green": {}}, "blue_green"),
        ({"canary": None, "blue_green": {}, "rollback": {"strategy": "gradual"}}, "rollback.strategy"),
        ({"feature_flags": [{"flag": "new-cart"}, {"flag": "new-cart"}]}, "feature_flags.1.flag"),
        (
            {"feature_flags": [{"flag": "new-cart", "step_duration": "10s"}]},
            "feature_flags.0.analysis_interval",
        ),
        (
            {
                "rollback": {
                    "before": [{"name": "migrate", "command": ["a"]}, {"name": "migrate", "command": ["b"]}]
                }
            },
            "rollback.before.1.name",
        ),
    ],
)
def test_deliveries_that_contradict_each_other_are_refused(stage: dict[str, Any], place: str) -> None:
    assert set(paths(found(production(**stage)))) == {f"environments.production.{place}"}


@pytest.mark.parametrize(
    "stage",
    [
        {"canary": None, "blue_green": {}, "rollback": {"strategy": "blue_green"}},
        {"rollback": {"strategy": "gradual"}},
        {"canary": None, "hot_upgrade": {"pods": "app=erlmcp"}},
    ],
)
def test_deliveries_that_fit_are_accepted(stage: dict[str, Any]) -> None:
    assert found(production(**stage)) == []
