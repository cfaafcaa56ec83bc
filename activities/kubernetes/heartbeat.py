"""Heartbeats beside the work: they show how far it is and bring a cancellation in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity

_LONGEST_SECONDS = 1.0


class Progress:
    """What the next heartbeat says."""

    def __init__(self, text: str) -> None:
        self.text = text


@asynccontextmanager
async def heartbeats(text: str) -> AsyncIterator[Progress]:
    """Send a heartbeat at once and every few seconds until the context ends."""
    progress = Progress(text)
    timeout = activity.info().heartbeat_timeout
    pause = min(_LONGEST_SECONDS, timeout.total_seconds() / 3) if timeout else _LONGEST_SECONDS

    async def beat() -> None:
        while True:
            activity.heartbeat(progress.text)
            await asyncio.sleep(pause)

    task = asyncio.create_task(beat())
    try:
        yield progress
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
