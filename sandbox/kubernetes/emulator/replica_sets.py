"""The replica set controller: as many pods as the specification asks for."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from sandbox.kubernetes.emulator.controller import (
    CONTROLLER_MANAGER,
    Controller,
    children,
    controller_reference,
    object_key,
    owner_keys,
    record_event,
    seconds_since,
)
from sandbox.kubernetes.emulator.registry import Target
from sandbox.kubernetes.emulator.resources import PODS, REPLICA_SETS, Object
from sandbox.kubernetes.emulator.store import Change, Key

NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class ReplicaSetController(Controller):
    """Creates missing pods, deletes surplus ones, and counts those that are ready."""

    def keys(self, change: Change) -> Iterable[Key]:
        if change.resource is REPLICA_SETS:
            return [object_key(change.current)]
        if change.resource is PODS:
            return owner_keys(change, "ReplicaSet")
        return ()

    def reconcile(self, key: Key) -> float | None:
        replica_set = self.store.get(REPLICA_SETS, *key)
        if replica_set is None:
            return None
        pods = _active(children(self.store, PODS, replica_set))
        if "deletionTimestamp" not in replica_set["metadata"]:
            missing = replica_set["spec"]["replicas"] - len(pods)
            for _ in range(missing):
                self._create_pod(replica_set)
            for pod in sorted(pods, key=_worth)[: max(0, -missing)]:
                self._delete_pod(replica_set, pod)
            pods = _active(children(self.store, PODS, replica_set))
        return self._write_status(replica_set, pods)

    def _create_pod(self, replica_set: Object) -> None:
        template = replica_set["spec"]["template"]
        suffix = "".join(secrets.choice(NAME_ALPHABET) for _ in range(5))
        metadata = {
            **template["metadata"],
            "name": f"{replica_set['metadata']['name']}-{suffix}",
            "ownerReferences": [controller_reference(replica_set)],
        }
        pod = self.registry.create(
            PODS,
            replica_set["metadata"]["namespace"],
            {"metadata": metadata, "spec": template["spec"]},
            CONTROLLER_MANAGER,
        )
        self._record(replica_set, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")

    def _delete_pod(self, replica_set: Object, pod: Object) -> None:
        self.registry.delete(Target(PODS, *object_key(pod)))
        self._record(replica_set, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    def _record(self, replica_set: Object, reason: str, message: str) -> None:
        record_event(
            self.registry,
            replica_set,
            kind="Normal",
            reason=reason,
            message=message,
            component="replicaset-controller",
        )

    def _write_status(self, replica_set: Object, pods: Sequence[Object]) -> float | None:
        minimum = replica_set["spec"].get("minReadySeconds", 0)
        ready_for = [seconds for pod in pods if (seconds := _ready_seconds(pod)) is not None]
        labels = replica_set["spec"]["template"]["metadata"]["labels"].items()
        counts = {
            "fullyLabeledReplicas": sum(labels <= pod["metadata"]["labels"].items() for pod in pods),
            "readyReplicas": len(ready_for),
            "availableReplicas": sum(seconds >= minimum for seconds in ready_for),
            "observedGeneration": replica_set["metadata"]["generation"],
        }
        status = {"replicas": len(pods), **{key: value for key, value in counts.items() if value}}
        target = Target(REPLICA_SETS, *object_key(replica_set), subresource="status")
        self.registry.replace(target, {**replica_set, "status": status}, CONTROLLER_MANAGER)
        waiting = [minimum - seconds for seconds in ready_for if seconds < minimum]
        return min(waiting, default=None)


def _active(pods: Sequence[Object]) -> list[Object]:
    return [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and pod["status"]["phase"] not in ("Failed", "Succeeded")
    ]


def _ready_seconds(pod: Object) -> float | None:
    for condition in pod["status"].get("conditions") or []:
        if condition["type"] == "Ready" and condition["status"] == "True":
            return seconds_since(condition["lastTransitionTime"])
    return None


def _worth(pod: Object) -> tuple[bool, float]:
    """Pods of least worth are deleted first: not ready before ready, then those ready the shortest."""
    ready = _ready_seconds(pod)
    return (ready is not None, ready or 0.0)
