"""What routers with weights have in common: pods before traffic when it rises, traffic before pods when it
falls, and two Services that never mix."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from activities.kubernetes.api import Object
from activities.kubernetes.heartbeat import Progress
from activities.kubernetes.manifests import labels_of
from activities.kubernetes.routers.port import Router, require_both
from activities.kubernetes.routers.services import TRACK_LABEL, Services
from activities.kubernetes.tracks import Tracks, ready_pods
from domain.canary import split_replicas
from domain.workload import Track, WeightChange, WeightReading, WorkloadTarget


@dataclass(frozen=True, slots=True)
class Shares:
    """What the router shows: the canary's share in percent in each of its rules, and what else there is
    to say."""

    percents: Sequence[float] = ()
    note: str = ""

    def farthest_from(self, weight: int) -> float:
        """The share to judge by: the rule that is most off."""
        return max(self.percents, key=lambda percent: abs(percent - weight), default=0.0)


class WeightedRouter(Router):
    """The stable side keeps all its pods; the canary gets pods by its share, at 100 percent as many."""

    def __init__(self, tracks: Tracks, services: Services) -> None:
        self._tracks = tracks
        self._services = services

    # What each kind of router does for itself

    @abstractmethod
    async def check(self, target: WorkloadTarget) -> None:
        """Make sure that the router's own objects are there and may be steered; NotFound or Refused."""

    @abstractmethod
    async def steer(self, target: WorkloadTarget, weight: int) -> str:
        """Set a weight above 0, and wait until the router has taken it; answers what is worth a note."""

    @abstractmethod
    async def take_away(self, target: WorkloadTarget) -> str:
        """Set weight 0, whatever is there; answers what is worth a note."""

    @abstractmethod
    async def shares(self, target: WorkloadTarget) -> Shares:
        """What the router shows now."""

    @abstractmethod
    async def clean(self, target: WorkloadTarget) -> None:
        """Delete the router's objects that we made."""

    # What they have in common

    async def prepare(self, target: WorkloadTarget, canary: Object) -> None:
        await self.check(target)
        await self._services.keep_from(target, canary)
        await self._services.refuse_bypasses(
            target,
            labels_of(canary["spec"]["template"]),
            f"add {TRACK_LABEL}: {target.label_of(Track.STABLE)} to its selector",
        )
        await self._services.offer_canary(target, canary)

    async def set(self, change: WeightChange, progress: Progress) -> WeightReading:
        if change.weight == 0:
            return await self._give_up(change, progress)
        target, tracks = change.target, self._tracks
        _, pods = split_replicas(change.replicas, change.weight)
        _, canary = await require_both(tracks, target)
        await self.prepare(target, canary)
        if ready_pods(canary) == 0:
            await self.take_away(target)  # at once: waiting for pods may take minutes
        await tracks.grow(target, {Track.STABLE: change.replicas, Track.CANARY: pods})
        progress.text = f"weight {change.weight}: waiting for {pods} canary pods to be ready"
        in_time = await tracks.until_ready(target, {Track.CANARY: pods}, target.progress_deadline)
        ready = await tracks.ready(target, Track.CANARY)
        if ready == 0:
            return await self._unserved(change)
        if not in_time:
            return await self._reading(change, f"only {ready} of {pods} canary pods are ready")
        progress.text = f"weight {change.weight}: waiting for the router"
        note = await self.steer(target, change.weight)
        if await tracks.ready(target, Track.CANARY) == 0:
            return await self._unserved(change)
        progress.text = f"weight {change.weight}: waiting for pods to end"
        await tracks.shrink(target, {Track.CANARY: pods})
        return await self._reading(change, note)

    async def _unserved(self, change: WeightChange) -> WeightReading:
        """No traffic goes where no pod is."""
        note = await self.take_away(change.target)
        return await self._reading(change, "; ".join(filter(None, ("no canary pod is ready", note))))

    async def _give_up(self, change: WeightChange, progress: Progress) -> WeightReading:
        target, tracks = change.target, self._tracks
        try:
            await tracks.grow(target, {Track.STABLE: change.replicas})
            progress.text = "weight 0: waiting for a stable pod"
            await tracks.until_stable_serves(target)
        except Exception:
            # Whatever is wrong with the Deployments, the router can still be told; a retry asks for the pods.
            await self.take_away(target)
            raise
        progress.text = "weight 0: waiting for the router"
        note = await self.take_away(target)
        progress.text = "weight 0: letting the last requests end"
        await self._drain(target)
        progress.text = "weight 0: waiting for pods to end"
        await tracks.shrink(target, {Track.CANARY: 0})
        return await self._reading(change, note)

    async def _drain(self, target: WorkloadTarget) -> None:
        """Pods that have just lost their traffic get the last requests of proxies that have not heard yet."""
        if await self._tracks.ready(target, Track.CANARY) > 0:
            await asyncio.sleep(target.router.drain.total_seconds())

    async def _reading(self, change: WeightChange, note: str) -> WeightReading:
        target = change.target
        shares = await self.shares(target)
        stable, canary = [await self._tracks.ready(target, track) for track in (Track.STABLE, Track.CANARY)]
        observed = shares.farthest_from(change.weight)
        weight = round(observed)
        if weight != change.weight and not note:
            note = f"the router shows {observed:.0f}%: somebody else changed it meanwhile"
        return WeightReading(
            weight=weight,
            observed=observed,
            stable=stable,
            canary=canary,
            note="; ".join(filter(None, (note, shares.note))),
        )

    async def withdraw(self, target: WorkloadTarget) -> None:
        await self.take_away(target)
        await self._drain(target)
        await self.clean(target)
        await self._services.delete_canary(target)

    async def release(self, target: WorkloadTarget) -> None:
        await self._services.unpin(target)
