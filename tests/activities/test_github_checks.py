"""Checks at commits: what people see of a validation, shown once whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import UNAVAILABLE
from activities.github import GitHostActivities
from domain.checks import CheckReceipt, CheckRun, CheckState
from sandbox.github import APP_TOKEN, PERSONAL_TOKEN, GitHubServer, Repository

PROJECT = "acme/erlmcp"
CONFIGURATION = """
applications:
  erlmcp: {{repository: "{repository}", project: {project}}}
directory: {{roles: {{tech_lead: [tara@example.com], change_board: [carla@example.com]}}}}
git_hosts: {{github: {{url: "{url}", api_url: "{api_url}"}}}}
"""
STARTED = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class Host:
    """GitHub with one repository, and a worker that publishes there."""

    def __init__(self, github: GitHubServer, http: httpx.AsyncClient, file: Path) -> None:
        self.github = github
        self.file = file
        self.http = http
        self.repository = github.add_repository(PROJECT)
        self.environment = {"GITHUB_TOKEN": APP_TOKEN}
        self.configured(f"{github.url}/{PROJECT}.git")

    def configured(self, repository: str, project: str = "null") -> None:
        text = CONFIGURATION.format(
            repository=repository, project=project, url=self.github.url, api_url=self.github.api_url
        )
        self.file.write_text(text)

    def check(self, state: CheckState = CheckState.RUNNING, **fields: Any) -> CheckRun:
        known = {
            "key": "validation:erlmcp:abc:pull_request/run-1",
            "project": PROJECT,
            "commit": self.repository.branches["main"],
            "name": "erlmcp-deploy / erlmcp",
            "title": "2 of 4 gates passed",
            "summary": "| gate |",
            "started_at": STARTED,
        }
        return CheckRun.model_validate({**known, "state": state, **fields})

    async def publish(self, check: CheckRun) -> CheckReceipt:
        activities = GitHostActivities(self.http, self.file, environment=self.environment)
        world = ActivityEnvironment()
        world.info = replace(world.info, namespace="shop", workflow_id="validation:1", workflow_run_id="r1")
        return await world.run(activities.publish_check, check)


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def host(tmp_path: Path, http: httpx.AsyncClient) -> AsyncIterator[Host]:
    async with GitHubServer.start() as github:
        yield Host(github, http, tmp_path / "deployment.yaml")


@pytest.fixture
def repository(host: Host) -> Repository:
    return host.repository


@pytest.mark.parametrize(
    ("state", "conclusion"),
    [
        (CheckState.PASSED, "success"),
        (CheckState.FAILED, "failure"),
        (CheckState.CANCELLED, "cancelled"),
    ],
)
async def test_an_app_shows_one_check_run_from_begin_to_end(
    host: Host, repository: Repository, state: CheckState, conclusion: str
) -> None:
    first = await host.publish(host.check())
    [run] = repository.check_runs
    assert (run.fields["status"], run.fields["started_at"]) == ("in_progress", "2026-11-22T10:00:00Z")

    ended = host.check(state, title="All said", finished_at=STARTED.replace(hour=11))
    second = await host.publish(ended)

    assert [run] == repository.check_runs
    assert (run.fields["status"], run.fields["conclusion"]) == ("completed", conclusion)
    assert run.fields["completed_at"] == "2026-11-22T11:00:00Z"
    assert run.fields["output"] == {"title": "All said", "summary": "| gate |"}
    assert (
        first
        == second
        == CheckReceipt(published=True, reference=f"{host.github.url}/acme/erlmcp/runs/{run.id}")
    )
    assert repository.statuses == []


async def test_a_check_is_made_once_although_its_answer_was_lost(host: Host, repository: Repository) -> None:
    # given an attempt whose worker died after GitHub had made the check run
    await host.publish(host.check())

    await host.publish(host.check())

    assert len(repository.check_runs) == 1


async def test_a_late_attempt_does_not_take_the_end_back(host: Host, repository: Repository) -> None:
    receipt = await host.publish(host.check(CheckState.PASSED))

    assert await host.publish(host.check()) == receipt

    [run] = repository.check_runs
    assert run.fields["conclusion"] == "success"


async def test_another_run_of_the_validation_is_another_check(host: Host, repository: Repository) -> None:
    await host.publish(host.check(CheckState.FAILED))
    await host.publish(host.check(CheckState.PASSED, key="validation:erlmcp:abc:pull_request/run-2"))

    assert [r.fields["conclusion"] for r in repository.check_runs] == ["failure", "success"]


async def test_the_check_leads_to_the_page_of_its_workflow(host: Host, repository: Repository) -> None:
    host.environment["TEMPORAL_UI_URL"] = "https://temporal.example.com"

    await host.publish(host.check())

    [run] = repository.check_runs
    page = "https://temporal.example.com/namespaces/shop/workflows/validation%3A1/r1"
    assert run.fields["details_url"] == page


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (CheckState.RUNNING, "pending"),
        (CheckState.PASSED, "success"),
        (CheckState.FAILED, "failure"),
        (CheckState.CANCELLED, "error"),
    ],
)
async def test_a_persons_token_shows_a_commit_status(
    host: Host, repository: Repository, state: CheckState, shown: str
) -> None:
    host.environment["GITHUB_TOKEN"] = PERSONAL_TOKEN
    check = host.check(state, title="x" * 200, details_url="https://temporal.example.com/w")

    receipt = await host.publish(check)

    assert receipt.published
    [status] = repository.statuses
    assert (status.state, status.context, status.sha) == (shown, check.name, check.commit)
    assert status.description == "x" * 139 + "…"
    assert status.target_url == "https://temporal.example.com/w"
    # a person's token is not even tried on check runs
    assert host.github.asked("POST", "check-runs") == []


async def test_an_app_that_may_not_make_check_runs_shows_a_status(host: Host, repository: Repository) -> None:
    host.github.grant(APP_TOKEN, "statuses", login="erlmcp-deploy[bot]", app=True)

    receipt = await host.publish(host.check(CheckState.PASSED))

    assert receipt.published
    assert [s.state for s in repository.statuses] == ["success"]


async def test_a_long_report_is_cut_to_what_github_takes(host: Host, repository: Repository) -> None:
    receipt = await host.publish(host.check(CheckState.FAILED, summary="é" * 100_000, title="t" * 500))

    assert receipt.published
    [run] = repository.check_runs
    assert len(run.fields["output"]["summary"]) == 65_535


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "GITHUB_TOKEN is not set on the worker"),
        ("ghp_revoked", "GITHUB_TOKEN is not accepted"),
        ("ghp_reader", "GITHUB_TOKEN may not do this"),
        ("ghs_reader", "GITHUB_TOKEN may not do this"),
    ],
)
async def test_who_may_not_publish_gets_the_reason_and_no_error(
    host: Host, repository: Repository, token: str, reason: str
) -> None:
    host.github.grant("ghp_reader", "contents")
    host.github.grant("ghs_reader", "contents", app=True)
    host.environment["GITHUB_TOKEN"] = token

    receipt = await host.publish(host.check())

    assert not receipt.published
    assert reason in receipt.reason
    assert (repository.check_runs, repository.statuses) == ([], [])


async def test_only_the_projects_of_the_configuration_are_written_to(host: Host) -> None:
    trap = host.github.add_repository("mallory/trap")

    receipt = await host.publish(host.check(project="mallory/trap", commit=trap.branches["main"]))

    assert receipt == CheckReceipt(
        published=False, reason="no application of deployment.yaml has the project mallory/trap at GitHub"
    )
    assert host.github.calls == []


async def test_a_project_at_another_host_is_not_looked_for_at_github(host: Host) -> None:
    host.configured("git@gitlab.example.com:acme/erlmcp.git")

    receipt = await host.publish(host.check())

    assert not receipt.published
    assert "the repository is on gitlab.example.com, not on 127.0.0.1" in receipt.reason
    assert host.github.calls == []


async def test_a_local_repository_may_name_its_project(host: Host, repository: Repository) -> None:
    host.configured("/srv/git/erlmcp", "Acme/ERLMCP")

    assert (await host.publish(host.check())).published
    assert len(repository.check_runs) == 1


async def test_a_commit_github_does_not_have_is_told(host: Host) -> None:
    for commit in ("f" * 40, "abc1234"):
        receipt = await host.publish(host.check(commit=commit))
        assert not receipt.published
        assert "No commit found" in receipt.reason or "no full commit id" in receipt.reason


@pytest.mark.parametrize("token", [APP_TOKEN, PERSONAL_TOKEN])
async def test_an_outage_is_worth_another_try(host: Host, repository: Repository, token: str) -> None:
    host.environment["GITHUB_TOKEN"] = token
    host.github.fail_next(path="check-runs|statuses", status=500)

    with pytest.raises(ApplicationError) as failure:
        await host.publish(host.check())

    assert failure.value.type == UNAVAILABLE
    assert (await host.publish(host.check())).published
    assert len(repository.check_runs) + len(repository.statuses) == 1
