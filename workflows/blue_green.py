"""Blue/green: bring the new version up beside the old one, check it, and switch (spec: Core Principles).

Three Deployments can carry a version: ``{deployment}-blue``, ``{deployment}-green`` and the plain
``{deployment}`` of the other ways of delivering. One Service chooses between them, by the label ``track``.

The first blue/green deployment finds the plain Deployment serving. Its Service may select all tracks, and
would send traffic to the new pods before they were checked; so it is narrowed to the plain pods first, then
the new side gets its pods, then comes the switch. That is refused where pods would lose their traffic by it:
those of another workload behind the same Service, or plain ones without the label ``track``. The plain
Deployment stays, scaled to 0: it is the way back, and it holds the settings that were made elsewhere: what is
applied to a side is what the plain Deployment would become.

An environment that leaves blue/green (its ``blue_green`` block is gone) still has its traffic on a side, and
a canary or rolling update of the plain Deployment would get none. `return_to_plain` brings the serving
version up there, switches, ends both sides, and gives the Service the selector back that it had before all
this. DeploymentWorkflow does that before it delivers in another way.

Durability. The Service is the only truth about who serves: it is asked, never remembered. A switch that was
done and not recorded is found again by its key. A person's own switch is not overruled: the next step sees
that another side serves, and ends the deployment. An abort before the switch finds the traffic where it was;
one during the switch waits for its end; in either case `switch_back` looks where the traffic is before it
acts. The side that is left loses its pods only when it has lost its traffic, and
`activities.kubernetes.colours` sees to it that no latecomer takes the pods of the side that serves.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from activities.errors import REFUSED
from activities.signatures import ColourSignatures, KubernetesSignatures, WatchSignatures
from domain.analysis import Watch, WatchOutcome
from domain.blue_green import BlueGreenPhase, BlueGreenSettings, Colours, SideScale, Switch, place_name
from domain.delivery import DeliveryKind
from domain.plan import DeploymentPlan
from domain.watches import health_probe, preview_watch, switched_watch, verification_watch
from domain.workload import (
    ReleaseApply,
    ReleaseQuery,
    Restore,
    Side,
    Track,
    WorkloadObservation,
    WorkloadTarget,
)
from workflows import effects, workload
from workflows.delivering import Delivering, Steps
from workflows.failures import ProcessError, reason_of, root_cause

T = TypeVar("T")
P = BlueGreenPhase


async def observe(target: WorkloadTarget, summary: str) -> Colours:
    """Which side serves, and what all run."""
    return await workflow.execute_activity_method(
        ColourSignatures.observe_colours,
        target,
        summary=summary,
        **effects.cluster_write(target.progress_deadline),
    )


class BlueGreen:
    """One blue/green delivery: `deliver`; then, when Monitoring is over and the delay too, `retire`."""

    def __init__(self, course: Delivering) -> None:
        self._course = course
        self._steps = Steps(DeliveryKind.BLUE_GREEN, course.show)
        self._before: Colours | None = None
        self._switched_at: datetime | None = None
        self._switched_to: Side | None = None

    async def deliver(self) -> None:
        """Until the new version serves all traffic and was well under it.

        Raises:
            ProcessError: a check failed, or somebody else has switched meanwhile.
            ActivityError: the cluster refuses, or cannot be reached for too long.
        """
        course, settings, version = self._course, self._settings, self._course.request.version
        before = self._before = await course.obey(observe(course.plan.target, "which side serves"))
        side = before.next_side
        await course.unpaused()
        ready = await self._steps.take(
            P.PREPARING, self._prepare(before, side), lambda seen: f"{_pods(seen, side)}, without traffic"
        )
        await self._steps.take(P.PREVIEW, self._check_preview(side))
        if not settings.auto_promote:
            await self._steps.take(P.WAITING, course.promotion(), lambda who: f"promoted by {who}")
        await course.unpaused()
        await self._steps.take(P.SWITCHING, self._switch(ready, side), lambda seen: _traffic(seen, before))
        await self._steps.take(P.SWITCHED, course.watch(switched_watch(self.plan, version, course.begun)))

    async def wait_to_retire(self) -> None:
        """Wait until the old side need not be kept any longer for the instant way back."""
        if self._switched_at is not None:
            left = self._switched_at + self._settings.scale_down_delay - workflow.now()
            if left > timedelta():
                await workflow.sleep(left, summary="until the old side is scaled down")

    async def retire(self) -> None:
        """Scale the old side to 0; its Deployment stays.

        Raises:
            ProcessError: it serves again: somebody has switched back.
        """
        before = self._before
        if before is None or not before.serving.exists or before.serving.replicas == 0:
            return
        old = before.active
        try:
            await self._steps.take(
                P.RETIRING, _scale(self._course.plan.target, old, 0, key=self._key("retire"))
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            if _is_refused(error):
                raise ProcessError(f"{place_name(old)} cannot be retired: {reason_of(error)}") from error
            # The new version is well: pods too many are no reason to take it back.
            self._course.journal.note(
                "side.retired", "scale_side", "failed", reason=reason_of(error), side=place_name(old)
            )
        else:
            self._course.journal.note("side.retired", "scale_side", "success", side=place_name(old))

    @property
    def _settings(self) -> BlueGreenSettings:
        settings = self._course.plan.settings.blue_green
        if settings is None:
            raise ProcessError(f"{self._course.plan.environment} has no blue_green settings")
        return settings

    async def _prepare(self, before: Colours, side: Side) -> Colours:
        """The new version on the side without traffic, with as many pods as serve now."""
        course, release = self._course, self._course.release
        target = course.plan.target.on(side)
        replicas = max(target.replicas, before.serving.replicas)
        apply = ReleaseApply(
            key=self._key(str(side)),
            target=target,
            track=Track.STABLE,
            version=course.request.version,
            image=release.image,
            replicas=replicas,
            deployment_id=course.request.deployment_id,
            commit=release.commit,
            artefact=release.uri,
            digest=release.digest,
        )
        await course.obey(_bring_up(apply))
        seen = await course.obey(observe(course.plan.target, "both sides"))
        if seen.active is not before.active:
            raise ProcessError(_meddled(seen, before.active))
        return seen

    async def _check_preview(self, side: Side) -> None:
        """The new side under its own address; where it has none, it must stay ready for as long."""
        course = self._course
        policy = preview_watch(_plan_on(course.plan, side), course.request.version)
        if policy.health is None and not policy.metrics:
            await course.obey(
                workflow.sleep(self._settings.preview_checks, summary=f"{side} must stay ready")
            )
            return
        await course.watch(policy)

    async def _switch(self, ready: Colours, side: Side) -> Colours:
        course, version = self._course, self._course.request.version
        switch = Switch(
            key=self._key("switch"),
            target=course.plan.target,
            to=side,
            version=version,
            replacing=ready.selector if ready.service else None,
        )
        seen = await course.obey(_switch(switch))
        self._switched_at, self._switched_to = workflow.now(), side
        await course.obey(
            course.journal.record(
                "traffic.switched",
                "switch_traffic",
                "success",
                to=place_name(side),
                before=place_name(ready.active),
                endpoints=seen.endpoints,
            )
        )
        return seen

    @property
    def plan(self) -> DeploymentPlan:
        """The plan with the side that serves, so that its pods alone are measured; as it was, before."""
        plan, side = self._course.plan, self._switched_to
        return plan if side is None else _plan_on(plan, side)

    def _key(self, step: str) -> str:
        return f"{workflow.info().run_id}/{step}"


# The ways back


async def switch_back(
    plan: DeploymentPlan,
    *,
    to_version: str,
    run_key: str,
    name: str = "",
    within: timedelta | None = None,
) -> Colours:
    """The instant way back: all traffic to a side that still runs a version, and the other side to 0.

    A side that was scaled down gets its pods back, and is checked under its own address, before the switch.

    Args:
        run_key: unique to the attempt.
        name: of the Deployment that ran it before, for a version that more than one side runs.
        within: how long a side may take to get its pods back.

    Raises:
        ProcessError: no side runs it, or the one that does is broken; nothing was switched.
    """
    target = plan.target
    seen = await _or_process_error(observe(target, "where the traffic is"))
    sides = list(seen.running(to_version, name))
    if not sides:
        raise ProcessError(f"no side runs {to_version} any more", trigger="blue_green")
    side = seen.active if seen.active in sides and seen.on(sides[0]).name != name else sides[0]
    if side is not seen.active:
        if not _is_whole(seen.on(side), target):
            replicas = max(target.replicas, seen.serving.replicas)
            limit = within or target.progress_deadline
            await _or_process_error(
                _scale(target, side, replicas, key=f"{run_key}/scale-{side}", within=limit)
            )
            await _verify_idle(plan, to_version)
        switch = Switch(key=f"{run_key}/switch-back-{side}", target=target, to=side, version=to_version)
        seen = await _or_process_error(_switch(switch))
    await _end_others(plan, seen, run_key)
    return seen


async def bring_back(
    plan: DeploymentPlan, previous: WorkloadObservation, *, run_key: str, deployment_id: str
) -> None:
    """The slower way back, where `switch_back` found no side: build what was observed, as it was, on the
    side without traffic, check it, and switch. Where nothing was before, what the deployment made is deleted.

    Args:
        previous: what served before, with its pod template.
        run_key: unique to the attempt.

    Raises:
        ProcessError: it did not get well; nothing was switched.
        ActivityError: the cluster refuses, or cannot be reached for too long.
    """
    target = plan.target
    seen = await observe(target, "where the traffic is")
    if not previous.exists:
        await _withdraw(plan, seen, run_key=run_key, deployment_id=deployment_id)
        return
    if previous.template is None or previous.version is None:
        raise ProcessError(f"no pod template of {previous.version or 'the earlier state'} is known")
    side = seen.next_side
    apply = ReleaseApply(
        key=f"{run_key}/bring-back",
        target=target.on(side),
        track=Track.STABLE,
        version=previous.version,
        image=previous.image or "",
        replicas=max(target.replicas, previous.replicas),
        deployment_id=deployment_id,
        template=previous.template,
    )
    await _bring_up(apply)
    await _verify_idle(plan, previous.version)
    key = f"{run_key}/switch-back-{side}"
    seen = await _switch(Switch(key=key, target=target, to=side, version=previous.version))
    await _end_others(plan, seen, run_key)


async def find(plan: DeploymentPlan, version: str, excluding: str | None = None) -> WorkloadObservation:
    """An earlier version, on a side that runs it or in a side's history; else exists=False."""
    target = plan.target
    seen = await observe(target, "where the version can still be had")
    for side in seen.running(version):
        place = target.on(side)
        found = await workload.observe(place, f"what runs on {place_name(side)}")
        return found.model_copy(update={"name": place.name_of(Track.STABLE)})
    for side in (seen.active, *seen.others):
        if seen.on(side).exists:
            found = await workflow.execute_activity_method(
                KubernetesSignatures.find_release,
                ReleaseQuery(target=target.on(side), version=version, excluding=excluding),
                summary=f"find {version} in the history of {place_name(side)}",
                **effects.cluster_write(target.progress_deadline),
            )
            if found.exists:
                return found.model_copy(update={"name": ""})
    return WorkloadObservation(exists=False, name=target.deployment)


