"""Plans: what deployment.yaml says for one request."""

from __future__ import annotations

import asyncio
from pathlib import Path

from temporalio import activity

from activities.configuration import ConfigurationError, load_configuration
from activities.errors import INVALID_CONFIGURATION, INVALID_INPUT, fail
from activities.signatures import PlanSignatures
from domain.deployment import DeploymentRequest
from domain.plan import DeploymentPlan, UnknownNameError, resolve_plan


class PlanActivities(PlanSignatures):
    """Reads deployment.yaml anew for each deployment, so that an edit needs no restart.

    Args:
        configuration: path of deployment.yaml.
    """

    def __init__(self, configuration: str | Path) -> None:
        self._path = Path(configuration)

    @activity.defn
    async def resolve_deployment_plan(self, request: DeploymentRequest) -> DeploymentPlan:
        """The plan for a request.

        Raises:
            ApplicationError: InvalidInput, if the request names what is not configured or skips tests
                without a reason; InvalidConfiguration, if the file cannot be used. Neither is retried.
        """
        if request.skip_tests and not (request.reason or "").strip():
            fail(
                INVALID_INPUT,
                'skip_tests: true — tests are skipped in emergencies only; add a "reason", which is audited',
            )
        try:
            # Parsing takes longer than an event loop should stand still.
            configuration = await asyncio.to_thread(load_configuration, self._path)
            return resolve_plan(configuration, request)
        except UnknownNameError as error:
            fail(INVALID_INPUT, str(error), cause=error)
        except ConfigurationError as error:
            fail(INVALID_CONFIGURATION, str(error), cause=error)
