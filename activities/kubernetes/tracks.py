"""The Deployments of both tracks: found, followed, scaled, and waited for."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Mapping
from contextlib import aclosing
from datetime import UTC, timedelta
from typing import Any, Final, NoReturn

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import CONFLICT
from activities.kubernetes.api import KubernetesApi, Object, deployments
from activities.kubernetes.failures import StatusError
from activities.kubernetes.manifests import PREFIX, annotations_of
from domain.workload import Track, WorkloadTarget

WEIGHT_CHANGE: Final = f"{PREFIX}weight-change"
"""On the Deployments of both tracks: the newest change of the weight, see `Tracks.claim`."""

_GIVING_UP = timedelta(minutes=1)
"""How long a canary that was given up may still serve while no stable pod can."""
_TRIES: Final = 5
_BETWEEN_TRIES: Final = 0.2


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

    async def claim(self, target: WorkloadTarget, track: Track, note: str) -> None:
        """Note on a track that a change of the weight has begun; a worker that wakes up late finds it there.

        Raises:
            ApplicationError: Conflict, not to be retried; a newer change has begun.
        """

        def change(found: Object) -> Object | None:
            noted = annotations_of(found).get(WEIGHT_CHANGE, "")
            if _scheduled(noted) > _scheduled(note):
                _overtaken(target, track, noted)
            return None if noted == note else {"metadata": {"annotations": {WEIGHT_CHANGE: note}}}

        await self._change(target, track, change)

    async def grow(
        self, target: WorkloadTarget, wanted: Mapping[Track, int], note: str | None = None
    ) -> None:
        """Scale up each existing track that wants fewer pods than this.

        With `note` only while that is the newest claim on the track; else Conflict, as in `claim`.
        """
        for track, count in wanted.items():
            await self._scale(target, track, count, operator.lt, note)

    async def shrink(
        self, target: WorkloadTarget, wanted: Mapping[Track, int], note: str | None = None
    ) -> None:
        """Scale down each existing track that has more pods than this, and wait until they have ended.

        `note` as in `grow`.
        """
        for track, count in wanted.items():
            await self._scale(target, track, count, operator.gt, note)
        await self.wait_for_all(target, wanted, _has_settled, target.progress_deadline)

    async def _scale(
        self,
        target: WorkloadTarget,
        track: Track,
        count: int,
        wrong: Callable[[int, int], bool],
        note: str | None,
    ) -> None:
        def change(found: Object) -> Object | None:
            noted = annotations_of(found).get(WEIGHT_CHANGE, "")
            if note is not None and noted != note:
                _overtaken(target, track, noted)
            return {"spec": {"replicas": count}} if wrong(found["spec"].get("replicas", 1), count) else None

        await self._change(target, track, change, unless_changed=note is not None)

    async def _change(
        self,
        target: WorkloadTarget,
        track: Track,
        change: Callable[[Object], Object | None],
        *,
        unless_changed: bool = True,
    ) -> None:
        """Change a track as it was read, or read it again; one that is gone needs no change."""
        for left in reversed(range(_TRIES)):
            found = await self.find(target, track)
            patch = None if found is None else change(found)
            if found is None or patch is None:
                return
            version = found["metadata"]["resourceVersion"] if unless_changed else None
            try:
                await self._api.merge(
                    deployments(target.namespace), target.name_of(track), patch, resource_version=version
                )
                return
            except StatusError as error:
                if error.status == 404:
                    return
                if error.status != 409 or not unless_changed or not left:
                    raise
            await asyncio.sleep(_BETWEEN_TRIES)

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


def note_of(key: str) -> str:
    """What claims a track for the running activity: when Temporal scheduled it, which orders the changes of
    all workers by one clock, and its key."""
    scheduled = activity.info().scheduled_time.astimezone(UTC)
    return f"{scheduled.isoformat(timespec='microseconds')} {key}"


def _scheduled(note: str) -> str:
    return note.partition(" ")[0]


def _overtaken(target: WorkloadTarget, track: Track, noted: str) -> NoReturn:
    raise ApplicationError(
        f"{describe_track(target, track)}: another change of the canary's weight has begun meanwhile "
        f"({noted or 'its note is gone'}); this one was given up",
        type=CONFLICT,
        non_retryable=True,
    )


def ready_pods(deployment: Object) -> int:
    ready: int = (deployment.get("status") or {}).get("readyReplicas", 0)
    return ready


def _has_ready(deployment: Object, count: int) -> bool:
    return ready_pods(deployment) >= count


def _has_settled(deployment: Object, count: int) -> bool:
    status = deployment.get("status") or {}
    observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return bool(observed and status.get("replicas", 0) <= count)
