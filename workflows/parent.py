"""What a child tells the workflow that started it."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from domain.model import Model


async def tell_parent(signal: str, status: Model) -> None:
    """Signal the status to the parent run; one that has ended has nobody left to tell."""
    parent = workflow.info().parent
    if parent is None:
        return
    handle = workflow.get_external_workflow_handle(parent.workflow_id, run_id=parent.run_id)
    try:
        await handle.signal(signal, status)
    except FailureError as error:
        if is_cancelled_exception(error):
            raise asyncio.CancelledError from error
        workflow.logger.info("the deployment has ended; nobody is left to tell of %s", signal)
