"""What dependency updates need to know of the configuration, and of validations that others started."""

from __future__ import annotations

import asyncio
from pathlib import Path

from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from activities.configuration import ConfigurationError, load_configuration
from activities.errors import INVALID_CONFIGURATION, INVALID_INPUT, REFUSED, fail
from activities.signatures import DependencyPlanSignatures
from domain.dependency_plan import resolve_dependency_update
from domain.dependency_update import DependencyUpdatePlan, DependencyUpdateRequest
from domain.plan import UnknownNameError
from domain.validation import ValidationRequest, ValidationStatus

_HEARTBEAT_SECONDS = 5.0


class DependencyPlanActivities(DependencyPlanSignatures):
    """Reads deployment.yaml, and asks Temporal.

    Args:
        client: connected to the namespace of the workflows.
        configuration: path of deployment.yaml.
    """

    def __init__(self, client: Client, configuration: str | Path) -> None:
        self._client = client
        self._path = Path(configuration)

    @activity.defn
    async def resolve_dependency_update(self, request: DependencyUpdateRequest) -> DependencyUpdatePlan:
        """The plan for an update.

        Raises:
            ApplicationError: InvalidInput, if the application or its command is not configured;
                InvalidConfiguration, if the file cannot be used.
        """
        try:
            configuration = await asyncio.to_thread(load_configuration, self._path)
            return resolve_dependency_update(configuration, request)
        except UnknownNameError as error:
            fail(INVALID_INPUT, str(error), cause=error)
        except ConfigurationError as error:
            fail(INVALID_CONFIGURATION, str(error), cause=error)

    @activity.defn
    async def follow_validation(self, request: ValidationRequest) -> ValidationStatus:
        """Wait for a validation that somebody else has started, such as the event of the push itself.

        Raises:
            ApplicationError: Refused, if it ends without a result.
        """
        handle: WorkflowHandle[object, ValidationStatus] = self._client.get_workflow_handle(
            request.validation_id, result_type=ValidationStatus
        )
        waiting = asyncio.create_task(handle.result())
        try:
            while not waiting.done():
                activity.heartbeat()
                await asyncio.wait([waiting], timeout=_HEARTBEAT_SECONDS)
            return waiting.result()
        except WorkflowFailureError as error:
            fail(REFUSED, f"{request.validation_id} ended without a result: {error.cause}", cause=error)
        finally:
            waiting.cancel()
