"""A plan is the configuration, resolved for one deployment."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from domain.approval import OnTimeout
from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.deployment import DeploymentRequest
from domain.merging import overlay
from domain.plan import DeploymentPlan, UnknownNameError, resolve_plan

PEOPLE = {"directory": {"roles": {"tech_lead": ["tara@example.com"], "change_board": ["carla@example.com"]}}}


def request(environment: str = "production", **changes: Any) -> DeploymentRequest:
    fields = {
        "application": "erlmcp",
        "environment": environment,
        "version": "3.0.0",
        "actor": "dev@example.com",
    }
    return DeploymentRequest.model_validate({**fields, **changes})


def plan(environment: str = "production", **settings: Any) -> DeploymentPlan:
    merged = overlay(overlay(DEFAULTS, PEOPLE), settings)
    return resolve_plan(Configuration.model_validate(merged), request(environment))


def erlmcp(**settings: Any) -> dict[str, Any]:
    return {"erlmcp": settings}


# Names


@pytest.mark.parametrize(
    ("environment", "namespace"),
    [
        ("dev", "erlmcp-dev"),
        ("qa", "erlmcp-qa"),
        ("staging", "erlmcp-staging"),
        ("production", "erlmcp-prod"),
    ],
)
def test_names_are_filled_in(environment: str, namespace: str) -> None:
    made = plan(environment)

    assert made.target.namespace == namespace
    assert (made.target.deployment, made.target.container) == ("erlmcp", "erlmcp")
    assert made.tag == "v3.0.0"
    assert made.image == "ghcr.io/banyan-platform/erlmcp:3.0.0"
    assert made.health is not None
    assert made.health.url == f"http://erlmcp.{namespace}.svc:8080"
    assert f'namespace="{namespace}"' in made.metrics.canary_selector


def test_another_application_is_called_by_its_name() -> None:
    shop = {"repository": "git@example.com:shop.git", "image": "shop:{version}"}
    configuration = Configuration.model_validate(overlay(DEFAULTS, {"applications": {"shop": shop}}))

    made = resolve_plan(configuration, request("qa", application="shop"))

    assert (made.target.deployment, made.target.container) == ("shop", "shop")
    assert made.target.namespace == "shop-qa"
    assert made.health is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"application": "erlang"}, "application 'erlang' is not in deployment.yaml; choose one of: erlmcp"),
        ({"environment": "prod"}, "choose one of: dev, production, qa, staging"),
    ],
)
def test_unknown_names_are_refused_with_those_that_are_known(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(message)):
        resolve_plan(Configuration.model_validate(DEFAULTS), request(**changes))


def test_an_environment_s_overrides_hold_there_alone() -> None:
    applications = erlmcp(
        workload={"replicas": 3, "template": {"spec": {"a": 1}}},
        overrides={
            "dev": {
                "workload": {"replicas": 1, "liveness": None, "template": {"spec": {"b": 2}}},
                "health": {"canary_url": None},
                "metrics": {"prometheus_url": None},
            }
        },
    )

    dev, qa = plan("dev", applications=applications), plan("qa", applications=applications)

    assert dev.target.replicas == 1
    assert dev.target.liveness is None
    assert dev.target.template == {"spec": {"a": 1, "b": 2}}
    assert dev.health is not None
    assert dev.health.canary_url is None
    assert dev.metrics.prometheus_url is None
    assert qa.target.replicas == 3
    assert qa.target.liveness is not None
    assert qa.metrics.prometheus_url is not None


def test_a_probe_that_is_switched_off_stays_off() -> None:
    assert plan(applications=erlmcp(workload={"liveness": None})).target.liveness is None


def test_a_plan_survives_the_workflow_s_history() -> None:
    for environment in ("dev", "qa", "staging", "production"):
        made = plan(environment)

        assert DeploymentPlan.model_validate_json(made.model_dump_json()) == made


def test_documents_are_told_to_the_step_that_inspects_them() -> None:
    options = plan(applications=erlmcp(documents={"changelog": "NEWS.md"})).build.steps["documents"].options

    assert options["changelog"] == "NEWS.md"
    assert options["health_checks_defined"] == options["metrics_configured"] == "true"


def test_what_an_environment_lacks_is_told_too() -> None:
    applications = erlmcp(overrides={"dev": {"metrics": {"prometheus_url": None}}})

    told = {e: plan(e, applications=applications).build.steps["documents"].options for e in ("dev", "qa")}

    assert told["dev"]["metrics_configured"] == "false"
    assert told["qa"]["metrics_configured"] == "true"


def test_gates_and_their_steps() -> None:
    made = plan()

    assert made.automated_gates == ("compile", "test", "security", "performance")
    assert list(made.steps_of("test")) == ["eunit", "ct", "coverage"]


# Approval


@pytest.mark.parametrize(
    ("environment", "roles"),
    [("dev", None), ("qa", None), ("staging", ("tech_lead",)), ("production", ("change_board",))],
)
def test_who_must_approve(environment: str, roles: tuple[str, ...] | None) -> None:
    approval = plan(environment).approval

    assert (approval.roles if approval else None) == roles
    if approval is not None:
        assert approval.gate == "manual_approval"
        assert approval.timeout == timedelta(hours=72)
        assert approval.on_timeout is OnTimeout.REJECT
        assert approval.excluded == ("dev@example.com",)


def test_without_a_role_of_its_own_the_gate_s_approvers_decide() -> None:
    approval = plan(
        "staging",
        environments={
            "staging": {
                "approval": None,
                "min_approvals": 2,
                "required_gates": ["compile", "manual_approval"],
            }
        },
    ).approval

    assert approval is not None
    assert approval.roles == ("tech_lead", "devops_engineer")
    assert approval.members == {"tech_lead": ("tara@example.com",), "devops_engineer": ()}
    assert approval.min_approvals == 2


def test_people_have_72_hours_at_a_manual_gate_that_does_not_say() -> None:
    approval = plan(
        gates={"board": {"type": "manual", "approvers": {"production": ["change_board"]}}},
        environments={"production": {"required_gates": ["compile", "board"]}},
    ).approval

    assert approval is not None
    assert (approval.gate, approval.timeout) == ("board", timedelta(hours=72))
