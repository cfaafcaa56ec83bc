"""Child workflows: started once, signalled in order, waited for without being cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from workflows.failures import ProcessError
from workflows.orders import Orders

T = TypeVar("T")

CHILD_STARTS = 60
"""Times a child is tried to be started, five seconds apart, while an earlier one ends."""


class Children:
    """The children of one process.

    Args:
        waits_for: told what the process waits for, or none.
    """

    def __init__(self, orders: Orders, waits_for: Callable[[str | None], None]) -> None:
        self._orders = orders
        self._waits_for = waits_for
        self._passing_on = asyncio.Lock()

    async def start(
        self,
        run: Callable[[Any, Any], Awaitable[T]],
        request: Any,
        *,
        workflow_id: str,
        summary: str,
        compensates: bool = False,
    ) -> workflow.ChildWorkflowHandle[Any, T]:
        """Start a child; if an earlier run has left one, wait for it to end.

        Args:
            compensates: it is part of an end that has begun: no stop keeps it from starting, and it
                outlives its parent.

        Raises:
            ProcessError: the earlier one does not end.
        """
        policy = ParentClosePolicy.ABANDON if compensates else ParentClosePolicy.REQUEST_CANCEL
        for _ in range(CHILD_STARTS):
            try:
                child: workflow.ChildWorkflowHandle[Any, T] = await workflow.start_child_workflow(
                    run, request, id=workflow_id, static_summary=summary, parent_close_policy=policy
                )
            except WorkflowAlreadyStartedError:
                self._waits_for(f"the earlier {workflow_id} to end")
                pause = workflow.sleep(5, summary=f"until the earlier {workflow_id} has ended")
                await (pause if compensates else self._orders.obey(pause))
            else:
                self._waits_for(None)
                return child
        raise ProcessError(f"an earlier {workflow_id} still runs; end it, then deploy again")

    async def pass_on(self, child: workflow.ChildWorkflowHandle[Any, Any], signal: str, message: Any) -> bool:
        """Signal a child; one after the other, or the server may deliver them in another order.

        Answers whether the child could still take it.
        """
        async with self._passing_on:
            if child.done():
                return False
            try:
                await child.signal(signal, message)
            except FailureError:
                return False
            return True


async def result(child: workflow.ChildWorkflowHandle[Any, T]) -> T:
    """The child's result. Not waiting any more does not cancel the child: it is told to stop by signal."""
    return await asyncio.shield(child)
