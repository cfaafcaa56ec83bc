"""Pull requests that are opened once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import UNAVAILABLE
from activities.github import PullRequestActivities
from domain.pull_requests import PullRequestDraft, PullRequestQuery, PullRequestReceipt
from sandbox.github import APP_TOKEN, GitHubServer, PullRequest

PROJECT = "acme/erlmcp"
BRANCH = "erlmcp-deploy/dependencies"
CONFIGURATION = """
applications:
  erlmcp: {{repository: "{url}/acme/erlmcp.git"}}
directory: {{roles: {{tech_lead: [tara@example.com], change_board: [carla@example.com]}}}}
git_hosts: {{github: {{url: "{url}", api_url: "{api_url}"}}}}
"""
DRAFT = PullRequestDraft(
    application="erlmcp", branch=BRANCH, base="main", title="Update", body="| a |", labels=("dependencies",)
)


class Host:
    """GitHub with one repository whose branch was pushed, and a worker."""

    def __init__(self, github: GitHubServer, http: httpx.AsyncClient, file: Path) -> None:
        self.github = github
        self.repository = github.add_repository(PROJECT)
        self.repository.push(BRANCH, "Update", author="erlmcp-deploy")
        file.write_text(CONFIGURATION.format(url=github.url, api_url=github.api_url))
        self.worker = PullRequestActivities(http, file, environment={"GITHUB_TOKEN": APP_TOKEN})

    async def open(self, **changes: object) -> PullRequestReceipt:
        draft = DRAFT.model_copy(update=changes)
        receipt: PullRequestReceipt = await ActivityEnvironment().run(self.worker.open_pull_request, draft)
        return receipt

    async def find(self) -> PullRequestReceipt:
        query = PullRequestQuery(application="erlmcp", branch=BRANCH)
        receipt: PullRequestReceipt = await ActivityEnvironment().run(self.worker.find_pull_request, query)
        return receipt

    @property
    def pulls(self) -> list[PullRequest]:
        return list(self.repository.pulls.values())


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with GitHubServer.start() as github, httpx.AsyncClient() as http:
        yield Host(github, http, tmp_path / "deployment.yaml")


async def test_one_branch_has_one_pull_request(host: Host) -> None:
    assert await host.find() == PullRequestReceipt()
    opened = await host.open()
    assert (opened.number, opened.created) == (1, True)
    assert opened.url == f"{host.github.url}/{PROJECT}/pull/1"
    # an attempt whose answer was lost comes again
    assert (await host.open()) == opened.model_copy(update={"created": False})
    assert host.github.asked("PATCH", "/pulls/1") == [], "nothing had changed"
    # and the next week
    await host.open(title="Update again", body="| b |")
    [pull] = host.pulls
    assert (pull.title, pull.body, pull.labels) == ("Update again", "| b |", ["dependencies"])
    assert await host.find() == opened.model_copy(update={"created": False})


async def test_one_that_was_merged_or_closed_is_not_taken_up_again(host: Host) -> None:
    await host.open()
    host.repository.close(host.pulls[0])
    assert (await host.open()).number == 2


async def test_two_that_open_it_in_the_same_moment_open_one(host: Host) -> None:
    host.github.latency = 0.1  # both ask before either has opened it
    receipts = await asyncio.gather(host.open(), host.open())
    assert [r.number for r in receipts] == [1, 1]
    assert sorted(r.created for r in receipts) == [False, True]
    assert [c.status for c in host.github.asked("POST", "/pulls$")] == [201, 422]


async def test_labels_that_are_refused_do_not_cost_the_pull_request(host: Host) -> None:
    host.github.fail_next(status=403, message="Resource not accessible by integration", path="/labels$")
    receipt = await host.open()
    assert receipt.number == 1
    assert receipt.reason.startswith("the labels dependencies are not set: ")


async def test_what_is_refused_is_told_and_what_is_down_is_tried_again(host: Host) -> None:
    gone = await host.open(branch="nobody/pushed-this")
    assert (gone.number, gone.possible) == (None, False)
    assert "Validation Failed" in gone.reason
    unknown = await host.open(application="other")
    assert unknown.reason == "deployment.yaml has no application 'other'"
    host.github.fail_next(status=502)
    with pytest.raises(ApplicationError) as failure:
        await host.open()
    assert (failure.value.type, failure.value.non_retryable) == (UNAVAILABLE, False)
    host.github.grant(APP_TOKEN, "metadata")
    assert "may not do this" in (await host.open()).reason