async def return_to_plain(plan: DeploymentPlan, *, run_key: str, deployment_id: str) -> WorkloadObservation:
    """Leave blue/green: what serves now goes on on the plain Deployment, and the Service selects as before.

    Does nothing where no side serves. The serving version comes up under today's settings of the workload.

    Returns:
        What the plain Deployment runs.

    Raises:
        ProcessError: it did not roll out, or somebody else has switched meanwhile; the traffic stays whole.
        ActivityError: the cluster refuses, or cannot be reached for too long.
    """
    target = plan.target.on(None)
    seen = await observe(target, "which side serves")
    if seen.active is not None:
        serving, selector = seen.serving, seen.selector
        if not serving.exists or serving.version is None:
            raise ProcessError(f"{_service_of(target)} sends to {seen.active}, where nothing runs")
        apply = ReleaseApply(
            key=f"{run_key}/plain",
            target=target,
            track=Track.STABLE,
            version=serving.version,
            image=serving.image or "",
            replicas=max(target.replicas, serving.replicas),
            deployment_id=deployment_id,
            commit=_note(serving, "commit"),
            artefact=_note(serving, "artefact"),
            digest=_note(serving, "digest"),
        )
        await workload.apply(apply, f"{serving.version} on the plain Deployment")
        await _roll_out(apply)
        switch = Switch(
            key=f"{run_key}/switch-plain",
            target=target,
            to=None,
            version=serving.version,
            replacing=selector,
        )
        seen = await _switch(switch)
    if seen.held:
        await _release(target)
    return await workload.observe(target, "what the plain Deployment runs")


