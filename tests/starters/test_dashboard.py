"""The dashboard, over HTTP, with a real Temporal server behind it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from temporalio.client import Client, Interceptor, ListWorkflowsInput, OutboundInterceptor, WorkflowHandle

from activities.configuration import ConfigurationError, parse_configuration
from domain.configuration import Configuration
from sandbox.temporal import TemporalServer
from starters.codec_server import TOKEN
from starters.dashboard import dashboard_routes
from starters.dashboard.admission import Admission
from starters.errors import CommandError
from starters.receiver.temporal import Temporal
from tests.starters.conftest import Eventually
from tests.starters.world import ADA, BOB, DEPLOYMENT_YAML, EVE, World, connect
from workflows.confidentiality import ENCRYPTION_KEYS, generate_key
from workflows.conversion import data_converter

_numbers = itertools.count(1)
NAMED = Admission({}, ["dashboard.example.com"])


def browser(
    temporal: Temporal,
    configuration: Callable[[], Configuration],
    admission: Admission = NAMED,
    **options: float,
) -> httpx.AsyncClient:
    """Somebody who reaches the port."""
    app = Starlette(routes=dashboard_routes(temporal, configuration, admission, **options))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dashboard.example.com")


def connected(client: Client) -> Temporal:
    async def connection() -> Client:
        return client

    return Temporal(connection)


class Service:
    """One application of its own, and the dashboard that shows it."""

    def __init__(self, client: Client, world: World) -> None:
        self.name = f"board-{next(_numbers)}"
        self.client = client
        self.world = world

    def configuration(self) -> Configuration:
        return parse_configuration(DEPLOYMENT_YAML.format(application=self.name))

    async def deploy(
        self, environment: str, version: str, **request: Any
    ) -> WorkflowHandle[Any, dict[str, Any]]:
        body = {"application": self.name, "environment": environment, "version": version, "actor": ADA}
        return await self.client.start_workflow(
            "DeploymentWorkflow",
            {**body, **request},
            id=f"deployment:{self.name}:{environment}:{version}",
            task_queue="deployments",
            result_type=dict,
        )

    def place(self, environment: str) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(f"environment:{self.name}:{environment}")

    async def overview(self) -> dict[str, Any]:
        """As a new viewer sees it: without what an earlier picture showed."""
        async with browser(connected(self.client), self.configuration) as viewer:
            answer = await viewer.get("/api/overview")
        assert answer.status_code == 200, answer.text
        overview: dict[str, Any] = answer.json()["overview"]
        return overview

    async def stage(self, environment: str) -> dict[str, Any]:
        lanes = (await self.overview())["lanes"]
        (lane,) = [lane for lane in lanes if lane["application"] == self.name]
        (stage,) = [stage for stage in lane["stages"] if stage["environment"] == environment]
        return dict(stage)

    async def mine(self, part: str) -> list[dict[str, Any]]:
        return [one for one in (await self.overview())[part] if one["application"] == self.name]

    async def page(self) -> str:
        async with browser(connected(self.client), self.configuration) as viewer:
            answer = await viewer.get("/")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        return answer.text


@pytest.fixture
def service(client: Client, world: World) -> Service:
    return Service(client, world)


# What it shows


async def test_every_environment_of_the_configuration_has_its_place(service: Service) -> None:
    lanes = (await service.overview())["lanes"]

    (stages,) = [lane["stages"] for lane in lanes if lane["application"] == service.name]
    assert [(s["environment"], s["used"]) for s in stages] == [
        ("dev", False),
        ("qa", False),
        ("staging", False),
        ("production", False),
    ]
    assert [s["environment"] for s in stages if s["production"]] == ["production"]


async def test_an_environment_shows_what_is_live_who_has_the_turn_and_who_waits(
    service: Service, eventually: Eventually
) -> None:
    await (await service.deploy("production", "1.0.0", actor=EVE)).signal("approve", {"actor": ADA})
    first = service.client.get_workflow_handle(f"deployment:{service.name}:production:1.0.0")
    await first.signal("approve", {"actor": BOB})
    await asyncio.wait_for(first.result(), 30)
    running = await service.deploy("production", "1.1.0")

    async def its_turn() -> bool:
        turn = (await service.stage("production"))["turn"]
        return turn is not None and turn["workflow_id"] == running.id

    await eventually(its_turn)
    waiting = await service.deploy("production", "1.2.0")

    async def queued() -> bool:
        return bool((await service.stage("production"))["queue"])

    await eventually(queued)
    stage = await service.stage("production")

    assert stage["version"] == "1.0.0"
    assert stage["since"] is not None
    assert (stage["turn"]["workflow_id"], stage["turn"]["actor"]) == (running.id, ADA)
    assert [w["workflow_id"] for w in stage["queue"]] == [waiting.id]
    await waiting.cancel()
    await running.cancel()


async def test_a_soak_is_shown_on_its_way_to_the_next_environment(service: Service) -> None:
    await asyncio.wait_for((await service.deploy("qa", "1.0.0")).result(), 30)

    soak = (await service.stage("qa"))["soak"]

    assert (soak["towards"], soak["required"]) == ("staging", "1h")


async def test_an_approval_says_who_may_decide_and_how(service: Service, eventually: Eventually) -> None:
    handle = await service.deploy("production", "1.0.0", actor=ADA)
    await eventually(lambda: _some(service.mine("approvals")))
    await handle.signal("approve", {"actor": BOB, "comment": "fine"})

    async def counted() -> bool:
        return bool((await service.mine("approvals"))[0]["approved_by"])

    await eventually(counted)
    (approval,) = await service.mine("approvals")

    assert approval["approved_by"] == [BOB]
    (rule,) = approval["rules"]
    assert (rule["given"], rule["needed"]) == (1, 2)
    assert rule["people"] == [EVE], "neither who asked for it, nor who has decided"
    page = await service.page()
    assert f"erlmcp-deploy approve production 1.0.0 -a {service.name}" in page
    await handle.cancel()


async def test_a_running_deployment_shows_how_far_it_is(service: Service, eventually: Eventually) -> None:
    subject = f"{service.name}: monitoring of 1.0.0"
    service.world.monitoring.held.add(subject)
    handle = await service.deploy("dev", "1.0.0")

    async def monitored() -> bool:
        return [r["state"] for r in await service.mine("running")] == ["Monitoring"]

    await eventually(monitored)
    (run,) = await service.mine("running")
    service.world.monitoring.held.discard(subject)
    await asyncio.wait_for(handle.result(), 30)

    stages = dict(run["stages"])
    assert (stages["Verifying"], stages["Monitoring"], stages["Completed"]) == ("done", "now", "ahead")
    assert run["ends_at"] > run["since"], "the soak time is known"
    assert [g["name"] for g in run["gates"]] == ["compile"]


async def test_ends_and_validations_say_why(service: Service, eventually: Eventually) -> None:
    service.world.builds.measured[service.name] = {"errors": 2}
    await asyncio.wait_for((await service.deploy("dev", "1.0.0")).result(), 30)
    commit = "c" * 40
    validation = await service.client.start_workflow(
        "ValidationWorkflow",
        {"application": service.name, "commit": commit, "kind": "pull_request", "actor": ADA},
        id=f"validation:{service.name}:{commit}:pull_request",
        task_queue="deployments",
    )
    await asyncio.wait_for(validation.result(), 30)
    await eventually(lambda: _some(service.mine("validations")))
    await eventually(lambda: _some(service.mine("ends")))

    (end,) = await service.mine("ends")
    (validated,) = await service.mine("validations")

    assert (end["state"], end["reason"]) == ("Failed", "gate compile: errors is 2, wanted == 0")
    assert (validated["state"], validated["reason"]) == ("Failed", "gate compile: errors is 2, wanted == 0")


async def test_a_terminated_deployment_is_among_the_ends(service: Service, eventually: Eventually) -> None:
    service.world.monitoring.held.add(f"{service.name}: monitoring of 1.0.0")
    handle = await service.deploy("dev", "1.0.0")
    await eventually(lambda: _some(service.mine("running")))
    await handle.terminate("by hand")
    await eventually(lambda: _some(service.mine("ends")))

    (end,) = await service.mine("ends")

    assert end["state"] == "Terminated"
    assert end["reason"] == "without a result; its history says why"


async def _some(found: Any) -> bool:
    return bool(await found)


# What it must not do


async def test_text_from_outside_stays_text(service: Service, eventually: Eventually) -> None:
    await asyncio.wait_for((await service.deploy("dev", "1.0.0")).result(), 30)
    freeze = {"actor": "<b>mallory</b>", "reason": '<script>alert(1)</script> "quoted" & more'}
    await service.place("dev").signal("freeze", freeze)

    async def frozen() -> bool:
        return (await service.stage("dev"))["freeze"] is not None

    await eventually(frozen)

    page = await service.page()

    assert "&lt;script&gt;alert(1)&lt;/script&gt; &#34;quoted&#34; &amp; more" in page
    assert "<script>alert" not in page
    assert "<b>mallory" not in page


async def test_nothing_runs_but_what_the_policy_names_and_nothing_is_loaded(service: Service) -> None:
    async with browser(connected(service.client), service.configuration) as viewer:
        answer = await viewer.get("/")
    policy = answer.headers["content-security-policy"]

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    for element, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{element}>(.*?)</{element}>", answer.text, re.DOTALL)
        assert f"{directive} 'sha256-{digest(content)}'" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    assert not re.findall(r"\sstyle=|\son\w+=|<link(?![^>]*href=\"data:)|src=", answer.text)


async def test_it_only_reads(service: Service) -> None:
    async with browser(connected(service.client), service.configuration) as viewer:
        answers = [await viewer.request(m, "/") for m in ("POST", "PUT", "DELETE")]

    assert [a.status_code for a in answers] == [405, 405, 405]


async def test_many_viewers_cost_as_much_as_one(server: TemporalServer, service: Service) -> None:
    lists: list[str] = []

    class Count(Interceptor):
        def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002
            class Counting(OutboundInterceptor):
                def list_workflows(self, input: ListWorkflowsInput) -> Any:  # noqa: A002
                    lists.append(input.query or "")
                    return self.next.list_workflows(input)

            return Counting(next)

    counted = await Client.connect(server.address, data_converter=data_converter, interceptors=[Count()])
    async with browser(connected(counted), service.configuration) as viewer:
        answers = await asyncio.gather(*(viewer.get(path) for path in ("/", "/api/overview") * 20))

    assert {a.status_code for a in answers} == {200}
    assert len(lists) == len(set(lists)), "each list was asked for once"


# What it does not know


async def test_without_temporal_it_says_so(service: Service) -> None:
    async def refused() -> Client:
        raise CommandError("connection refused")

    async with browser(Temporal(refused), service.configuration) as viewer:
        answer = await viewer.get("/")
        body = await viewer.get("/api/overview")

    assert (answer.status_code, body.status_code) == (503, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert "Nothing is known of what runs" in answer.text
    assert body.json()["overview"] is None
    assert body.json()["failure"]


async def test_when_temporal_goes_away_it_shows_what_was_known_and_since_when(tmp_path: Path) -> None:
    async with TemporalServer.start(tmp_path, ui=False) as own:
        client = await connect(own.address)
        async with browser(connected(client), _configuration, fresh=0) as viewer:
            before = await viewer.get("/")
            await own.kill()
            after = await viewer.get("/")

    assert (before.status_code, after.status_code) == (200, 503)
    assert "This is how things stood" in after.text
    assert "shop" in after.text


@pytest.fixture
async def without_workers(tmp_path: Path) -> AsyncIterator[Client]:
    async with TemporalServer.start(tmp_path, ui=False) as own:
        yield await connect(own.address)


async def test_without_workers_it_shows_what_the_server_knows(
    without_workers: Client, eventually: Eventually
) -> None:
    for kind, workflow_id, body in (
        ("EnvironmentWorkflow", "environment:shop:dev", {"application": "shop", "environment": "dev"}),
        ("DeploymentWorkflow", "deployment:shop:dev:1.0.0", {}),
    ):
        await without_workers.start_workflow(kind, body, id=workflow_id, task_queue="deployments")
    async with browser(connected(without_workers), _configuration) as viewer:

        async def listed() -> bool:
            return bool((await viewer.get("/api/overview")).json()["overview"]["running"])

        await eventually(listed)
        answer, page = await viewer.get("/api/overview"), await viewer.get("/")
    overview = answer.json()["overview"]

    assert (answer.status_code, page.status_code) == (503, 503)
    assert overview["blind"]
    assert "no worker answers for" in overview["problems"][0]
    assert overview["running"][0]["unknown"] == "no worker answers"
    assert "erlmcp-deploy worker" in page.text


async def test_a_configuration_that_cannot_be_used_takes_nothing_else_away(service: Service) -> None:
    await asyncio.wait_for((await service.deploy("dev", "1.0.0")).result(), 30)

    def broken() -> Configuration:
        return parse_configuration(json.dumps({"environments": {"dev": {"canray": {}}}}))

    with pytest.raises(ConfigurationError):
        broken()
    async with browser(connected(service.client), broken) as viewer:
        answer = await viewer.get("/api/overview")

    overview = answer.json()["overview"]
    assert "deployment.yaml cannot be used (1 mistake(s)" in overview["problems"][0]
    (lane,) = [lane for lane in overview["lanes"] if lane["application"] == service.name]
    assert [(s["environment"], s["version"]) for s in lane["stages"]] == [("dev", "1.0.0")]


def _configuration() -> Configuration:
    return parse_configuration(DEPLOYMENT_YAML.format(application="shop"))


# Who may look


@pytest.mark.parametrize("path", ["/", "/api/overview"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("rebound.attacker.example", 421),
        ("localhost.attacker.example:8088", 421),
        ("127.0.0.1.attacker.example", 421),
        ("", 421),
        ("localhost:8088", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:8088", 200),
        ("[::1]:8088", 200),
        ("deployments.example.com", 200),
    ],
)
async def test_a_name_that_is_not_ours_sees_nothing(
    service: Service, path: str, host: str, status: int
) -> None:
    admission = Admission({}, ["0.0.0.0", *[" Deployments.example.com", ""]])
    async with browser(connected(service.client), service.configuration, admission) as viewer:
        answer = await viewer.get(path, headers={"Host": host})

    assert answer.status_code == status, answer.text
    if status == 421:
        assert "ERLMCP_DEPLOY_ALLOWED_HOSTS" in answer.json()["error"]
        assert service.name not in answer.text


async def test_the_check_of_names_can_be_switched_off(service: Service) -> None:
    async with browser(connected(service.client), service.configuration, Admission({}, ["*"])) as viewer:
        assert (await viewer.get("/", headers={"Host": "anything.example"})).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/overview"])
async def test_what_is_encrypted_is_shown_to_whom_may_read_it(service: Service, path: str) -> None:
    keys = {ENCRYPTION_KEYS: f"k:{generate_key()}"}
    hosts = ["dashboard.example.com"]
    basic = base64.b64encode(b"anybody:the-token").decode()
    guarded = Admission({**keys, TOKEN: "the-token"}, hosts)
    async with browser(connected(service.client), service.configuration, guarded) as viewer:
        for header in ({}, {"Authorization": "Bearer a-guess"}, {"Authorization": "Basic !"}):
            answer = await viewer.get(path, headers=header)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic")
            assert service.name not in answer.text
        for shown in ("Bearer the-token", f"Basic {basic}"):
            assert (await viewer.get(path, headers={"Authorization": shown})).status_code == 200

    # and to nobody where nobody is given a token
    async with browser(connected(service.client), service.configuration, Admission(keys, hosts)) as viewer:
        answer = await viewer.get(path, headers={"Authorization": "Bearer "})
        assert answer.status_code == 403
        assert TOKEN in answer.json()["error"]
