"""How long an alert takes to take the canary's traffic away."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

from kubernetes.aio import client as kubernetes
from temporalio.client import Client, WorkflowHandle

from domain.deployment import DeploymentStatus
from domain.durations import parse_duration
from sandbox.bench.measurement import Measurement
from sandbox.configuration import APPLICATION, APPROVER, Times
from sandbox.world import World
from workflows.conversion import data_converter

_TIMES = Times(
    canary_step="10m", analysis_interval="30s", health_interval="1s", health_timeout="60s", soak="2s"
)
_QUERIES = 20
_POLL_SECONDS = 0.005


async def measure_abort(data_dir: Path) -> list[Measurement]:
    """An alert to a canary at 10 % of production, with the specification's own interval of analysis."""
    async with World.start(data_dir, times=_TIMES) as world:
        await world.start_worker()
        client = await Client.connect(world.temporal.address, data_converter=data_converter)
        await (await _deploy(client, "1.0.0")).result()
        handle = await _deploy(client, "1.1.0")
        while (status := await _status(handle)).canary is None or status.canary.weight != 10:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        query = statistics.median([await _timed_query(handle) for _ in range(_QUERIES)])
        begun = time.perf_counter()
        await handle.signal("alert", {"name": "HighErrorRate", "severity": "critical"})
        await _until_without_traffic(world)
        seconds = time.perf_counter() - begun
        await handle.result()
    what = "alert → canary at weight 0"
    interval = parse_duration(_TIMES.analysis_interval).total_seconds()
    return [
        Measurement(what, seconds, "one status query", query),
        Measurement(what, seconds, "one interval of analysis (the wait of a poller)", interval),
    ]


async def _deploy(client: Client, version: str) -> WorkflowHandle[Any, DeploymentStatus]:
    handle = await client.start_workflow(
        "DeploymentWorkflow",
        {
            "application": APPLICATION,
            "environment": "production",
            "version": version,
            "actor": "developer@example.com",
        },
        id=f"deployment:{APPLICATION}:production:{version}",
        task_queue="deployments",
        result_type=DeploymentStatus,
    )
    await handle.signal("approve", {"actor": APPROVER, "comment": "bench"})
    return handle


async def _status(handle: WorkflowHandle[Any, DeploymentStatus]) -> DeploymentStatus:
    status: DeploymentStatus = await handle.query("status", result_type=DeploymentStatus)
    return status


async def _timed_query(handle: WorkflowHandle[Any, DeploymentStatus]) -> float:
    begun = time.perf_counter()
    await _status(handle)
    return time.perf_counter() - begun


async def _until_without_traffic(world: World) -> None:
    """Until the API server says that the canary shall have no pod."""
    api = kubernetes.ApiClient(await world.kubernetes.client_configuration())
    apps, name, namespace = (
        kubernetes.AppsV1Api(api), f"{APPLICATION}-canary", world.namespace("production")
    )  # fmt: skip
    try:
        while True:
            try:
                found = await apps.read_namespaced_deployment(name, namespace)
            except kubernetes.ApiException as error:
                if error.status == 404:
                    return
                raise
            if not found.spec.replicas:
                return
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        await api.close()  # type: ignore[no-untyped-call]
