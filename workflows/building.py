"""What runs on a build worker: checkout and measured steps, and a deployment's release.

A checkout lives on one machine, so everything after it goes to that worker's own queue. If the worker
is lost, the run starts again elsewhere: reserve, check out, compile, and then the step that was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType, is_cancelled_exception
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from activities.errors import WORKSPACE_LOST
from activities.signatures import BuildSignatures
from domain.build import (
    BuildDefinition,
    Checkout,
    CheckoutRequest,
    ReleaseArtefact,
    ReleaseRun,
    ReservationRequest,
    StepRun,
    Workspace,
)
from domain.deployment import DeploymentRequest
from domain.gates import StepReport
from domain.plan import DeploymentPlan
from domain.version import commit_prefix
from workflows import effects
from workflows.failures import ProcessError, reason_of, root_cause

T = TypeVar("T")

CHECKOUT_LIMIT = timedelta(minutes=15)
MOVES_LIMIT = 5
"""Build workers a run may lose before it gives up."""
CANCELLED_IS_NO_RESULT = "cancelled-is-no-result"
"""Patch: a step that was cancelled with its run has not failed."""


@dataclass(frozen=True)
class Source:
    """What a run checks out and measures.

    Attributes:
        holder: workflow id of the run, whom a build worker is reserved for.
        reference: a tag, branch or commit; `commit` goes before it.
        version: what the steps are told.
    """

    holder: str
    application: str
    version: str
    repository: str
    reference: str
    commit: str | None
    build: BuildDefinition


class MeasuringSite:
    """The build worker and checkout of one run."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._workspace: Workspace | None = None
        self._checkout: Checkout | None = None
        self._moves = 0
        self._moving: asyncio.Lock = asyncio.Lock()
        self._reports: dict[str, StepReport] = {}
        self.previous_version: str | None = None

    @property
    def checkout(self) -> Checkout:
        if self._checkout is None:
            raise ProcessError("nothing is checked out yet")
        return self._checkout

    async def check_out(self) -> Checkout:
        """Reserve a build worker and check the version's commit out there."""
        return await self._on_worker(self._current_checkout)

    async def _current_checkout(self, _: Workspace) -> Checkout:
        return self.checkout

    async def run_step(self, name: str, limit: timedelta) -> StepReport:
        """Run a step once; gates that share a step share its report."""
        if name in self._reports:
            return self._reports[name]
        step = self._source.build.steps[name]
        timeout = min(step.timeout, limit)

        async def run(workspace: Workspace) -> StepReport:
            return await workflow.execute_activity_method(
                BuildSignatures.run_step,
                StepRun(
                    name=name,
                    step=step,
                    checkout=self.checkout,
                    application=self._source.application,
                    version=self._source.version,
                    previous_version=self.previous_version,
                    timeout=timeout,
                ),
                task_queue=workspace.queue,
                summary=f"step {name}",
                **effects.build(timeout),
            )

        try:
            report = await self._on_worker(run)
        except ActivityError as error:
            if is_cancelled_exception(error) and workflow.patched(CANCELLED_IS_NO_RESULT):
                raise
            report = StepReport(step=name, measured=False, reason=reason_of(error))
        self._reports[name] = report
        return report

    async def _on_worker(self, work: Callable[[Workspace], Awaitable[T]]) -> T:
        while True:
            moves = self._moves
            try:
                return await work(await self._ready())
            except ActivityError as error:
                if not worker_lost(error):
                    raise
                await self._move(moves, error)

    async def _ready(self) -> Workspace:
        async with self._moving:
            if self._workspace is None:
                self._workspace = await workflow.execute_activity_method(
                    BuildSignatures.reserve_workspace,
                    ReservationRequest(deployment_id=self._source.holder),
                    task_queue=effects.BUILDS_QUEUE,
                    summary="reserve a build worker",
                    **effects.RESERVATION,
                )
            if self._checkout is None:
                self._checkout = await self._check_out(self._workspace)
            return self._workspace

    async def _check_out(self, workspace: Workspace) -> Checkout:
        source = self._source
        return await workflow.execute_activity_method(
            BuildSignatures.check_out,
            CheckoutRequest(
                application=source.application,
                repository=source.repository,
                reference=source.reference,
                commit=source.commit,
                version=source.version,
                run=workflow.info().run_id,
                since=self._since(),
            ),
            task_queue=workspace.queue,
            summary=f"check out {source.version}",
            **effects.build(CHECKOUT_LIMIT),
        )

    def _since(self) -> str | None:
        """After what the authors of the changes are looked up."""
        return None

    async def _move(self, moves: int, error: ActivityError) -> None:
        """Leave a lost worker. Of several steps that notice the loss, the first moves for all."""
        if moves != self._moves:
            return
        self._moves += 1
        if self._moves > MOVES_LIMIT:
            raise ProcessError(f"lost {MOVES_LIMIT} build workers in a row: {reason_of(error)}") from error
        workflow.logger.warning("build worker lost, starting again from checkout: %s", error)
        self._workspace = self._checkout = None
        steps = self._source.build.steps
        for name in [n for n in self._reports if steps[n].tool == "rebar3.compile"]:
            self._reports.pop(name)
            await self.run_step(name, steps[name].timeout)


class BuildSite(MeasuringSite):
    """Where a deployment is measured, and its release made."""

    def __init__(self, plan: DeploymentPlan, request: DeploymentRequest) -> None:
        super().__init__(
            Source(
                holder=request.deployment_id,
                application=request.application,
                version=request.version,
                repository=plan.repository,
                reference=request.ref or plan.tag,
                commit=request.commit or commit_prefix(request.version),
                build=plan.build,
            )
        )
        self._plan = plan
        self._request = request

    async def build_release(self) -> ReleaseArtefact:
        """Build the release and keep its artefact."""
        request, release = self._request, self._plan.build.release

        async def run(workspace: Workspace) -> ReleaseArtefact:
            return await workflow.execute_activity_method(
                BuildSignatures.build_release,
                ReleaseRun(
                    release=release,
                    checkout=self.checkout,
                    application=request.application,
                    version=request.version,
                    image=self._plan.image,
                    upgrade_from=self.previous_version if self._plan.settings.hot_upgrade else None,
                ),
                task_queue=workspace.queue,
                summary=f"build release {request.version}",
                **effects.build(release.timeout),
            )

        return await self._on_worker(run)

    def _since(self) -> str | None:
        previous = self.previous_version
        return None if previous is None else self._plan.reference_of(previous)


def worker_lost(error: ActivityError) -> bool:
    """Whether the build worker, or its checkout, is gone (as against: the work failed)."""
    cause = root_cause(error)
    if isinstance(cause, ApplicationError):
        return cause.type == WORKSPACE_LOST
    return isinstance(cause, TemporalTimeoutError) and cause.type in (
        TimeoutType.SCHEDULE_TO_START,
        TimeoutType.HEARTBEAT,
    )
