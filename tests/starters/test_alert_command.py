"""``alert`` and the emergency roll-back: the two ways to stop what hurts, at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from domain.deployment import DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord
from tests.starters.conftest import Eventually
from tests.starters.world import BOB, EVE, ROOT, CommandLine, World

CARL = "carl@example.com"
SCRIPT = ROOT / "scripts/deploy/emergency-rollback.sh"


async def status(cli: CommandLine, environment: str, version: str) -> DeploymentStatus:
    answer = await cli("status", environment, version, "--json")
    return DeploymentStatus.model_validate_json(answer.stdout)


@pytest.fixture
async def watched(cli: CommandLine, world: World, eventually: Eventually) -> CommandLine:
    """1.0.0 is live in dev; 1.1.0 is rolled out there and being watched."""
    await cli("deploy", "dev", "1.0.0", "--wait")
    world.monitoring.held.add(f"{cli.application}: monitoring of 1.1.0")
    await cli("deploy", "dev", "1.1.0")

    async def monitored() -> bool:
        return (await status(cli, "dev", "1.1.0")).state is DeploymentState.MONITORING

    await eventually(monitored)
    return cli


@pytest.fixture
async def awaited(cli: CommandLine, world: World, eventually: Eventually) -> CommandLine:
    """1.0.0 is live in production; 1.1.0 waits there for its approval."""
    await cli("deploy", "production", "1.0.0", "--actor", CARL)
    for person in (BOB, EVE):
        await cli("approve", "production", "1.0.0", "--actor", person)
    assert (await cli("watch", "production", "1.0.0")).exit_code == 0
    await cli("deploy", "production", "1.1.0", "--actor", CARL)

    async def waiting() -> bool:
        return (await status(cli, "production", "1.1.0")).state is DeploymentState.APPROVAL

    await eventually(waiting)
    return cli


# Alerts


async def test_an_alert_aborts_what_is_watched_and_not_what_waits(
    watched: CommandLine, world: World, eventually: Eventually
) -> None:
    # given another version that waits for its turn
    await watched("deploy", "dev", "1.2.0")

    async def queued() -> bool:
        record = EnvironmentRecord.model_validate_json((await watched("status", "dev", "--json")).stdout)
        return [waiting.version for waiting in record.queue] == ["1.2.0"]

    await eventually(queued)

    # when an alert is sent to the environment, without a version
    answer = await watched("alert", "dev", "--name", "HighErrorRate", "--severity", "critical", "--json")

    # then the version that serves is rolled back
    document = json.loads(answer.stdout)
    assert document["deployment_id"] == watched.id_of("deployment", "dev", "1.1.0")
    assert document["state"] == "Monitoring"
    assert document["aborts"]
    assert (await watched("watch", "dev", "1.1.0")).exit_code == 1
    final = await status(watched, "dev", "1.1.0")
    assert final.reason == "alert HighErrorRate (critical)"
    assert final.rollback is not None
    assert final.rollback.succeeded


async def test_an_alert_where_nothing_serves_says_that_it_changes_nothing(awaited: CommandLine) -> None:
    answer = await awaited("alert", "production", "1.1.0", "--name", "HighErrorRate")

    assert answer.exit_code == 0
    assert "it is still Approval, where nothing of it serves" in answer.stdout
    assert f"erlmcp-deploy abort production 1.1.0 -a {awaited.application}" in answer.stdout
    assert (await status(awaited, "production", "1.1.0")).state is DeploymentState.APPROVAL


async def test_an_alert_that_does_not_count_there_says_so(
    cli: CommandLine, world: World, eventually: Eventually, tmp_path: Path
) -> None:
    # given an environment where only critical alerts abort
    only = {"abort_on_alerts": ["critical"]}
    world.plans.changes[cli.application] = {"environments": {"dev": only}}
    configuration = tmp_path / "deployment.yaml"
    configuration.write_text(
        configuration.read_text().replace("dev: {", "dev: {abort_on_alerts: [critical], ")
    )
    world.monitoring.held.add(f"{cli.application}: monitoring of 1.0.0")
    await cli("deploy", "dev", "1.0.0")

    async def monitored() -> bool:
        return (await status(cli, "dev", "1.0.0")).state is DeploymentState.MONITORING

    await eventually(monitored)

    # when another one is sent
    answer = await cli("alert", "dev", "--name", "SlowQueries", "--severity", "warning")

    # then nothing follows from it, and that is said
    assert "only critical alerts abort in dev (abort_on_alerts), so it goes on" in answer.stdout
    world.monitoring.held.clear()
    assert (await cli("watch", "dev", "1.0.0")).exit_code == 0


async def test_an_alert_needs_a_name_and_something_that_runs(cli: CommandLine, world: World) -> None:
    await cli("deploy", "dev", "1.0.0", "--wait")

    unnamed = await cli("alert", "dev")
    empty = await cli("alert", "dev", "--name", " ")
    nothing = await cli("alert", "dev", "--name", "HighErrorRate")
    ended = await cli("alert", "dev", "1.0.0", "--name", "HighErrorRate")

    assert [a.exit_code for a in (unnamed, empty, nothing, ended)] == [2, 2, 1, 1]
    assert "no deployment" in nothing.stderr
    assert "has ended already" in ended.stderr
    assert "erlmcp-deploy rollback dev" in " ".join(ended.stderr.split())


# The emergency


async def test_a_rollback_is_not_held_up_by_a_deployment_that_waits_for_approval(
    awaited: CommandLine, world: World
) -> None:
    # given an earlier good version, and a live one that hurts while the next one waits for approval
    namespace = f"{awaited.application}-production"
    assert world.cluster.version(namespace) == "1.0.0"

    # when production is rolled back
    answer = await awaited(
        "rollback", "production", "--to", "0.9.0", "--reason", "customers complain", "--wait", "--json"
    )

    # then the live version goes, and the one that waited is stopped before it deployed anything
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["rollback_id"] == awaited.id_of("rollback", "production", "1.0.0")
    assert world.cluster.version(namespace) == "0.9.0"
    stopped = await status(awaited, "production", "1.1.0")
    assert stopped.state is DeploymentState.FAILED
    assert stopped.rollback is None


async def emergency(
    cli: CommandLine, *arguments: str, cwd: Path, **environment: str
) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        str(SCRIPT),
        *arguments,
        cwd=cwd,
        env=cli._variables(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_the_emergency_script_works_from_any_directory(
    watched: CommandLine, world: World, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "some where"
    elsewhere.mkdir()

    code, shown, problems = await emergency(
        watched, "dev", "--reason", "it's on fire; $(reboot)", cwd=elsewhere
    )

    assert code == 0, problems
    final = await status(watched, "dev", "1.1.0")
    assert final.reason == "rolled back by ada@example.com: it's on fire; $(reboot)"
    assert world.cluster.version(f"{watched.application}-dev") == "1.0.0"
    assert "Failed" in shown


async def test_the_emergency_script_says_what_is_missing(cli: CommandLine, tmp_path: Path) -> None:
    none = await emergency(cli, cwd=tmp_path)
    not_installed = await emergency(cli, "dev", cwd=tmp_path, ERLMCP_DEPLOY="erlmcp-deploy-of-nobody")
    helped = await emergency(cli, "--help", cwd=tmp_path)

    assert none[0] == 2
    assert "emergency-rollback.sh ENVIRONMENT" in none[2]
    assert not_installed[0] == 127
    assert "is not installed" in not_installed[2]
    assert helped[0] == 0
    assert "--to VERSION" in helped[1]
