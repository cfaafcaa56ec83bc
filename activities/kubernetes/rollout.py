"""When a roll-out is over, and why it failed: pure decisions over what the cluster shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from activities.kubernetes.api import Object
from activities.kubernetes.manifests import SUPERSEDED_FAILURE, VERSION, annotations_of, given_up_at, progress
from domain.workload import RolloutResult, RolloutWatch

_PODS_NAMED = 3


def judge_rollout(deployment: Object, watch: RolloutWatch) -> RolloutResult | None:
    """How the roll-out ended, or none while it goes on."""
    name, spec, status = deployment["metadata"]["name"], deployment["spec"], deployment.get("status") or {}
    ready: int = status.get("readyReplicas", 0)

    def failed(reason: str) -> RolloutResult:
        return RolloutResult(complete=False, reason=f"Deployment {name}: {reason}", ready=ready)

    if deployment["metadata"].get("deletionTimestamp"):
        return failed("it is being deleted")
    # Only our own note tells for sure which version is meant: others put a chart's version in the label.
    wanted = annotations_of(spec["template"]).get(VERSION)
    if wanted is not None and watch.version and wanted != watch.version:
        return failed(f"somebody put version {wanted} in place of {watch.version} meanwhile")
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return None
    replicas: int = spec.get("replicas", 1)
    if replicas == 0 and watch.replicas > 0:
        return failed(f"somebody scaled it to 0 while {watch.replicas} pods were rolled out")
    if spec.get("paused"):
        return failed(f"it is paused; resume it: kubectl rollout resume deployment/{name}")
    total, updated, available = (
        status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")
    )
    if updated == replicas == total == available:
        return RolloutResult(
            complete=True,
            reason=f"{available} of {replicas} pods of {watch.version} are available",
            ready=ready,
        )
    failure = given_up_at(deployment)
    if failure is not None and failure != annotations_of(deployment).get(SUPERSEDED_FAILURE):
        message = progress(deployment).get("message") or ""
        return failed(f"ProgressDeadlineExceeded after {spec.get('progressDeadlineSeconds')} s: {message}")
    return None


def describe_progress(deployment: Object) -> str:
    """One line for the heartbeat."""
    status = deployment.get("status") or {}
    return (
        f"{status.get('updatedReplicas', 0)} of {deployment['spec'].get('replicas', 1)} pods updated, "
        f"{status.get('availableReplicas', 0)} available"
    )


def describe_failures(replica_set: Object | None, pods: Iterable[Object]) -> str:
    """Why pods of a ReplicaSet are not ready, in the cluster's own words."""
    reasons = [f"pod {p['metadata']['name']}: {reason}" for p in pods if (reason := _pod_failure(p))]
    conditions = ((replica_set or {}).get("status") or {}).get("conditions") or []
    reasons += [
        f"no pod could be created: {c.get('message') or c.get('reason')}"
        for c in conditions
        if c["type"] == "ReplicaFailure" and c["status"] == "True"
    ]
    more = f"; and {len(reasons) - _PODS_NAMED} more" if len(reasons) > _PODS_NAMED else ""
    return "; ".join(reasons[:_PODS_NAMED]) + more


def _pod_failure(pod: Mapping[str, Any]) -> str | None:
    status = pod.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    for container in containers:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            for phase in ("waiting", "terminated"):
                if (said := state.get(phase)) and said.get("reason") not in (None, "Completed"):
                    exit_code = f", exit code {said['exitCode']}" if "exitCode" in said else ""
                    text = f": {said['message']}" if said.get("message") else ""
                    return f"container {container['name']} {phase}, {said['reason']}{exit_code}{text}"
    for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        condition = conditions.get(kind, {})
        if condition.get("status") == "False":
            said = condition.get("message") or ""
            return f"{condition.get('reason') or kind}: {said}".rstrip(": ")
    return f"not ready ({status.get('phase') or 'unknown phase'})"
