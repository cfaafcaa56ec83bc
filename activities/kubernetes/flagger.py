"""Flagger steers the canary (``flagger.app/v1beta1``): we change its Deployment and watch its Canary.

Flagger compares the Deployment's pod template with the one it applied last, and begins an analysis when they
differ; that is all there is to starting one. Its status outlives revisions, and the Failed of an earlier one
is even stamped with the new one's hash for a moment. So the end of ours is told by what cannot be old: a
condition that is not the one found before the hand-over, and our key on the primary.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from activities.errors import CONFLICT, INVALID_CONFIGURATION, NOT_FOUND, REFUSED, fail
from activities.kubernetes import revision
from activities.kubernetes.api import KubernetesApi, Object, deployments, flagger_canaries
from activities.kubernetes.manifests import POD_HASH_LABEL, PREFIX, annotations_of
from activities.kubernetes.steering import Seen
from domain.handover import HandoverCommand, HandoverPhase, HandoverReading, HandoverRequest, HandoverVerb
from domain.model import Model

BEFORE: Final = f"{PREFIX}handover-before"
"""Annotation of the Deployment: how the Canary stood before the hand-over, as JSON."""
PROMOTED: Final = f"{PREFIX}skips-analysis"
"""Annotation of the Canary: ``spec.skipAnalysis`` was set by us, until the version is promoted."""

_GATES = {"Waiting": "confirm-rollout", "WaitingPromotion": "confirm-promotion"}
_ENDING = ("Terminating", "Terminated")


class Before(Model):
    """How things stood before the hand-over.

    Attributes:
        applied: the hash of the revision Flagger had applied last.
        condition: what it said of it, and since when.
        pods: the hash of the Deployment's pods; none for a first version.
    """

    applied: str = ""
    condition: str = ""
    pods: str | None = None


class Flagger:
    """Hands over to Flagger."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def workload(self, request: HandoverRequest) -> Object | None:
        return await self._api.find(deployments(request.target.namespace), request.target.deployment)

    async def begin(self, request: HandoverRequest) -> HandoverReading:
        target = request.target
        canary = await self._canary(request)
        live = await self.workload(request)
        if not revision.begun(live, request):
            _check(canary, request)
            if live is not None and _is_moving(live):
                fail(CONFLICT, f"{_deployment_name(request)} is being deleted, or was changed a moment ago")
            before = await self._before(request, canary, live)
            manifest = revision.deployment_of(
                request, live, _replicas(canary, live, request), {BEFORE: before.model_dump_json()}
            )
            await self._api.apply(
                deployments(target.namespace), target.deployment, manifest, force=target.force_conflicts
            )
        return (await self._look(request, canary)).reading

    async def _before(self, request: HandoverRequest, canary: Object, live: Object | None) -> Before:
        pods = None
        if live is not None:
            pods = await revision.current_hash(self._api, request.target.namespace, live, POD_HASH_LABEL)
        return Before(applied=_applied(canary), condition=_condition(canary), pods=pods)

    async def follow(self, request: HandoverRequest) -> AsyncGenerator[Seen, None]:
        """What Flagger says, now and after every change, without end."""
        collection = flagger_canaries(request.target.namespace)
        async with aclosing(self._api.follow(collection, request.resource)) as states:
            async for canary in states:
                if canary is None:
                    reason = f"{_canary_name(request)} was deleted"
                    yield Seen(HandoverReading(phase=HandoverPhase.FAILED, reason=reason))
                    return
                yield await self._look(request, canary)

    async def _look(self, request: HandoverRequest, canary: Object) -> Seen:
        live = await self.workload(request)
        if live is None or not revision.carries(live, request):
            instead = "it was deleted" if live is None else f"it has {revision.version_of(live)} now"
            reason = f"somebody has changed {_deployment_name(request)} meanwhile: {instead}"
            return Seen(HandoverReading(phase=HandoverPhase.FAILED, said=_phase(canary), reason=reason))
        primary = await self._api.find(
            deployments(request.target.namespace), f"{request.target.deployment}-primary"
        )
        promoted = None if primary is None else revision.carries(primary, request)
        return judge(canary, _noted(live), promoted)

    async def command(self, command: HandoverCommand) -> HandoverReading:
        request, verb = command.request, command.verb
        if verb is HandoverVerb.ABORT:
            return await self._abort(request)
        canary = await self._canary(request)
        seen = await self._look(request, canary)
        if seen.reading.ended:
            return seen.reading
        if verb is HandoverVerb.PAUSE:
            canary = await self._patch(request, {"spec": {"suspend": True}})
            if not canary["spec"].get("suspend"):
                fail(
                    REFUSED,
                    f"{_canary_name(request)} knows no spec.suspend (Flagger 1.32 and newer do); an older "
                    "one is only paused by its confirm-traffic-increase webhook: close that gate, or abort",
                )
        elif verb is HandoverVerb.RESUME:
            gate = _GATES.get(_phase(canary))
            if gate is not None and not canary["spec"].get("suspend"):
                fail(
                    REFUSED,
                    f"{_canary_name(request)} waits for its {gate} webhook, which only that gate can open "
                    "(flagger-loadtester: POST /gate/open); or promote, or abort",
                )
            canary = await self._patch(request, {"spec": {"suspend": None}})
        else:
            canary = await self._promote(request, canary)
        return (await self._look(request, canary)).reading

    async def _promote(self, request: HandoverRequest, canary: Object) -> Object:
        """Flagger promotes without analysis while ``skipAnalysis`` is set; `settle` takes it back."""
        changes: Object = {"spec": {"suspend": None}}
        if not canary["spec"].get("skipAnalysis"):
            changes["spec"]["skipAnalysis"] = True
            changes["metadata"] = {"annotations": {PROMOTED: request.key}}
        return await self._patch(request, changes)

    async def settle(self, request: HandoverRequest) -> None:
        """The next version is analysed again: take back what a promotion has set."""
        canary = await self._api.find(flagger_canaries(request.target.namespace), request.resource)
        if canary is not None and PROMOTED in annotations_of(canary):
            await self._patch(
                request, {"metadata": {"annotations": {PROMOTED: None}}, "spec": {"skipAnalysis": None}}
            )

    async def _abort(self, request: HandoverRequest) -> HandoverReading:
        """Bring back the pod template of before: the canary's pods become the old version, whatever share of
        the traffic they have, and Flagger ends its analysis on them. A missing Canary is no hindrance."""
        await self.settle(request)
        reason = await self._bring_back(request)
        canary = await self._api.find(flagger_canaries(request.target.namespace), request.resource)
        if canary is None:
            return HandoverReading(phase=HandoverPhase.FAILED, reason=f"aborted: {reason}")
        if canary["spec"].get("suspend"):
            canary = await self._patch(request, {"spec": {"suspend": None}})
        if _phase(canary) in ("Promoting", "Finalising"):
            reason += "; Flagger was promoting already, and brings it back as a canary of its own"
        weight = (canary.get("status") or {}).get("canaryWeight") or 0
        return HandoverReading(
            phase=HandoverPhase.FAILED, weight=weight, said=_phase(canary), reason=f"aborted: {reason}"
        )

    async def _bring_back(self, request: HandoverRequest) -> str:
        live = await self.workload(request)
        if live is None or not revision.carries(live, request):
            return f"{_deployment_name(request)} does not have {request.version} any more"
        before = _noted(live)
        if before.pods is None:
            return f"there was no version before {request.version} to go back to"
        namespace = request.target.namespace
        template = await revision.template_of(self._api, namespace, live, POD_HASH_LABEL, before.pods)
        await revision.replace_template(self._api, deployments(namespace), live, template)
        return f"{_deployment_name(request)} has the pod template of before again"

    async def _patch(self, request: HandoverRequest, changes: Object) -> Object:
        return await self._api.merge(flagger_canaries(request.target.namespace), request.resource, changes)

    async def _canary(self, request: HandoverRequest) -> Object:
        found = await self._api.find(flagger_canaries(request.target.namespace), request.resource)
        if found is None:
            _no_canary(request)
        return found


