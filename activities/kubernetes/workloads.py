"""The activities on workloads (design, section 5): each can be retried and finds its earlier effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
from temporalio import activity

from activities.errors import CONFLICT, INVALID_CONFIGURATION, INVALID_INPUT, NOT_FOUND, REFUSED, fail
from activities.kubernetes import manifests, rollout
from activities.kubernetes.api import (
    FIELD_MANAGER,
    NAMESPACES,
    KubernetesApi,
    Object,
    deployments,
    pods,
    replica_sets,
)
from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError, raise_typed
from activities.kubernetes.heartbeat import Progress, heartbeats
from activities.signatures import KubernetesSignatures
from domain.canary import split_replicas
from domain.workload import (
    ReleaseApply,
    ReleaseQuery,
    Restore,
    RolloutResult,
    RolloutWatch,
    Track,
    WeightChange,
    WeightReading,
    WorkloadObservation,
    WorkloadTarget,
)

_GIVING_UP = timedelta(minutes=1)
"""How long a canary that was given up may still serve while no stable pod can."""


class KubernetesActivities(KubernetesSignatures):
    """Holds the client of one cluster."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._api = KubernetesApi(connection)

    async def close(self) -> None:
        await self._api.close()

    @activity.defn
    async def observe_workload(self, target: WorkloadTarget) -> WorkloadObservation:
        async with _work("observe", target, Track.STABLE):
            found = await self._find(target, Track.STABLE)
            return manifests.observe(found, target.deployment, target.container)

    @activity.defn
    async def find_release(self, query: ReleaseQuery) -> WorkloadObservation:
        target = query.target
        async with _work("search the revisions of", target, Track.STABLE):
            deployment = await self._find(target, Track.STABLE)
            if deployment is None:
                return WorkloadObservation(exists=False, name=target.deployment)
            for replica_set in await self._revisions(target, deployment):
                found = manifests.observe_template(
                    replica_set["spec"]["template"], target.deployment, target.container
                )
                if found.version is None or found.version == query.excluding:
                    continue
                if query.version in (None, found.version):
                    revision = manifests.annotations_of(replica_set).get(manifests.REVISION)
                    replicas = deployment["spec"].get("replicas", 1)
                    return found.model_copy(update={"revision": revision, "replicas": replicas})
            return WorkloadObservation(exists=False, name=target.deployment)

    @activity.defn
    async def apply_release(self, request: ReleaseApply) -> WorkloadObservation:
        target, track = request.target, request.track
        async with _work(f"apply version {request.version} to", target, track):
            live = await self._find(target, track)
            if live is not None and live["metadata"].get("deletionTimestamp"):
                fail(CONFLICT, f"{_subject(target, track)} is still being deleted")
            if live is not None and manifests.annotations_of(live).get(manifests.KEY) == request.key:
                return manifests.observe(live, target.name_of(track), target.container)
            if live is not None and track is Track.CANARY:
                _require_ours(live, target)
            manifest = await self._manifest(request, live)
            applied = await self._apply(target, manifest)
            return manifests.observe(applied, target.name_of(track), target.container)

    async def _manifest(self, request: ReleaseApply, live: Object | None) -> Object:
        if request.track is Track.STABLE:
            return manifests.release_manifest(request, live, live)
        stable = await self._find(request.target, Track.STABLE)
        inherited = None
        if stable is not None:
            # What the stable pods would become: asked of the API server itself, as only it can merge.
            as_stable = request.model_copy(
                update={"track": Track.STABLE, "replicas": stable["spec"].get("replicas", 1)}
            )
            tried = await self._apply(
                request.target, manifests.release_manifest(as_stable, stable, stable), dry_run=True
            )
            inherited = manifests.clean_template(tried["spec"]["template"])
        return manifests.release_manifest(request, live, stable, inherited)

    async def _apply(self, target: WorkloadTarget, manifest: Object, *, dry_run: bool = False) -> Object:
        async def attempt() -> Object:
            return await self._api.apply(
                deployments(target.namespace),
                manifest["metadata"]["name"],
                manifest,
                force=target.force_conflicts,
                dry_run=dry_run,
            )

        try:
            return await attempt()
        except StatusError as error:
            if not (error.missing_namespace and target.create_namespace):
                raise
        # Only now: an account that may not look at namespaces can still deploy to one that exists.
        await self._create_namespace(target)
        return await attempt()

    async def _create_namespace(self, target: WorkloadTarget) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": target.namespace,
                "labels": {manifests.MANAGED_BY_LABEL: FIELD_MANAGER},
            },
        }
        try:
            await self._api.create(NAMESPACES, body)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise

    @activity.defn
    async def watch_rollout(self, watch: RolloutWatch) -> RolloutResult:
        target, track = watch.target, watch.track
        async with _work("watch", target, track) as progress:
            seen = False
            async with aclosing(self._follow(target, track)) as states:
                async for deployment in states:
                    if deployment is None:
                        if seen:
                            return RolloutResult(
                                complete=False, reason=f"{_subject(target, track)} was deleted"
                            )
                        fail(NOT_FOUND, f"{_subject(target, track)} does not exist, so nothing rolls out")
                    seen = True
                    progress.text = rollout.describe_progress(deployment)
                    result = rollout.judge_rollout(deployment, watch)
                    if result is not None:
                        return (
                            result if result.complete else await self._explained(result, target, deployment)
                        )
        raise AssertionError("following never ends by itself")

    async def _explained(
        self, result: RolloutResult, target: WorkloadTarget, deployment: Object
    ) -> RolloutResult:
        """The failure with what the pods say; without it if they cannot be asked."""
        try:
            newest = next(iter(await self._revisions(target, deployment)), None)
            hash_label = manifests.labels_of(newest or {}).get(manifests.POD_HASH_LABEL)
            found: list[Object] = []
            if hash_label is not None:
                selector = f"{manifests.POD_HASH_LABEL}={hash_label}"
                found = (await self._api.list_all(pods(target.namespace), labelSelector=selector))["items"]
        except (StatusError, aiohttp.ClientError, TimeoutError):
            return result
        said = rollout.describe_failures(newest, found)
        return result.model_copy(update={"reason": f"{result.reason} [{said}]"}) if said else result

    async def _revisions(self, target: WorkloadTarget, deployment: Object) -> list[Object]:
        """The ReplicaSets of a Deployment, newest revision first."""
        selector = ",".join(f"{k}={v}" for k, v in sorted(manifests.match_labels(deployment).items()))
        query = {"labelSelector": selector} if selector else {}
        listing = await self._api.list_all(replica_sets(target.namespace), **query)
        uid = deployment["metadata"]["uid"]
        owned = [
            found
            for found in listing.get("items") or []
            if any(o.get("uid") == uid for o in found["metadata"].get("ownerReferences") or [])
        ]
        return sorted(
            owned, key=lambda r: int(manifests.annotations_of(r).get(manifests.REVISION) or 0), reverse=True
        )

    @activity.defn
    async def set_weight(self, change: WeightChange) -> WeightReading:
        target = change.target
        stable_pods, canary_pods = split_replicas(change.replicas, change.weight)
        wanted = {Track.STABLE: stable_pods, Track.CANARY: canary_pods}
        async with _work(f"set canary weight {change.weight} on", target, Track.CANARY) as progress:
            live = {track: await self._find(target, track) for track in Track}
            if change.weight > 0:
                for track, found in live.items():
                    if found is None:
                        fail(
                            NOT_FOUND,
                            f"{_subject(target, track)} does not exist: no weight can be given to a canary",
                        )
            for track, found in live.items():
                if found is not None and found["spec"].get("replicas", 1) < wanted[track]:
                    await self._scale(target, track, wanted[track])
            progress.text = f"weight {change.weight}: waiting for pods to be ready"
            if await self._can_shrink(change, wanted):
                progress.text = f"weight {change.weight}: waiting for pods to end"
                # At 0 only the canary shrinks; the stable side may be in the middle of a roll-out.
                shrinking = (Track.CANARY,) if change.weight == 0 else tuple(Track)
                await self._shrink(target, {track: wanted[track] for track in shrinking})
            return await self._reading(change, wanted)

    async def _can_shrink(self, change: WeightChange, wanted: dict[Track, int]) -> bool:
        """Wait until the side that grows can carry its share; whether it can.

        A bad canary loses its traffic as soon as any stable pod can take it, and after a minute even if
        none can: who asks for 0 has given the canary up.
        """
        target, limit = change.target, change.target.progress_deadline
        needed = wanted
        if change.weight == 0:
            canary = await self._find(target, Track.CANARY)
            serving = canary is not None and _ready(canary) > 0
            needed = {Track.STABLE: 1 if serving else 0, Track.CANARY: 0}
            limit = min(limit, _GIVING_UP)
        in_time = await self._wait_for_all(target, needed, _has_ready, limit)
        return in_time or change.weight == 0

    async def _shrink(self, target: WorkloadTarget, wanted: dict[Track, int]) -> None:
        for track, count in wanted.items():
            found = await self._find(target, track)
            if found is not None and found["spec"].get("replicas", 1) > count:
                await self._scale(target, track, count)
        await self._wait_for_all(target, wanted, _has_settled, target.progress_deadline)

    async def _wait_for_all(
        self,
        target: WorkloadTarget,
        counts: dict[Track, int],
        reached: Callable[[Object, int], bool],
        limit: timedelta,
    ) -> bool:
        """Wait until each existing track has reached its count; false if the limit came first."""

        async def each(track: Track, count: int) -> None:
            await self._wait(target, track, lambda found: found is None or reached(found, count))

        try:
            async with asyncio.timeout(limit.total_seconds()):
                for track, count in counts.items():
                    await each(track, count)
        except TimeoutError:
            return False
        return True

    async def _reading(self, change: WeightChange, wanted: dict[Track, int]) -> WeightReading:
        stable, canary = [
            _ready(found) if (found := await self._find(change.target, track)) is not None else 0
            for track in (Track.STABLE, Track.CANARY)
        ]
        observed = 100 * canary / (stable + canary) if canary else 0.0
        as_asked = (stable, canary) == (wanted[Track.STABLE], wanted[Track.CANARY])
        weight = change.weight if canary and as_asked else round(observed)
        return WeightReading(weight=weight, observed=observed, stable=stable, canary=canary)

    @activity.defn
    async def restore_workload(self, restore: Restore) -> WorkloadObservation:
        target = restore.target
        async with _work("restore", target, Track.STABLE) as progress:
            live = await self._find(target, Track.STABLE)
            if not restore.observation.exists:
                return await self._withdraw(restore, live, progress)
            if live is not None and manifests.annotations_of(live).get(manifests.KEY) == restore.key:
                return manifests.observe(live, target.deployment, target.container)
            if restore.observation.template is None:
                fail(
                    INVALID_INPUT,
                    f"{_subject(target, Track.STABLE)}: no pod template was recorded to restore",
                )
            restored = await self._put_back(restore, restore.observation.template, live)
            return manifests.observe(restored, target.deployment, target.container)

    async def _put_back(self, restore: Restore, template: dict[str, Any], live: Object | None) -> Object:
        """The recorded template again, exactly, so that the ReplicaSet of the old revision is taken up again.

        Server-side apply keeps the fields ours, so that a later release can still remove them. Where others
        changed the template meanwhile, it cannot give the exact old one: then the template is replaced.
        """
        target = restore.target
        manifest = manifests.deployment_manifest(
            target,
            Track.STABLE,
            template=template,
            replicas=restore.replicas,
            version=restore.observation.version,
            annotations={
                manifests.KEY: restore.key,
                manifests.DEPLOYMENT_ID: restore.deployment_id,
                manifests.ROLLED_BACK_BY: restore.deployment_id,
            },
            selector=manifests.selector_of(target, live),
            live=live,
        )
        forced = target.model_copy(update={"force_conflicts": True})
        if live is None or await self._would_be_exact(forced, manifest, template):
            return await self._apply(forced, manifest)
        notes = {**manifests.annotations_of(live), **manifest["metadata"]["annotations"]}
        return await self._api.replace_parts(
            deployments(target.namespace),
            target.deployment,
            [
                {"op": "add", "path": "/metadata/annotations", "value": notes},
                {"op": "add", "path": "/spec/replicas", "value": restore.replicas},
                {"op": "replace", "path": "/spec/template", "value": template},
            ],
        )

    async def _would_be_exact(
        self, target: WorkloadTarget, manifest: Object, template: dict[str, Any]
    ) -> bool:
        try:
            tried = await self._apply(target, manifest, dry_run=True)
        except StatusError as error:
            # Old templates can hold what apply refuses, such as one environment variable twice.
            if error.status in (400, 422, 500):
                return False
            raise
        return manifests.clean_template(tried["spec"]["template"]) == template

    async def _withdraw(
        self, restore: Restore, live: Object | None, progress: Progress
    ) -> WorkloadObservation:
        """There was nothing before: take away what this deployment, and only this one, has created."""
        target = restore.target
        subject = _subject(target, Track.STABLE)
        nothing = WorkloadObservation(exists=False, name=target.deployment)
        if live is None:
            return nothing.model_copy(update={"note": f"{subject} did not exist before, and does not now"})
        owner = manifests.annotations_of(live).get(manifests.DEPLOYMENT_ID)
        if owner != restore.deployment_id:
            fail(
                REFUSED,
                f"{subject} did not exist before {restore.deployment_id}, but belongs to "
                f"{owner or 'somebody else'} now; it was not deleted",
            )
        progress.text = f"deleting {subject}"
        await self._delete(target, Track.STABLE, live)
        activity.logger.info(
            "deleted what the failed first deployment had created", extra={"subject": subject}
        )
        return nothing.model_copy(
            update={"note": f"{subject} did not exist before {restore.deployment_id} and was deleted"}
        )

    @activity.defn
    async def remove_canary(self, target: WorkloadTarget) -> None:
        async with _work("remove", target, Track.CANARY) as progress:
            live = await self._find(target, Track.CANARY)
            if live is None:
                return
            _require_ours(live, target)
            progress.text = "waiting for the canary's pods to end"
            await self._delete(target, Track.CANARY, live)

    async def _delete(self, target: WorkloadTarget, track: Track, live: Object) -> None:
        """Traffic first: no pod is left that the Service could choose when the Deployment goes."""
        uid = live["metadata"]["uid"]
        if not live["metadata"].get("deletionTimestamp"):
            await self._shrink(target, {track: 0})
        await self._api.delete(deployments(target.namespace), target.name_of(track), uid)
        await self._wait(target, track, lambda d: d is None or d["metadata"]["uid"] != uid)

    async def _find(self, target: WorkloadTarget, track: Track) -> Object | None:
        return await self._api.find(deployments(target.namespace), target.name_of(track))

    def _follow(self, target: WorkloadTarget, track: Track) -> Any:
        return self._api.follow(deployments(target.namespace), target.name_of(track))

    async def _scale(self, target: WorkloadTarget, track: Track, replicas: int) -> None:
        await self._api.merge(
            deployments(target.namespace), target.name_of(track), {"spec": {"replicas": replicas}}
        )

    async def _wait(
        self, target: WorkloadTarget, track: Track, done: Callable[[Object | None], bool]
    ) -> None:
        async with aclosing(self._follow(target, track)) as states:
            async for state in states:
                if done(state):
                    return


