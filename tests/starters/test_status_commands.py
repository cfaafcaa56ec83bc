"""``status`` and ``watch``: what a person is told, with and without a worker."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from pathlib import Path

import pytest
from temporalio.client import Client

from domain.approval import ApprovalStatus
from domain.deployment import DeploymentStatus
from domain.environment import EnvironmentRecord
from sandbox.temporal import TemporalServer
from starters.following import decode
from tests.starters.conftest import Eventually
from tests.starters.world import BOB, ROOT, CommandLine, World, connect, workers

CARL = "carl@example.com"


async def test_an_environment_shows_what_is_live_and_what_was(cli: CommandLine, world: World) -> None:
    await cli("deploy", "dev", "1.0.0", "--wait")
    world.monitoring.failing[f"{cli.application}: monitoring of 1.1.0"] = "3 consecutive health checks failed"
    await cli("deploy", "dev", "1.1.0", "--wait")

    answer = await cli("status", "dev")
    record = EnvironmentRecord.model_validate_json((await cli("status", "dev", "--json")).stdout)

    assert record.current_version == "1.0.0"
    assert "Live        1.0.0" in answer.stdout
    assert "↩ 1.1.0" in answer.stdout
    assert "rolled back: 3 consecutive health checks failed" in answer.stdout


async def test_without_arguments_all_environments_are_shown(
    cli: CommandLine, world: World, eventually: Eventually
) -> None:
    await cli("deploy", "dev", "1.0.0", "--wait")
    await cli("freeze", "production", "--reason", "audit week")

    async def both() -> bool:
        answer = json.loads((await cli("status", "--json")).stdout)
        return [e["environment"] for e in answer["environments"]] == ["dev", "production"]

    await eventually(both)
    shown = (await cli("status")).stdout
    assert "1.0.0" in shown
    assert "audit week" in shown


async def test_what_does_not_exist_is_said_with_a_remedy(cli: CommandLine, world: World) -> None:
    deployment = await cli("status", "dev", "9.9.9")
    environment = await cli("status", "dev")
    watching = await cli("watch", "dev", "9.9.9", "--json")
    strange = await cli("status", "shipment:1")
    twofold = await cli("status", "dev", "1.0.0", "--id", "deployment:a:b:1.0.0")

    assert [a.exit_code for a in (deployment, environment, watching, strange, twofold)] == [1, 1, 1, 2, 2]
    assert f"there is no {cli.id_of('deployment', 'dev', '9.9.9')}" in deployment.stderr
    assert f"there is no environment:{cli.application}:dev" in environment.stderr
    remedy = json.loads(watching.stdout)["error"]["remedy"]
    assert remedy == f"start it: erlmcp-deploy deploy dev 9.9.9 -a {cli.application}"
    assert "unknown kind 'shipment'" in strange.stderr


async def test_without_a_worker_the_server_itself_is_asked(tmp_path: Path, eventually: Eventually) -> None:
    async with TemporalServer.start(tmp_path / "temporal", ui=False) as server:
        # given one deployment that has ended and one that waits for approval
        cli = CommandLine(server.address, "shop", tmp_path)
        async with workers(await connect(server.address), tmp_path):
            await cli("deploy", "dev", "1.0.0", "--wait")
            await cli("deploy", "production", "1.0.0", "--actor", CARL)

            async def waits() -> bool:
                answer = await cli("status", "production", "1.0.0", "--json")
                return bool(json.loads(answer.stdout)["approval"])

            await eventually(waits)

        # when no worker runs
        ended = await cli("status", "dev", "1.0.0", "--json")
        running = await cli("status", "production", "1.0.0")
        kept = await cli("approve", "production", "1.0.0", "--gate", "manual_approval", "--actor", BOB)

        # then the past is known, and the present as far as the server knows it
        assert DeploymentStatus.model_validate_json(ended.stdout).state == "Completed"
        assert running.exit_code == 1
        assert "last known state: Approval; no worker answers" in running.stdout
        # and a decision is kept until somebody can judge it
        assert kept.exit_code == 0
        assert "approve kept: no worker answers at the moment" in kept.stdout
        async with workers(await connect(server.address), tmp_path):

            async def counted() -> bool:
                answer = await cli("status", "production", "1.0.0", "--json")
                approvals = json.loads(answer.stdout)["approval"]["received_approvals"]
                return [a["actor"] for a in approvals] == [BOB]

            await eventually(counted)


async def test_a_deployment_that_broke_says_why(cli: CommandLine, world: World, client: Client) -> None:
    await cli("deploy", "production", "1.0.0")
    await client.get_workflow_handle(cli.id_of("deployment", "production", "1.0.0")).terminate(
        reason="by mistake"
    )

    answer = await cli("status", "production", "1.0.0")
    watching = await cli("watch", "production", "1.0.0")

    assert answer.exit_code == watching.exit_code == 1
    assert "ended without a result: by mistake" in answer.stderr
    assert "temporal workflow show" in watching.stderr


async def test_a_newer_worker_may_say_more_than_this_program_knows(
    cli: CommandLine, world: World, eventually: Eventually
) -> None:
    await cli("deploy", "production", "1.0.0", "--actor", CARL)
    said: dict[str, object] = {}

    async def waits() -> bool:
        said.update(json.loads((await cli("status", "production", "1.0.0", "--json")).stdout))
        return bool(said["approval"])

    await eventually(waits)
    approval = {**ApprovalStatus.model_validate(said["approval"]).model_dump(), "mood": "good"}
    status = decode(DeploymentStatus, {**said, "weather": "fair", "approval": approval})
    assert status == DeploymentStatus.model_validate(said)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
async def test_on_a_terminal_watch_is_a_board(cli: CommandLine, world: World) -> None:
    # given a terminal of 100 columns
    leader, follower = pty.openpty()
    environment = {**os.environ, **{k: v for k, v in cli.environment.items() if v is not None}}
    environment |= {"TERM": "xterm-256color", "LINES": "50"}
    await cli("deploy", "dev", "1.0.0", "--wait")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "starters", "watch", "dev", "1.0.0",
        cwd=ROOT, env=environment, stdin=follower, stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    reading = asyncio.to_thread(_read_all, leader)
    shown = (await reading).decode()

    assert await process.wait() == 0
    assert "╭" in shown
    assert "✔" in shown
    assert "Completed" in shown


def _read_all(descriptor: int) -> bytes:
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(descriptor)
    return b"".join(parts)


async def test_a_validation_is_shown_by_its_id(cli: CommandLine, world: World, client: Client) -> None:
    world.builds.measured[cli.application] = {"coverage": 71.5}
    commit = "c" * 40
    workflow_id = f"validation:{cli.application}:{commit}:nightly"
    body = {"application": cli.application, "commit": commit, "kind": "nightly", "actor": "ada@example.com"}
    await client.execute_workflow("ValidationWorkflow", body, id=workflow_id, task_queue="deployments")

    shown = await cli("status", workflow_id)
    told = json.loads((await cli("status", "--id", workflow_id, "--json")).stdout)

    assert "Failed" in shown.stdout
    assert "coverage is 71.5, wanted >= 80%" in shown.stdout
    assert told["state"] == "Failed"
