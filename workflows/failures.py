"""Failures of a process: expected ends with a reason, as against defects."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    TimeoutType,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

T = TypeVar("T")


class ProcessError(Exception):
    """A step of the process failed; the process handles it (fails, rolls back), the workflow does not crash.

    Attributes:
        trigger: which check, gate or roll-back trigger it was.
    """

    def __init__(self, reason: str, *, trigger: str | None = None) -> None:
        super().__init__(reason)
        self.trigger = trigger


def root_cause(error: BaseException) -> BaseException:
    """The innermost cause of a Temporal failure."""
    while (
        isinstance(error, ActivityError | ChildWorkflowError | TemporalTimeoutError)
        and error.cause is not None
    ):
        error = error.cause
    return error


def reason_of(error: FailureError) -> str:
    """One sentence for people: what failed and why."""
    cause = root_cause(error)
    if isinstance(cause, ApplicationError):
        return cause.message
    if isinstance(cause, TemporalTimeoutError):
        what = error.activity_type if isinstance(error, ActivityError) else "the step"
        kind = TimeoutType(cause.type).name.lower().replace("_", " ") if cause.type is not None else "time"
        return f"{what} ran out of time ({kind})"
    return str(cause)


async def see_through(ending: Coroutine[Any, Any, T]) -> T:
    """Finish an end that has begun (a compensation, a release), whoever cancels in the meantime."""
    task = asyncio.ensure_future(ending)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
    return task.result()
