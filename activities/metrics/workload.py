"""What the Kubernetes API itself says of a Deployment's newest pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
from temporalio.exceptions import ApplicationError

from activities.errors import INVALID_CONFIGURATION
from activities.kubernetes.api import KubernetesApi, Object, deployments, pods, replica_sets
from activities.kubernetes.failures import StatusError, raise_typed
from activities.kubernetes.manifests import POD_HASH_LABEL, REVISION, annotations_of, labels_of, match_labels
from domain.analysis import MetricReading, WorkloadMeasure, WorkloadSource


class _NotShownError(Exception):
    """The cluster does not show the number (yet)."""


class WorkloadMetrics:
    """Reads through one client, which its creator closes."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def measure(self, source: WorkloadSource) -> MetricReading:
        """The number now. No pods are no data; what cannot be read is an error.

        Raises:
            ApplicationError: InvalidConfiguration; there is no usable way to a cluster.
        """
        subject = f"measure {source.measure} of deployment {source.namespace}/{source.deployment}"
        try:
            try:
                return MetricReading(value=await self._value(source))
            except (StatusError, aiohttp.ClientError, TimeoutError, OSError) as error:
                raise_typed(error, subject)
        except ApplicationError as error:
            if error.type == INVALID_CONFIGURATION:
                raise
            return MetricReading(error=error.message)
        except _NotShownError as error:
            return MetricReading(error=f"{subject}: {error}")

    async def _value(self, source: WorkloadSource) -> float | None:
        deployment = await self._api.find(deployments(source.namespace), source.deployment)
        if deployment is None:
            raise _NotShownError("it does not exist")
        wanted: int = deployment["spec"].get("replicas", 1)
        if wanted == 0:
            return None
        found = await self._newest_pods(source, deployment)
        if source.measure is WorkloadMeasure.RESTARTS:
            return float(sum(_restarts(pod) for pod in found)) if found else None
        return 100 * sum(_is_ready(pod) for pod in found) / wanted

    async def _newest_pods(self, source: WorkloadSource, deployment: Object) -> list[Object]:
        """The pods of the newest revision; not of an older one that a controller has yet to replace."""
        seen = (deployment.get("status") or {}).get("observedGeneration", 0)
        if seen < deployment["metadata"].get("generation", 0):
            raise _NotShownError("its controller has not seen the newest revision yet")
        revisions = await self._owned(
            replica_sets(source.namespace), match_labels(deployment), deployment["metadata"]["uid"]
        )
        newest = max(revisions, key=lambda r: int(annotations_of(r).get(REVISION) or 0), default=None)
        if newest is None:
            raise _NotShownError("it has no ReplicaSet yet")
        pod_hash = labels_of(newest).get(POD_HASH_LABEL)
        labels = {POD_HASH_LABEL: pod_hash} if pod_hash else match_labels(newest)
        return await self._owned(pods(source.namespace), labels, newest["metadata"]["uid"])

    async def _owned(self, collection: str, labels: Mapping[str, str], owner: str) -> list[Object]:
        selector = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
        listing = await self._api.list_all(collection, **({"labelSelector": selector} if selector else {}))
        return [
            found
            for found in listing.get("items") or []
            if any(o.get("uid") == owner for o in found["metadata"].get("ownerReferences") or [])
        ]


def _restarts(pod: Mapping[str, Any]) -> int:
    """Of all its containers; init containers are among them, as a sidecar may be one."""
    status = pod.get("status") or {}
    return sum(
        container.get("restartCount", 0)
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in status.get(kind) or []
    )


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
