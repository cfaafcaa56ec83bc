"""Argo Rollouts steers the canary (``argoproj.io/v1alpha1``): the workload is a Rollout, or one refers to it.

Commands are what ``kubectl argo rollouts`` writes: ``spec.paused``, and on the status subresource
``pauseConditions``, ``promoteFull`` and ``abort``.

The pod template is replaced and not applied: a list of a custom resource is one value to server-side apply,
so a container applied by its name would lose all fields and all other containers that we do not know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from activities.errors import CONFLICT, INVALID_CONFIGURATION, NOT_FOUND, fail
from activities.kubernetes import revision
from activities.kubernetes.api import KubernetesApi, Object, argo_rollouts, deployments
from activities.kubernetes.manifests import (
    PREFIX,
    VERSION_LABEL,
    annotations_of,
    clean_template,
    labels_of,
    merge_template,
    release_manifest,
)
from activities.kubernetes.steering import Seen
from domain.handover import HandoverCommand, HandoverPhase, HandoverReading, HandoverRequest, HandoverVerb

HASH_LABEL: Final = "rollouts-pod-template-hash"
RESUMED: Final = f"{PREFIX}resumed"
"""Annotation of the Rollout: the key of the latest resume, and the pause that it was meant for."""


class ArgoRollouts:
    """Hands over to Argo Rollouts."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def workload(self, request: HandoverRequest) -> Object | None:
        rollout = await self._find(request)
        return None if rollout is None else await self._workload(request, rollout)

    async def begin(self, request: HandoverRequest) -> HandoverReading:
        rollout = await self._rollout(request)
        workload = await self._workload(request, rollout)
        if not revision.begun(workload, request):
            if rollout["metadata"].get("deletionTimestamp"):
                fail(CONFLICT, f"{_name(request)} is still being deleted")
            if _refers(rollout):
                await self._apply_to_deployment(request, workload)
            else:
                await self._apply_to_rollout(request, rollout)
        return (await self._look(request, await self._rollout(request))).reading

    async def _apply_to_rollout(self, request: HandoverRequest, rollout: Object) -> None:
        template = _new_template(request, rollout)
        await revision.replace_template(
            self._api,
            argo_rollouts(request.target.namespace),
            rollout,
            template,
            notes=revision.identity_notes(request),
        )

    async def _apply_to_deployment(self, request: HandoverRequest, live: Object | None) -> None:
        """The Rollout copies the pod template of the Deployment, whose own pods it has scaled down."""
        target = request.target
        replicas = 0 if live is None else live["spec"].get("replicas", 0)
        manifest = revision.deployment_of(request, live, replicas, {})
        await self._api.apply(
            deployments(target.namespace), target.deployment, manifest, force=target.force_conflicts
        )

    async def follow(self, request: HandoverRequest) -> AsyncGenerator[Seen, None]:
        """What Argo Rollouts says, now and after every change, without end."""
        collection = argo_rollouts(request.target.namespace)
        async with aclosing(self._api.follow(collection, request.resource)) as states:
            async for rollout in states:
                if rollout is None:
                    reason = f"{_name(request)} was deleted"
                    yield Seen(HandoverReading(phase=HandoverPhase.FAILED, reason=reason))
                    return
                yield await self._look(request, rollout)

    async def _look(self, request: HandoverRequest, rollout: Object) -> Seen:
        workload = await self._workload(request, rollout)
        if workload is None or not revision.carries(workload, request):
            instead = "was deleted" if workload is None else f"has {revision.version_of(workload)} now"
            reason = f"somebody has changed the pod template of {_name(request)} meanwhile: it {instead}"
            return Seen(HandoverReading(phase=HandoverPhase.FAILED, said=_phase(rollout), reason=reason))
        return judge(rollout, workload if _refers(rollout) else None)

    async def command(self, command: HandoverCommand) -> HandoverReading:
        request, verb = command.request, command.verb
        if verb is HandoverVerb.ABORT:
            return await self._abort(request)
        rollout = await self._rollout(request)
        seen = await self._look(request, rollout)
        if seen.reading.ended:
            return seen.reading
        if verb is HandoverVerb.PAUSE:
            await self._patch(request, {"spec": {"paused": True}})
        elif verb is HandoverVerb.RESUME:
            await self._resume(command, rollout)
        else:
            if not seen.noticed:
                fail(CONFLICT, f"{_name(request)}: {seen.reading.reason}, so that it cannot be promoted")
            await self._patch_status(request, {"status": {"promoteFull": True}})
            await self._unpause(request, rollout)
        return (await self._look(request, await self._rollout(request))).reading

    async def _resume(self, command: HandoverCommand, rollout: Object) -> None:
        """End the pause, also one that is a step: exactly the one there was when the command came, or a
        second try of it could end the pause after that too."""
        request, pause = command.request, _pause_of(rollout)
        meant = f"{command.key} {pause}"
        noted = annotations_of(rollout).get(RESUMED, "")
        if noted.startswith(f"{command.key} ") and noted != meant:
            return
        if noted != meant:
            await self._patch(request, {"metadata": {"annotations": {RESUMED: meant}}})
        await self._unpause(request, rollout)
        if pause:
            await self._patch_status(request, {"status": {"pauseConditions": None}})

    async def _unpause(self, request: HandoverRequest, rollout: Object) -> None:
        if rollout["spec"].get("paused"):
            await self._patch(request, {"spec": {"paused": False}})

    async def _abort(self, request: HandoverRequest) -> HandoverReading:
        """All traffic to the stable version at once; then its pod template, as an aborted Rollout stays
        degraded and takes the version up again at the next word."""
        rollout = await self._find(request)
        workload = None if rollout is None else await self._workload(request, rollout)
        if rollout is None or workload is None or not revision.carries(workload, request):
            reason = f"aborted: {_name(request)} does not have {request.version} any more"
            return HandoverReading(phase=HandoverPhase.FAILED, reason=reason)
        seen = await self._look(request, rollout)
        if seen.reading.phase is HandoverPhase.SUCCEEDED:
            return seen.reading
        if seen.noticed:
            await self._patch_status(request, {"status": {"abort": True}})
        stable = (rollout.get("status") or {}).get("stableRS")
        if not stable:
            reason = f"aborted: there was no version before {request.version} to go back to"
            return HandoverReading(phase=HandoverPhase.FAILED, said=_phase(rollout), reason=reason)
        namespace = request.target.namespace
        template = await revision.template_of(self._api, namespace, rollout, HASH_LABEL, stable)
        collection = deployments(namespace) if _refers(rollout) else argo_rollouts(namespace)
        # Read again: the abort itself has changed the Rollout.
        latest = await self._workload(request, await self._rollout(request))
        if latest is not None and revision.carries(latest, request):
            await revision.replace_template(self._api, collection, latest, template)
        rollout = await self._rollout(request)
        await self._unpause(request, rollout)
        return HandoverReading(
            phase=HandoverPhase.FAILED,
            said=_phase(rollout),
            reason=f"aborted: {_name(request)} has the pod template of before again",
        )

    async def settle(self, request: HandoverRequest) -> None:
        """Nothing: the controller clears what commands set when a revision is promoted."""

    async def _patch(self, request: HandoverRequest, changes: Object) -> Object:
        return await self._api.merge(argo_rollouts(request.target.namespace), request.resource, changes)

    async def _patch_status(self, request: HandoverRequest, changes: Object) -> Object:
        rollout = f"{argo_rollouts(request.target.namespace)}/{request.resource}"
        return await self._api.merge(rollout, "status", changes)

    async def _rollout(self, request: HandoverRequest) -> Object:
        found = await self._find(request)
        if found is None:
            fail(
                NOT_FOUND,
                f"{_name(request)} does not exist; install Argo Rollouts and create it, "
                "or set canary.handover.resource",
            )
        return found

    async def _find(self, request: HandoverRequest) -> Object | None:
        return await self._api.find(argo_rollouts(request.target.namespace), request.resource)

    async def _workload(self, request: HandoverRequest, rollout: Object) -> Object | None:
        """Where the pod template is: the Rollout, or the Deployment that it refers to."""
        reference = rollout["spec"].get("workloadRef")
        if not reference:
            return rollout
        if (reference.get("kind"), reference.get("name")) != ("Deployment", request.target.deployment):
            fail(
                INVALID_CONFIGURATION,
                f"{_name(request)} is for {reference.get('kind')} {reference.get('name')}, not for "
                f"Deployment {request.target.deployment}; correct canary.handover.resource",
            )
        return await self._api.find(deployments(request.target.namespace), request.target.deployment)


