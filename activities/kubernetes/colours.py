"""Blue/green on Kubernetes: two Deployments, one Service, and the rules that keep its traffic whole.

A Service and a Deployment cannot be changed in one step. So that a side never loses its pods while it is
given the traffic, who switches first notes that on the Deployment, and who takes pods first notes that on the
Service; then each looks whether it still may, and changes only what nobody has changed since it was first
read (``resourceVersion``). Of two at once, a worker that was believed dead for example, one meets a conflict
or sees the other's work; it looks again, and is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

import aiohttp
from temporalio import activity

from activities.errors import CONFLICT, INVALID_CONFIGURATION, NOT_FOUND, REFUSED, UNAVAILABLE, fail
from activities.kubernetes import manifests, rollout, selectors
from activities.kubernetes.api import (
    FIELD_MANAGER,
    KubernetesApi,
    Object,
    deployments,
    endpoints,
    pods,
    replica_sets,
    services,
)
from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError, raise_typed
from activities.kubernetes.heartbeat import Progress, heartbeats
from activities.kubernetes.namespaces import in_namespace
from activities.kubernetes.routers.services import Services, belongs_to, canary_service
from activities.signatures import ColourSignatures
from domain.blue_green import PLACES, Colours, SideScale, Switch
from domain.durations import format_duration
from domain.workload import ReleaseApply, Side, Track, WorkloadObservation, WorkloadTarget

T = TypeVar("T")

TRAFFIC: Final = f"{manifests.PREFIX}traffic"
"""On a Deployment: the switch that gives, or gave, it the traffic."""

_ENDPOINTS: Final = timedelta(seconds=30)
"""How long the cluster has for spreading a switch, before somebody is told that it does not."""
_TRIES: Final = 4
_BETWEEN_TRIES: Final = 0.1
_MISSING_PODS: Final = timedelta(seconds=15)
"""How long a side that is about to get the traffic may miss a pod."""


class ColourActivities(ColourSignatures):
    """Holds the client of one cluster.

    Args:
        patience: how long a side that is about to get the traffic may miss a pod.
    """

    def __init__(self, connection: ClusterConnection, *, patience: timedelta = _MISSING_PODS) -> None:
        self._api = KubernetesApi(connection)
        self._patience = patience

    async def close(self) -> None:
        await self._api.close()

    @activity.defn
    async def observe_colours(self, target: WorkloadTarget) -> Colours:
        async with _work(f"observe {_service(target)}"):
            return await self._colours(target)

    @activity.defn
    async def apply_side(self, request: ReleaseApply) -> WorkloadObservation:
        target, side = request.target, request.target.side
        if side is None or request.track is not Track.STABLE:
            raise ValueError(f"{request.track} of {target.name_of(request.track)} is no side")
        async with _work(f"apply version {request.version} to {_deployment(target, side)}"):

            async def work() -> WorkloadObservation:
                return await _unless_changed(lambda: self._apply(request, side))

            return await in_namespace(self._api, target, work)

    async def _apply(self, request: ReleaseApply, side: Side) -> WorkloadObservation:
        target = request.target
        live = await self._find(target, side)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            fail(CONFLICT, f"{_deployment(target, side)} is still being deleted")
        if live is not None and manifests.annotations_of(live).get(manifests.KEY) == request.key:
            return _observation(live, target, side)
        manifest = await self._manifest(request, live)
        if request.template is None:  # a way back waits for nobody
            await self._look_round(target, side, manifest)
        service = await self._claim(target, side, request.key, narrow=True)
        await self._offer_preview(target, manifest, service)
        applied = await self._api.apply(
            deployments(target.namespace),
            manifest["metadata"]["name"],
            manifest,
            force=target.force_conflicts,
        )
        return _observation(applied, target, side)

    async def _idle_service(self, target: WorkloadTarget, side: Side | None) -> Object | None:
        """The Service, as long as it sends its traffic elsewhere; none if the switch may create it."""
        service = await self._api.find(services(target.namespace), target.service)
        if service is None:
            others = [other for other in PLACES if other is not side and await self._find(target, other)]
            if others and not target.create_namespace:
                fail(NOT_FOUND, _no_service(target))
            return None
        selector = selectors.selector_of(service)
        if not selector:
            fail(
                REFUSED,
                f"{_service(target)} has no selector, so no side can be chosen with it; give it one",
            )
        if selectors.active_side(selector) is side:
            fail(REFUSED, f"{_deployment(target, side)} serves all traffic; it is not changed in place")
        return service

    async def _claim(
        self, target: WorkloadTarget, side: Side | None, key: str, *, narrow: bool
    ) -> Object | None:
        """The Service, with the note that a side without traffic is about to change.

        Args:
            narrow: pods are about to come; a Service that selects all tracks is kept from them first.
        """
        if narrow and target.canary_service == target.service:
            fail(
                INVALID_CONFIGURATION,
                f"workload.router.canary_service {target.service!r} is the Service in front of the pods that "
                "serve; name another: the new side is checked there before the switch",
            )
        service = await self._idle_service(target, side)
        if service is None:
            return None
        selector = selectors.selector_of(service)
        patch: Object = {"metadata": {"annotations": {}}}
        if narrow and not selectors.is_narrow(selector):
            plain = await self._find(target, None)
            wanted = selectors.narrowed(selector, self._label_of_side(target, None, plain))
            served = plain is not None and (plain.get("status") or {}).get("readyReplicas", 0) > 0
            await self._cut_nobody_off(target, selector, wanted, Side if served else ())
            patch = selectors.switch_patch(service, wanted, None)
        patch["metadata"]["annotations"][selectors.CHANGE] = f"{key}/{activity.info().attempt}"
        return await self._select(service, target, patch)

    @staticmethod
    def _label_of_side(target: WorkloadTarget, side: Side | None, deployment: Object | None) -> str:
        """What tells the pods of a side from all others: their label ``track``."""
        if side is not None:
            return str(side)
        label = selectors.label_of_plain(deployment)
        if label is None:
            fail(
                REFUSED,
                f"the pods of {_deployment(target, None)} have no label {selectors.TRACK!r} that tells them "
                "from those of a side, so the Service would send to both; deploy once without blue_green, "
                f"which puts it on them, or add {selectors.TRACK}: {Track.STABLE} to its pod template",
            )
        return label

    async def _look_round(self, target: WorkloadTarget, side: Side, manifest: Object) -> None:
        """Refuse what would lose traffic, or give some away, with the new version: before it has a pod.

        Raises:
            ApplicationError: Refused.
        """
        service = await self._idle_service(target, side)
        if service is not None:
            selector = selectors.selector_of(service)
            wanted = selectors.narrowed(selector, str(side))
            await self._cut_nobody_off(target, selector, wanted, PLACES)
        await Services(self._api).refuse_bypasses(
            target,
            manifests.labels_of(manifest["spec"]["template"]),
            f"let its clients use Service {target.service}, make it headless if it is only to list pods, "
            f"or, if it is to stay with one side, add that side's {selectors.TRACK} to its selector",
        )

    async def _cut_nobody_off(
        self,
        target: WorkloadTarget,
        live: Mapping[str, str],
        wanted: Mapping[str, str],
        leaving: Iterable[Side | None],
    ) -> None:
        """Refuse a selector that takes the traffic from pods that are not meant to lose it.

        Args:
            leaving: whose pods are.
        """
        query = {"labelSelector": _written(live)}
        listing = await self._api.list_all(pods(target.namespace), **query)
        losing = [
            pod
            for pod in listing.get("items") or []
            if _is_running(pod) and not wanted.items() <= manifests.labels_of(pod).items()
        ]
        if not losing:
            return
        listing = await self._api.list_all(replica_sets(target.namespace), **query)
        above = {r["metadata"]["uid"]: _controller(r, "ReplicaSet") for r in listing.get("items") or []}
        controllers = [_controller(pod, "Pod") for pod in losing]
        makers = [above.get(controller["uid"], controller) for controller in controllers]
        found = [await self._find(target, side) for side in leaving]
        ours = {deployment["metadata"]["uid"] for deployment in found if deployment is not None}
        others = sorted({f"{maker['kind']} {maker['name']}" for maker in makers if maker["uid"] not in ours})
        if others:
            fail(
                REFUSED,
                f"{_service(target)} selects pods of {', '.join(others)}, which would lose their traffic; "
                "wait for a roll-out that goes on, delete what is left over, or name what serves: a "
                f"Deployment in workload.deployment, a side as {selectors.TRACK} in the Service's selector",
            )

    async def _manifest(self, request: ReleaseApply, live: Object | None) -> Object:
        """The side's Deployment, with all that was set up elsewhere on the plain one."""
        target = request.target
        plain = await self._find(target, None)
        kin = plain or live or await self._find(target, next(s for s in Side if s is not target.side))
        template: Mapping[str, Any] | None = request.template
        if template is None and plain is not None:
            # What the plain pods would become: asked of the API server itself, as only it can merge.
            as_plain = request.model_copy(
                update={"target": target.on(None), "replicas": plain["spec"].get("replicas", 1)}
            )
            tried = await self._api.apply(
                deployments(target.namespace),
                plain["metadata"]["name"],
                manifests.release_manifest(as_plain, plain, plain),
                force=target.force_conflicts,
                dry_run=True,
            )
            template = manifests.clean_template(tried["spec"]["template"])
        if template is None:
            alone = manifests.release_manifest(request, live, live)
            template = alone["spec"]["template"]
        notes = manifests.annotations_of(template)
        changes = target.side_templates.get(target.side, {}) if target.side is not None else {}
        manifest = manifests.release_manifest(
            request.model_copy(update={"template": None}),
            live,
            kin,
            manifests.merge_template(template, changes, f"side_templates.{target.side}"),
        )
        if request.template is not None:
            # Where these pods came from once stays true, beside who brings them back now.
            pod = manifest["spec"]["template"]["metadata"]
            pod["annotations"] = {**notes, **pod["annotations"]}
        if live is not None:
            manifest["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return manifest

    async def _offer_preview(self, target: WorkloadTarget, side: Object, service: Object | None) -> None:
        """The side without traffic has an address of its own, whichever colour it is."""
        name = target.canary_service
        live = await self._api.find(services(target.namespace), name)
        if live is not None and not belongs_to(live, target):
            fail(
                REFUSED,
                f"Service {name} in namespace {target.namespace} was not made by {FIELD_MANAGER} for "
                f"{target.deployment}; rename or delete it, or set workload.router.canary_service to another "
                "name: the new side is checked there before the switch",
            )
        selector = {**manifests.match_labels(side), selectors.TRACK: target.label_of(Track.STABLE)}
        ports = service or selectors.first_service(target, selector, "")
        await self._api.apply(
            services(target.namespace), name, canary_service(target, ports, selector), force=True
        )

    @activity.defn
    async def switch_traffic(self, switch: Switch) -> Colours:
        target, to = switch.target, switch.to
        async with _work(f"switch {_service(target)} to {_deployment(target, to)}") as progress:
            service = await _unless_changed(lambda: self._switch(switch))
            progress.text = f"waiting for the endpoints of {_service(target)}"
            if selectors.active_side(selectors.selector_of(service)) is to:
                await self._endpoints_follow(target, to)
            return await self._colours(target)

    async def _switch(self, switch: Switch) -> Object:
        target, to = switch.target, switch.to
        service = await self._api.find(services(target.namespace), target.service)
        if service is not None and manifests.annotations_of(service).get(manifests.KEY) == switch.key:
            return service
        deployment = await self._taken(switch)
        label = self._label_of_side(target, to, deployment)
        if service is None:
            await self._idle_service(target, to)
            own = {**manifests.match_labels(deployment), selectors.TRACK: label}
            return await self._api.create(
                services(target.namespace), selectors.first_service(target, own, switch.key)
            )
        live = selectors.selector_of(service)
        wanted = selectors.narrowed(live, label)
        if live == wanted:
            return service
        if switch.replacing is not None and live != switch.replacing:
            fail(
                REFUSED,
                f"{_service(target)} selects {_written(live)}, not {_written(switch.replacing)} as when this "
                "switch was decided: somebody else has changed it meanwhile",
            )
        pod_labels = manifests.labels_of(deployment["spec"]["template"])
        lacking = {k: v for k, v in wanted.items() if pod_labels.get(k) != v}
        if lacking:
            fail(
                REFUSED,
                f"{_service(target)} selects {_written(lacking)}, which the pods of "
                f"{_deployment(target, to)} do not have; take it out of the Service's selector, "
                "or add it to workload.template",
            )
        if switch.replacing is not None:  # a way back waits for nobody
            await self._cut_nobody_off(target, live, wanted, PLACES)
        return await self._select(service, target, selectors.switch_patch(service, wanted, switch.key))

    async def _taken(self, switch: Switch) -> Object:
        """The side's Deployment, with the note that it gets the traffic, when it can take it.

        A probe that failed just now must not end a deployment: a missing pod may come back for a while.
        """
        target, to = switch.target, switch.to
        name = target.on(to).name_of(Track.STABLE)
        latest = await self._find(target, to)
        fault = _misfit(latest, switch.version, target.container)
        if fault is None:
            note = {TRAFFIC: f"{switch.key}/{activity.info().attempt}"}
            await self._api.merge(deployments(target.namespace), name, {"metadata": {"annotations": note}})
            try:
                async with asyncio.timeout(self._patience.total_seconds()):
                    async with aclosing(self._api.follow(deployments(target.namespace), name)) as states:
                        async for latest in states:
                            fault = _misfit(latest, switch.version, target.container)
                            if fault or not _missing_pods(latest):
                                break
            except TimeoutError:
                fault = _missing_pods(latest)
        if latest is None or fault is not None:
            fail(REFUSED, f"{_deployment(target, to)} gets no traffic: {fault}")
        return latest

    async def _endpoints_follow(self, target: WorkloadTarget, side: Side | None) -> None:
        """Wait until traffic goes to the side's pods, and to no others."""
        try:
            async with asyncio.timeout(_ENDPOINTS.total_seconds()):
                following = self._api.follow(endpoints(target.namespace), target.service)
                async with aclosing(following) as states:
                    async for state in states:
                        addressed = set(_pods_behind(state))
                        if addressed and addressed <= await self._pods_of(target, side):
                            return
        except TimeoutError:
            fail(
                UNAVAILABLE,
                f"{_service(target)} selects {_deployment(target, side)}, but after "
                f"{format_duration(_ENDPOINTS)} its endpoints are not the pods of that side alone; "
                "check the cluster's endpoints controller",
            )

    @activity.defn
    async def scale_side(self, scale: SideScale) -> Colours:
        target, side = scale.target, scale.side
        async with _work(f"scale {_deployment(target, side)} to {scale.replicas}") as progress:
            if await _unless_changed(lambda: self._scale(scale)):
                progress.text = f"waiting for {scale.replicas} pods"
                await self._pods_settle(scale)
            return await self._colours(target)

    async def _scale(self, scale: SideScale) -> bool:
        """Ask for the pods; whether there is anything to wait for."""
        target, side, replicas = scale.target, scale.side, scale.replicas
        live = await self._find(target, side)
        if live is None:
            if replicas:
                fail(NOT_FOUND, f"{_deployment(target, side)} does not exist")
            return False
        if live["metadata"].get("deletionTimestamp"):
            fail(REFUSED, f"{_deployment(target, side)} is being deleted")
        service = await self._claim(target, side, scale.key, narrow=replicas > 0)
        if replicas:
            await self._offer_preview(target.on(side), live, service)
        if live["spec"].get("replicas", 1) != replicas:
            await self._api.merge(
                deployments(target.namespace),
                live["metadata"]["name"],
                {"spec": {"replicas": replicas}},
                resource_version=live["metadata"]["resourceVersion"],
            )
        return True

    async def _pods_settle(self, scale: SideScale) -> None:
        target, side, replicas = scale.target, scale.side, scale.replicas
        name = target.on(side).name_of(Track.STABLE)
        state: Object | None = None
        try:
            async with asyncio.timeout(scale.within.total_seconds()):
                async with aclosing(self._api.follow(deployments(target.namespace), name)) as states:
                    async for state in states:
                        if state is None:
                            if replicas:
                                fail(NOT_FOUND, f"{_deployment(target, side)} was deleted")
                            return
                        if state["spec"].get("replicas", 1) != replicas:
                            fail(
                                REFUSED, f"somebody else scales {_deployment(target, side)} at the same time"
                            )
                        if _missing_pods(state) is None:
                            return
        except TimeoutError:
            said = await self._pod_failures(target, state) if state is not None else ""
            fail(
                REFUSED if replicas else UNAVAILABLE,
                f"{_deployment(target, side)} has not come to {replicas} ready pods in "
                f"{format_duration(scale.within)}{said}",
            )

    async def _pod_failures(self, target: WorkloadTarget, deployment: Object) -> str:
        """Why pods are not ready, in the cluster's own words; nothing if it cannot be asked."""
        try:
            owned = await self._replica_sets(target, deployment)
            found = await self._pods_owned(target, deployment, owned)
        except (StatusError, aiohttp.ClientError, TimeoutError):
            return ""
        said = rollout.describe_failures(next(iter(owned), None), found)
        return f" [{said}]" if said else ""

    @activity.defn
    async def release_traffic(self, target: WorkloadTarget) -> Colours:
        async with _work(f"release {_service(target)}") as progress:
            for side in Side:
                scale = SideScale(key="release", target=target, side=side, replicas=0)
                if await self._is_held(target) and await _unless_changed(partial(self._scale, scale)):
                    progress.text = f"waiting for the pods of {side} to end"
                    await self._pods_settle(scale)
            await _unless_changed(lambda: self._release(target))
            return await self._colours(target)

    async def _release(self, target: WorkloadTarget) -> None:
        service = await self._api.find(services(target.namespace), target.service)
        if service is None or not selectors.is_held(service):
            return
        active = selectors.active_side(selectors.selector_of(service))
        if active is not None:
            fail(REFUSED, f"{_service(target)} sends its traffic to {active}; switch it first")
        await self._select(service, target, selectors.release_patch(service))

    async def _is_held(self, target: WorkloadTarget) -> bool:
        return selectors.is_held(await self._api.find(services(target.namespace), target.service))

    # What the cluster shows

    async def _colours(self, target: WorkloadTarget) -> Colours:
        found = {side: await self._find(target, side) for side in PLACES}
        service = await self._visible_service(target, any(found[side] for side in Side))
        selector = selectors.selector_of(service)
        active = selectors.active_side(selector)
        seen = {side: _observation(each, target, side) for side, each in found.items()}
        for side in PLACES:
            if side is not active:
                seen[side] = seen[side].model_copy(update={"template": None})
        behind = None
        if service is not None:
            behind = await self._api.find(endpoints(target.namespace), target.service)
        return Colours(
            active=active,
            plain=seen[None],
            blue=seen[Side.BLUE],
            green=seen[Side.GREEN],
            service=service is not None,
            selector=selector,
            held=selectors.is_held(service),
            endpoints=len(list(_pods_behind(behind))),
        )

    async def _visible_service(self, target: WorkloadTarget, has_sides: bool) -> Object | None:
        """The Service. An account that may not look at Services has never switched one."""
        try:
            return await self._api.find(services(target.namespace), target.service)
        except StatusError as error:
            if error.status == 403 and not has_sides:
                return None
            raise

    async def _select(self, service: Object, target: WorkloadTarget, patch: Object) -> Object:
        """Change the Service, unless somebody has done so since it was read."""
        return await self._api.merge(
            services(target.namespace),
            target.service,
            patch,
            resource_version=service["metadata"]["resourceVersion"],
        )

    async def _find(self, target: WorkloadTarget, side: Side | None) -> Object | None:
        return await self._api.find(deployments(target.namespace), target.on(side).name_of(Track.STABLE))

    async def _replica_sets(self, target: WorkloadTarget, deployment: Object) -> list[Object]:
        """Those of a Deployment, newest revision first."""
        listing = await self._api.list_all(replica_sets(target.namespace), **_selecting(deployment))
        uid = deployment["metadata"]["uid"]
        owned = [r for r in listing.get("items") or [] if _is_owned(r, {uid})]
        return sorted(
            owned, key=lambda r: int(manifests.annotations_of(r).get(manifests.REVISION) or 0), reverse=True
        )

    async def _pods_owned(
        self, target: WorkloadTarget, deployment: Object, owners: list[Object]
    ) -> list[Object]:
        listing = await self._api.list_all(pods(target.namespace), **_selecting(deployment))
        uids = {owner["metadata"]["uid"] for owner in owners}
        return [pod for pod in listing.get("items") or [] if _is_owned(pod, uids)]

    async def _pods_of(self, target: WorkloadTarget, side: Side | None) -> set[str]:
        """The names of a side's pods: those it owns, as selectors of different Deployments can overlap."""
        deployment = await self._find(target, side)
        if deployment is None:
            return set()
        owned = await self._replica_sets(target, deployment)
        return {pod["metadata"]["name"] for pod in await self._pods_owned(target, deployment, owned)}


@asynccontextmanager
async def _work(subject: str) -> AsyncIterator[Progress]:
    """Heartbeats while it goes on, and typed errors if it fails."""
    try:
        async with heartbeats(subject) as progress:
            yield progress
    except manifests.ManifestError as error:
        fail(INVALID_CONFIGURATION, f"{subject}: {error}", cause=error)
    except (StatusError, aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise_typed(error, subject)


async def _unless_changed(work: Callable[[], Awaitable[T]]) -> T:
    """Work that changes only what it has read; again from its beginning if somebody else was quicker."""
    for left in reversed(range(_TRIES)):
        try:
            return await work()
        except StatusError as error:
            if error.status != 409 or error.field_conflicts or not left:
                raise
        await asyncio.sleep(_BETWEEN_TRIES)
    raise AssertionError("the last try returns or raises")


def _deployment(target: WorkloadTarget, side: Side | None) -> str:
    return f"Deployment {target.on(side).name_of(Track.STABLE)} in namespace {target.namespace}"


def _service(target: WorkloadTarget) -> str:
    return f"Service {target.service} in namespace {target.namespace}"


def _no_service(target: WorkloadTarget) -> str:
    return (
        f"{_service(target)} does not exist, so there is nothing to switch; create it, "
        "or set workload.router.service to the name of the one in front of the pods"
    )


def _written(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _observation(deployment: Object | None, target: WorkloadTarget, side: Side | None) -> WorkloadObservation:
    return manifests.observe(deployment, target.on(side).name_of(Track.STABLE), target.container)


def _misfit(deployment: Object | None, version: str, container: str) -> str | None:
    """Why a side cannot take the traffic, however long one waits; none if nothing says so."""
    if deployment is None:
        return "it does not exist"
    if deployment["metadata"].get("deletionTimestamp"):
        return "it is being deleted"
    running = manifests.observe(deployment, "", container).version
    if running != version:
        return f"it runs {running}, not {version}"
    return "it is scaled to 0" if deployment["spec"].get("replicas", 1) == 0 else None


def _missing_pods(deployment: Object | None) -> str | None:
    """What a Deployment lacks of being rolled out and ready; none if nothing."""
    if deployment is None:
        return "it does not exist"
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "its controller has not seen its latest change yet"
    total, updated, ready = (
        status.get(field, 0) for field in ("replicas", "updatedReplicas", "readyReplicas")
    )
    if total != wanted or updated != wanted:
        return f"{wanted} pods are wanted, it has {total}, and {updated} of them are of this version"
    return None if ready >= wanted else f"{ready} of {wanted} pods are ready"


def _pods_behind(found: Object | None) -> list[str]:
    """The pods that ready addresses stand for; an address without a pod is told by itself."""
    addresses = [a for subset in (found or {}).get("subsets") or [] for a in subset.get("addresses") or []]
    return [(a.get("targetRef") or {}).get("name") or a.get("ip", "") for a in addresses]


def _selecting(deployment: Object) -> dict[str, str]:
    selector = _written(manifests.match_labels(deployment))
    return {"labelSelector": selector} if selector else {}


def _is_running(pod: Object) -> bool:
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def _controller(found: Object, kind: str) -> Object:
    """``kind``, ``name`` and ``uid`` of what controls an object; its own if nothing does."""
    own = {"kind": kind, "name": found["metadata"]["name"], "uid": found["metadata"]["uid"]}
    owners = found["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), own)


def _is_owned(found: Object, owners: set[str]) -> bool:
    return any(o.get("uid") in owners for o in found["metadata"].get("ownerReferences") or [])
