"""Approval by evidence: what the reviews of a pull request are worth, read over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import UNAVAILABLE
from activities.github import GitHostActivities
from domain.evidence import ApprovalEvidence, EvidenceQuery
from sandbox.github import (
    APP_TOKEN,
    PERSONAL_TOKEN,
    Account,
    GitHubServer,
    PullRequest,
    Repository,
    ReviewState,
)
from sandbox.processes import free_port

PROJECT = "acme/erlmcp"
CONFIGURATION = """
applications: {{erlmcp: {{repository: "{repository}"}}}}
directory:
  roles: {{tech_lead: [tara@example.com, dev@example.com], change_board: [carla@example.com]}}
  accounts:
    tara@example.com: {{github: Tara-GH}}
    dev@example.com: {{github: dev}}
git_hosts: {{github: {{url: "{url}", api_url: "{api_url}"}}}}
"""


class Host:
    """GitHub with one private repository, and a worker that asks it."""

    def __init__(self, github: GitHubServer, http: httpx.AsyncClient, file: Path) -> None:
        self.github = github
        self.file = file
        self.http = http
        self.repository = github.add_repository(PROJECT, private=True)
        self.environment = {"GITHUB_TOKEN": PERSONAL_TOKEN}
        self.configured()

    def configured(self, repository: str | None = None, api_url: str | None = None) -> None:
        text = CONFIGURATION.format(
            repository=repository or f"{self.github.url}/{PROJECT}.git",
            url=self.github.url,
            api_url=api_url or self.github.api_url,
        )
        self.file.write_text(text)

    def pull_request(self, *, author: str = "dev", base: str = "main") -> PullRequest:
        self.repository.push("login", "Add login", author=author)
        return self.repository.open_pull_request("login", "Login", author=author, base=base)

    async def evidence(self, commit: str, **query: Any) -> ApprovalEvidence:
        activities = GitHostActivities(self.http, self.file, environment=self.environment)
        asked = EvidenceQuery(application="erlmcp", commit=commit, **{"branch": "main", **query})
        return await ActivityEnvironment().run(activities.find_approval_evidence, asked)

    async def approvers(self, commit: str, **query: Any) -> list[str | None]:
        found = await self.evidence(commit, **query)
        return [] if found.pull_request is None else [a.person for a in found.pull_request.approvals]


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def host(tmp_path: Path, http: httpx.AsyncClient) -> AsyncIterator[Host]:
    accounts = [Account("Tara-GH", "tara@example.com"), Account("dev", "dev@example.com")]
    async with GitHubServer.start(accounts) as github:
        yield Host(github, http, tmp_path / "deployment.yaml")


@pytest.fixture
def repository(host: Host) -> Repository:
    return host.repository


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
async def test_the_approval_of_a_merged_pull_request_is_evidence(
    host: Host, repository: Repository, method: str
) -> None:
    pull = host.pull_request()
    repository.review(pull, "tara-gh", body="Looks good")
    merged = repository.merge(pull, "Tara-GH", method=method)

    evidence = await host.evidence(merged)

    found = evidence.pull_request
    assert found is not None
    assert (found.number, found.title, found.merged_by) == (1, "Login", "Tara-GH")
    assert found.url == f"{host.github.url}/acme/erlmcp/pull/1"
    assert "dev" in found.authors
    [approval] = found.approvals
    assert (approval.login, approval.person) == ("tara-gh", "tara@example.com")
    assert approval.comment == "Looks good"
    assert approval.url.startswith(f"{found.url}#pullrequestreview-")
    assert evidence.reason == (
        f"pull request #1 into main brought {merged[:12]}: approved by tara-gh (tara@example.com)"
    )


async def test_the_head_that_was_reviewed_has_the_evidence_as_well(
    host: Host, repository: Repository
) -> None:
    pull = host.pull_request()
    repository.review(pull, "tara-gh")
    repository.merge(pull, "dev")

    assert await host.approvers(pull.head) == ["tara@example.com"]


async def test_a_reviewer_nobody_in_the_directory_knows_is_shown_without_a_person(
    host: Host, repository: Repository
) -> None:
    pull = host.pull_request()
    repository.review(pull, "stranger")

    evidence = await host.evidence(repository.merge(pull, "dev"))

    assert evidence.pull_request is not None
    assert [(a.login, a.person) for a in evidence.pull_request.approvals] == [("stranger", None)]
    assert "approved by stranger (nobody in directory.accounts)" in evidence.reason


async def test_comments_change_nothing_about_an_approval(host: Host, repository: Repository) -> None:
    pull = host.pull_request()
    repository.review(pull, "tara-gh")
    repository.review(pull, "tara-gh", ReviewState.COMMENTED, "one more thought")

    assert await host.approvers(repository.merge(pull, "dev")) == ["tara@example.com"]


async def test_the_last_word_of_a_reviewer_counts(host: Host, repository: Repository) -> None:
    pull = host.pull_request()
    repository.review(pull, "tara-gh", ReviewState.CHANGES_REQUESTED)
    repository.review(pull, "Tara-GH")

    assert await host.approvers(repository.merge(pull, "dev")) == ["tara@example.com"]


async def test_a_dismissed_approval_is_none(host: Host, repository: Repository) -> None:
    pull = host.pull_request()
    repository.dismiss(repository.review(pull, "tara-gh"))

    evidence = await host.evidence(repository.merge(pull, "dev"))

    assert evidence.pull_request is not None
    assert evidence.pull_request.approvals == ()
    assert "nobody's approval stands" in evidence.reason


async def test_an_approval_from_before_a_later_push_does_not_count(
    host: Host, repository: Repository
) -> None:
    pull = host.pull_request()
    reviewed = pull.head
    repository.review(pull, "tara-gh")
    pushed = repository.push("login", "One more line", author="dev")

    evidence = await host.evidence(repository.merge(pull, "dev"))

    assert evidence.pull_request is not None
    assert evidence.pull_request.approvals == ()
    assert f"it is of {reviewed[:12]}, and {pushed[:12]} was pushed later" in evidence.reason


async def test_while_anybody_requests_changes_nobody_has_approved(host: Host, repository: Repository) -> None:
    pull = host.pull_request()
    repository.review(pull, "tara-gh")
    repository.review(pull, "otto", ReviewState.CHANGES_REQUESTED)

    evidence = await host.evidence(repository.merge(pull, "dev"))

    assert evidence.pull_request is not None
    assert evidence.pull_request.approvals == ()
    assert evidence.reason.endswith("no approval counts while changes are requested by otto")


@pytest.mark.parametrize(
    "message",
    [
        "Pair\n\nCo-authored-by: Tara <tara@example.com>",
        "Pair\n\nCo-Authored-By: Tara <99+tara-gh@users.noreply.github.com>",
    ],
)
async def test_who_helped_to_write_it_does_not_approve_it(
    host: Host, repository: Repository, message: str
) -> None:
    pull = host.pull_request()
    repository.push("login", message, author="otto")
    repository.review(pull, "tara-gh")

    evidence = await host.evidence(repository.merge(pull, "dev"))

    assert evidence.pull_request is not None
    assert evidence.pull_request.approvals == ()
    assert "approval of tara-gh does not count: who wrote a part of it" in evidence.reason


@pytest.mark.parametrize("who", ["author", "committer"])
async def test_who_wrote_or_committed_a_part_of_it_does_not_approve_it(
    host: Host, repository: Repository, who: str
) -> None:
    pull = host.pull_request(author="otto")
    # given a commit by an address that GitHub has no account for, while the directory knows whose it is
    roles = {"author": "otto", who: "Dev@Example.COM"}
    repository.push("login", "Fix", **roles)
    repository.review(pull, "dev")
    repository.review(pull, "tara-gh")

    assert await host.approvers(repository.merge(pull, "otto")) == ["tara@example.com"]


async def test_who_opened_it_does_not_approve_it(host: Host, repository: Repository) -> None:
    repository.push("login", "Add login", author="otto")
    pull = repository.open_pull_request("login", author="Dev")
    repository.review(pull, "dev")

    assert await host.approvers(repository.merge(pull, "otto")) == []


async def test_a_commit_on_the_way_was_not_what_the_reviewers_saw(host: Host, repository: Repository) -> None:
    # given a commit that a later one of the same pull request takes back
    hidden = repository.push("login", "Backdoor", author="dev")
    repository.push("login", "Take it back", author="dev")
    pull = repository.open_pull_request("login", author="dev")
    repository.review(pull, "tara-gh")
    merged = repository.merge(pull, "dev")

    evidence = await host.evidence(hidden)

    assert evidence.pull_request is not None
    assert evidence.pull_request.approvals == ()
    assert f"only a part of what the reviewers saw; deploy {merged[:12]}" in evidence.reason


async def test_more_commits_than_github_lists_leave_authors_unknown(
    host: Host, repository: Repository
) -> None:
    repository.push("login", *(f"Commit {i}" for i in range(253)), author="otto")
    pull = repository.open_pull_request("login", author="otto")
    repository.review(pull, "tara-gh")

    evidence = await host.evidence(repository.merge(pull, "dev", method="squash"))

    assert evidence.pull_request is not None
    assert evidence.pull_request.approvals == ()
    assert "the authors of 3 of its commits are not known" in evidence.reason


async def test_many_reviews_are_read_to_the_last(host: Host, repository: Repository) -> None:
    pull = host.pull_request()
    for _ in range(130):
        repository.review(pull, "otto", ReviewState.COMMENTED)
    repository.review(pull, "tara-gh")

    assert await host.approvers(repository.merge(pull, "dev")) == ["tara@example.com"]


async def test_a_commit_without_a_pull_request_has_no_evidence(host: Host, repository: Repository) -> None:
    pushed = repository.push("main", "Straight to main", author="dev")

    evidence = await host.evidence(pushed)

    assert evidence == ApprovalEvidence(reason=f"no merged pull request into main brought {pushed[:12]}")


async def test_what_is_not_merged_or_went_elsewhere_is_told(host: Host, repository: Repository) -> None:
    open_one = host.pull_request()
    repository.review(open_one, "tara-gh")
    assert "(#1 is not merged)" in (await host.evidence(open_one.head)).reason

    merged = repository.merge(open_one, "dev")

    evidence = await host.evidence(merged, branch="release")
    assert evidence.pull_request is None
    assert "no merged pull request into release" in evidence.reason
    assert "#1 went into main" in evidence.reason


async def test_a_pull_request_into_another_branch_is_found_there(host: Host, repository: Repository) -> None:
    # given a branch on which GitHub does not tell a commit's pull request
    repository.push("develop", "Begin", author="dev")
    pull = host.pull_request(base="develop")
    repository.review(pull, "tara-gh")

    merged = repository.merge(pull, "dev")

    assert await host.approvers(merged, branch="develop") == ["tara@example.com"]


async def test_where_no_branch_is_named_only_the_default_branch_is_trusted(
    host: Host, repository: Repository
) -> None:
    # given a change that was approved into a branch which anybody may write to
    repository.push("develop", "Written there without a review", author="dev")
    inner = host.pull_request(base="develop")
    repository.review(inner, "tara-gh")
    merged = repository.merge(inner, "dev")
    assert (await host.evidence(merged, branch=None)).pull_request is None
    # when it comes to the default branch with all the rest
    outer = repository.open_pull_request("develop", "Release", author="otto")
    released = repository.merge(outer, "otto")
    # then neither it nor the rest is approved by that
    assert await host.approvers(merged, branch=None) == []
    assert await host.approvers(released, branch=None) == []


async def test_without_a_token_people_decide(host: Host, repository: Repository) -> None:
    host.environment.clear()

    evidence = await host.evidence(repository.branches["main"])

    assert evidence == ApprovalEvidence(reason="GITHUB_TOKEN is not set on the worker")
    assert host.github.calls == []


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("ghp_revoked", "GITHUB_TOKEN is not accepted (HTTP 401: Bad credentials)"),
        ("ghp_elsewhere", "not there, or hidden from GITHUB_TOKEN (HTTP 404: Not Found)"),
        ("ghp_narrow", "GITHUB_TOKEN may not do this (HTTP 403: Resource not accessible"),
        ("ghp_two lines", "GITHUB_TOKEN on the worker is no token"),
        ("ghp_smörgås", "GITHUB_TOKEN on the worker is no token"),
    ],
)
async def test_a_token_that_may_not_is_a_reason_and_no_error(
    host: Host, repository: Repository, token: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.github.grant("ghp_elsewhere", "pull_requests", projects=["acme/other"])
    host.github.grant("ghp_narrow", "contents")
    host.environment["GITHUB_TOKEN"] = token

    evidence = await host.evidence(repository.branches["main"])

    assert evidence.pull_request is None
    assert reason in evidence.reason
    assert token not in evidence.reason + caplog.text


async def test_a_commit_that_github_does_not_know_has_no_evidence(host: Host) -> None:
    evidence = await host.evidence("f" * 40)

    assert evidence.pull_request is None
    assert f"HTTP 422: No commit found for SHA: {'f' * 40}" in evidence.reason
    assert (await host.evidence("main")).reason == "'main' is no full commit id"


@pytest.mark.parametrize(
    ("path", "fault", "wait"),
    [
        ("/commits/[0-9a-f]+/pulls", {"status": 502}, None),
        ("/pulls/1$", {"status": 503, "headers": {"Retry-After": "9"}}, 9),
        ("/commits$", {"status": 403, "message": "You have exceeded a secondary rate limit"}, 60),
        ("/reviews$", {"status": 429, "headers": {"Retry-After": "30"}}, 30),
    ],
)
async def test_a_host_that_cannot_answer_now_is_asked_again_later(
    host: Host, repository: Repository, path: str, fault: dict[str, Any], wait: int | None
) -> None:
    pull = host.pull_request()
    repository.review(pull, "tara-gh")
    merged = repository.merge(pull, "dev")
    host.github.fail_next(path=path, **fault)

    with pytest.raises(ApplicationError) as failure:
        await host.evidence(merged)

    assert (failure.value.type, failure.value.non_retryable) == (UNAVAILABLE, False)
    assert failure.value.next_retry_delay == (None if wait is None else timedelta(seconds=wait))
    assert PERSONAL_TOKEN not in str(failure.value)
    # and the next time it is there
    assert await host.approvers(merged) == ["tara@example.com"]


async def test_an_exhausted_rate_is_waited_for_until_its_reset(host: Host, repository: Repository) -> None:
    host.github.limit_rate(remaining=0, reset_in=900)

    with pytest.raises(ApplicationError, match="limits the rate of GITHUB_TOKEN") as failure:
        await host.evidence(repository.branches["main"])

    wait = failure.value.next_retry_delay
    assert wait is not None
    assert timedelta(minutes=10) < wait <= timedelta(minutes=16)


async def test_a_host_that_is_away_is_asked_again_later(host: Host, repository: Repository) -> None:
    host.configured(api_url=f"http://127.0.0.1:{free_port()}")

    with pytest.raises(ApplicationError, match="no connection to") as failure:
        await host.evidence(repository.branches["main"])

    assert failure.value.type == UNAVAILABLE


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"api_url": "http://ghe.example.com/api/v3"}, "the token is sent by https only"),
        ({"repository": "git@gitlab.example.com:acme/erlmcp.git"}, "the repository is on gitlab.example.com"),
        ({"repository": "/srv/git/erlmcp"}, "set the application's `project` to owner/name"),
    ],
)
async def test_settings_that_cannot_be_used_send_the_token_nowhere(
    host: Host, repository: Repository, settings: dict[str, str], reason: str
) -> None:
    host.configured(**settings)

    evidence = await host.evidence(repository.branches["main"])

    assert evidence.pull_request is None
    assert reason in evidence.reason
    assert host.github.calls == []


async def test_the_reviews_of_a_fork_are_not_those_of_the_application(
    host: Host, repository: Repository
) -> None:
    evidence = await host.evidence(repository.branches["main"], project="mallory/erlmcp")

    assert evidence.reason == "mallory/erlmcp is not the application's project; that is acme/erlmcp"
    assert host.github.calls == []
    # while case makes no other project
    evidence = await host.evidence(repository.branches["main"], project="Acme/ERLMCP")
    assert evidence.reason.startswith("no merged pull request into main")


async def test_a_page_in_place_of_the_api_is_told(host: Host, repository: Repository) -> None:
    host.configured(api_url=host.github.url)

    evidence = await host.evidence(repository.branches["main"])

    assert evidence.pull_request is None
    assert "HTTP 404" in evidence.reason


async def test_a_broken_configuration_stops_no_deployment_that_runs(
    host: Host, repository: Repository
) -> None:
    host.file.write_text("environments: [")

    evidence = await host.evidence(repository.branches["main"])

    assert evidence.reason.startswith("deployment.yaml cannot be used")


async def test_an_apps_token_reads_as_well(host: Host, repository: Repository) -> None:
    host.environment["GITHUB_TOKEN"] = APP_TOKEN
    pull = host.pull_request()
    repository.review(pull, "tara-gh")

    assert await host.approvers(repository.merge(pull, "dev")) == ["tara@example.com"]
