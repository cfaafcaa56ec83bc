"""The same request, at once or again, is carried out once in this process: all who ask share its outcome.

A fast path, and no more: there may be several receivers, and what they start must bear that by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from starters.receiver.recent import Recent

V = TypeVar("V")


class Once(Generic[V]):
    """Outcomes by the identity of what was asked.

    Args:
        final: whether an outcome stands; after any other, as after an error, the next attempt is a new one.
        capacity: how many outcomes are remembered.
    """

    def __init__(self, final: Callable[[V], bool], capacity: int = 2000) -> None:
        self._final = final
        self._tasks: Recent[asyncio.Task[V]] = Recent(capacity)

    async def do(self, key: str, work: Callable[[], Coroutine[Any, Any, V]]) -> tuple[V, bool]:
        """The outcome, and whether somebody else's attempt brought it about."""
        task = self._tasks.get(key)
        again = task is not None
        if task is None:
            task = asyncio.create_task(work())
            self._tasks.put(key, task)
            task.add_done_callback(lambda done: self._ended(key, done))
        # Whoever stops waiting does not end it for the others.
        return await asyncio.shield(task), again

    def _ended(self, key: str, done: asyncio.Task[V]) -> None:
        stands = not done.cancelled() and done.exception() is None and self._final(done.result())
        if not stands and self._tasks.get(key) is done:
            self._tasks.drop(key)