@asynccontextmanager
async def _work(what: str, target: WorkloadTarget, track: Track) -> AsyncIterator[Progress]:
    """Heartbeats while it goes on, and typed errors if it fails."""
    subject = f"{what} {_subject(target, track)}"
    try:
        async with heartbeats(subject) as progress:
            yield progress
    except manifests.ManifestError as error:
        fail(INVALID_CONFIGURATION, f"{subject}: {error}", cause=error)
    except (StatusError, aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise_typed(error, subject)


def _subject(target: WorkloadTarget, track: Track) -> str:
    return f"Deployment {target.name_of(track)} in namespace {target.namespace}"


def _require_ours(live: Object, target: WorkloadTarget) -> None:
    if not manifests.is_ours(live):
        fail(
            REFUSED,
            f"{_subject(target, Track.CANARY)} was not made by {FIELD_MANAGER}; "
            "rename or delete it, as this name is the canary's",
        )


def _ready(deployment: Object) -> int:
    ready: int = (deployment.get("status") or {}).get("readyReplicas", 0)
    return ready


def _has_ready(deployment: Object, count: int) -> bool:
    return _ready(deployment) >= count


def _has_settled(deployment: Object, count: int) -> bool:
    status = deployment.get("status") or {}
    observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return bool(observed and status.get("replicas", 0) <= count)
