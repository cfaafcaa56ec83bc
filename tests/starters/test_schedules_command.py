"""``schedules``: what deployment.yaml says is what Temporal has, however often and by whom it is applied."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError
from typer.testing import Result

from sandbox.processes import free_port
from tests.starters.conftest import Eventually
from tests.starters.updates import HEAD
from tests.starters.world import CommandLine, World

UPDATES = {"dependencies": {"command": ["make", "update"]}}


class Book:
    """The schedules of one application: its configuration, the command, and Temporal's own view."""

    def __init__(self, cli: CommandLine, client: Client, world: World) -> None:
        self.cli = cli
        self.client = client
        self.world = world
        self.name = cli.application
        self._file = Path(str(cli.environment["ERLMCP_DEPLOY_CONFIG"]))
        self._described: dict[str, Any] = yaml.safe_load(self._file.read_text())
        self.configured()

    def configured(self, **triggers: Any) -> None:
        """The file that people apply, and what the workers read."""
        self._described["applications"][self.name] |= UPDATES
        self._described["triggers"] = triggers
        self._file.write_text(yaml.safe_dump(self._described))
        self.world.plans.changes[self.name] = {
            "applications": {self.name: UPDATES},
            "triggers": triggers,
        }

    def id(self, rule: str) -> str:
        return f"schedule:{self.name}:{rule}"

    def handle(self, rule: str) -> ScheduleHandle:
        return self.client.get_schedule_handle(self.id(rule))

    async def apply(self, *arguments: str) -> dict[str, dict[str, Any]]:
        answer = await self.cli("schedules", "apply", "-a", self.name, "--json", *arguments)
        assert answer.exit_code == 0, answer.output
        return {s["id"].rpartition(":")[2]: s for s in json.loads(answer.stdout)["schedules"]}

    async def outcomes(self, *arguments: str) -> dict[str, str]:
        return {rule: s["outcome"] for rule, s in (await self.apply(*arguments)).items()}

    async def listed(self) -> dict[str, dict[str, Any]]:
        answer = await self.cli("schedules", "list", "-a", self.name, "--json")
        assert answer.exit_code == 0, answer.output
        return {s["rule"]: s for s in json.loads(answer.stdout)["schedules"]}

    async def settled(self) -> None:
        """Until Temporal lists what was made: its list is a moment behind."""
        async with asyncio.timeout(30):
            while len([s async for s in await self.client.list_schedules() if self.name in s.id]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.fixture
def book(cli: CommandLine, client: Client, world: World) -> Book:
    return Book(cli, client, world)


async def test_the_configuration_becomes_schedules(book: Book) -> None:
    assert await book.outcomes("--dry-run") == {"nightly_builds": "created", "dependency_updates": "created"}
    with pytest.raises(RPCError):
        await book.handle("nightly_builds").describe()

    assert await book.outcomes() == {"nightly_builds": "created", "dependency_updates": "created"}

    nightly = await book.handle("nightly_builds").describe()
    policy = nightly.schedule.policy
    assert (policy.overlap, policy.catchup_window) == (ScheduleOverlapPolicy.SKIP, timedelta(hours=1))
    assert {(t.hour, t.minute) for t in nightly.info.next_action_times} == {(2, 0)}
    assert nightly.schedule.state.note == (
        f"nightly validation of {book.name}: rule nightly_builds of deployment.yaml"
    )
    updates = await book.handle("dependency_updates").describe()
    assert updates.schedule.policy.overlap == ScheduleOverlapPolicy.BUFFER_ONE
    assert {(t.weekday(), t.hour) for t in updates.info.next_action_times} == {(0, 6)}


async def test_applying_again_changes_nothing(book: Book) -> None:
    await book.apply()
    before = await book.handle("nightly_builds").describe()
    assert await book.outcomes() == {"nightly_builds": "unchanged", "dependency_updates": "unchanged"}
    after = await book.handle("nightly_builds").describe()
    assert (after.info.last_updated_at, after.info.created_at) == (
        before.info.last_updated_at,
        before.info.created_at,
    )


async def test_only_what_differs_is_updated_and_a_pause_stays(book: Book) -> None:
    await book.apply()
    await book.handle("nightly_builds").pause(note="the registry moves")
    book.configured(nightly_builds={"trigger": {"cron": "30 3 * * *"}})
    assert (await book.listed())["nightly_builds"]["standing"] == "outdated"

    applied = await book.apply()

    assert applied["nightly_builds"]["outcome"] == "updated"
    assert applied["nightly_builds"]["differences"] == ["times", "action"]
    assert applied["nightly_builds"]["paused"] is True
    assert applied["dependency_updates"]["outcome"] == "unchanged"
    nightly = await book.handle("nightly_builds").describe()
    assert (nightly.schedule.state.paused, nightly.schedule.state.note) == (True, "the registry moves")
    assert {(t.hour, t.minute) for t in nightly.info.next_action_times} == {(3, 30)}
    listed = (await book.listed())["nightly_builds"]
    assert (listed["standing"], listed["note"], listed["next"]) == ("paused", "the registry moves", None)


async def test_what_was_changed_by_hand_is_put_right(book: Book) -> None:
    await book.apply()

    def by_hand(found: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = found.description.schedule
        schedule.spec = ScheduleSpec(cron_expressions=["0 4 * * *"])
        schedule.policy.catchup_window = timedelta(days=365)
        return ScheduleUpdate(schedule=schedule)

    await book.handle("nightly_builds").update(by_hand)
    applied = await book.apply()
    assert applied["nightly_builds"]["differences"] == ["times", "policy"]
    assert (await book.outcomes())["nightly_builds"] == "unchanged"


async def test_a_rule_that_is_gone_takes_its_schedule_with_it(book: Book) -> None:
    await book.apply()
    await book.settled()
    book.configured(dependency_updates=None)
    assert (await book.listed())["dependency_updates"]["standing"] == "obsolete"
    assert await book.outcomes("--dry-run") == {
        "nightly_builds": "unchanged",
        "dependency_updates": "removed",
    }
    assert await book.outcomes() == {"nightly_builds": "unchanged", "dependency_updates": "removed"}
    with pytest.raises(RPCError):
        await book.handle("dependency_updates").describe()


async def test_schedules_of_others_are_left_alone(book: Book) -> None:
    # given one that looks like ours, and one that has the name of ours
    foreign = Schedule(
        action=ScheduleActionStartWorkflow("Backup", id="backup", task_queue="backups"),
        spec=ScheduleSpec(cron_expressions=["0 1 * * *"]),
    )
    await book.client.create_schedule(book.id("backup"), foreign)
    await book.client.create_schedule(book.id("nightly_builds"), foreign)

    answer = await book.cli("schedules", "apply", "-a", book.name)

    assert answer.exit_code == 1
    assert "✘ refused" in answer.stdout
    assert f"temporal schedule delete --schedule-id {book.id('nightly_builds')}" in answer.stdout
    for rule in ("backup", "nightly_builds"):
        action = (await book.handle(rule).describe()).schedule.action
        assert isinstance(action, ScheduleActionStartWorkflow)
        assert action.workflow == "Backup"
    assert "backup" not in await book.listed()


async def test_two_who_apply_at_once_make_the_same(book: Book) -> None:
    # not by the runner of typer, which lends its streams to one command at a time
    arguments = ("schedules", "apply", "-a", book.name, "--json")
    programs = [await book.cli.start(*arguments) for _ in range(2)]
    ended = [await program.communicate() for program in programs]
    assert [program.returncode for program in programs] == [0, 0], ended
    outcomes = [{s["outcome"] for s in json.loads(out)["schedules"]} for out, _ in ended]
    assert all(found <= {"created", "unchanged"} for found in outcomes), outcomes
    assert await book.outcomes() == {"nightly_builds": "unchanged", "dependency_updates": "unchanged"}


async def test_a_night_that_fires_is_validated_and_shown(book: Book, eventually: Eventually) -> None:
    await book.apply()
    # a night of last week, made up for
    night = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
    backfill = ScheduleBackfill(
        start_at=night - timedelta(minutes=1),
        end_at=night + timedelta(minutes=1),
        overlap=ScheduleOverlapPolicy.ALLOW_ALL,
    )
    await book.handle("nightly_builds").backfill(backfill)

    async def ended() -> bool:
        last = (await book.listed())["nightly_builds"]["last"]
        return last is not None and last["state"] != "Running"

    await asyncio.wait_for(eventually(ended), 30)
    last = (await book.listed())["nightly_builds"]["last"]
    assert (last["state"], last["reason"]) == ("Completed", "4 of 4 gates hold")
    assert last["commit"] == HEAD.commit
    assert last["started"] == f"validation:{book.name}:{HEAD.commit}:nightly"
    validation = await book.client.get_workflow_handle(last["started"]).describe()
    assert validation.search_attributes["DeploymentState"] == ["Completed"]
    scheduled = await book.client.get_workflow_handle(last["workflow_id"]).result()
    assert datetime.fromisoformat(scheduled["at"]) == night


async def test_an_update_that_fires_opens_its_pull_request(book: Book, eventually: Eventually) -> None:
    await book.apply()
    await book.handle("dependency_updates").trigger()

    async def ended() -> bool:
        last = (await book.listed())["dependency_updates"]["last"]
        return last is not None and last["state"] != "Running"

    await asyncio.wait_for(eventually(ended), 30)
    answer = await book.cli("schedules", "list", "-a", book.name, COLUMNS="200")
    assert "Completed" in answer.stdout
    draft = book.world.updates.pull_requests[book.name]
    assert "| cowboy | 2.9.0 | 2.10.0 |" in draft.body
    assert (await book.listed())["dependency_updates"]["last"]["reason"] == (
        "pull request 7 opened; gates: 4 of 4 gates hold"
    )


async def test_an_update_is_not_started_beside_a_running_one(book: Book, eventually: Eventually) -> None:
    await book.apply()
    book.world.updates.held.add(book.name)
    by_hand = await book.client.start_workflow(
        "DependencyUpdateWorkflow",
        {"application": book.name, "actor": "ada@example.com"},
        id=f"dependency-update:{book.name}",
        task_queue="deployments",
    )
    await book.handle("dependency_updates").trigger()

    async def ended() -> bool:
        last = (await book.listed())["dependency_updates"]["last"]
        return last is not None and last["state"] != "Running"

    await asyncio.wait_for(eventually(ended), 30)
    last = (await book.listed())["dependency_updates"]["last"]
    assert (last["state"], last["reason"]) == (
        "Completed",
        f"dependency-update:{book.name} runs already",
    )
    book.world.updates.held.discard(book.name)
    await by_hand.result()


async def test_before_anything_was_applied_the_list_says_what_to_do(book: Book) -> None:
    answer = await book.cli("schedules", "list", "-a", book.name)
    assert answer.exit_code == 0
    assert answer.stdout.count("missing") == 2
    assert "erlmcp-deploy schedules apply" in answer.stdout


def failure(answer: Result) -> tuple[int, str]:
    return answer.exit_code, json.loads(answer.stdout)["error"]["message"]


async def test_what_cannot_be_done_is_said(book: Book, tmp_path: Path) -> None:
    code, message = failure(await book.cli("schedules", "apply", "-a", "nobody", "--json"))
    assert (code, message) == (2, "application is 'nobody': deployment.yaml has none of that name")

    broken = tmp_path / "broken.yaml"
    broken.write_text("triggers: {nightly_builds: {trigger: {cron: '99 2 * * *'}}}")
    answer = await book.cli("schedules", "apply", "--json", ERLMCP_DEPLOY_CONFIG=str(broken))
    code, message = failure(answer)
    assert code == 2
    assert "'99' is no minute" in message

    answer = await book.cli("schedules", "list", "--json", TEMPORAL_ADDRESS=f"127.0.0.1:{free_port()}")
    code, message = failure(answer)
    assert code == 1
    assert "does not answer: connection refused" in message
