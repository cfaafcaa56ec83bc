"""What the tests of the workload share: a probed service, targets, releases, and how a worker runs them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
import yaml
from aiohttp import web
from temporalio.testing import ActivityEnvironment

from activities.kubernetes import KubernetesActivities
from domain.workload import (
    ProbeSettings,
    ReleaseApply,
    RolloutResult,
    RolloutWatch,
    Track,
    WorkloadTarget,
)
from sandbox.kubernetes.access import ClusterAccess

T = TypeVar("T")


@dataclass
class ProbedService:
    """Stands for what would run in the pods: the kubelet asks it whether they are ready."""

    port: int
    broken: set[str] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.Response:
        bad = request.path in self.broken
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE if bad else HTTPStatus.OK)


class Onlooker:
    """Another client than the one under test: what it sees is what the cluster has."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def at(cls, access: ClusterAccess) -> AsyncIterator[Onlooker]:
        headers = {"Authorization": f"Bearer {access.token}"}
        async with httpx.AsyncClient(
            base_url=access.server, headers=headers, verify=access.ssl_context(), timeout=30
        ) as http:
            yield cls(http)

    async def deployment(self, namespace: str, name: str = "erlmcp") -> Any:
        return await self.ask("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")

    async def replicas(self, namespace: str) -> dict[str, int]:
        """The wanted pods of each Deployment."""
        listed = await self.ask("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments")
        return {d["metadata"]["name"]: d["spec"]["replicas"] for d in listed["items"]}

    async def serving_hashes(self, namespace: str) -> set[str]:
        """The pod template hashes of the ReplicaSets that have pods."""
        listed = await self.ask("GET", f"/apis/apps/v1/namespaces/{namespace}/replicasets")
        serving = [r for r in listed["items"] if r["spec"]["replicas"]]
        return {r["metadata"]["labels"]["pod-template-hash"] for r in serving}

    async def create_deployment(self, namespace: str, body: Any, manager: str = "kubectl") -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments?fieldManager={manager}"
        await self.ask("POST", path, body)

    async def patch_deployment(self, namespace: str, body: Any) -> None:
        """As `kubectl patch` does it: lists are merged by name."""
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/erlmcp?fieldManager=kubectl"
        await self.ask("PATCH", path, body, content_type="application/strategic-merge-patch+json")

    async def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        content = None if body is None else json.dumps(body)
        answer = await self._http.request(
            method, path, content=content, headers={"Content-Type": content_type}
        )
        assert answer.is_success, answer.text
        return answer.json()


def target_in(
    namespace: str, service: ProbedService, ready_path: str = "/ready", **settings: Any
) -> WorkloadTarget:
    probes: dict[str, Any] = {"httpGet": {"host": "127.0.0.1", "port": service.port}}
    defaults: dict[str, Any] = {
        "application": "erlmcp",
        "environment": "test",
        "namespace": namespace,
        "deployment": "erlmcp",
        "container": "erlmcp",
        "replicas": 2,
        "readiness": ProbeSettings(
            path=ready_path, period=timedelta(seconds=1), timeout=timedelta(seconds=1), failure_threshold=1
        ),
        "liveness": None,
        "progress_deadline": timedelta(seconds=60),
        "template": {"spec": {"containers": [{"name": "erlmcp", "readinessProbe": probes}]}},
    }
    return WorkloadTarget.model_validate({**defaults, **settings})


def release(
    target: WorkloadTarget, version: str = "1.0.0", track: Track = Track.STABLE, **fields: Any
) -> ReleaseApply:
    defaults: dict[str, Any] = {
        "key": f"run-{version}/{track}",
        "target": target,
        "track": track,
        "version": version,
        "image": f"registry.example.com/erlmcp:{version}",
        "replicas": target.replicas,
        "deployment_id": f"deployment:erlmcp:test:{version}",
        "commit": "1a2b3c4",
    }
    return ReleaseApply.model_validate({**defaults, **fields})


def encoded(access: ClusterAccess) -> str:
    """The way in as the worker gets it in KUBE_CONFIG."""
    return base64.b64encode(yaml.safe_dump(access.kubeconfig).encode()).decode()


async def run(work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Run an activity as a worker would."""
    return await ActivityEnvironment().run(work, *arguments)


async def roll_out(
    activities: KubernetesActivities,
    target: WorkloadTarget,
    version: str,
    track: Track = Track.STABLE,
    **fields: Any,
) -> RolloutResult:
    """Apply a version and wait for the end of its roll-out."""
    await run(activities.apply_release, release(target, version, track, **fields))
    return await run(activities.watch_rollout, rollout_of(target, version, track))


def rollout_of(target: WorkloadTarget, version: str, track: Track = Track.STABLE) -> RolloutWatch:
    return RolloutWatch(target=target, track=track, version=version, replicas=target.replicas)


def foreign_deployment(tag: str) -> dict[str, Any]:
    """A Deployment as an engineer would have made it years ago."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "erlmcp"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "erlmcp"}},
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": {"app": "erlmcp"}},
                "spec": {
                    "containers": [
                        {
                            "name": "erlmcp",
                            "image": f"registry.example.com:5000/erlmcp:{tag}@sha256:{'0' * 64}",
                            "env": [{"name": "MODE", "value": "cluster"}],
                        }
                    ]
                },
            },
        },
    }
