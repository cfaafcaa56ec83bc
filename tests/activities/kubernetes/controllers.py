"""Flagger and Argo Rollouts as the tests play them: what the controllers would write over the API.

Neither runs in the sandbox. What is written here, and in which order, follows their published sources.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from domain.handover import Controller, HandoverRequest, HandoverSettings
from domain.workload import WorkloadTarget
from tests.activities.kubernetes.workload import Onlooker

MERGE = "application/merge-patch+json"
_PROMOTED = {"Initialized": "True", "Succeeded": "True", "Failed": "False"}


@dataclass
class PlayedFlagger:
    """Flagger for one Canary named like its Deployment."""

    onlooker: Onlooker
    namespace: str
    name: str = "erlmcp"
    seconds: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def path(self) -> str:
        return f"/apis/flagger.app/v1beta1/namespaces/{self.namespace}/canaries"

    @property
    def deployments(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments"

    async def install(self, **spec: Any) -> None:
        reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name}
        body = {
            "apiVersion": "flagger.app/v1beta1",
            "kind": "Canary",
            "metadata": {"name": self.name},
            "spec": {"targetRef": reference, **spec},
        }
        await self.onlooker.ask("POST", self.path, body)

    async def canary(self) -> Any:
        return await self.onlooker.ask("GET", f"{self.path}/{self.name}")

    async def says(self, phase: str, **status: Any) -> None:
        """A phase, with the condition that goes with it; ``applied``: it has seen the pod template."""
        now = f"2026-02-02T12:00:{next(self.seconds):02d}Z"
        known = ((await self.canary()).get("status") or {}).get("conditions") or [{}]
        promoted, since = _PROMOTED.get(phase, "Unknown"), known[0].get("lastTransitionTime")
        condition = {
            "type": "Promoted",
            "status": promoted,
            "reason": phase,
            "message": f"message of {phase}",
            "lastTransitionTime": since if promoted == known[0].get("status") else now,
        }
        body = {"phase": phase, "lastTransitionTime": now, "conditions": [condition], **status}
        await self.writes(**body)

    async def writes(self, **status: Any) -> None:
        await self.onlooker.ask("PATCH", f"{self.path}/{self.name}/status", {"status": status}, MERGE)

    async def promotes(self, applied: str) -> None:
        """The pod template goes to the primary, and the analysis is over."""
        live = await self.onlooker.deployment(self.namespace, self.name)
        template = live["spec"]["template"]
        labels = {**template["metadata"]["labels"], "app": f"{self.name}-primary"}
        annotations = {**template["metadata"].get("annotations", {}), "flagger-id": applied}
        primary = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"{self.name}-primary"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": f"{self.name}-primary"}},
                "template": {**template, "metadata": {"labels": labels, "annotations": annotations}},
            },
        }
        await self.onlooker.ask(
            "PATCH",
            f"{self.deployments}/{self.name}-primary?fieldManager=flagger&force=true",
            primary,
            "application/apply-patch+yaml",
        )
        await self.says("Promoting", canaryWeight=0)
        await self.says("Finalising", canaryWeight=0)
        await self.says("Succeeded", canaryWeight=0, lastPromotedSpec=applied)


@dataclass
class PlayedArgo:
    """Argo Rollouts for one Rollout."""

    onlooker: Onlooker
    namespace: str
    name: str = "erlmcp"

    @property
    def path(self) -> str:
        return f"/apis/argoproj.io/v1alpha1/namespaces/{self.namespace}/rollouts"

    async def install(self, **spec: Any) -> None:
        """A Rollout of somebody else, with a sidecar, as its first version is stable."""
        template = {
            "metadata": {"labels": {"app": "shop", "mesh": "yes"}},
            "spec": {
                "containers": [
                    {"name": "proxy", "image": "proxy:7"},
                    {"name": "erlmcp", "image": "erlmcp:1.0.0", "env": [{"name": "MODE", "value": "x"}]},
                ]
            },
        }
        steps = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}]
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": {"name": self.name},
            "spec": {
                "selector": {"matchLabels": {"app": "shop"}},
                "strategy": {"canary": {"steps": steps}},
                **({"template": template} if "workloadRef" not in spec else {}),
                **spec,
            },
        }
        created = await self.onlooker.ask("POST", self.path, body)
        if "template" in spec or "workloadRef" not in spec:
            await self._keeps(created, template)
        await self.observes("Healthy", currentPodHash="aaa", stableRS="aaa")

    async def _keeps(self, rollout: Any, template: Any) -> None:
        """The ReplicaSet of the stable version, as the controller makes it."""
        labels = {**template["metadata"]["labels"], "rollouts-pod-template-hash": "aaa"}
        owner = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "name": self.name,
            "uid": rollout["metadata"]["uid"],
            "controller": True,
        }
        body = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": f"{self.name}-aaa", "labels": labels, "ownerReferences": [owner]},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {**template, "metadata": {"labels": labels}},
            },
        }
        path = f"/apis/apps/v1/namespaces/{self.namespace}/replicasets"
        await self.onlooker.ask("POST", path, body)

    async def rollout(self) -> Any:
        return await self.onlooker.ask("GET", f"{self.path}/{self.name}")

    async def observes(self, phase: str, **status: Any) -> None:
        """It has acted on the Rollout as it is."""
        generation = str((await self.rollout())["metadata"]["generation"])
        await self.writes(phase=phase, observedGeneration=generation, **status)

    async def writes(self, **status: Any) -> None:
        await self.onlooker.ask("PATCH", f"{self.path}/{self.name}/status", {"status": status}, MERGE)


def handover_of(
    target: WorkloadTarget, controller: Controller, version: str = "1.1.0", **fields: Any
) -> HandoverRequest:
    defaults: dict[str, Any] = {
        "key": f"run-{version}/handover",
        "target": target,
        "settings": HandoverSettings(controller=controller),
        "version": version,
        "image": f"registry.example.com/erlmcp:{version}",
        "deployment_id": f"deployment:erlmcp:test:{version}",
    }
    return HandoverRequest.model_validate({**defaults, **fields})
