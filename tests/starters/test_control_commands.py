"""Orders: pause, resume, promote, abort, rollback, freeze, unfreeze."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from domain.canary import CanaryStatus
from domain.deployment import DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord
from domain.rollback import RollbackStatus
from starters.control import parse_until
from starters.errors import CommandError
from tests.starters.conftest import Eventually
from tests.starters.world import BOB, EVE, CommandLine, World

CARL = "carl@example.com"
NOON = datetime(2026, 2, 2, 12, tzinfo=UTC)


async def status(cli: CommandLine, environment: str, version: str) -> DeploymentStatus:
    answer = await cli("status", environment, version, "--json")
    return DeploymentStatus.model_validate_json(answer.stdout)


async def record(cli: CommandLine, environment: str) -> EnvironmentRecord:
    return EnvironmentRecord.model_validate_json((await cli("status", environment, "--json")).stdout)


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


async def test_abort_undoes_what_was_done(watched: CommandLine, world: World) -> None:
    # when somebody aborts the only deployment that runs, without naming it
    answer = await watched("abort", "dev", "--reason", "wrong button", "--json")

    # then it ends, and the version before is live again
    assert json.loads(answer.stdout)["deployment_id"] == watched.id_of("deployment", "dev", "1.1.0")
    assert (await watched("watch", "dev", "1.1.0")).exit_code == 1
    final = await status(watched, "dev", "1.1.0")
    assert final.reason == "aborted by ada@example.com: wrong button"
    assert final.rollback is not None
    assert final.rollback.succeeded
    assert world.cluster.version(f"{watched.application}-dev") == "1.0.0"

    # and nothing is left to abort
    again = await watched("abort", "dev", "1.1.0")
    nothing = await watched("abort", "dev")
    assert again.exit_code == nothing.exit_code == 1
    assert "has ended already" in again.stderr
    assert "no deployment" in nothing.stderr


async def test_pause_holds_and_resume_goes_on(watched: CommandLine, world: World) -> None:
    await watched("pause", "dev", "1.1.0")
    assert (await status(watched, "dev", "1.1.0")).paused
    assert "paused" in (await watched("status", "dev", "1.1.0")).stdout

    await watched("resume", "--id", watched.id_of("deployment", "dev", "1.1.0"))
    assert not (await status(watched, "dev", "1.1.0")).paused
    world.monitoring.held.clear()
    assert (await watched("watch", "dev", "1.1.0")).exit_code == 0


async def test_promote_skips_the_rest_of_a_canary_step(
    cli: CommandLine, world: World, eventually: Eventually
) -> None:
    # given a canary that is being watched at its first weight
    for version in ("1.0.0", "1.1.0"):
        if version == "1.1.0":
            world.monitoring.held.add(f"{cli.application}: canary 1.1.0")
        await cli("deploy", "production", version, "--actor", CARL)
        for person in (BOB, EVE):
            await cli("approve", "production", version, "--actor", person)
        if version == "1.0.0":
            await cli("watch", "production", version)

    async def analysed() -> bool:
        canary = (await status(cli, "production", "1.1.0")).canary
        return canary is not None and canary.weight == 10

    await eventually(analysed)

    # when somebody promotes
    assert (await cli("promote", "production", "1.1.0", "--actor", BOB)).exit_code == 0

    # then the next weight follows, and it is kept who did it
    async def next_weight() -> bool:
        canary = (await status(cli, "production", "1.1.0")).canary
        return canary is not None and canary.weight == 50

    await eventually(next_weight)
    shown = await cli("status", cli.id_of("canary", "production", "1.1.0"), "--json")
    assert CanaryStatus.model_validate_json(shown.stdout).steps[0].promoted_by == BOB
    world.monitoring.held.clear()
    assert (await cli("watch", "production", "1.1.0")).exit_code == 0


async def test_rollback_stops_a_running_deployment(watched: CommandLine, world: World) -> None:
    # --to would be a promise that nobody keeps: a deployment goes back to what it found
    other = await watched("rollback", "dev", "--reason", "errors", "--to", "0.9.0")
    assert other.exit_code == 1
    assert "leave --to out" in other.stderr

    answer = await watched("rollback", "dev", "--reason", "errors", "--wait", "--json")

    assert answer.exit_code == 0
    final = DeploymentStatus.model_validate_json(answer.stdout)
    assert final.reason == "rolled back by ada@example.com: errors"
    assert world.cluster.version(f"{watched.application}-dev") == "1.0.0"


async def test_rollback_of_the_live_version(cli: CommandLine, world: World) -> None:
    # given two deployments that went well
    await cli("deploy", "dev", "1.0.0", "--wait")
    await cli("deploy", "dev", "1.1.0", "--wait")

    # when the live one is rolled back, later
    answer = await cli(
        "rollback", "dev", "--to", "1.0.0", "--reason", "customers complain", "--wait", "--json"
    )

    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert document["rollback_id"] == cli.id_of("rollback", "dev", "1.1.0")
    assert RollbackStatus.model_validate(document["status"]).to_version == "1.0.0"
    assert world.cluster.version(f"{cli.application}-dev") == "1.0.0"
    shown = await cli("status", cli.id_of("rollback", "dev", "1.1.0"))
    assert "customers complain" in shown.stdout


async def test_rollback_needs_a_reason_and_something_to_roll_back(cli: CommandLine, world: World) -> None:
    unfounded = await cli("rollback", "dev")
    empty = await cli("rollback", "dev", "--reason", " ")
    nothing = await cli("rollback", "dev", "--reason", "errors")

    assert [a.exit_code for a in (unfounded, empty, nothing)] == [2, 2, 1]
    assert "--reason" in unfounded.stderr
    assert "nothing was ever deployed to dev" in nothing.stderr


async def test_a_freeze_lets_nothing_in_until_it_ends(
    cli: CommandLine, world: World, eventually: Eventually
) -> None:
    # given a frozen environment
    frozen = await cli("freeze", "dev", "--reason", "Black Friday", "--until", "2h", "--json")
    assert json.loads(frozen.stdout)["environment_id"] == f"environment:{cli.application}:dev"

    # when a version is deployed
    await cli("deploy", "dev", "1.0.0")

    # then it waits
    async def queued() -> bool:
        return [w.version for w in (await record(cli, "dev")).queue] == ["1.0.0"]

    await eventually(queued)
    shown = (await cli("status", "dev")).stdout
    assert "Black Friday" in shown
    assert "1. 1.0.0" in shown

    # until the freeze is ended
    assert (await cli("unfreeze", "dev")).exit_code == 0
    assert (await cli("watch", "dev", "1.0.0")).exit_code == 0
    assert (await record(cli, "dev")).freeze is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOON + timedelta(hours=2)),
        ("1d12h", NOON + timedelta(hours=36)),
        ("2026-02-02T20:00Z", NOON + timedelta(hours=8)),
        ("2026-02-03T08:00+01:00", NOON + timedelta(hours=19)),
    ],
)
def test_the_end_of_a_freeze_is_a_duration_or_a_time(text: str, moment: datetime) -> None:
    assert parse_until(text, NOON) == moment


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tomorrow", "neither a duration nor a time"),
        ("2026-02-02T20:00", "names no time zone"),
        ("2026-02-02T11:59Z", "that is over"),
    ],
)
def test_an_end_that_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        parse_until(text, NOON)
