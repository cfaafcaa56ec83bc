"""Exclusive use of a file or directory among all tasks and processes of one machine."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio import activity

_POLL_SECONDS = 0.1


@asynccontextmanager
async def file_lock(path: Path) -> AsyncIterator[None]:
    """Hold an advisory lock on `path`; the kernel gives it back when the process dies.

    Waiting heartbeats, and ends when the activity is cancelled. The file stays: removing it would let two
    holders lock two files of the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if activity.in_activity():
                    activity.heartbeat({"waiting_for": path.name})
                await asyncio.sleep(_POLL_SECONDS)
            else:
                break
        yield
