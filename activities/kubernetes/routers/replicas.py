"""The router that needs nothing but a Service over both tracks: the share is that of the pods."""

from __future__ import annotations

import aiohttp
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.kubernetes.api import Object
from activities.kubernetes.failures import StatusError
from activities.kubernetes.heartbeat import Progress
from activities.kubernetes.routers.port import Router, require_both
from activities.kubernetes.routers.services import Services
from activities.kubernetes.tracks import Tracks, describe_track, note_of
from domain.canary import split_replicas
from domain.workload import Track, WeightChange, WeightReading, WorkloadTarget


class ReplicasRouter(Router):
    """Moves pods from one track to the other; the side that grows does so first.

    Rights beside those on Deployments: services (get, patch), and it goes without.
    """

    def __init__(self, tracks: Tracks, services: Services) -> None:
        self._tracks = tracks
        self._services = services

    async def prepare(self, target: WorkloadTarget, canary: Object) -> None:
        await self._services.open_to_both(target)

    async def set(self, change: WeightChange, progress: Progress) -> WeightReading:
        target, tracks = change.target, self._tracks
        stable_pods, canary_pods = split_replicas(change.replicas, change.weight)
        wanted = {Track.STABLE: stable_pods, Track.CANARY: canary_pods}
        note = await self._claim(change)
        await tracks.grow(target, wanted, note)
        progress.text = f"weight {change.weight}: waiting for pods to be ready"
        if change.weight == 0:
            await tracks.until_stable_serves(target)
            progress.text = "weight 0: waiting for pods to end"
            # Only the canary shrinks; the stable side may be in the middle of a roll-out.
            await tracks.shrink(target, {Track.CANARY: 0})
        elif await tracks.until_ready(target, wanted, target.progress_deadline):
            progress.text = f"weight {change.weight}: waiting for pods to end"
            await tracks.shrink(target, wanted, note)
        return await self._reading(change, wanted)

    async def _claim(self, change: WeightChange) -> str | None:
        """Claim both tracks, so that a change which a frozen worker is left with cannot undo this one.

        Weight 0 tries to, but is obeyed whoever claims them, and so needs no note to go on.
        """
        target, tracks, note = change.target, self._tracks, note_of(change.key)
        if change.weight > 0:
            await require_both(tracks, target)
            for track in Track:
                await tracks.claim(target, track, note)
            return note
        for track in Track:
            try:
                await tracks.claim(target, track, note)
            except (ApplicationError, StatusError, aiohttp.ClientError, OSError) as error:
                activity.logger.warning(
                    "weight 0 goes on without a claim on %s: %s", describe_track(target, track), error
                )
        return None

    async def _reading(self, change: WeightChange, wanted: dict[Track, int]) -> WeightReading:
        stable, canary = [
            await self._tracks.ready(change.target, track) for track in (Track.STABLE, Track.CANARY)
        ]
        observed = 100 * canary / (stable + canary) if canary else 0.0
        as_asked = (stable, canary) == (wanted[Track.STABLE], wanted[Track.CANARY])
        weight = change.weight if canary and as_asked else round(observed)
        note = (
            ""
            if weight == change.weight
            else f"{stable} stable and {canary} canary pods are ready, not "
            f"{wanted[Track.STABLE]} and {wanted[Track.CANARY]}"
        )
        return WeightReading(weight=weight, observed=observed, stable=stable, canary=canary, note=note)

    async def withdraw(self, target: WorkloadTarget) -> None:
        """Nothing leads to the canary but its pods, and they end before their Deployment goes."""

    async def release(self, target: WorkloadTarget) -> None:
        """Nothing was changed on the stable side."""
