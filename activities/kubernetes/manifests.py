"""What we write to the cluster and read from it: Deployments as plain JSON, no I/O.

Selectors. A Deployment's selector can never be changed, so one that exists is kept as it is and its labels
are put on the pods. A stable Deployment that was made elsewhere with no more than ``app=…`` goes on working:
its selector matches the canary's pods too, but a Deployment only counts the pods of ReplicaSets it owns. The
canary's pods carry the labels of the stable selector, so that the Service in front of them finds both tracks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from activities.kubernetes.api import FIELD_MANAGER, Object
from domain.merging import merge
from domain.workload import ProbeSettings, ReleaseApply, Track, WorkloadObservation, WorkloadTarget

PREFIX: Final = "erlmcp-deploy/"
KEY: Final = f"{PREFIX}key"
DEPLOYMENT_ID: Final = f"{PREFIX}deployment-id"
VERSION: Final = f"{PREFIX}version"
ROLLED_BACK_BY: Final = f"{PREFIX}rolled-back-by"
SUPERSEDED_FAILURE: Final = f"{PREFIX}superseded-failure"
"""When the roll-out before this one was given up; the controller shows that for a while longer."""

VERSION_LABEL: Final = "app.kubernetes.io/version"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
REVISION: Final = "deployment.kubernetes.io/revision"
POD_HASH_LABEL: Final = "pod-template-hash"

_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_NEVER_BELOW: Final = {
    "type": "RollingUpdate",
    "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
}


class ManifestError(ValueError):
    """The settings cannot be made into a Deployment; the text names the setting and the remedy."""


# Reading


def annotations_of(found: Mapping[str, Any]) -> dict[str, str]:
    return dict(found.get("metadata", {}).get("annotations") or {})


def labels_of(found: Mapping[str, Any]) -> dict[str, str]:
    return dict(found.get("metadata", {}).get("labels") or {})


def match_labels(deployment: Mapping[str, Any]) -> dict[str, str]:
    return dict(deployment["spec"]["selector"].get("matchLabels") or {})


def is_ours(deployment: Mapping[str, Any]) -> bool:
    return labels_of(deployment).get(MANAGED_BY_LABEL) == FIELD_MANAGER


def clean_template(template: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template as it can be written again: without what the API server and its controllers fill in."""
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if k != "creationTimestamp"}
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != POD_HASH_LABEL}
    if "labels" in metadata:
        metadata["labels"] = labels
    return {**template, "metadata": metadata}


def observe(deployment: Object | None, name: str, container: str) -> WorkloadObservation:
    """What a Deployment shows of its track."""
    if deployment is None:
        return WorkloadObservation(exists=False, name=name)
    spec, status = deployment["spec"], deployment.get("status") or {}
    observed = observe_template(spec["template"], name, container)
    return observed.model_copy(
        update={
            "revision": annotations_of(deployment).get(REVISION),
            "replicas": spec.get("replicas", 1),
            "ready": status.get("readyReplicas", 0),
        }
    )


def observe_template(template: Mapping[str, Any], name: str, container: str) -> WorkloadObservation:
    """What a pod template says of itself."""
    clean = clean_template(template)
    image = _image(clean, container)
    return WorkloadObservation(
        exists=True,
        name=name,
        version=labels_of(clean).get(VERSION_LABEL) or _tag(image),
        image=image,
        template=clean,
        deployment_id=annotations_of(clean).get(DEPLOYMENT_ID),
    )


def _image(template: Mapping[str, Any], container: str) -> str | None:
    containers = template["spec"].get("containers") or []
    chosen = next((c for c in containers if c.get("name") == container), containers[0] if containers else {})
    image: str | None = chosen.get("image")
    return image


def _tag(image: str | None) -> str | None:
    if image is None:
        return None
    _, separator, tag = image.partition("@")[0].rpartition("/")[2].rpartition(":")
    return tag if separator else None


def progress(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """The condition ``Progressing``, or nothing."""
    conditions = (deployment.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == "Progressing"), {})


