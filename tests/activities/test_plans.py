"""The activity that reads deployment.yaml for one deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import INVALID_CONFIGURATION, INVALID_INPUT
from activities.plans import PlanActivities
from domain.deployment import DeploymentRequest
from domain.plan import DeploymentPlan
from domain.validation import ValidationKind, ValidationRequest

PEOPLE = "directory: {roles: {tech_lead: [tara@example.com], change_board: [carla@example.com]}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.yaml"
    path.write_text(PEOPLE)
    return path


async def resolve(file: Path, **changes: Any) -> DeploymentPlan:
    fields = {
        "application": "erlmcp",
        "environment": "production",
        "version": "3.0.0",
        "actor": "dev@example.com",
    }
    request = DeploymentRequest.model_validate({**fields, **changes})
    return await ActivityEnvironment().run(PlanActivities(file).resolve_deployment_plan, request)


async def refused(file: Path, **changes: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as error:
        await resolve(file, **changes)
    assert error.value.non_retryable
    return error.value


async def test_the_plan_of_a_request(file: Path) -> None:
    plan = await resolve(file)

    assert plan.target.namespace == "erlmcp-prod"
    assert plan.approval is not None
    assert plan.approval.members == {"change_board": ("carla@example.com",)}
    assert plan.approval.excluded == ("dev@example.com",)


async def test_the_plan_goes_through_temporal_unchanged(file: Path) -> None:
    plan = await resolve(file)

    payloads = await pydantic_data_converter.encode([plan])
    again = await pydantic_data_converter.decode(payloads, [DeploymentPlan])

    assert again == [plan]


async def test_an_edit_holds_for_the_next_deployment_without_a_restart(file: Path) -> None:
    before = await resolve(file)
    file.write_text(PEOPLE + "environments: {production: {min_approvals: 1, soak_duration: 2h}}\n")

    after = await resolve(file)

    assert (before.settings.soak_duration.seconds, after.settings.soak_duration.seconds) == (3600, 7200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"application": "erlang"}, "application 'erlang' is not in deployment.yaml; choose one of: erlmcp"),
        ({"environment": "prod"}, "environment 'prod' is not in deployment.yaml"),
        ({"skip_tests": True}, 'tests are skipped in emergencies only; add a "reason"'),
        ({"skip_tests": "true", "reason": "  "}, 'add a "reason"'),
    ],
)
async def test_a_request_that_cannot_be_carried_out_is_not_tried_again(
    file: Path, changes: dict[str, Any], message: str
) -> None:
    error = await refused(file, **changes)

    assert error.type == INVALID_INPUT
    assert message in str(error)


async def test_tests_are_skipped_with_a_reason(file: Path) -> None:
    plan = await resolve(file, skip_tests=True, reason="INC-4711: data loss")

    assert plan.automated_gates == ("compile", "test", "security", "performance"), "left out by the process"


async def test_a_file_that_cannot_be_used_tells_every_mistake(file: Path) -> None:
    file.write_text("environments:\n  production: {min_approvals: 2, canray: {}}\n  qa: {monitoring: ful}\n")

    error = await refused(file)

    assert error.type == INVALID_CONFIGURATION
    assert f"{file}:2: environments.production.canray: is not known here; did you mean 'canary'?" in str(
        error
    )
    assert f"{file}:3: environments.qa.monitoring" in str(error)


async def test_production_without_approvers_is_refused(file: Path) -> None:
    file.write_text("directory: {roles: {tech_lead: [tara@example.com]}}\n")

    error = await refused(file)

    assert error.type == INVALID_CONFIGURATION
    assert "nobody holds the role that must approve production" in str(error)


async def test_a_missing_file_names_the_variable(tmp_path: Path) -> None:
    error = await refused(tmp_path / "nowhere.yaml")

    assert error.type == INVALID_CONFIGURATION
    assert "ERLMCP_DEPLOY_CONFIG" in str(error)


async def test_the_plan_of_a_validation(file: Path) -> None:
    request = ValidationRequest(
        application="erlmcp",
        commit="a" * 40,
        kind=ValidationKind.PULL_REQUEST,
        actor="dev@example.com",
        gates=("compile", "eunit"),
    )

    plan = await ActivityEnvironment().run(PlanActivities(file).resolve_validation_plan, request)

    assert list(plan.gates) == ["compile", "eunit"]


@pytest.mark.parametrize(
    ("gates", "message"),
    [(("smoke",), "'smoke' is neither"), (("manual_approval",), "is decided by people")],
)
async def test_a_validation_that_cannot_be_carried_out_is_not_tried_again(
    file: Path, gates: tuple[str, ...], message: str
) -> None:
    request = ValidationRequest(
        application="erlmcp", commit="a" * 40, kind=ValidationKind.CI, actor="dev@example.com", gates=gates
    )

    with pytest.raises(ApplicationError, match=message) as error:
        await ActivityEnvironment().run(PlanActivities(file).resolve_validation_plan, request)

    assert (error.value.type, error.value.non_retryable) == (INVALID_INPUT, True)