def judge(rollout: Mapping[str, Any], referred: Mapping[str, Any] | None) -> Seen:
    """What the Rollout says of its pod template.

    Args:
        referred: the Deployment it takes the pod template from, if it does.
    """
    status, phase = rollout.get("status") or {}, _phase(rollout)
    message = str(status.get("message") or "")
    if rollout["metadata"].get("deletionTimestamp"):
        return Seen(HandoverReading(phase=HandoverPhase.FAILED, said=phase, reason="it is being deleted"))
    if not _has_seen(rollout) or not _has_seen_workload(status, referred):
        reason = "Argo Rollouts has not taken the revision up yet"
        reading = HandoverReading(phase=HandoverPhase.PROGRESSING, said=phase, reason=reason)
        return Seen(reading, noticed=False)

    def seen(phase_of_ours: HandoverPhase, weight: int) -> Seen:
        return Seen(HandoverReading(phase=phase_of_ours, weight=weight, said=phase, reason=message))

    weight = _weight(rollout)
    if status.get("abort"):
        return seen(HandoverPhase.FAILED, 0)
    if phase == "Degraded" and not message.startswith("RolloutAborted"):
        return seen(
            HandoverPhase.FAILED, weight
        )  # an abort that is not there any more was another revision's
    promoted = bool(status.get("stableRS")) and status.get("stableRS") == status.get("currentPodHash")
    if phase == "Healthy" and promoted:
        return seen(HandoverPhase.SUCCEEDED, 100)
    unpausing = status.get("controllerPause") and not status.get("pauseConditions")
    if phase == "Paused" and not unpausing:
        return seen(HandoverPhase.PAUSED, weight)
    return seen(HandoverPhase.PROGRESSING, weight)