def given_up_at(deployment: Mapping[str, Any]) -> str | None:
    """When the controller gave the roll-out up (``ProgressDeadlineExceeded``), if it did."""
    condition = progress(deployment)
    if condition.get("reason") != "ProgressDeadlineExceeded":
        return None
    return condition.get("lastUpdateTime") or condition.get("lastTransitionTime") or "unknown"


# Writing


def release_manifest(
    request: ReleaseApply, live: Object | None, stable: Object | None, inherited: Object | None = None
) -> Object:
    """The Deployment of a release.

    Args:
        request: what to release.
        live: the Deployment of the track, if it exists.
        stable: the Deployment of the stable track, if it exists.
        inherited: for a canary, the pod template this release would have on the stable track, so that a
            canary runs with everything the stable pods have, also what was set up elsewhere.

    Raises:
        ManifestError: `template` or `canary_template` do not fit.
    """
    target, track = request.target, request.track
    if live is not None:
        _check_container(live, target)
    selector = _selector(target, track, live, stable)
    labels = _pod_labels(request, selector, stable)
    annotations = _release_annotations(request)
    template = _release_template(request, inherited)
    template = _identified(template, request, labels, annotations)
    return deployment_manifest(
        target,
        track,
        template=template,
        replicas=request.replicas,
        version=request.version,
        annotations={KEY: request.key, DEPLOYMENT_ID: request.deployment_id},
        selector=selector,
        live=live,
    )


def _release_template(request: ReleaseApply, inherited: Object | None) -> Mapping[str, Any]:
    target = request.target
    if request.template is not None:
        if request.image:
            _check_names(request.template, target, "the pod template to run")
        return clean_template(request.template)
    template: Mapping[str, Any] | None = inherited
    if template is None:
        container = _container(target, request.image)
        template = merge_template(
            {"metadata": {}, "spec": {"containers": [container]}}, target.template, "template"
        )
    if request.track is Track.CANARY:
        template = merge_template(template, target.canary_template, "canary_template")
    return template


def deployment_manifest(
    target: WorkloadTarget,
    track: Track,
    *,
    template: Mapping[str, Any],
    replicas: int,
    version: str | None,
    annotations: Mapping[str, str],
    selector: Mapping[str, Any],
    live: Object | None,
) -> Object:
    """The Deployment around a pod template. Selector and strategy of one that exists are kept."""
    notes = dict(annotations)
    strategy: Mapping[str, Any] = _NEVER_BELOW
    if live is not None:
        strategy = live["spec"].get("strategy") or _NEVER_BELOW
        failure = given_up_at(live)
        if failure is not None:
            notes[SUPERSEDED_FAILURE] = failure
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": target.name_of(track),
            "namespace": target.namespace,
            "labels": _identity_labels(target, track, version),
            "annotations": notes,
        },
        "spec": {
            "replicas": replicas,
            "selector": dict(selector),
            "strategy": dict(strategy),
            "progressDeadlineSeconds": _seconds(target.progress_deadline),
            "template": dict(template),
        },
    }


def selector_of(target: WorkloadTarget, live: Object | None) -> Mapping[str, Any]:
    """The selector of the stable track: the one it has, or a new one."""
    return _selector(target, Track.STABLE, live, live)


def _selector(
    target: WorkloadTarget, track: Track, live: Object | None, stable: Object | None
) -> Mapping[str, Any]:
    if live is not None:
        kept: Mapping[str, Any] = live["spec"]["selector"]
        return kept
    shared = match_labels(stable).get("app") if stable is not None else None
    return {"matchLabels": {"app": shared or target.application, "track": target.label_of(track)}}


def _pod_labels(request: ReleaseApply, selector: Mapping[str, Any], stable: Object | None) -> dict[str, str]:
    inherited = match_labels(stable) if stable is not None else {}
    return {
        **_identity_labels(request.target, request.track, request.version),
        **{k: v for k, v in inherited.items() if k != "track"},
        **(selector.get("matchLabels") or {}),
    }


