"""Asking EnvironmentWorkflow for a turn, and asking Temporal who still runs."""

from __future__ import annotations

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.signatures import TurnSignatures
from domain.environment import EnvironmentRecord, TurnRequest
from domain.liveness import LivenessQuery, LivenessReport


class TurnActivities(TurnSignatures):
    """Speaks to the Temporal server itself.

    Args:
        client: connected to the namespace of the workflows.
        task_queue: where an EnvironmentWorkflow that is not there yet shall run.
    """

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    @activity.defn
    async def request_turn(self, request: TurnRequest) -> None:
        await self._client.start_workflow(
            "EnvironmentWorkflow",
            EnvironmentRecord(application=request.application, environment=request.environment),
            id=f"environment:{request.application}:{request.environment}",
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="request_turn",
            start_signal_args=[request],
            static_summary=f"{request.application} in {request.environment}",
        )

    @activity.defn
    async def report_liveness(self, query: LivenessQuery) -> LivenessReport:
        ended: dict[str, str] = {}
        for workflow_id in query.workflow_ids:
            try:
                described = await self._client.get_workflow_handle(workflow_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                ended[workflow_id] = "UNKNOWN"
                continue
            except ValueError:
                # The client has no name for the status of a paused run; it still runs.
                continue
            if described.status is not None and described.status is not WorkflowExecutionStatus.RUNNING:
                ended[workflow_id] = described.status.name
        return LivenessReport(ended=ended)