def _has_seen(rollout: Mapping[str, Any]) -> bool:
    """Whether the status is of the specification as it is now. ``observedGeneration`` is a string here."""
    observed = str((rollout.get("status") or {}).get("observedGeneration") or "")
    generation: int = rollout["metadata"].get("generation", 0)
    return observed.isdecimal() and int(observed) >= generation


def _has_seen_workload(status: Mapping[str, Any], referred: Mapping[str, Any] | None) -> bool:
    if referred is None:
        return True
    observed = str(status.get("workloadObservedGeneration") or "")
    generation: int = referred["metadata"].get("generation", 0)
    return observed.isdecimal() and int(observed) >= generation


def _weight(rollout: Mapping[str, Any]) -> int:
    """Percent of the traffic: as the router has it; without one, what the steps so far have set."""
    status = rollout.get("status") or {}
    weights = (status.get("canary") or {}).get("weights") or {}
    if "canary" in weights:
        return int(weights["canary"].get("weight") or 0)
    steps = ((rollout["spec"].get("strategy") or {}).get("canary") or {}).get("steps") or []
    done = steps[: (status.get("currentStepIndex") or 0) + 1]
    return next((int(s["setWeight"]) for s in reversed(done) if s.get("setWeight") is not None), 0)


def _new_template(request: HandoverRequest, rollout: Object) -> dict[str, Any]:
    """The Rollout's own pod template with the image, ``workload.template`` and the marks of the release.

    Its labels stay: Services select by them.
    """
    if request.template is not None:
        return revision.marked(request.template, request)
    own = clean_template(rollout["spec"]["template"])
    merged = merge_template(own, request.target.template, "template")
    release = revision.release_of(request, replicas=0)
    template: dict[str, Any] = release_manifest(release, rollout, rollout, merged)["spec"]["template"]
    made = labels_of(template)
    version = {VERSION_LABEL: made[VERSION_LABEL]} if VERSION_LABEL in made else {}
    metadata = {**template["metadata"], "labels": {**labels_of(merged), **version}}
    return revision.marked({**template, "metadata": metadata}, request)


def _refers(rollout: Mapping[str, Any]) -> bool:
    return bool(rollout["spec"].get("workloadRef"))


def _phase(rollout: Mapping[str, Any]) -> str:
    return str((rollout.get("status") or {}).get("phase") or "")


def _pause_of(rollout: Mapping[str, Any]) -> str:
    """Which pause it is in: when it began; empty if in none of the controller's own."""
    conditions = (rollout.get("status") or {}).get("pauseConditions") or []
    return ",".join(f"{c.get('reason')}@{c.get('startTime')}" for c in conditions)


def _name(request: HandoverRequest) -> str:
    return f"Rollout {request.resource} in namespace {request.target.namespace}"