def judge(canary: Mapping[str, Any], before: Before, promoted: bool | None) -> Seen:
    """What the Canary says of our revision.

    Args:
        promoted: whether the primary runs it; none if there is no primary.
    """
    status, phase = canary.get("status") or {}, _phase(canary)
    decided = _condition(canary) != before.condition
    noticed = decided or _applied(canary) != before.applied

    def seen(phase_of_ours: HandoverPhase, weight: int, reason: str) -> Seen:
        reading = HandoverReading(phase=phase_of_ours, weight=weight, said=phase, reason=reason)
        return Seen(reading, noticed=noticed)

    weight = status.get("canaryWeight") or 0
    if phase in _ENDING or canary["metadata"].get("deletionTimestamp"):
        return seen(HandoverPhase.FAILED, 0, "the Canary is being deleted")
    if phase == "Failed" and decided:
        return seen(
            HandoverPhase.FAILED, 0, _promoted_condition(canary).get("message") or "Flagger gave it up"
        )
    if phase in ("Succeeded", "Initialized") and decided and promoted is not False:
        return seen(HandoverPhase.SUCCEEDED, 100, "")
    if canary["spec"].get("suspend"):
        return Seen(
            HandoverReading(phase=HandoverPhase.PAUSED, weight=weight, said=phase, reason="suspended")
        )
    if not noticed or phase in ("Failed", "Succeeded", "Initialized", ""):
        reading = HandoverReading(
            phase=HandoverPhase.PROGRESSING, said=phase, reason="Flagger has not taken the revision up yet"
        )
        return Seen(reading, noticed=False)
    if phase in _GATES:
        return seen(HandoverPhase.PAUSED, weight, f"waits for the {_GATES[phase]} webhook")
    return seen(HandoverPhase.PROGRESSING, weight, _so_far(status))


