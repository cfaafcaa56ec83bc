"""What people and alerts order a running process to do, and obeying them at once (design, section 1)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from temporalio import workflow

T = TypeVar("T")

_WORDS = {"abort": "aborted", "rollback": "rolled back", "cancel": "cancelled"}
ALERTING = "alertmanager"
"""Who acts when an alert does."""


@dataclass(frozen=True)
class Stop:
    """Somebody's word that the process shall not go on."""

    action: str
    actor: str
    reason: str = ""

    def __str__(self) -> str:
        if self.action == "alert":
            return self.reason
        return f"{_WORDS[self.action]} by {self.actor}" + (f": {self.reason}" if self.reason else "")


class StoppedError(Exception):
    """The process was left because of a `Stop`."""


class Orders:
    """The orders of one process: the first stop counts, a pause can be taken back."""

    def __init__(self, *, paused_by: str | None = None) -> None:
        self.stop: Stop | None = None
        self.paused_by = paused_by
        self.promoted_by: str | None = None

    def halt(self, stop: Stop) -> None:
        if self.stop is None:
            self.stop = stop

    def stopped_by(self, canceller: str) -> Stop:
        """The stop that ended the process; a cancellation, if there was none before it."""
        self.halt(Stop("cancel", canceller))
        assert self.stop is not None  # noqa: S101 - told to the type checker
        return self.stop

    async def obey(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work, unless a stop comes first: people are obeyed at once, in every state.

        A stop that came while the work was finishing counts too: it raises StoppedError.
        """
        task = asyncio.ensure_future(work)
        try:
            await workflow.wait_condition(lambda: task.done() or self.stop is not None)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self.stop is not None:
            if task.done() and not task.cancelled():
                task.exception()  # it is known why the process ends; what failed beside it is not asked for
            raise StoppedError
        return task.result()

    async def unpaused(self) -> None:
        """Wait while the process is paused."""
        await self.obey(workflow.wait_condition(lambda: self.paused_by is None))

    async def promotion(self) -> str:
        """Wait until a person promotes; one who has done so already counts. Answers who."""
        await self.obey(workflow.wait_condition(lambda: self.promoted_by is not None))
        who, self.promoted_by = self.promoted_by or "unknown", None
        return who
