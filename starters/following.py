"""Following a process to its end, through short absences of worker and server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError, RPCStatusCode

from activities.errors import INVALID_INPUT
from starters.connection import ANSWER_TIMEOUT, TRANSIENT, unreachable
from starters.errors import CommandError, ExitCode

PATIENCE = timedelta(minutes=15)
"""How long the server may be away before the follower gives up (the process itself goes on)."""
LIVELY, CALM = 1.0, 5.0
"""Seconds between two looks while something happens, and while nothing does."""
CALM_AFTER = 60.0

M = TypeVar("M", bound=BaseModel)
Shown_contra = TypeVar("Shown_contra", bound=BaseModel, contravariant=True)


class Watcher(Protocol[Shown_contra]):
    """Is shown every new picture, and why there is none if there is none."""

    def __call__(self, status: Shown_contra | None, problem: str | None) -> None: ...


def decode(model: type[M], answer: object) -> M:
    """A worker's answer; fields that a newer worker added are left out."""
    return model.model_validate(answer, extra="ignore")


async def ask_status(client: Client, workflow_id: str, model: type[M], *, run_id: str | None = None) -> M:
    """The `status` query of a process.

    Raises:
        NoAnswerError: no worker answers at the moment.
        RPCError: NOT_FOUND, or the server refuses.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    try:
        answer: Any = await handle.query("status", rpc_timeout=ANSWER_TIMEOUT)
    except (WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
        raise NoAnswerError(f"the worker cannot answer: {error}") from None
    except ValueError:
        # The SDK does not know the status of a workflow that was paused from outside.
        raise NoAnswerError(
            f"it was paused in Temporal itself; temporal workflow unpause --workflow-id {workflow_id}"
        ) from None
    except RPCError as error:
        if error.status not in TRANSIENT:
            raise
        raise NoAnswerError(absence(error)) from None
    return decode(model, answer)


class NoAnswerError(Exception):
    """Nobody can say at the moment how a process stands; it goes on all the same, or will."""


def absence(error: RPCError) -> str:
    """Who is away: the server, or the workers."""
    if error.status is RPCStatusCode.UNAVAILABLE:
        return "the Temporal server does not answer; trying again"
    return "no worker answers (is one running? erlmcp-deploy worker); trying again"


class Follower(Generic[M]):
    """Follows one run of a process.

    Args:
        run_id: the run whose result is waited for.
        show: gets each picture.
    """

    def __init__(
        self, client: Client, workflow_id: str, model: type[M], *, run_id: str | None, show: Watcher[M]
    ) -> None:
        self._client = client
        self._id = workflow_id
        self._model = model
        self._run_id = run_id
        self._show = show
        self._last: M | None = None
        self._changed_at = time.monotonic()

    async def result(self) -> M:
        """The final status.

        Raises:
            CommandError: the process broke, or the server stays away (it goes on without us).
        """
        end = asyncio.create_task(self._await_end())
        try:
            while True:
                calm = time.monotonic() - self._changed_at > CALM_AFTER
                await asyncio.wait({end}, timeout=CALM if calm else LIVELY)
                if end.done():
                    break
                await self._look()
            final = end.result()
        finally:
            end.cancel()
        self._show(final, None)
        return final

    async def _look(self) -> None:
        try:
            status = await ask_status(self._client, self._id, self._model, run_id=self._run_id)
        except NoAnswerError as error:
            self._show(self._last, str(error))
            return
        if status != self._last:
            self._changed_at = time.monotonic()
        self._last = status
        self._show(status, None)

    async def _await_end(self) -> M:
        handle = self._client.get_workflow_handle(self._id, run_id=self._run_id)

        async def result() -> Any:
            try:
                return await handle.result()
            except WorkflowFailureError as error:
                raise broken(self._id, error) from None

        return decode(self._model, await patiently(result))


async def patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat a call to the server while it is away, at most `PATIENCE` in one piece."""
    away_since: float | None = None
    delay = 0.2
    while True:
        try:
            return await call()
        except RPCError as error:
            if error.status not in TRANSIENT:
                raise
            now = time.monotonic()
            # A long poll that ends by its deadline is no absence.
            if error.status is RPCStatusCode.UNAVAILABLE:
                away_since = away_since or now
                if now - away_since > PATIENCE.total_seconds():
                    raise unreachable(f"away for {PATIENCE}") from None
            else:
                away_since = None
        await asyncio.sleep(delay)
        delay = min(delay * 2, 5.0)


def broken(workflow_id: str, error: WorkflowFailureError) -> CommandError:
    """The process did not end in one of its own states: bad input, a defect, a termination."""
    cause: BaseException = error.cause or error
    message = cause.message if isinstance(cause, FailureError) else str(cause)
    invalid = isinstance(cause, ApplicationError) and cause.type == INVALID_INPUT
    return CommandError(
        f"{workflow_id} ended without a result: {message}",
        remedy="" if invalid else f"look at its history: temporal workflow show --workflow-id {workflow_id}",
        exit_code=ExitCode.USAGE if invalid else ExitCode.FAILED,
    )
