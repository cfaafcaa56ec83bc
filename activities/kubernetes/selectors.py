"""Which side of a blue/green workload a Service selects: pure decisions over its selector.

A Service that was made for canaries selects both tracks (``app: erlmcp``), and would send traffic to the pods
of a new side as soon as they are ready. So its selector is narrowed to the side that serves before the other
one gets pods, and stays so until blue/green is left. What it said before is noted on the Service.

The plain Deployment is selected by the label ``track`` of its pods. Those of a Deployment that was made
elsewhere may have none; what else they carry, a side's pods carry too, or they lose it with their next
restart (``pod-template-hash``). So they are given the label first: see `label_of_plain`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from activities.kubernetes.api import Object
from activities.kubernetes.manifests import KEY, PREFIX, annotations_of, labels_of
from activities.kubernetes.routers.services import identity
from domain.workload import Side, Track, WorkloadTarget

TRACK: Final = "track"
CHANGE: Final = f"{PREFIX}side-change"
"""On a Service: the latest change of a side that did not serve."""
SELECTOR_BEFORE: Final = f"{PREFIX}selector-before"
"""What the Service's selector said of `track` before it was narrowed, as JSON."""


def selector_of(service: Object | None) -> dict[str, str]:
    return dict((service or {}).get("spec", {}).get("selector") or {})


def active_side(selector: Mapping[str, str]) -> Side | None:
    """The side a selector chooses; none = the plain Deployment."""
    track = selector.get(TRACK)
    return Side(track) if track in tuple(Side) else None


def is_narrow(selector: Mapping[str, str]) -> bool:
    """Whether it keeps the pods of other sides out."""
    return TRACK in selector


def is_held(service: Object | None) -> bool:
    """Whether we have narrowed it."""
    return service is not None and SELECTOR_BEFORE in annotations_of(service)


def narrowed(selector: Mapping[str, str], track: str) -> dict[str, str]:
    """A Service's selector that chooses one side, and is otherwise as it was."""
    return {**selector, TRACK: track}


def label_of_plain(deployment: Object | None) -> str | None:
    """The label ``track`` of the plain Deployment's pods; none if it cannot be told from the sides by it."""
    if deployment is None:
        return str(Track.STABLE)
    track = labels_of(deployment["spec"]["template"]).get(TRACK)
    return None if track in tuple(Side) else track


def switch_patch(service: Object, selector: Mapping[str, str], key: str | None) -> Object:
    """A merge patch that gives the Service another selector, and notes on it what it was before."""
    live = selector_of(service)
    notes = {KEY: key} if key is not None else {}
    if not is_held(service):
        before = live.get(TRACK)
        notes[SELECTOR_BEFORE] = json.dumps(None if before in tuple(Side) else before)
    changes = {k: selector.get(k) for k in {**live, **selector} if live.get(k) != selector.get(k)}
    return {"metadata": {"annotations": notes}, "spec": {"selector": changes}}


def release_patch(service: Object) -> Object:
    """A merge patch that takes back all that `switch_patch` has changed."""
    before = json.loads(annotations_of(service)[SELECTOR_BEFORE])
    return {
        "metadata": {"annotations": {SELECTOR_BEFORE: None, KEY: None, CHANGE: None}},
        "spec": {"selector": {TRACK: before}},
    }


def first_service(target: WorkloadTarget, selector: Mapping[str, str], key: str) -> Object:
    """The Service of a workload that had none, inside the cluster, on the container's port."""
    before = str(Track.STABLE) if target.router.weighted else None
    port = {"name": "http", "port": target.port, "targetPort": target.port, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": target.service,
            "namespace": target.namespace,
            "labels": identity(target),
            "annotations": {KEY: key, SELECTOR_BEFORE: json.dumps(before)},
        },
        "spec": {"selector": dict(selector), "ports": [port]},
    }
