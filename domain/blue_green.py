"""Blue/green: the new version beside the old one, and one switch between them (spec: Core Principles)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from domain.durations import Duration, Interval
from domain.model import Model
from domain.workload import Side, WorkloadObservation, WorkloadTarget


class BlueGreenSettings(Model):
    """A stage's ``blue_green`` block.

    Attributes:
        auto_promote: switch as soon as the checks before the switch passed; else a person promotes.
        preview_checks: how long the new side is checked before the switch.
        watch: how long the new side is analysed after the switch, before Verifying.
        analysis_interval: between two measurements.
        scale_down_delay: how long the old side keeps its pods after the switch, for the instant way back.
            They are kept at least until Monitoring is over.
    """

    auto_promote: bool = True
    preview_checks: Interval = timedelta(minutes=1)
    watch: Interval = timedelta(minutes=5)
    analysis_interval: Interval = timedelta(seconds=30)
    scale_down_delay: Duration = timedelta(minutes=10)


PLACES: tuple[Side | None, ...] = (None, Side.BLUE, Side.GREEN)
"""Where a version can be: on the plain Deployment, as before the first blue/green deployment, or a side."""


def place_name(side: Side | None) -> str:
    """A side, for people."""
    return "the plain Deployment" if side is None else str(side)


class Colours(Model):
    """All sides as the cluster shows them.

    Attributes:
        active: the side the Service sends traffic to; none = the plain Deployment, as before the first
            blue/green deployment.
        plain: what runs on the Deployment without a side; `blue` and `green` on theirs. Only the one that
            serves is told with its pod template.
        service: whether the Service is there.
        selector: of the Service.
        held: we have narrowed that selector to one side; see `ColourSignatures.release_traffic`.
        endpoints: ready addresses behind the Service.
    """

    active: Side | None
    plain: WorkloadObservation
    blue: WorkloadObservation
    green: WorkloadObservation
    service: bool = False
    selector: dict[str, str] = {}
    held: bool = False
    endpoints: int = 0

    def on(self, side: Side | None) -> WorkloadObservation:
        """What runs on a side."""
        return {None: self.plain, Side.BLUE: self.blue, Side.GREEN: self.green}[side]

    @property
    def serving(self) -> WorkloadObservation:
        """What runs on the active side."""
        return self.on(self.active)

    @property
    def next_side(self) -> Side:
        """Where the next version goes."""
        return Side.GREEN if self.active is Side.BLUE else Side.BLUE

    @property
    def others(self) -> tuple[Side | None, ...]:
        """The sides without traffic."""
        return tuple(side for side in PLACES if side is not self.active)

    def running(self, version: str, name: str = "") -> Iterator[Side | None]:
        """The sides that run a version: the Deployment `name` first, then those with most ready pods."""
        fits = [side for side in PLACES if self.on(side).exists and self.on(side).version == version]
        yield from sorted(fits, key=lambda side: (self.on(side).name != name, -self.on(side).ready))


class Switch(Model):
    """Send all traffic to one side, if that side can take it.

    Attributes:
        key: names the effect; a second switch with the same key changes nothing.
        to: the side; none = the plain Deployment.
        version: what must run there; a side that runs something else, or misses a pod, gets no traffic.
        replacing: the Service's selector as it was when the switch was decided; if it is another one by
            now, somebody else has switched, and we do not. None = whatever it is.
    """

    key: str
    target: WorkloadTarget
    to: Side | None
    version: str
    replacing: dict[str, str] | None = None


class SideScale(Model):
    """Give one side a number of pods; one that serves is never scaled.

    Attributes:
        within: how long to wait for the pods.
    """

    key: str
    target: WorkloadTarget
    side: Side | None
    replicas: int = Field(ge=0)
    within: Interval = timedelta(minutes=5)


class BlueGreenPhase(StrEnum):
    """Steps of a blue/green deployment, as ``status`` names them."""

    PREPARING = "Preparing"
    PREVIEW = "Preview"
    WAITING = "WaitingForPromotion"
    SWITCHING = "Switching"
    SWITCHED = "Switched"
    RETIRING = "Retiring"