# Steps


async def _bring_up(apply: ReleaseApply) -> None:
    """A version on a side without traffic, rolled out."""
    await workflow.execute_activity_method(
        ColourSignatures.apply_side,
        apply,
        summary=f"{apply.version} on {place_name(apply.target.side)}",
        **effects.cluster_write(apply.target.progress_deadline),
    )
    await _roll_out(apply)


async def _roll_out(apply: ReleaseApply) -> None:
    place = place_name(apply.target.side)
    await workload.roll_out(
        apply.target,
        Track.STABLE,
        apply.version,
        apply.replicas,
        summary=f"roll-out on {place}",
        failure=f"{apply.version} did not roll out on {place}",
    )


async def _switch(switch: Switch) -> Colours:
    """Switch, and see that it is so.

    Raises:
        ProcessError: somebody else has switched right after us.
    """
    seen = await workflow.execute_activity_method(
        ColourSignatures.switch_traffic,
        switch,
        summary=f"all traffic to {place_name(switch.to)}",
        **effects.cluster_write(switch.target.progress_deadline),
    )
    if seen.active is not switch.to:
        raise ProcessError(_meddled(seen, switch.to), trigger="blue_green")
    return seen


async def _scale(
    target: WorkloadTarget, side: Side | None, replicas: int, *, key: str, within: timedelta | None = None
) -> Colours:
    limit = within or target.progress_deadline
    return await workflow.execute_activity_method(
        ColourSignatures.scale_side,
        SideScale(key=key, target=target, side=side, replicas=replicas, within=limit),
        summary=f"{replicas} pods for {place_name(side)}",
        **effects.cluster_write(limit + timedelta(minutes=1)),
    )


