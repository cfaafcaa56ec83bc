"""Versions go to two running nodes without a restart, and back again: the whole way, under load.

Real Temporal server, real builds, real nodes; there is no cluster in it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML
from temporalio.client import Client
from temporalio.worker import Replayer, Worker

from activities.audit import AuditActivities
from activities.audit_sqlite import SqliteAuditStore
from activities.kubernetes import ClusterConnection
from activities.notifications import NotificationActivities
from activities.otp import NodeActivities
from activities.plans import PlanActivities
from activities.turns import TurnActivities
from activities.watching import WatchActivities
from domain.delivery import StepState
from domain.deployment import DeploymentState, DeploymentStatus
from sandbox.configuration import Places, Times, sandbox_configuration
from sandbox.otp import NAME, RunningNode, Users, Workshop
from sandbox.temporal import TemporalServer
from tests.activities.otp import conftest as releases
from workers.composition import WORKFLOWS, activities_of, workflow_runner
from workflows.conversion import data_converter
from workflows.effects import BUILDS_QUEUE, DEPLOYMENTS_QUEUE

pytestmark = pytest.mark.erlang

workshop, packages = releases.workshop, releases.packages
TIMES = Times(health_interval="300ms", health_timeout="20s", soak="600ms", analysis_interval="300ms")


@dataclass
class Site:
    """Two nodes, and somebody who deploys to them."""

    client: Client
    nodes: dict[str, RunningNode]

    async def deploy(self, version: str) -> DeploymentStatus:
        handle = await self.client.start_workflow(
            "DeploymentWorkflow",
            {
                "application": NAME,
                "environment": "dev",
                "version": version,
                "actor": "developer@example.com",
            },
            id=f"deployment:{NAME}:dev:{version}",
            task_queue=DEPLOYMENTS_QUEUE,
            result_type=DeploymentStatus,
        )
        return await asyncio.wait_for(handle.result(), 120)

    async def versions(self) -> dict[str, str]:
        return {name: (await node.health())[1] for name, node in self.nodes.items()}

    async def lives(self) -> dict[str, str]:
        return {name: await node.life() for name, node in self.nodes.items()}

    async def replay_all(self) -> None:
        replayer = Replayer(
            workflows=WORKFLOWS, workflow_runner=workflow_runner(), data_converter=data_converter
        )
        async for execution in self.client.list_workflows():
            handle = self.client.get_workflow_handle(execution.id, run_id=execution.run_id)
            await replayer.replay_workflow(await handle.fetch_history())


def described(nodes: dict[str, RunningNode], repository: Path) -> dict[str, Any]:
    """deployment.yaml: the stage ``dev`` has no pods, but these nodes."""
    listed = [
        {
            "name": name,
            "path": str(node.directory),
            "health_url": node.url,
            "environment": {**node.variables, "ERLSAMPLE_COOKIE": f"${{COOKIE_{name.upper()}}}"},
        }
        for name, node in nodes.items()
    ]
    hot_upgrade = {"nodes": listed, "verify": "1s", "analysis_interval": "300ms", "timeout": "40s"}
    places = Places(repository=repository, fronts={}, prometheus_url=None, slack_api_url="http://127.0.0.1:1")
    changes = {
        "applications": {NAME: {"health": {"url": nodes["a"].url, "canary_url": nodes["b"].url}}},
        "environments": {
            "dev": {"hot_upgrade": hot_upgrade, "required_gates": []},
            "production": {"monitoring": "basic"},
        },
    }
    return sandbox_configuration(places, TIMES, "erlang", changes)


@asynccontextmanager
async def working(
    client: Client,
    site: Site,
    workshop: Workshop,
    home: Path,
) -> AsyncIterator[None]:
    """A worker for all that a deployment without a cluster needs."""
    file = home / "deployment.yaml"
    with file.open("w") as target:
        YAML().dump(described(site.nodes, workshop.repository), target)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    environment |= {f"COOKIE_{name.upper()}": node.cookie for name, node in site.nodes.items()}
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteAuditStore.open(home / "audit.db"))
        http = await stack.enter_async_context(httpx.AsyncClient())
        connection = ClusterConnection.from_environment(environment)
        deployments = activities_of(
            PlanActivities(file),
            TurnActivities(client, DEPLOYMENTS_QUEUE),
            NodeActivities(connection, environment),
            WatchActivities(http, connection, environment),
            NotificationActivities([]),
            AuditActivities(store),
        )
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=DEPLOYMENTS_QUEUE,
                workflows=WORKFLOWS,
                workflow_runner=workflow_runner(),
                activities=deployments,
            )
        )
        for queue in (BUILDS_QUEUE, workshop.worker.own_queue):
            builds = activities_of(workshop.worker)
            await stack.enter_async_context(Worker(client, task_queue=queue, activities=builds))
        yield


@pytest.fixture
async def site(
    tmp_path: Path,
    workshop: Workshop,
    packages: dict[str, Any],
) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        nodes = {name: RunningNode(tmp_path / name) for name in ("a", "b")}
        for node in nodes.values():
            await stack.enter_async_context(node.running(packages["1.0.0"]))
        server = await stack.enter_async_context(TemporalServer.start(tmp_path / "temporal", ui=False))
        client = await Client.connect(server.address, data_converter=data_converter)
        site = Site(client, nodes)
        await stack.enter_async_context(working(client, site, workshop, tmp_path))
        yield site


def steps(status: DeploymentStatus) -> list[tuple[str, StepState]]:
    assert status.delivery is not None
    return [(step.name, step.state) for step in status.delivery.steps]


async def test_versions_come_and_go_without_a_restart(site: Site) -> None:
    a, b = site.nodes.values()
    born = await site.lives()
    async with Users.of(a) as of_a, Users.of(b) as of_b:
        # Given a second node that would not get the settings it was started with
        settings = b.directory / "releases" / "1.0.0" / "sys.config"
        original = settings.read_text()
        settings.write_text(f"%% changed by hand\n{original}")
        # When 1.1.0 is deployed
        ended = await site.deploy("1.1.0")
        # Then the first node has gone back to what it ran, and the second was not touched
        assert ended.state is DeploymentState.FAILED
        assert "sys.config of 1.0.0" in (ended.reason or "")
        assert steps(ended) == [
            ("upgrade a", StepState.PASSED),
            ("watch a", StepState.PASSED),
            ("make a permanent", StepState.PASSED),
            ("upgrade b", StepState.FAILED),
            ("return b to 1.0.0", StepState.PASSED),
            ("return a to 1.0.0", StepState.PASSED),
        ]
        assert ended.rollback is not None
        assert ended.rollback.succeeded
        assert await site.versions() == {"a": "1.0.0", "b": "1.0.0"}

        # When that is put right, and it is deployed again
        settings.write_text(original)
        ended = await site.deploy("1.1.0")
        # Then both nodes run it for good
        assert ended.state is DeploymentState.COMPLETED, ended.reason
        assert ended.previous_version == "1.0.0"
        assert {state for _, state in steps(ended)} == {StepState.PASSED}
        assert await site.versions() == {"a": "1.1.0", "b": "1.1.0"}
    # And through all of this nobody noticed, and nothing was forgotten
    assert (of_a.failures, of_b.failures) == ([], [])
    assert min(of_a.count - of_a.answered, of_b.count - of_b.answered) >= 0
    assert await site.lives() == born

    # When a version is deployed that is unhealthy as soon as it runs
    counted = int((await a.get("/bump")).text)
    ended = await site.deploy("1.2.0")
    # Then the first node has gone back by itself, with its state, and the second never ran it
    assert ended.state is DeploymentState.FAILED
    assert steps(ended) == [
        ("upgrade a", StepState.PASSED),
        ("watch a", StepState.FAILED),
        ("return a to 1.1.0", StepState.PASSED),
    ]
    assert await site.versions() == {"a": "1.1.0", "b": "1.1.0"}
    assert int((await a.get("/bump")).text) == counted + 1
    assert await site.lives() == born

    # When a version is deployed that crashes while it is installed
    ended = await site.deploy("1.3.0")
    # Then that node has restarted in the version before, once, and the other one was left alone
    assert ended.state is DeploymentState.FAILED
    assert "erlsample_counter:code_change" in (ended.reason or "")
    assert await site.versions() == {"a": "1.1.0", "b": "1.1.0"}
    lives = await site.lives()
    assert lives["b"] == born["b"]
    assert lives["a"] != born["a"]

    # And every history replays
    await site.replay_all()
