"""Plans: what deployment.yaml says for one deployment, or for one validation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from temporalio import activity

from activities.configuration import ConfigurationError, load_configuration
from activities.errors import INVALID_CONFIGURATION, INVALID_INPUT, fail
from activities.signatures import PlanSignatures, ValidationSignatures
from domain.configuration import Configuration
from domain.deployment import DeploymentRequest
from domain.plan import DeploymentPlan, UnknownNameError, resolve_plan, tests_must_run
from domain.validation import ValidationPlan, ValidationRequest
from domain.validation_plan import UnfitGateError, resolve_validation_plan

T = TypeVar("T")


class PlanActivities(PlanSignatures, ValidationSignatures):
    """Reads deployment.yaml anew for each run, so that an edit needs no restart.

    Args:
        configuration: path of deployment.yaml.
    """

    def __init__(self, configuration: str | Path) -> None:
        self._path = Path(configuration)

    @activity.defn
    async def resolve_deployment_plan(self, request: DeploymentRequest) -> DeploymentPlan:
        """The plan for a request.

        Raises:
            ApplicationError: InvalidInput, if the request names what is not configured, or skips tests
                without a reason or the role for it; InvalidConfiguration, if the file cannot be used.
                Neither is retried.
        """
        if request.skip_tests and not (request.reason or "").strip():
            fail(
                INVALID_INPUT,
                'skip_tests: true — tests are skipped in emergencies only; add a "reason", which is audited',
            )

        def resolve(configuration: Configuration) -> DeploymentPlan:
            plan = resolve_plan(configuration, request)
            if refused := tests_must_run(configuration, request):
                fail(INVALID_INPUT, f"skip_tests: true — {refused}")
            return plan

        return await self._resolved(resolve)

    @activity.defn
    async def resolve_validation_plan(self, request: ValidationRequest) -> ValidationPlan:
        """The plan for a validation.

        Raises:
            ApplicationError: InvalidInput, if the request names what is not configured, or no gate;
                InvalidConfiguration, if the file cannot be used. Neither is retried.
        """
        return await self._resolved(lambda configuration: resolve_validation_plan(configuration, request))

    async def _resolved(self, resolve: Callable[[Configuration], T]) -> T:
        try:
            # Parsing takes longer than an event loop should stand still.
            return resolve(await asyncio.to_thread(load_configuration, self._path))
        except (UnknownNameError, UnfitGateError) as error:
            fail(INVALID_INPUT, str(error), cause=error)
        except ConfigurationError as error:
            fail(INVALID_CONFIGURATION, str(error), cause=error)
