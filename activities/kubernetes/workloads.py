"""The activities on workloads (design, section 5): each can be retried and finds its earlier effect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
from temporalio import activity

from activities.errors import (
    CONFLICT,
    INVALID_CONFIGURATION,
    INVALID_INPUT,
    NOT_FOUND,
    REFUSED,
    UNAVAILABLE,
    fail,
)
from activities.kubernetes import manifests, rollout
from activities.kubernetes.api import (
    FIELD_MANAGER,
    KubernetesApi,
    Object,
    deployments,
    pods,
    replica_sets,
)
from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError, raise_typed
from activities.kubernetes.heartbeat import Progress, heartbeats
from activities.kubernetes.namespaces import in_namespace
from activities.kubernetes.routers import Router, Services, routers
from activities.kubernetes.tracks import Tracks, describe_track
from activities.signatures import KubernetesSignatures
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


class KubernetesActivities(KubernetesSignatures):
    """Holds the client of one cluster."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._api = KubernetesApi(connection)
        self._tracks = Tracks(self._api)
        self._services = Services(self._api)
        self._routers = routers(self._api, self._tracks, self._services)

    async def close(self) -> None:
        await self._api.close()

    @activity.defn
    async def observe_workload(self, target: WorkloadTarget) -> WorkloadObservation:
        async with _work("observe", target, Track.STABLE):
            found = await self._tracks.find(target, Track.STABLE)
            return _observed(found, target, Track.STABLE)

    @activity.defn
    async def find_release(self, query: ReleaseQuery) -> WorkloadObservation:
        target = query.target
        async with _work("search the revisions of", target, Track.STABLE):
            deployment = await self._tracks.find(target, Track.STABLE)
            nothing = _observed(None, target, Track.STABLE)
            if deployment is None:
                return nothing
            for replica_set in await self._revisions(target, deployment):
                found = manifests.observe_template(
                    replica_set["spec"]["template"], nothing.name, target.container
                )
                if found.version is None or found.version == query.excluding:
                    continue
                if query.version in (None, found.version):
                    revision = manifests.annotations_of(replica_set).get(manifests.REVISION)
                    replicas = deployment["spec"].get("replicas", 1)
                    return found.model_copy(update={"revision": revision, "replicas": replicas})
            return nothing

    @activity.defn
    async def apply_release(self, request: ReleaseApply) -> WorkloadObservation:
        target, track = request.target, request.track
        async with _work(f"apply version {request.version} to", target, track) as progress:
            live = await self._tracks.find(target, track)
            if live is not None and live["metadata"].get("deletionTimestamp"):
                fail(CONFLICT, f"{describe_track(target, track)} is still being deleted")
            if live is not None and track is Track.CANARY:
                _require_ours(live, target)
            if live is not None and manifests.annotations_of(live).get(manifests.KEY) == request.key:
                await self._prepare(target, track, live)
                return _observed(live, target, track)
            if live is not None and track is Track.CANARY:
                await self._empty(request, progress)
                live = await self._tracks.find(target, track)
            manifest = await self._manifest(request, live)
            await self._prepare(target, track, manifest)
            if request.template is None or live is None:
                applied = await self._apply(target, manifest)
            else:
                applied = await self._apply_exactly(target, manifest, live)
            return _observed(applied, target, track)

    async def _empty(self, request: ReleaseApply, progress: Progress) -> None:
        """A canary that an earlier release left behind: the new version must not inherit its share."""
        target = request.target
        change = WeightChange(key=request.key, target=target, weight=0, replicas=target.replicas)
        reading = await self._router(target).set(change, progress)
        if reading.observed > 0:
            fail(
                UNAVAILABLE,
                f"{describe_track(target, Track.CANARY)} was left behind by an earlier release, and still "
                f"has {reading.observed:.0f}% of the traffic: {reading.note}",
            )

    async def _prepare(self, target: WorkloadTarget, track: Track, deployment: Object) -> None:
        """The way to the canary before its first pod: none may get traffic that the router did not give."""
        if track is Track.CANARY:
            await self._router(target).prepare(target, deployment)

    def _router(self, target: WorkloadTarget) -> Router:
        return self._routers[target.router.kind]

    async def _manifest(self, request: ReleaseApply, live: Object | None) -> Object:
        if request.track is Track.STABLE:
            return manifests.release_manifest(request, live, live)
        stable = await self._tracks.find(request.target, Track.STABLE)
        inherited = None
        if stable is not None and request.template is None:
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

        return await in_namespace(self._api, target, attempt)

    @activity.defn
    async def watch_rollout(self, watch: RolloutWatch) -> RolloutResult:
        target, track = watch.target, watch.track
        async with _work("watch", target, track) as progress:
            seen = False
            async with aclosing(self._tracks.follow(target, track)) as states:
                async for deployment in states:
                    if deployment is None:
                        if seen:
                            return RolloutResult(
                                complete=False, reason=f"{describe_track(target, track)} was deleted"
                            )
                        fail(
                            NOT_FOUND, f"{describe_track(target, track)} does not exist, so nothing rolls out"
                        )
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
        async with _work(f"set canary weight {change.weight} on", target, Track.CANARY) as progress:
            return await self._router(target).set(change, progress)

    @activity.defn
    async def restore_workload(self, restore: Restore) -> WorkloadObservation:
        target = restore.target
        async with _work("restore", target, Track.STABLE) as progress:
            live = await self._tracks.find(target, Track.STABLE)
            if not restore.observation.exists:
                return await self._withdraw(restore, live, progress)
            if live is not None and manifests.annotations_of(live).get(manifests.KEY) == restore.key:
                return _observed(live, target, Track.STABLE)
            if restore.observation.template is None:
                fail(
                    INVALID_INPUT,
                    f"{describe_track(target, Track.STABLE)}: no pod template was recorded to restore",
                )
            restored = await self._put_back(restore, restore.observation.template, live)
            return _observed(restored, target, Track.STABLE)

    async def _put_back(self, restore: Restore, template: dict[str, Any], live: Object | None) -> Object:
        """The recorded template again, exactly: the ReplicaSet of the old revision is taken up again."""
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
        if target.router.weighted:
            # Pods of before the label must not be shut out by a pin that a canary needed.
            await self._services.unpin(target, manifests.labels_of(template))
        forced = target.model_copy(update={"force_conflicts": True})
        if live is None:
            return await self._apply(forced, manifest)
        return await self._apply_exactly(forced, manifest, live)

    async def _apply_exactly(self, target: WorkloadTarget, manifest: Object, live: Object) -> Object:
        """Make the pod template exactly the one of `manifest`.

        Server-side apply keeps the fields ours, so that a later release can still remove them. Where others
        changed the template meanwhile, it cannot give exactly this one: then the template is replaced.
        """
        template = manifest["spec"]["template"]
        if await self._would_be_exact(target, manifest, template):
            return await self._apply(target, manifest)
        metadata = manifest["metadata"]
        return await self._api.replace_parts(
            deployments(target.namespace),
            metadata["name"],
            [
                {
                    "op": "add",
                    "path": "/metadata/annotations",
                    "value": {**manifests.annotations_of(live), **metadata["annotations"]},
                },
                {"op": "add", "path": "/spec/replicas", "value": manifest["spec"]["replicas"]},
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
        subject = describe_track(target, Track.STABLE)
        nothing = _observed(None, target, Track.STABLE)
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
            router = self._router(target)
            progress.text = "taking all traffic from the canary"
            await router.withdraw(target)
            live = await self._tracks.find(target, Track.CANARY)
            if live is not None:
                _require_ours(live, target)
                progress.text = "waiting for the canary's pods to end"
                await self._delete(target, Track.CANARY, live)
            await router.release(target)

    async def _delete(self, target: WorkloadTarget, track: Track, live: Object) -> None:
        """Traffic first: no pod is left that the Service could choose when the Deployment goes."""
        uid = live["metadata"]["uid"]
        if not live["metadata"].get("deletionTimestamp"):
            await self._tracks.shrink(target, {track: 0})
        await self._api.delete(deployments(target.namespace), target.name_of(track), uid)
        await self._tracks.wait(target, track, lambda d: d is None or d["metadata"]["uid"] != uid)


@asynccontextmanager
async def _work(what: str, target: WorkloadTarget, track: Track) -> AsyncIterator[Progress]:
    """Heartbeats while it goes on, and typed errors if it fails."""
    subject = f"{what} {describe_track(target, track)}"
    try:
        async with heartbeats(subject) as progress:
            yield progress
    except manifests.ManifestError as error:
        fail(INVALID_CONFIGURATION, f"{subject}: {error}", cause=error)
    except (StatusError, aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise_typed(error, subject)


def _observed(found: Object | None, target: WorkloadTarget, track: Track) -> WorkloadObservation:
    return manifests.observe(found, target.name_of(track), target.container)


def _require_ours(live: Object, target: WorkloadTarget) -> None:
    if not manifests.is_ours(live):
        fail(
            REFUSED,
            f"{describe_track(target, Track.CANARY)} was not made by {FIELD_MANAGER}; "
            "rename or delete it, as this name is the canary's",
        )
