"""The port of the traffic routers (spec: Progressive Delivery)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NoReturn

from activities.errors import NOT_FOUND, fail
from activities.kubernetes.api import Object
from activities.kubernetes.heartbeat import Progress
from activities.kubernetes.tracks import Tracks, describe_track
from domain.workload import Track, WeightChange, WeightReading, WorkloadTarget


class Router(ABC):
    """Gives the canary its share of the traffic; each step can be repeated and then changes nothing.

    The order of a canary's life: `prepare` before its first pod, `set` for every weight, `withdraw` before
    its last pod goes, `release` after.
    """

    @abstractmethod
    async def prepare(self, target: WorkloadTarget, canary: Object) -> None:
        """Make ready what leads to the canary, whose Deployment is `canary`; it gets no traffic by this.

        Raises:
            ApplicationError: NotFound or Refused; the router could not steer this workload.
        """

    @abstractmethod
    async def set(self, change: WeightChange, progress: Progress) -> WeightReading:
        """Give the canary its share, with the pods for it, and read back what was taken.

        A weight of 0 is obeyed whatever is left of canary, routes and Services. A canary without any ready
        pod is given 0, and the reading says so.
        """

    @abstractmethod
    async def withdraw(self, target: WorkloadTarget) -> None:
        """Take all traffic from the canary and delete what we made to lead it there."""

    @abstractmethod
    async def release(self, target: WorkloadTarget) -> None:
        """With the canary's pods gone: leave the stable side as it was found."""


async def require_both(tracks: Tracks, target: WorkloadTarget) -> tuple[Object, Object]:
    """The Deployments of the stable and the canary track; NotFound if one is missing."""
    stable, canary = [await tracks.find(target, track) for track in (Track.STABLE, Track.CANARY)]
    if stable is None:
        _missing(target, Track.STABLE)
    if canary is None:
        _missing(target, Track.CANARY)
    return stable, canary


def _missing(target: WorkloadTarget, track: Track) -> NoReturn:
    fail(
        NOT_FOUND,
        f"{describe_track(target, track)} does not exist: no weight can be given to a canary",
    )
