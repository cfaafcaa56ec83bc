"""The deployment controller: revisions, rolling updates, progress deadlines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sandbox.kubernetes.emulator.controller import (
    CONTROLLER_MANAGER,
    Controller,
    children,
    controller_reference,
    object_key,
    owner_keys,
    record_event,
    seconds_since,
    with_condition,
)
from sandbox.kubernetes.emulator.patching import MERGE
from sandbox.kubernetes.emulator.registry import Target
from sandbox.kubernetes.emulator.resources import DEPLOYMENTS, REPLICA_SETS, Object
from sandbox.kubernetes.emulator.store import Change, Key

HASH_LABEL: Final = "pod-template-hash"
# Letters and digits that make no words, as the names of replica sets and pods use them.
NAME_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
REVISION: Final = "deployment.kubernetes.io/revision"
REVISION_HISTORY: Final = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS: Final = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS: Final = "deployment.kubernetes.io/max-replicas"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
OWN_ANNOTATIONS: Final = frozenset({REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, LAST_APPLIED})
DEADLINE_MARGIN_SECONDS: Final = 1.0  # times of the API are whole seconds


@dataclass(frozen=True, slots=True)
class RolloutBounds:
    """How many pods a rolling update may have too many and too few."""

    surge: int
    unavailable: int

    @classmethod
    def of(cls, deployment: Object) -> RolloutBounds:
        spec = deployment["spec"]
        rolling = spec["strategy"].get("rollingUpdate")
        if rolling is None:
            return cls(0, 0)
        surge = _count(rolling["maxSurge"], spec["replicas"], round_up=True)
        unavailable = _count(rolling["maxUnavailable"], spec["replicas"], round_up=False)
        # Percentages may both come to zero; then nothing could ever move.
        return cls(surge, unavailable if surge or unavailable else 1)


def _count(value: int | str, whole: int, *, round_up: bool) -> int:
    if isinstance(value, int):
        return value
    share = int(value.removesuffix("%")) * whole / 100
    return math.ceil(share) if round_up else math.floor(share)


class DeploymentController(Controller):
    """Keeps one replica set per template and moves replicas to the newest."""

    def keys(self, change: Change) -> Iterable[Key]:
        if change.resource is DEPLOYMENTS:
            return [object_key(change.current)]
        if change.resource is REPLICA_SETS:
            return owner_keys(change, "Deployment")
        return ()

    def reconcile(self, key: Key) -> float | None:
        deployment = self.store.get(DEPLOYMENTS, *key)
        if deployment is None or "deletionTimestamp" in deployment["metadata"]:
            return None
        owned = sorted(children(self.store, REPLICA_SETS, deployment), key=_age)
        new = next((each for each in owned if _has_template(each, deployment)), None)
        if deployment["spec"].get("paused"):
            self._scale_paused(deployment, owned)
            return self._write_status(deployment, new, owned, conditions=_conditions(deployment))
        conditions = _conditions(deployment)
        if new is None:
            new = self._create_replica_set(deployment, owned)
            owned.append(new)
            conditions = with_condition(
                conditions, _progressing("NewReplicaSetCreated", "Created new replica set", new)
            )
        elif not any(each["type"] == "Progressing" for each in conditions):
            conditions = with_condition(
                conditions, _progressing("FoundNewReplicaSet", "Found new replica set", new)
            )
        old = [each for each in owned if each is not new]
        new = self._with_revision(deployment, new, old)
        if deployment["spec"]["strategy"]["type"] == "Recreate":
            self._recreate(deployment, new, old)
        else:
            self._roll(deployment, new, old)
        owned = sorted(children(self.store, REPLICA_SETS, deployment), key=_age)
        new = next((each for each in owned if object_key(each) == object_key(new)), new)
        return self._write_status(deployment, new, owned, conditions=conditions)

    # Replica sets and their revisions

    def _create_replica_set(self, deployment: Object, owned: Sequence[Object]) -> Object:
        template = deepcopy(deployment["spec"]["template"])
        digest = _template_hash(template)
        labels = {**template["metadata"]["labels"], HASH_LABEL: digest}
        template["metadata"]["labels"] = labels
        selector = deepcopy(deployment["spec"]["selector"])
        selector["matchLabels"] = {**selector.get("matchLabels", {}), HASH_LABEL: digest}
        metadata = deployment["metadata"]
        spec: Object = {"replicas": 0, "selector": selector, "template": template}
        if minimum := deployment["spec"].get("minReadySeconds"):
            spec["minReadySeconds"] = minimum
        return self.registry.create(
            REPLICA_SETS,
            metadata["namespace"],
            {
                "metadata": {
                    "name": f"{metadata['name']}-{digest}",
                    "labels": labels,
                    "annotations": {
                        **_copied_annotations(deployment),
                        REVISION: str(_last_revision(owned) + 1),
                    },
                    "ownerReferences": [controller_reference(deployment)],
                },
                "spec": spec,
            },
            CONTROLLER_MANAGER,
        )

    def _with_revision(self, deployment: Object, new: Object, old: Sequence[Object]) -> Object:
        """The new replica set with the newest revision: a rollback makes an old one the newest again."""
        annotations = new["metadata"].get("annotations", {})
        wanted = _copied_annotations(deployment)
        current = int(annotations.get(REVISION, 0))
        newest = max(current, _last_revision(old) + 1)
        wanted[REVISION] = str(newest)
        if 0 < current < newest:
            history = [*filter(None, annotations.get(REVISION_HISTORY, "").split(",")), str(current)]
            wanted[REVISION_HISTORY] = ",".join(history)
        patch: Object = {"metadata": {"annotations": wanted}}
        if new["spec"].get("minReadySeconds", 0) != deployment["spec"].get("minReadySeconds", 0):
            patch["spec"] = {"minReadySeconds": deployment["spec"].get("minReadySeconds")}
        return self.registry.patch(_target(new), patch, MERGE, CONTROLLER_MANAGER)

    # Moving replicas

    def _roll(self, deployment: Object, new: Object, old: Sequence[Object]) -> None:
        desired = deployment["spec"]["replicas"]
        bounds = RolloutBounds.of(deployment)
        total = sum(each["spec"]["replicas"] for each in (new, *old))
        have = new["spec"]["replicas"]
        if have > desired:
            self._scale(deployment, new, desired)
        elif have < desired and (room := desired + bounds.surge - total) > 0:
            self._scale(deployment, new, have + min(room, desired - have))
        else:
            self._scale_down_old(deployment, new, old, minimum=desired - bounds.unavailable)

    def _scale_down_old(
        self, deployment: Object, new: Object, old: Sequence[Object], *, minimum: int
    ) -> None:
        total = sum(each["spec"]["replicas"] for each in (new, *old))
        new_unavailable = new["spec"]["replicas"] - _available(new)
        spare = total - minimum - new_unavailable
        sizes = {object_key(each): each["spec"]["replicas"] for each in old}
        # Unavailable pods go first: they serve nobody.
        for each in old:
            count = min(spare, sizes[object_key(each)] - _available(each))
            if count > 0:
                sizes[object_key(each)] -= count
                spare -= count
        surplus = min(spare, _available(new) + sum(_available(each) for each in old) - minimum)
        for each in old:
            count = min(surplus, sizes[object_key(each)])
            if count > 0:
                sizes[object_key(each)] -= count
                surplus -= count
        for each in old:
            self._scale(deployment, each, sizes[object_key(each)])

    def _recreate(self, deployment: Object, new: Object, old: Sequence[Object]) -> None:
        for each in old:
            self._scale(deployment, each, 0)
        if all(each.get("status", {}).get("replicas", 0) == 0 for each in old):
            self._scale(deployment, new, deployment["spec"]["replicas"])

    def _scale_paused(self, deployment: Object, owned: Sequence[Object]) -> None:
        active = [each for each in owned if each["spec"]["replicas"] > 0] or list(owned[-1:])
        if len(active) == 1:
            self._scale(deployment, active[0], deployment["spec"]["replicas"])

    def _scale(self, deployment: Object, replica_set: Object, replicas: int) -> None:
        before = replica_set["spec"]["replicas"]
        desired = deployment["spec"]["replicas"]
        annotations = {
            DESIRED_REPLICAS: str(desired),
            MAX_REPLICAS: str(desired + RolloutBounds.of(deployment).surge),
        }
        self.registry.patch(
            _target(replica_set),
            {"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}},
            MERGE,
            CONTROLLER_MANAGER,
        )
        if replicas != before:
            direction = "up" if replicas > before else "down"
            record_event(
                self.registry,
                deployment,
                kind="Normal",
                reason="ScalingReplicaSet",
                message=f"Scaled {direction} replica set {replica_set['metadata']['name']} to {replicas}",
                component="deployment-controller",
            )

    # Status

    def _write_status(
        self, deployment: Object, new: Object | None, owned: Sequence[Object], *, conditions: list[Object]
    ) -> float | None:
        spec = deployment["spec"]
        before = deployment.get("status", {})
        status = _counts(deployment, new, owned)
        minimum = spec["replicas"] - RolloutBounds.of(deployment).unavailable
        enough = status["availableReplicas"] >= minimum
        conditions = with_condition(
            conditions,
            {
                "type": "Available",
                "status": "True" if enough else "False",
                "reason": f"MinimumReplicas{'A' if enough else 'Una'}vailable",
                "message": f"Deployment {'has' if enough else 'does not have'} minimum availability.",
            },
        )
        if spec.get("paused"):
            conditions = with_condition(
                conditions,
                {
                    "type": "Progressing",
                    "status": "Unknown",
                    "reason": "DeploymentPaused",
                    "message": "Deployment is paused",
                },
            )
        elif new is not None:
            conditions = _with_progress(conditions, deployment, new, before, status)
        written = {key: value for key, value in status.items() if value}  # zeros are left out, as Go does
        patch: Object = {**deployment, "status": {**written, "conditions": conditions}}
        if new is not None and not spec.get("paused"):
            revision = new["metadata"]["annotations"][REVISION]
            annotations = {**deployment["metadata"].get("annotations", {}), REVISION: revision}
            patch["metadata"] = {**deployment["metadata"], "annotations": annotations}
        target = Target(DEPLOYMENTS, *object_key(deployment), subresource="status")
        self.registry.replace(target, patch, CONTROLLER_MANAGER)
        if new is not None and _is_complete(deployment, status):
            self._forget_old(deployment, [each for each in owned if each is not new])
        return _until_deadline(deployment, conditions)

    def _forget_old(self, deployment: Object, old: Sequence[Object]) -> None:
        idle = [
            each
            for each in sorted(old, key=_revision)
            if not each["spec"]["replicas"] and not each.get("status", {}).get("replicas")
        ]
        for each in idle[: max(0, len(idle) - deployment["spec"]["revisionHistoryLimit"])]:
            self.registry.delete(_target(each))


def _with_progress(
    conditions: list[Object], deployment: Object, new: Object, before: Object, status: dict[str, int]
) -> list[Object]:
    """The `Progressing` condition after this look: complete, moving, timed out, or as it was."""
    current = next((each for each in conditions if each["type"] == "Progressing"), None)
    finished = current is not None and current["reason"] == "NewReplicaSetAvailable"
    if finished and status["replicas"] == status["updatedReplicas"]:
        return conditions
    name = new["metadata"]["name"]
    if _is_complete(deployment, status):
        return with_condition(
            conditions,
            {
                "type": "Progressing",
                "status": "True",
                "reason": "NewReplicaSetAvailable",
                "message": f'ReplicaSet "{name}" has successfully progressed.',
            },
        )
    if _has_moved(before, status):
        moving = {
            "type": "Progressing",
            "status": "True",
            "reason": "ReplicaSetUpdated",
            "message": f'ReplicaSet "{name}" is progressing.',
        }
        # Each step starts the deadline afresh, so the update time must move although the reason stays.
        others = [each for each in conditions if each["type"] != "Progressing"]
        updated = with_condition(others, moving)
        if current is not None and current["status"] == "True":
            updated[-1]["lastTransitionTime"] = current["lastTransitionTime"]
        return updated
    if current is not None and not finished and _is_overdue(deployment, current):
        return with_condition(
            conditions,
            {
                "type": "Progressing",
                "status": "False",
                "reason": "ProgressDeadlineExceeded",
                "message": f'ReplicaSet "{name}" has timed out progressing.',
            },
        )
    return conditions


def _is_overdue(deployment: Object, progressing: Object) -> bool:
    deadline: int = deployment["spec"]["progressDeadlineSeconds"]
    return seconds_since(progressing["lastUpdateTime"]) > deadline + DEADLINE_MARGIN_SECONDS


def _until_deadline(deployment: Object, conditions: Iterable[Object]) -> float | None:
    current = next((each for each in conditions if each["type"] == "Progressing"), None)
    if current is None or current["status"] != "True" or current["reason"] == "NewReplicaSetAvailable":
        return None
    deadline = deployment["spec"]["progressDeadlineSeconds"] + DEADLINE_MARGIN_SECONDS
    return float(max(0.1, deadline - seconds_since(current["lastUpdateTime"]) + 0.1))


def _counts(deployment: Object, new: Object | None, owned: Iterable[Object]) -> dict[str, int]:
    states = [each.get("status", {}) for each in owned]
    available = sum(each.get("availableReplicas", 0) for each in states)
    wanted = sum(each["spec"]["replicas"] for each in owned)
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": sum(each.get("replicas", 0) for each in states),
        "updatedReplicas": new.get("status", {}).get("replicas", 0) if new is not None else 0,
        "readyReplicas": sum(each.get("readyReplicas", 0) for each in states),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted - available),
    }


def _is_complete(deployment: Object, status: dict[str, int]) -> bool:
    desired: int = deployment["spec"]["replicas"]
    return all(status[name] == desired for name in ("updatedReplicas", "replicas", "availableReplicas"))


def _has_moved(before: Object, status: dict[str, int]) -> bool:
    old_before = before.get("replicas", 0) - before.get("updatedReplicas", 0)
    return status["replicas"] - status["updatedReplicas"] < old_before or any(
        status[name] > before.get(name, 0)
        for name in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def _progressing(reason: str, what: str, replica_set: Object) -> Object:
    message = f'{what} "{replica_set["metadata"]["name"]}"'
    return {"type": "Progressing", "status": "True", "reason": reason, "message": message}


def _conditions(deployment: Object) -> list[Object]:
    return list(deployment.get("status", {}).get("conditions") or [])


def _template_hash(template: Any) -> str:
    digest = int.from_bytes(sha256(json.dumps(template, sort_keys=True).encode()).digest()[:8])
    letters = ""
    for _ in range(10):
        digest, position = divmod(digest, len(NAME_ALPHABET))
        letters += NAME_ALPHABET[position]
    return letters


def _has_template(replica_set: Object, deployment: Object) -> bool:
    template = deepcopy(replica_set["spec"]["template"])
    template["metadata"]["labels"].pop(HASH_LABEL, None)
    return bool(template == deployment["spec"]["template"])


def _copied_annotations(deployment: Object) -> dict[str, str]:
    annotations = deployment["metadata"].get("annotations", {})
    return {key: value for key, value in annotations.items() if key not in OWN_ANNOTATIONS}


def _revisions(replica_sets: Iterable[Object]) -> Iterator[int]:
    for each in replica_sets:
        yield _revision(each)


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(REVISION, 0))


def _last_revision(replica_sets: Iterable[Object]) -> int:
    return max(_revisions(replica_sets), default=0)


def _available(replica_set: Object) -> int:
    return int(replica_set.get("status", {}).get("availableReplicas", 0))


def _age(replica_set: Object) -> tuple[str, str]:
    return (replica_set["metadata"]["creationTimestamp"], replica_set["metadata"]["name"])


def _target(replica_set: Object) -> Target:
    return Target(REPLICA_SETS, *object_key(replica_set))
