"""The steps of a canary that Flagger or Argo Rollouts steers (spec: Incident Response, Canary Failed)."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.signatures import HandoverSignatures
from domain.handover import (
    HandoverCommand,
    HandoverPhase,
    HandoverReading,
    HandoverRequest,
    HandoverSettings,
    HandoverVerb,
)
from domain.workload import WorkloadObservation, WorkloadTarget
from workflows import effects
from workflows.delivering import Obey
from workflows.failures import ProcessError, reason_of

WATCHING = effects.Options(
    start_to_close_timeout=timedelta(days=1),
    heartbeat_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=15)
    ),
)
"""Watching the controller: its own settings say how long a canary takes, and a pause of it may last for days.
A lost watch is noticed by its heartbeats; a day is only how long one attempt may take."""


async def observe(target: WorkloadTarget, settings: HandoverSettings) -> WorkloadObservation:
    """What runs where the controller looks for a version."""
    place = HandoverRequest(
        key="observe", target=target, settings=settings, version="", image="", deployment_id=""
    )
    return await workflow.execute_activity_method(
        HandoverSignatures.observe_handover,
        place,
        summary=f"what {settings.controller} has",
        **effects.cluster_write(target.progress_deadline),
    )


async def hand_over(request: HandoverRequest, obey: Obey) -> HandoverReading:
    """Give a version to the controller, and wait until it serves all traffic.

    Changes on the way come as signal ``handover_changed`` (`HandoverProgress`).

    Raises:
        ProcessError: the controller gave it up, or somebody has put another version in its place.
        ActivityError: it could not be begun. Whatever is raised, `withdraw` is what follows.
    """
    await obey(_begin(request))
    reading = await obey(_watch(request))
    if reading.phase is not HandoverPhase.SUCCEEDED:
        raise ProcessError(
            f"{request.settings.controller} gave {request.version} up: {reading.reason or reading.said}",
            trigger="handover",
        )
    return reading


async def bring_back(request: HandoverRequest, obey: Obey, *, within: timedelta) -> HandoverReading:
    """Roll back through the controller: give it the earlier version (`HandoverRequest.template`), and have it
    promoted without the rest of the analysis, as it was good before.

    Args:
        within: how long the controller may take.

    Raises:
        ProcessError: the controller gave that up too.
        ActivityError: it took too long.
    """
    await obey(_begin(request))
    promote = HandoverCommand(
        key=f"{request.key}/promote", request=request, verb=HandoverVerb.PROMOTE, reason="roll-back"
    )
    await obey(_command(promote))
    reading = await obey(_watch(request, max(within, timedelta(seconds=30))))
    if reading.phase is not HandoverPhase.SUCCEEDED:
        raise ProcessError(
            f"{request.settings.controller} did not bring {request.version} back: "
            f"{reading.reason or reading.said}",
            trigger="handover",
        )
    return reading


async def tell(request: HandoverRequest, verb: HandoverVerb, *, key: str, reason: str = "") -> str:
    """Pass a person's word on; answers why the controller cannot obey it, or nothing."""
    try:
        await _command(HandoverCommand(key=key, request=request, verb=verb, reason=reason))
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return reason_of(error)
    return ""


async def withdraw(request: HandoverRequest, reason: str) -> HandoverReading:
    """The compensation, however the hand-over ended: traffic back to the version before, and its pod template
    too, so that the controller does not begin again. What is gone already is done.

    Raises:
        ActivityError: it could not be taken back.
    """
    return await _command(
        HandoverCommand(key=f"{request.key}/abort", request=request, verb=HandoverVerb.ABORT, reason=reason)
    )


async def _begin(request: HandoverRequest) -> HandoverReading:
    return await workflow.execute_activity_method(
        HandoverSignatures.begin_handover,
        request,
        summary=f"hand {request.version} over to {request.settings.controller}",
        **effects.cluster_write(request.target.progress_deadline),
    )


async def _watch(request: HandoverRequest, within: timedelta | None = None) -> HandoverReading:
    limits = WATCHING.copy()
    if within is not None:
        limits["schedule_to_close_timeout"] = within
    return await workflow.execute_activity_method(
        HandoverSignatures.watch_handover,
        request,
        summary=f"{request.settings.controller} steers {request.version}",
        **limits,
    )


async def _command(command: HandoverCommand) -> HandoverReading:
    return await workflow.execute_activity_method(
        HandoverSignatures.command_handover,
        command,
        summary=f"{command.verb} the canary of {command.request.settings.controller}",
        **effects.cluster_write(command.request.target.progress_deadline),
    )