def _so_far(status: Mapping[str, Any]) -> str:
    parts = []
    if iteration := status.get("iterations"):
        parts.append(f"iteration {iteration}")
    if failed := status.get("failedChecks"):
        parts.append(f"{failed} failed check(s)")
    return ", ".join(parts)


def _check(canary: Object, request: HandoverRequest) -> None:
    """Whether Flagger would take the revision up at all."""
    reference = canary["spec"].get("targetRef") or {}
    if (reference.get("kind"), reference.get("name")) != ("Deployment", request.target.deployment):
        fail(
            INVALID_CONFIGURATION,
            f"{_canary_name(request)} is for {reference.get('kind')} {reference.get('name')}, not for "
            f"{_deployment_name(request)}; correct canary.handover.resource or workload.deployment",
        )
    if canary["metadata"].get("deletionTimestamp") or _phase(canary) in _ENDING:
        fail(REFUSED, f"{_canary_name(request)} is being deleted; deploy again when there is a new one")
    if canary["spec"].get("suspend"):
        fail(REFUSED, f"{_canary_name(request)} is suspended; set spec.suspend to false, then deploy again")


def _is_moving(deployment: Object) -> bool:
    """Whether it has no ReplicaSet of its present pod template yet, which an abort would go back to."""
    metadata, status = deployment["metadata"], deployment.get("status") or {}
    lagging: bool = status.get("observedGeneration", 0) < metadata.get("generation", 0)
    return lagging or bool(metadata.get("deletionTimestamp"))


def _replicas(canary: Object, live: Object | None, request: HandoverRequest) -> int:
    """An autoscaler's number is left to it."""
    if canary["spec"].get("autoscalerRef") and live is not None:
        count: int = live["spec"].get("replicas", 0)
        return count
    return request.replicas


def _noted(deployment: Object) -> Before:
    try:
        return Before.model_validate_json(annotations_of(deployment).get(BEFORE) or "{}")
    except ValidationError:
        return Before()


def _phase(canary: Mapping[str, Any]) -> str:
    return str((canary.get("status") or {}).get("phase") or "")


def _applied(canary: Mapping[str, Any]) -> str:
    return str((canary.get("status") or {}).get("lastAppliedSpec") or "")


def _promoted_condition(canary: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = (canary.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == "Promoted"), {})


def _condition(canary: Mapping[str, Any]) -> str:
    """What Flagger has decided last, and since when. The status's own ``lastTransitionTime`` would not do: it
    moves with every update."""
    condition = _promoted_condition(canary)
    if not condition:
        return _phase(canary)
    return f"{condition.get('reason')} {condition.get('status')} {condition.get('lastTransitionTime')}"


def _canary_name(request: HandoverRequest) -> str:
    return f"Canary {request.resource} in namespace {request.target.namespace}"


def _deployment_name(request: HandoverRequest) -> str:
    return f"Deployment {request.target.deployment}"


def _no_canary(request: HandoverRequest) -> NoReturn:
    fail(
        NOT_FOUND,
        f"{_canary_name(request)} does not exist; install Flagger and create it for Deployment "
        f"{request.target.deployment}, or set canary.handover.resource",
    )
