"""One deployment of the demo while it is followed: its latest picture, and waiting for the next turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from temporalio.client import Client

from domain.deployment import DeploymentStatus
from sandbox.demo.stage import Stage
from starters.deploy import Started
from starters.following import Follower

_TICK_SECONDS = 0.5


class Followed:
    """A deployment that is carried out and shown."""

    def __init__(self, client: Client, started: Started, stage: Stage) -> None:
        self.workflow_id = started.workflow_id
        self._stage = stage
        self._status: DeploymentStatus | None = None
        self._changed = asyncio.Event()
        self._ended = False
        self._follower = Follower(
            client, started.workflow_id, DeploymentStatus, run_id=started.run_id, show=self._show
        )

    @property
    def latest(self) -> DeploymentStatus:
        """The picture that made `until` answer."""
        if self._status is None:
            raise RuntimeError("nothing is known of the deployment yet: wait with until() first")
        return self._status

    async def until(self, reached: Callable[[DeploymentStatus], bool]) -> bool:
        """Wait for a turn of the deployment; false if it ended without it."""
        while self._status is None or not reached(self._status):
            if self._ended:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    async def result(self, scenes: Iterable[Callable[[Followed], Awaitable[None]]]) -> DeploymentStatus:
        """Follow it to its end, while the scenes are played one after the other.

        Raises:
            CommandError: it broke.
        """

        async def play() -> None:
            for scene in scenes:
                await scene(self)

        playing = asyncio.create_task(play())
        ticking = asyncio.create_task(self._tick())
        following = asyncio.create_task(self._follower.result())
        try:
            await asyncio.wait({playing, following}, return_when=asyncio.FIRST_EXCEPTION)
            for task in (playing, following):
                if task.done():
                    task.result()
            return await following
        finally:
            for task in (playing, ticking, following):
                task.cancel()
            await asyncio.gather(playing, ticking, following, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            self._stage.tick()
            await asyncio.sleep(_TICK_SECONDS)

    def _show(self, status: DeploymentStatus | None, problem: str | None) -> None:
        self._status = status or self._status
        self._ended = self._status is not None and self._status.state.final
        self._stage.update(status, problem)
        self._changed.set()
