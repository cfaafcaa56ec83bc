"""The revision that is handed over: how it gets into a workload, and how the one before it comes back.

Every revision carries the key of its hand-over in an annotation of the pods. Both controllers compare pod
templates, so a version that failed is taken up again under a new key; and as Flagger copies annotations to
its primary, the key tells there which revision was promoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from activities.errors import REFUSED, fail
from activities.kubernetes.api import KubernetesApi, Object, replica_sets
from activities.kubernetes.manifests import (
    DEPLOYMENT_ID,
    KEY,
    PREFIX,
    VERSION,
    annotations_of,
    clean_template,
    labels_of,
    match_labels,
    release_manifest,
)
from domain.handover import HandoverRequest
from domain.workload import ReleaseApply, Track

HANDOVER: Final = f"{PREFIX}handover"


def carries(workload: Mapping[str, Any] | None, request: HandoverRequest) -> bool:
    """Whether the workload's pod template is the revision of this hand-over."""
    if workload is None:
        return False
    return annotations_of(workload["spec"]["template"]).get(HANDOVER) == request.key


def begun(workload: Mapping[str, Any] | None, request: HandoverRequest) -> bool:
    """Whether this hand-over has been applied to the workload before."""
    return workload is not None and annotations_of(workload).get(KEY) == request.key


def version_of(workload: Mapping[str, Any]) -> str:
    """Which version the pod template is of, for a sentence."""
    version = annotations_of(workload["spec"]["template"]).get(VERSION)
    return f"version {version}" if version else "another pod template"


def release_of(request: HandoverRequest, replicas: int) -> ReleaseApply:
    return ReleaseApply(
        key=request.key,
        target=request.target,
        track=Track.STABLE,
        version=request.version,
        image=request.image,
        replicas=replicas,
        deployment_id=request.deployment_id,
        commit=request.commit,
        artefact=request.artefact,
        digest=request.digest,
        template=request.template,
    )


def deployment_of(
    request: HandoverRequest, live: Object | None, replicas: int, notes: Mapping[str, str]
) -> Object:
    """The Deployment with the revision, for server-side apply; `notes` are further annotations."""
    manifest = release_manifest(release_of(request, replicas), live, live)
    manifest["metadata"]["annotations"] |= notes
    manifest["spec"]["template"] = marked(manifest["spec"]["template"], request)
    return manifest


def marked(template: Mapping[str, Any], request: HandoverRequest) -> dict[str, Any]:
    """The pod template with the key of the hand-over."""
    annotations = {**annotations_of(template), HANDOVER: request.key}
    return {**template, "metadata": {**(template.get("metadata") or {}), "annotations": annotations}}


async def replace_template(
    api: KubernetesApi,
    collection: str,
    live: Object,
    template: Mapping[str, Any],
    *,
    notes: Mapping[str, str] | None = None,
    also: list[Object] | None = None,
) -> Object:
    """Give a workload a pod template, exactly; 409 if somebody has changed it since it was read."""
    operations: list[Object] = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/spec/template", "value": dict(template)},
        *(also or []),
    ]
    if notes:
        annotations = {**annotations_of(live), **notes}
        operations.append({"op": "add", "path": "/metadata/annotations", "value": annotations})
    return await api.replace_parts(collection, live["metadata"]["name"], operations)


async def current_hash(api: KubernetesApi, namespace: str, deployment: Object, label: str) -> str | None:
    """The hash of the ReplicaSet that has a Deployment's present pod template."""
    template = clean_template(deployment["spec"]["template"])
    for found in await _owned(api, namespace, deployment, match_labels(deployment)):
        if clean_template(found["spec"]["template"]) == template:
            return labels_of(found).get(label)
    return None


async def template_of(
    api: KubernetesApi, namespace: str, owner: Object, label: str, value: str
) -> dict[str, Any]:
    """The pod template of an earlier revision, without the label of its hash.

    Raises:
        ApplicationError: Refused; its ReplicaSet is gone.
    """
    found = next(iter(await _owned(api, namespace, owner, {label: value})), None)
    if found is None:
        fail(
            REFUSED,
            f"{owner['kind']} {owner['metadata']['name']} in namespace {namespace} keeps no ReplicaSet of "
            f"the revision before ({label}={value}); give it its pod template by hand, "
            "and let spec.revisionHistoryLimit be at least 1",
        )
    template = clean_template(found["spec"]["template"])
    labels = {k: v for k, v in labels_of(template).items() if k != label}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


async def _owned(
    api: KubernetesApi, namespace: str, owner: Object, labels: Mapping[str, str]
) -> list[Object]:
    selector = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
    listing = await api.list_all(replica_sets(namespace), **({"labelSelector": selector} if selector else {}))
    uid = owner["metadata"]["uid"]
    return [
        found
        for found in listing.get("items") or []
        if any(o.get("uid") == uid for o in found["metadata"].get("ownerReferences") or [])
    ]


def identity_notes(request: HandoverRequest) -> dict[str, str]:
    """Annotations of the workload itself."""
    return {KEY: request.key, DEPLOYMENT_ID: request.deployment_id}
