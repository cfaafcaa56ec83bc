"""What a way of delivering (blue/green, hot upgrade, feature flags) needs from the deployment it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError

from domain.analysis import WatchPolicy
from domain.build import ReleaseArtefact
from domain.delivery import DeliveryKind, DeliveryStatus, DeliveryStep, StepState
from domain.deployment import DeploymentRequest
from domain.plan import DeploymentPlan
from domain.workload import WorkloadObservation
from workflows.failures import reason_of
from workflows.journal import Journal

T = TypeVar("T")


class Obey(Protocol):
    """Does the work, unless a stop comes first; the stop is raised then."""

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


@dataclass(frozen=True)
class Delivering:
    """One delivery, seen from inside.

    Attributes:
        previous: what served before it.
        begun: when Deploying began; metrics of before are asked for that moment.
        obey: wrap every wait and effect in it, so that people and alerts are obeyed at once.
        watch: watch until the verdict; raises ProcessError unless it passed. Obeys by itself.
        promotion: wait until a person promotes; answers who. Obeys by itself.
        unpaused: wait while people pause the deployment. Obeys by itself.
        show: replace what ``status`` and the UI show of the delivery.
        so_far: what they show of it already.
    """

    plan: DeploymentPlan
    request: DeploymentRequest
    release: ReleaseArtefact
    previous: WorkloadObservation
    begun: datetime
    journal: Journal
    obey: Obey
    watch: Callable[[WatchPolicy], Awaitable[None]]
    promotion: Callable[[], Awaitable[str]]
    unpaused: Callable[[], Awaitable[None]]
    show: Callable[[DeliveryStatus], None]
    so_far: DeliveryStatus | None = None


class Steps:
    """The steps of a delivery as they are taken, for everybody to see."""

    def __init__(
        self,
        kind: DeliveryKind,
        show: Callable[[DeliveryStatus], None],
        so_far: DeliveryStatus | None = None,
    ) -> None:
        self._status = so_far or DeliveryStatus(kind=kind)
        self._show = show

    async def take(self, name: str, work: Awaitable[T], detail: Callable[[T], str] | None = None) -> T:
        """Take one step; what it raises marks it as failed and goes on up."""
        step = DeliveryStep(name=name, started_at=workflow.now())
        self._set(phase=name, steps=(*self._status.steps, step))
        place = len(self._status.steps) - 1
        try:
            result = await work
        except BaseException as error:
            reason = reason_of(error) if isinstance(error, FailureError) else str(error)
            self._finish(place, StepState.FAILED, reason)
            raise
        self._finish(place, StepState.PASSED, detail(result) if detail is not None else "")
        return result

    def _finish(self, place: int, state: StepState, detail: str) -> None:
        steps = list(self._status.steps)
        steps[place] = steps[place].model_copy(
            update={"state": state, "finished_at": workflow.now(), "detail": detail}
        )
        self._set(steps=tuple(steps))

    def _set(self, **changes: Any) -> None:
        self._status = self._status.model_copy(update=changes)
        self._show(self._status)