async def _release(target: WorkloadTarget) -> None:
    await workflow.execute_activity_method(
        ColourSignatures.release_traffic,
        target,
        summary="the Service selects as before blue/green",
        **effects.cluster_write(target.progress_deadline),
    )


async def _verify_idle(plan: DeploymentPlan, version: str) -> None:
    """The side without traffic must be well before it gets some; where it has an address of its own.

    Raises:
        ProcessError: it is not.
    """
    probe = health_probe(plan, version, Track.CANARY)
    if probe is None:
        return
    policy = verification_watch(plan, version).model_copy(update={"health": probe})
    verdict = await workflow.execute_activity_method(
        WatchSignatures.watch_release,
        Watch(policy=policy, prometheus_url=plan.metrics.prometheus_url),
        summary=f"{version} before it gets the traffic",
        **effects.watch(policy.interval),
    )
    if verdict.outcome is not WatchOutcome.PASSED:
        raise ProcessError(f"{version} gets no traffic back: {verdict.reason}", trigger=verdict.trigger)


async def _end_others(plan: DeploymentPlan, seen: Colours, run_key: str) -> None:
    """The traffic has left them: take their pods. What fails here does not undo the way back."""
    target = plan.target
    try:
        for side in seen.others:
            if seen.on(side).replicas > 0:
                await _scale(target, side, 0, key=f"{run_key}/end-{side}")
        if seen.active is None and seen.held:
            await _release(target)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        workflow.logger.warning("a side without traffic keeps its pods: %s", reason_of(error))


async def _withdraw(plan: DeploymentPlan, seen: Colours, *, run_key: str, deployment_id: str) -> None:
    """There was nothing before: delete what this deployment, and only this one, has made, and let go of the
    Service if it has never been switched."""
    for side in Side:
        if seen.on(side).deployment_id == deployment_id:
            await workflow.execute_activity_method(
                KubernetesSignatures.restore_workload,
                Restore(
                    key=f"{run_key}/withdraw-{side}",
                    target=plan.target.on(side),
                    observation=WorkloadObservation(exists=False, name=seen.on(side).name),
                    replicas=0,
                    deployment_id=deployment_id,
                ),
                summary=f"delete {side}",
                **effects.cluster_write(plan.target.progress_deadline),
            )
    if seen.active is None and seen.held:
        await _release(plan.target)


async def _or_process_error(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        raise ProcessError(reason_of(error), trigger="blue_green") from error


def _is_refused(error: ActivityError) -> bool:
    cause = root_cause(error)
    return isinstance(cause, ApplicationError) and cause.type == REFUSED


def _plan_on(plan: DeploymentPlan, side: Side) -> DeploymentPlan:
    """The plan with one side as what is watched."""
    return plan.model_copy(update={"target": plan.target.on(side)})


def _is_whole(observation: WorkloadObservation, target: WorkloadTarget) -> bool:
    return observation.ready >= observation.replicas >= target.replicas


def _note(observation: WorkloadObservation, name: str) -> str | None:
    """What the pods say of their origin."""
    annotations = (observation.template or {}).get("metadata", {}).get("annotations") or {}
    note: str | None = annotations.get(f"erlmcp-deploy/{name}")
    return note


def _pods(seen: Colours, side: Side) -> str:
    observation = seen.on(side)
    return f"{side}: {observation.ready} of {observation.replicas} pods of {observation.version} are ready"


def _traffic(seen: Colours, before: Colours) -> str:
    old = f", {place_name(before.active)} keeps its pods" if before.serving.exists else ""
    return f"{seen.endpoints} pods of {place_name(seen.active)} serve all traffic{old}"


def _meddled(seen: Colours, expected: Side | None) -> str:
    return (
        f"{place_name(seen.active)} serves, not {place_name(expected)}: somebody else has switched meanwhile"
    )


def _service_of(target: WorkloadTarget) -> str:
    return f"Service {target.service} in namespace {target.namespace}"