def _identity_labels(target: WorkloadTarget, track: Track, version: str | None) -> dict[str, str]:
    labels = {
        "app": target.application,
        "track": target.label_of(track),
        "app.kubernetes.io/name": target.application,
        "app.kubernetes.io/instance": target.deployment,
        MANAGED_BY_LABEL: FIELD_MANAGER,
    }
    # An image tag found in the cluster can be more than a label may hold, and must not stop a roll-back.
    if version is not None and _LABEL_VALUE.fullmatch(version):
        labels[VERSION_LABEL] = version
    return labels


def _release_annotations(request: ReleaseApply) -> dict[str, str]:
    """What the pods say of their origin. The key is not among them: the same release under another key
    is no reason to start every pod anew."""
    values = {
        "deployment-id": request.deployment_id,
        "version": request.version,
        "commit": request.commit,
        "artefact": request.artefact,
        "digest": request.digest,
    }
    return {f"{PREFIX}{name}": value for name, value in values.items() if value is not None}


def _container(target: WorkloadTarget, image: str) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": target.container,
        "image": image,
        "ports": [{"containerPort": target.port, "protocol": "TCP"}],
        "readinessProbe": _probe(target.readiness, target.port),
    }
    if target.liveness is not None:
        container["livenessProbe"] = _probe(target.liveness, target.port)
    return container


def _probe(probe: ProbeSettings, port: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": probe.path, "port": port},
        "periodSeconds": _seconds(probe.period),
        "timeoutSeconds": _seconds(probe.timeout),
        "failureThreshold": probe.failure_threshold,
    }


def _seconds(duration: timedelta) -> int:
    return max(1, math.ceil(duration.total_seconds()))


def _identified(
    template: Mapping[str, Any],
    request: ReleaseApply,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> dict[str, Any]:
    """Whatever the merged settings say, a pod carries its own version, track, origin and image.

    A template that is run as it is (`ReleaseApply.template`) keeps its image if none is asked for.
    """
    kept = {k: v for k, v in annotations_of(template).items() if not k.startswith(PREFIX)}
    metadata = {
        **template["metadata"],
        "labels": {**labels_of(template), **labels},
        "annotations": {**kept, **annotations},
    }
    containers = [
        {**c, "image": request.image} if request.image and c["name"] == request.target.container else c
        for c in template["spec"]["containers"]
    ]
    return {**template, "metadata": metadata, "spec": {**template["spec"], "containers": containers}}


def merge_template(base: Mapping[str, Any], changes: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """`changes` merged into a pod template: RFC 7396, but containers are merged by their name.

    Raises:
        ManifestError: a container has no name.
    """
    spec_changes = dict(changes.get("spec") or {})
    by_name = {
        field: _merge_by_name(
            base["spec"].get(field) or [], spec_changes.pop(field), f"{setting}.spec.{field}"
        )
        for field in ("containers", "initContainers")
        if field in spec_changes
    }
    merged = merge(base, {**changes, "spec": spec_changes})
    merged["spec"] = {**merged["spec"], **by_name}
    return merged


def _merge_by_name(
    base: list[dict[str, Any]], changes: list[dict[str, Any]], setting: str
) -> list[dict[str, Any]]:
    merged = {container["name"]: container for container in base}
    if not isinstance(changes, list):
        raise ManifestError(f"workload.{setting} must be a list of containers")
    for place, change in enumerate(changes):
        name = change.get("name") if isinstance(change, dict) else None
        if not name:
            raise ManifestError(
                f"workload.{setting}[{place}] has no name; containers are merged by name, "
                f"so write the name of one of {sorted(merged)} or of a new container"
            )
        merged[name] = merge(merged.get(name, {}), change)
    return list(merged.values())


def _check_container(live: Object, target: WorkloadTarget) -> None:
    _check_names(live["spec"]["template"], target, f"Deployment {live['metadata']['name']}")


def _check_names(template: Mapping[str, Any], target: WorkloadTarget, subject: str) -> None:
    names = [c["name"] for c in template["spec"]["containers"]]
    if target.container not in names:
        raise ManifestError(
            f"{subject} has no container {target.container!r}, only {names}: "
            "the release would run beside the old one; set workload.container"
        )
