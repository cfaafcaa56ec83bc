"""What the hand-over asks of a controller, whichever it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from activities.kubernetes.api import Object
from domain.handover import HandoverCommand, HandoverReading, HandoverRequest


@dataclass(frozen=True)
class Seen:
    """What a controller's resource says of our revision.

    Attributes:
        noticed: whether the controller has taken it up; one that never does is not running.
    """

    reading: HandoverReading
    noticed: bool = True


class Steering(Protocol):
    """A controller that steers canaries by its own resource."""

    async def workload(self, request: HandoverRequest) -> Object | None:
        """The object that has the pod template; none if there is none yet."""

    async def begin(self, request: HandoverRequest) -> HandoverReading:
        """Put the version where the controller looks for it; once per key."""

    def follow(self, request: HandoverRequest) -> AsyncGenerator[Seen, None]:
        """What it says of the version, now and after every change."""

    async def command(self, command: HandoverCommand) -> HandoverReading:
        """Pass a person's word on; once per key."""

    async def settle(self, request: HandoverRequest) -> None:
        """Take back what was set for this version only."""
