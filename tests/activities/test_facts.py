"""What people are told before they decide: the diff, the soak and the page; what is unknown is left out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.facts import FactsActivities
from domain.approval_facts import FactsQuery, LookedUp
from domain.environment import EnvironmentRecord, Outcome, PastDeployment, TurnRequest
from sandbox.temporal import TemporalServer
from workflows.conversion import data_converter

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
COMMIT = "c" * 40
CONFIGURATION = """
applications:
  erlmcp:
    repository: "{repository}"
    {more}
directory: {{roles: {{tech_lead: [tara@example.com], change_board: [carla@example.com]}}}}
"""


@workflow.defn(name="EnvironmentWorkflow")
class RecordedEnvironment:
    """An environment that only knows what it is told, so that its past can be any."""

    @workflow.init
    def __init__(self, record: EnvironmentRecord) -> None:
        self._record = record

    @workflow.run
    async def run(self, record: EnvironmentRecord) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def status(self) -> EnvironmentRecord:
        return self._record


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with TemporalServer.start(tmp_path_factory.mktemp("temporal"), ui=False) as server:
        yield await Client.connect(server.address, data_converter=data_converter)


@pytest.fixture(scope="module")
async def worker(client: Client) -> AsyncIterator[Worker]:
    environments = Worker(
        client,
        task_queue="environments",
        workflows=[RecordedEnvironment],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with environments:
        yield environments


class Approval:
    """A gate of production that gathers its facts."""

    def __init__(self, client: Client, file: Path) -> None:
        self.client = client
        self.file = file
        self.variables = {"TEMPORAL_UI_URL": "https://temporal.example.com/"}
        self.configured("https://github.com/Acme/Erlmcp.git")

    def configured(self, repository: str, more: str = "") -> None:
        text = CONFIGURATION.format(repository=repository, more=more)
        self.file.write_text(text)

    async def staging(self, task_queue: str = "environments", **record: Any) -> None:
        await self.client.start_workflow(
            "EnvironmentWorkflow",
            EnvironmentRecord(application="erlmcp", environment="staging", **record),
            id="environment:erlmcp:staging",
            task_queue=task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
        )

    async def facts(self, environment: str = "production", **query: Any) -> LookedUp:
        world = ActivityEnvironment()
        world.info = replace(world.info, current_attempt_scheduled_time=NOW)
        asked = {
            "application": "erlmcp",
            "environment": environment,
            "version": "3.0.0",
            "commit": COMMIT,
            "previous_ref": "v2.9.0",
            "deployment_id": "deployment:erlmcp:production:3.0.0",
            "run_id": "run-1",
        }
        activities = FactsActivities(self.client, self.file, environment=self.variables)
        return await world.run(activities.look_up_facts, FactsQuery.model_validate({**asked, **query}))


@pytest.fixture
def approval(client: Client, worker: Worker, tmp_path: Path) -> Approval:
    return Approval(client, tmp_path / "deployment.yaml")


def past(
    version: str, hours_ago: float, outcome: Outcome = Outcome.DEPLOYED, **fields: Any
) -> PastDeployment:
    known = {"holder": f"deployment:x:staging:{version}", "live_version": version}
    finished_at = NOW - timedelta(hours=hours_ago)
    return PastDeployment.model_validate(
        {**known, "version": version, "outcome": outcome, "finished_at": finished_at, **fields}
    )


async def test_the_diff_is_the_hosts_page_between_both_versions(approval: Approval) -> None:
    facts = await approval.facts()

    assert facts.diff_url == f"https://github.com/acme/erlmcp/compare/v2.9.0...{COMMIT}"


@pytest.mark.parametrize(
    ("repository", "more", "url"),
    [
        ("git@github.com:acme/erlmcp.git", "", "https://github.com/acme/erlmcp/compare/v2.9.0...{}"),
        (
            "ssh://git@gitlab.example.com:2222/group/sub/erlmcp.git",
            "",
            "https://gitlab.example.com/group/sub/erlmcp/-/compare/v2.9.0...{}",
        ),
        (
            "https://gitlab.example.com:8443/group/erlmcp",
            "",
            "https://gitlab.example.com:8443/group/erlmcp/-/compare/v2.9.0...{}",
        ),
        ("/srv/git/erlmcp", "", None),
        ("/srv/git/erlmcp", "project: acme/erlmcp", "https://github.com/acme/erlmcp/compare/v2.9.0...{}"),
        ("https://git.example.com/acme/erlmcp", "", None),
    ],
)
async def test_every_host_has_its_own_page(
    approval: Approval, repository: str, more: str, url: str | None
) -> None:
    approval.configured(repository, more)

    facts = await approval.facts()

    assert facts.diff_url == (None if url is None else url.format(COMMIT))


async def test_a_first_version_has_no_diff(approval: Approval) -> None:
    assert (await approval.facts(previous_ref=None)).diff_url is None


async def test_a_reference_cannot_leave_its_place_in_the_address(approval: Approval) -> None:
    facts = await approval.facts(previous_ref="release/v1 ?#<x>")

    assert facts.diff_url is not None
    assert "/compare/release/v1%20%3F%23%3Cx%3E..." in facts.diff_url


async def test_the_page_of_the_deployment(approval: Approval) -> None:
    path = "/namespaces/default/workflows/deployment%3Aerlmcp%3Aproduction%3A3.0.0/run-1"

    assert (await approval.facts()).deployment_url == f"https://temporal.example.com{path}"
    # without a setting, the development server's own
    approval.variables.clear()
    port = int(approval.client.service_client.config.target_host.rpartition(":")[2])
    assert (await approval.facts()).deployment_url == f"http://localhost:{port + 1000}{path}"


async def test_a_version_that_has_proven_itself_says_for_how_long(approval: Approval) -> None:
    await approval.staging(
        current_version="3.0.0",
        current_commit=COMMIT,
        current_since=NOW - timedelta(hours=26),
        history=(past("2.9.0", 100), past("3.0.0", 26)),
    )

    facts = await approval.facts()

    assert facts.soak == "3.0.0 in staging for 26h (verified since 2026-11-22 10:00 UTC)"


@pytest.mark.parametrize(
    ("record", "soak"),
    [
        ({}, "3.0.0 was never in staging"),
        (
            {
                "current_version": "3.0.0-rc.1",
                "current_commit": COMMIT,
                "current_since": NOW - timedelta(hours=2),
                "history": (past("3.0.0-rc.1", 2),),
            },
            "3.0.0-rc.1, the same commit, in staging for 2h (verified since 2026-11-23 10:00 UTC)",
        ),
        (
            {
                "current_version": "3.0.0",
                "current_commit": "d" * 40,
                "current_since": NOW - timedelta(hours=2),
                "history": (past("3.0.0", 2),),
            },
            "3.0.0 in staging is another commit (dddddddddddd)",
        ),
        (
            {
                "current_version": "2.9.0",
                "current_since": NOW - timedelta(hours=1),
                "history": (
                    past("2.9.0", 50),
                    past("3.0.0", 1, Outcome.ROLLED_BACK, live_version="2.9.0", reason="errors 9 %"),
                ),
            },
            "3.0.0 was rolled back in staging at 2026-11-23 11:00 UTC: errors 9 %",
        ),
        (
            {
                "current_version": "3.0.0",
                "current_since": NOW - timedelta(minutes=90),
                "history": (
                    past("3.0.0", 50),
                    past("3.1.0", 1.5, Outcome.ROLLED_BACK, live_version="3.0.0"),
                ),
            },
            "3.0.0 in staging for 1h30m (brought back by a roll-back at 2026-11-23 10:30 UTC)",
        ),
        (
            {
                "current_version": "3.1.0",
                "current_since": NOW - timedelta(hours=4),
                "history": (past("3.0.0", 30), past("3.1.0", 4)),
            },
            "3.0.0 was in staging for 26h, until 2026-11-23 08:00 UTC",
        ),
        (
            {
                "holder": TurnRequest(
                    application="x", environment="staging", holder="d", token="t", version="3.0.0"
                ),
                "history": (past("2.9.0", 30),),
            },
            "3.0.0 is being deployed to staging now, and is not verified yet",
        ),
        (
            {"history": tuple(past(f"2.0.{i}", 90 - i) for i in range(50))},
            "3.0.0 is not among the last 50 deployments of staging",
        ),
    ],
)
async def test_every_past_has_its_words(approval: Approval, record: dict[str, Any], soak: str) -> None:
    await approval.staging(**record)

    assert (await approval.facts()).soak == soak


async def test_only_the_environments_that_promote_to_this_one_are_asked(approval: Approval) -> None:
    await approval.staging(current_version="3.0.0", current_since=NOW)

    assert (await approval.facts("dev")).soak is None
    assert (await approval.facts("staging")).soak == "nothing was ever deployed to qa"


async def test_an_environment_nobody_serves_is_left_out_after_a_moment(approval: Approval) -> None:
    await approval.staging("nobody-polls-this", current_version="3.0.0", current_since=NOW)

    facts = await approval.facts()

    assert facts.soak is None
    assert facts.diff_url is not None


async def test_a_configuration_that_cannot_be_read_leaves_the_page(approval: Approval) -> None:
    approval.file.write_text("environments: [")

    facts = await approval.facts()

    assert (facts.diff_url, facts.soak) == (None, None)
    assert facts.deployment_url is not None
