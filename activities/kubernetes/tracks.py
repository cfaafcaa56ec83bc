"""The Deployments of both tracks: found, followed, scaled, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from activities.kubernetes.api import KubernetesApi, Object, deployments
from activities.kubernetes.failures import StatusError
from domain.workload import Track, WorkloadTarget

_GIVING_UP = timedelta(minutes=1)
"""How long a canary that was given up may still serve while no stable pod can."""


class Tracks:
    """Looks at the Deployments of a workload and scales them."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def find(self, target: WorkloadTarget, track: Track) -> Object | None:
        return await self._api.find(deployments(target.namespace), target.name_of(track))

    def follow(self, target: WorkloadTarget, track: Track) -> Any:
        return self._api.follow(deployments(target.namespace), target.name_of(track))

    async def ready(self, target: WorkloadTarget, track: Track) -> int:
        """Its ready pods; none if it does not exist."""
        found = await self.find(target, track)
        return ready_pods(found) if found is not None else 0

    async def scale(self, target: WorkloadTarget, track: Track, replicas: int) -> None:
        """Ask for so many pods; a track that is gone meanwhile has none."""
        change = {"spec": {"replicas": replicas}}
        try:
            await self._api.merge(deployments(target.namespace), target.name_of(track), change)
        except StatusError as error:
            if error.status != 404:
                raise

    async def grow(self, target: WorkloadTarget, wanted: Mapping[Track, int]) -> None:
        """Scale up each existing track that wants fewer pods than this."""
        for track, count in wanted.items():
            found = await self.find(target, track)
            if found is not None and found["spec"].get("replicas", 1) < count:
                await self.scale(target, track, count)

    async def shrink(self, target: WorkloadTarget, wanted: Mapping[Track, int]) -> None:
        """Scale down each existing track that has more pods than this, and wait until they have ended."""
        for track, count in wanted.items():
            found = await self.find(target, track)
            if found is not None and found["spec"].get("replicas", 1) > count:
                await self.scale(target, track, count)
        await self.wait_for_all(target, wanted, _has_settled, target.progress_deadline)

    async def until_ready(
        self, target: WorkloadTarget, wanted: Mapping[Track, int], limit: timedelta
    ) -> bool:
        """Wait until each existing track has so many ready pods; false if the limit came first."""
        return await self.wait_for_all(target, wanted, _has_ready, limit)

    async def until_stable_serves(self, target: WorkloadTarget) -> None:
        """Before the canary loses its traffic: wait until any stable pod can take it.

        After a minute that ends even if none can: who asks for this has given the canary up.
        """
        serving = await self.ready(target, Track.CANARY) > 0
        needed = {Track.STABLE: 1 if serving else 0}
        await self.until_ready(target, needed, min(target.progress_deadline, _GIVING_UP))

    async def wait_for_all(
        self,
        target: WorkloadTarget,
        counts: Mapping[Track, int],
        reached: Callable[[Object, int], bool],
        limit: timedelta,
    ) -> bool:
        """Wait until each existing track has reached its count; false if the limit came first."""

        async def each(track: Track, count: int) -> None:
            await self.wait(target, track, lambda found: found is None or reached(found, count))

        try:
            async with asyncio.timeout(limit.total_seconds()):
                for track, count in counts.items():
                    await each(track, count)
        except TimeoutError:
            return False
        return True

    async def wait(self, target: WorkloadTarget, track: Track, done: Callable[[Object | None], bool]) -> None:
        async with aclosing(self.follow(target, track)) as states:
            async for state in states:
                if done(state):
                    return


def describe_track(target: WorkloadTarget, track: Track) -> str:
    """The Deployment of a track, as errors name it."""
    return f"Deployment {target.name_of(track)} in namespace {target.namespace}"


def ready_pods(deployment: Object) -> int:
    ready: int = (deployment.get("status") or {}).get("readyReplicas", 0)
    return ready


def _has_ready(deployment: Object, count: int) -> bool:
    return ready_pods(deployment) >= count


def _has_settled(deployment: Object, count: int) -> bool:
    status = deployment.get("status") or {}
    observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return bool(observed and status.get("replicas", 0) <= count)
