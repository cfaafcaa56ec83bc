"""Handing a canary over to Flagger or Argo Rollouts: begin it, follow it, pass people's words on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
from temporalio import activity
from temporalio.service import RPCError

from activities.errors import INVALID_CONFIGURATION, fail
from activities.kubernetes.api import KubernetesApi
from activities.kubernetes.argo_rollouts import ArgoRollouts
from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError, raise_typed
from activities.kubernetes.flagger import Flagger
from activities.kubernetes.heartbeat import Progress, heartbeats
from activities.kubernetes.manifests import ManifestError, observe
from activities.kubernetes.steering import Steering
from activities.signatures import HandoverSignatures
from domain.durations import format_duration
from domain.handover import (
    Controller,
    HandoverCommand,
    HandoverPhase,
    HandoverProgress,
    HandoverReading,
    HandoverRequest,
)
from domain.workload import WorkloadObservation

_TELLING = timedelta(seconds=10)


class HandoverActivities(HandoverSignatures):
    """Holds the client of one cluster."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._api = KubernetesApi(connection)
        self._controllers: dict[Controller, Steering] = {
            Controller.FLAGGER: Flagger(self._api),
            Controller.ARGO_ROLLOUTS: ArgoRollouts(self._api),
        }

    async def close(self) -> None:
        await self._api.close()

    @activity.defn
    async def observe_handover(self, request: HandoverRequest) -> WorkloadObservation:
        async with _work("observe", request):
            workload = await self._steering(request).workload(request)
            return observe(workload, request.target.deployment, request.target.container)

    @activity.defn
    async def begin_handover(self, request: HandoverRequest) -> HandoverReading:
        async with _work(f"hand version {request.version} over to", request):
            return await self._steering(request).begin(request)

    @activity.defn
    async def watch_handover(self, request: HandoverRequest) -> HandoverReading:
        """Wait until the controller has promoted the version or given it up; tells the workflow between.

        A controller that does not take the revision up within the workload's progress deadline, counted from
        the first attempt, is not there: that is a failure.
        """
        limit = request.target.progress_deadline
        left = limit - (datetime.now(UTC) - activity.info().scheduled_time)
        gives_up = asyncio.get_running_loop().time() + max(0.0, left.total_seconds())
        async with _work("watch", request) as progress:
            try:
                async with asyncio.timeout(None) as patience:
                    reading = await self._follow(request, progress, patience, gives_up)
            except TimeoutError:
                if not patience.expired():
                    raise
                reading = HandoverReading(
                    phase=HandoverPhase.FAILED,
                    reason=f"{_subject(request)} has not taken version {request.version} up within "
                    f"{format_duration(limit)}; is its controller running?",
                )
            await self._steering(request).settle(request)
            return reading

    async def _follow(
        self, request: HandoverRequest, progress: Progress, patience: asyncio.Timeout, gives_up: float
    ) -> HandoverReading:
        told: HandoverReading | None = None
        async with aclosing(self._steering(request).follow(request)) as states:
            async for seen in states:
                reading = seen.reading
                progress.text = f"{reading.phase} ({reading.said}), {reading.weight}%"
                if reading.ended:
                    return reading
                patience.reschedule(None if seen.noticed else gives_up)
                if reading != told:
                    await _tell_workflow(reading)
                    told = reading
        raise AssertionError("following never ends by itself")

    @activity.defn
    async def command_handover(self, command: HandoverCommand) -> HandoverReading:
        async with _work(str(command.verb), command.request):
            return await self._steering(command.request).command(command)

    def _steering(self, request: HandoverRequest) -> Steering:
        return self._controllers[request.settings.controller]


async def _tell_workflow(reading: HandoverReading) -> None:
    """What is said late is said again with the next change: a signal that fails ends no watch."""
    info = activity.info()
    if info.workflow_id is None:
        return
    handle = activity.client().get_workflow_handle(info.workflow_id, run_id=info.workflow_run_id)
    try:
        await handle.signal("handover_changed", HandoverProgress(reading=reading), rpc_timeout=_TELLING)
    except RPCError as error:
        activity.logger.warning("the workflow was not told of the hand-over: %s", error.status.name)


@asynccontextmanager
async def _work(what: str, request: HandoverRequest) -> AsyncIterator[Progress]:
    """Heartbeats while it goes on, and typed errors if it fails."""
    subject = f"{what} {_subject(request)}"
    try:
        async with heartbeats(subject) as progress:
            yield progress
    except ManifestError as error:
        fail(INVALID_CONFIGURATION, f"{subject}: {error}", cause=error)
    except (StatusError, aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise_typed(error, subject)


def _subject(request: HandoverRequest) -> str:
    kind = {Controller.FLAGGER: "Canary", Controller.ARGO_ROLLOUTS: "Rollout"}[request.settings.controller]
    return f"{kind} {request.resource} in namespace {request.target.namespace}"
