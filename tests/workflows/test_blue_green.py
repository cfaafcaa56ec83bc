"""The ways back and out of blue/green, as workflows on a real Temporal server and a real cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from temporalio.client import Client
from temporalio.worker import Worker

from activities.kubernetes import ClusterConnection, KubernetesActivities
from activities.kubernetes.colours import ColourActivities
from domain.blue_green import Colours, SideScale, Switch
from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.deployment import DeploymentRequest
from domain.merging import overlay
from domain.plan import DeploymentPlan, resolve_plan
from domain.workload import Side, WorkloadObservation, WorkloadTarget
from sandbox.kubernetes.control_plane import ControlPlane
from tests.activities.kubernetes.workload import (
    Onlooker,
    ProbedService,
    encoded,
    release,
    roll_out,
    rollout_of,
    run,
    target_in,
)
from tests.workflows.blue_green_ways import FindWorkflow, Way, WayWorkflow
from workers.composition import activities_of, workflow_runner

BLUE, GREEN = Side.BLUE, Side.GREEN
pytestmark = pytest.mark.kubernetes


@dataclass
class Stage:
    """A workload with 1.0.0 on blue, 1.1.0 on green, all traffic on green; and the ways from there."""

    target: WorkloadTarget
    client: Client
    queue: str
    colours: ColourActivities
    workloads: KubernetesActivities
    onlooker: Onlooker
    service: ProbedService

    async def bring_up(self, side: Side, version: str) -> None:
        on = self.target.on(side)
        await run(self.colours.apply_side, release(on, version, key=f"{side}-{version}"))
        assert (await run(self.workloads.watch_rollout, rollout_of(on, version))).complete

    async def switch(self, to: Side | None, version: str) -> None:
        switch = Switch(key=f"{to}-{version}", target=self.target, to=to, version=version)
        await run(self.colours.switch_traffic, switch)

    async def scale(self, side: Side, replicas: int) -> None:
        scale = SideScale(key="scale", target=self.target, side=side, replicas=replicas)
        await run(self.colours.scale_side, scale)

    async def observe(self) -> Colours:
        return await run(self.colours.observe_colours, self.target)

    def way(self, name: str, **fields: Any) -> Way:
        settings = overlay(DEFAULTS, {"environments": {"production": {"canary": None, "blue_green": {}}}})
        request = DeploymentRequest(
            application="erlmcp", environment="production", version="3.0.0", actor="dev@example.com"
        )
        plan: DeploymentPlan = resolve_plan(Configuration.model_validate(settings), request)
        return Way(name=name, plan=plan.model_copy(update={"target": self.target, "health": None}), **fields)

    async def go(self, name: str, **fields: Any) -> str:
        way = self.way(name, **fields)
        return await self.client.execute_workflow(
            WayWorkflow.run, way, id=f"way-{uuid4().hex}", task_queue=self.queue
        )

    async def find(self, version: str) -> WorkloadObservation:
        way = self.way("find", version=version)
        return await self.client.execute_workflow(
            FindWorkflow.run, way, id=f"way-{uuid4().hex}", task_queue=self.queue
        )


@pytest.fixture
async def stage(client: Client, control_plane: ControlPlane) -> AsyncIterator[Stage]:
    probed, queue = ProbedService(port=0), f"ways-{uuid4().hex}"
    application = web.Application()
    application.router.add_get("/{path:.*}", probed.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    probed.port = runner.addresses[0][1]
    connection = ClusterConnection(kube_config=encoded(control_plane.access))
    workloads, colours = KubernetesActivities(connection), ColourActivities(connection)
    templates = {
        side: {
            "spec": {"containers": [{"name": "erlmcp", "readinessProbe": {"httpGet": {"path": f"/{side}"}}}]}
        }
        for side in Side
    }
    target = target_in(
        f"ways-{uuid4().hex[:8]}",
        probed,
        replicas=1,
        create_namespace=True,
        progress_deadline="8s",
        side_templates=templates,
    )
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[WayWorkflow, FindWorkflow],
        workflow_runner=workflow_runner(),
        activities=activities_of(workloads, colours),
    )
    async with Onlooker.at(control_plane.access) as onlooker, worker:
        made = Stage(target, client, queue, colours, workloads, onlooker, probed)
        for side, version in ((BLUE, "1.0.0"), (GREEN, "1.1.0")):
            await made.bring_up(side, version)
            await made.switch(side, version)
        yield made
        await onlooker.ask("DELETE", f"/api/v1/namespaces/{target.namespace}")
    await colours.close()
    await workloads.close()
    await runner.cleanup()


async def test_the_old_side_takes_the_traffic_back_if_it_can(stage: Stage) -> None:
    # given an old side that still has its pods, when the traffic is to go back, then it does, and the
    # side that is left gives up its own
    assert await stage.go("switch_back", version="1.0.0") == "blue"
    seen = await stage.observe()
    assert (seen.serving.version, seen.endpoints, seen.green.replicas) == ("1.0.0", 1, 0)

    # once more is no change
    assert await stage.go("switch_back", version="1.0.0") == "blue"

    # and a side that was scaled down gets its pods back first
    assert await stage.go("switch_back", version="1.1.0") == "green"
    assert (await stage.observe()).serving.ready == 1


async def test_a_side_that_is_broken_or_gone_gets_nothing_but_what_was_there_is_built_again(
    stage: Stage,
) -> None:
    recorded = await stage.find("1.0.0")
    assert (recorded.version, recorded.name) == ("1.0.0", "erlmcp-blue")
    assert recorded.template is not None

    # given a version that no side runs any more
    assert await stage.go("switch_back", version="0.9.0") == "ProcessError: no side runs 0.9.0 any more"

    # and an old side that cannot get well
    await stage.scale(BLUE, 0)
    stage.service.broken.add("/blue")
    why = await stage.go("switch_back", version="1.0.0")
    assert "erlmcp-blue" in why
    assert "has not come to 1 ready pods in 8s" in why
    assert (await stage.observe()).active is GREEN

    # when it can be built again from what was recorded, then it gets the traffic when it is well
    stage.service.broken.clear()
    assert await stage.go("bring_back", previous=recorded) == "brought back"
    seen = await stage.observe()
    assert (seen.active, seen.serving.version, seen.green.replicas) == (BLUE, "1.0.0", 0)

    # and where nothing was before, only what the deployment made is deleted
    nothing = WorkloadObservation(exists=False, name="erlmcp")
    owner = "deployment:erlmcp:test:1.1.0"
    assert await stage.go("bring_back", previous=nothing, deployment_id=owner) == "brought back"
    seen = await stage.observe()
    assert (seen.green.exists, seen.blue.exists) == (False, True)


async def test_a_service_that_was_never_switched_is_let_go(stage: Stage) -> None:
    # given a Service with no pods behind it yet, and a first side that does not get well
    stage.target = stage.target.model_copy(update={"application": "shop", "deployment": "shop"})
    body = {"metadata": {"name": "shop"}, "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}}
    await stage.onlooker.ask("POST", f"/api/v1/namespaces/{stage.target.namespace}/services", body)
    await run(stage.colours.apply_side, release(stage.target.on(BLUE), deployment_id="first"))
    assert (await stage.observe()).held

    # when it is taken back, then the Service selects as before
    nothing = WorkloadObservation(exists=False, name="shop")
    assert await stage.go("bring_back", previous=nothing, deployment_id="first") == "brought back"
    seen = await stage.observe()
    assert (seen.blue.exists, seen.held, seen.selector) == (False, False, {"app": "shop"})


async def test_an_environment_leaves_blue_green_without_losing_its_traffic(stage: Stage) -> None:
    # when the environment is to be delivered to in another way, then the plain Deployment takes over
    assert await stage.go("return_to_plain") == "plain runs 1.1.0"
    seen = await stage.observe()
    assert (seen.active, seen.held, seen.endpoints) == (None, False, 1)
    assert (seen.blue.replicas, seen.green.replicas, seen.plain.ready) == (0, 0, 1)
    assert seen.selector == {"app": "erlmcp"}

    # so that the next version rolls out there, under the Service's eyes
    assert (await roll_out(stage.workloads, stage.target, "1.2.0")).complete
    assert await stage.go("return_to_plain") == "plain runs 1.2.0"
    assert (await stage.observe()).serving.version == "1.2.0"
