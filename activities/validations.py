"""Which validations of one pull request run, and telling the older ones that they are outdated."""

from __future__ import annotations

from pydantic import ValidationError
from temporalio import activity
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from activities.signatures import RivalSignatures
from domain.validation import CLAIM_MEMO, Claim, Rivals, Supersession, ValidationKind


class RivalActivities(RivalSignatures):
    """Speaks to the Temporal server itself.

    Args:
        client: connected to the namespace of the workflows.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn
    async def supersede_rivals(self, claim: Claim) -> Rivals:
        # The SDK has no name for the status of a paused workflow, and fails on it.
        query = (
            f"WorkflowType = 'ValidationWorkflow' AND Application = '{claim.application}'"
            f" AND Environment = '{ValidationKind.PULL_REQUEST}' AND ExecutionStatus = 'Running'"
        )
        newest, superseded = claim, []
        async for execution in self._client.list_workflows(query):
            other = await _claim_of(execution)
            if other is None or not claim.rivals(other):
                continue
            if other.newer_than(newest):
                newest = other
            if claim.newer_than(other) and await self._signal(execution, claim):
                superseded.append(execution.id)
        newer = None if newest is claim else newest.validation_id
        return Rivals(newer=newer, superseded=tuple(superseded))

    async def _signal(self, execution: WorkflowExecution, by: Claim) -> bool:
        handle = self._client.get_workflow_handle(execution.id, run_id=execution.run_id)
        try:
            await handle.signal("supersede", Supersession(by=by.validation_id))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False  # it ended in the meantime
        return True


async def _claim_of(execution: WorkflowExecution) -> Claim | None:
    memo = await execution.memo()
    if CLAIM_MEMO not in memo:
        return None
    try:
        return Claim.model_validate(memo[CLAIM_MEMO])
    except ValidationError:
        return None  # of another version of this program
