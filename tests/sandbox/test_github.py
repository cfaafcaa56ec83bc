"""The GitHub stand-in answers a plain HTTP client as GitHub does."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox.asgi import serve
from sandbox.github import APP_TOKEN, PERSONAL_TOKEN, GitHubServer, Repository, ReviewState
from sandbox.processes import free_port

PROJECT = "acme/shop"


@pytest.fixture
async def github() -> AsyncIterator[GitHubServer]:
    async with GitHubServer.start() as server:
        yield server


@pytest.fixture
def shop(github: GitHubServer) -> Repository:
    return github.add_repository(PROJECT, private=True)


async def ask(
    github: GitHubServer,
    method: str,
    path: str,
    token: str | None = PERSONAL_TOKEN,
    headers: dict[str, str] | None = None,
    **request: Any,
) -> httpx.Response:
    carried = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=github.api_url, headers={**carried, **(headers or {})}) as http:
        return await http.request(method, f"/repos/{path}", **request)


async def test_a_merged_pull_request_is_found_by_the_commits_it_brought(
    github: GitHubServer, shop: Repository
) -> None:
    shop.push("login", "Add login", "Fix login", author="dev")
    pull = shop.open_pull_request("login", "Login", author="dev")
    shop.review(pull, "tara")
    merged = shop.merge(pull, "tara")

    for sha in (merged, *pull.commits):
        [found] = (await ask(github, "GET", f"{PROJECT}/commits/{sha}/pulls")).json()
        assert (found["number"], found["merge_commit_sha"]) == (1, merged)
        assert "merged_by" not in found
    whole = (await ask(github, "GET", f"{PROJECT}/pulls/1")).json()
    assert (whole["merged"], whole["merged_by"]["login"], whole["commits"]) == (True, "tara", 2)
    assert whole["base"]["repo"]["full_name"] == PROJECT
    [review] = (await ask(github, "GET", f"{PROJECT}/pulls/1/reviews")).json()
    assert (review["state"], review["commit_id"]) == ("APPROVED", pull.head)
    commits = (await ask(github, "GET", f"{PROJECT}/pulls/1/commits")).json()
    assert [c["sha"] for c in commits] == pull.commits
    assert commits[0]["author"]["login"] == "dev"


@pytest.mark.parametrize(("method", "merged_commits"), [("squash", 1), ("rebase", 2)])
async def test_squashed_and_rebased_commits_lead_to_their_pull_request(
    github: GitHubServer, shop: Repository, method: str, merged_commits: int
) -> None:
    shop.push("login", "Add login", "Fix login", author="dev")
    pull = shop.open_pull_request("login", author="dev")
    shop.merge(pull, "tara", method=method)

    assert len(pull.brought) == merged_commits
    for sha in pull.brought:
        [found] = (await ask(github, "GET", f"{PROJECT}/commits/{sha}/pulls")).json()
        assert found["number"] == pull.number


async def test_off_the_default_branch_only_open_pull_requests_are_found_by_a_commit(
    github: GitHubServer, shop: Repository
) -> None:
    shop.push("develop", "Begin", author="dev")
    shop.push("login", "Add login", author="dev")
    pull = shop.open_pull_request("login", author="dev", base="develop")
    [found] = (await ask(github, "GET", f"{PROJECT}/commits/{pull.head}/pulls")).json()
    assert (found["state"], found["merged_at"]) == ("open", None)

    merged = shop.merge(pull, "tara")

    assert (await ask(github, "GET", f"{PROJECT}/commits/{merged}/pulls")).json() == []
    query = {"state": "closed", "base": "develop", "sort": "updated"}
    [listed] = (await ask(github, "GET", f"{PROJECT}/pulls", params=query)).json()
    assert listed["merge_commit_sha"] == merged


async def test_later_pushes_and_dismissals_show_in_the_reviews(
    github: GitHubServer, shop: Repository
) -> None:
    first = shop.push("login", "Add login", author="dev")
    pull = shop.open_pull_request("login", author="dev")
    shop.dismiss(shop.review(pull, "tara"))
    second = shop.push("login", "Fix login", author="dev")
    shop.review(pull, "otto", ReviewState.CHANGES_REQUESTED, "not yet")

    reviews = (await ask(github, "GET", f"{PROJECT}/pulls/1/reviews")).json()

    assert [(r["user"]["login"], r["state"], r["commit_id"]) for r in reviews] == [
        ("tara", "DISMISSED", first),
        ("otto", "CHANGES_REQUESTED", second),
    ]


async def test_lists_come_in_pages_with_links(github: GitHubServer, shop: Repository) -> None:
    shop.push("login", *(f"Commit {i}" for i in range(5)), author="dev")
    shop.open_pull_request("login", author="dev")

    seen, query, pages = [], {"per_page": "2", "page": "1"}, 0
    while True:
        answer = await ask(github, "GET", f"{PROJECT}/pulls/1/commits", params=query)
        seen += [c["commit"]["message"] for c in answer.json()]
        pages += 1
        if "next" not in answer.links:
            break
        query = dict(httpx.URL(answer.links["next"]["url"]).params)

    assert (pages, seen) == (3, [f"Commit {i}" for i in range(5)])


async def test_an_unchanged_answer_is_not_sent_again_and_costs_nothing(
    github: GitHubServer, shop: Repository
) -> None:
    first = await ask(github, "GET", PROJECT)
    left = github.remaining

    second = await ask(github, "GET", PROJECT, headers={"If-None-Match": first.headers["etag"]})

    assert (second.status_code, second.content, github.remaining) == (304, b"", left)


async def test_two_commits_are_compared(github: GitHubServer, shop: Repository) -> None:
    before = shop.branches["main"]
    shop.tags["v1.0.0"] = before
    after = shop.push("main", "One", "Two", author="dev")

    ahead = (await ask(github, "GET", f"{PROJECT}/compare/v1.0.0...{after}")).json()
    behind = (await ask(github, "GET", f"{PROJECT}/compare/main...{before}")).json()

    assert (ahead["status"], ahead["ahead_by"]) == ("ahead", 2)
    assert [c["commit"]["message"] for c in ahead["commits"]] == ["One", "Two"]
    assert (behind["status"], behind["behind_by"]) == ("behind", 2)
    assert (await ask(github, "GET", f"{PROJECT}/compare/v9...main")).status_code == 404


@pytest.mark.parametrize(
    ("token", "project", "refusal"),
    [
        ("ghp_wrong", PROJECT, (401, "Bad credentials")),
        (None, PROJECT, (404, "Not Found")),
        ("ghp_elsewhere", PROJECT, (404, "Not Found")),
        (PERSONAL_TOKEN, "acme/none", (404, "Not Found")),
        ("ghp_narrow", PROJECT, (403, "Resource not accessible by personal access token")),
    ],
)
async def test_who_may_not_is_refused_in_githubs_words(
    github: GitHubServer, shop: Repository, token: str | None, project: str, refusal: tuple[int, str]
) -> None:
    github.grant("ghp_elsewhere", "pull_requests", projects=["acme/other"])
    github.grant("ghp_narrow", "contents")

    answer = await ask(github, "GET", f"{project}/pulls", token)

    assert (answer.status_code, answer.json()["message"]) == refusal
    assert github.calls[-1].status == answer.status_code


async def test_check_runs_are_for_apps_and_can_be_brought_up_to_date(
    github: GitHubServer, shop: Repository
) -> None:
    sha = shop.branches["main"]
    new = {"name": "gates", "head_sha": sha, "external_id": "k", "status": "in_progress"}
    refused = await ask(github, "POST", f"{PROJECT}/check-runs", json=new)
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "You must authenticate via a GitHub App.",
    )

    made = (await ask(github, "POST", f"{PROJECT}/check-runs", APP_TOKEN, json=new)).json()
    done = {"conclusion": "success", "output": {"title": "All passed", "summary": "*"}}
    await ask(github, "PATCH", f"{PROJECT}/check-runs/{made['id']}", APP_TOKEN, json=done)

    listed = (await ask(github, "GET", f"{PROJECT}/commits/{sha}/check-runs", APP_TOKEN)).json()
    assert listed["total_count"] == 1
    [run] = listed["check_runs"]
    assert (run["status"], run["conclusion"], run["external_id"]) == ("completed", "success", "k")
    [kept] = shop.check_runs
    assert (kept.updates, kept.app) == (1, "erlmcp-deploy[bot]")


async def test_the_latest_status_of_each_context_counts(github: GitHubServer, shop: Repository) -> None:
    sha = shop.branches["main"]
    for state, context in (("pending", "a"), ("success", "a"), ("failure", "b")):
        answer = await ask(
            github, "POST", f"{PROJECT}/statuses/{sha}", json={"state": state, "context": context}
        )
        assert answer.status_code == 201

    combined = (await ask(github, "GET", f"{PROJECT}/commits/{sha}/status")).json()

    assert (combined["state"], combined["total_count"]) == ("failure", 2)
    assert len(shop.statuses) == 3


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("statuses/{sha}", {"state": "done"}, "state"),
        ("statuses/{sha}", {"state": "success", "description": "x" * 141}, "description"),
        ("statuses/{sha}", {"state": "success", "target_url": "ftp://x"}, "target_url"),
        ("check-runs", {"name": "x", "head_sha": "{sha}", "conclusion": "fine"}, "conclusion"),
    ],
)
async def test_what_cannot_be_published_is_refused_with_its_field(
    github: GitHubServer, shop: Repository, path: str, body: dict[str, str], field: str
) -> None:
    sha = shop.branches["main"]
    sent = {key: value.format(sha=sha) for key, value in body.items()}

    answer = await ask(github, "POST", f"{PROJECT}/{path.format(sha=sha)}", APP_TOKEN, json=sent)

    assert (answer.status_code, answer.json()["message"]) == (422, "Validation Failed")
    [error] = answer.json()["errors"]
    assert (error["field"], error["code"]) == (field, "custom")


async def test_rates_are_limited_until_they_are_reset(github: GitHubServer, shop: Repository) -> None:
    github.limit_rate(remaining=1, reset_in=600)

    first, second = await ask(github, "GET", PROJECT), await ask(github, "GET", PROJECT)

    assert (first.status_code, first.headers["x-ratelimit-remaining"]) == (200, "0")
    assert (second.status_code, second.headers["x-ratelimit-remaining"]) == (403, "0")
    assert second.headers["x-ratelimit-reset"] == str(github.reset_at)
    github.limit_rate(remaining=10, reset_in=0)
    assert (await ask(github, "GET", PROJECT)).status_code == 200


async def test_it_fails_as_often_as_it_is_told_to(github: GitHubServer, shop: Repository) -> None:
    github.fail_next(2, status=429, message="slow down", headers={"Retry-After": "7"}, path="/pulls$")

    assert (await ask(github, "GET", PROJECT)).status_code == 200
    for _ in range(2):
        answer = await ask(github, "GET", f"{PROJECT}/pulls")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert (await ask(github, "GET", f"{PROJECT}/pulls")).status_code == 200


async def test_an_unknown_version_of_the_api_is_refused(github: GitHubServer, shop: Repository) -> None:
    answer = await ask(github, "GET", PROJECT, headers={"X-GitHub-Api-Version": "1999-01-01"})

    assert answer.status_code == 400


async def test_a_webhook_is_signed_over_its_bytes_and_can_be_sent_again(
    github: GitHubServer, shop: Repository
) -> None:
    received: list[tuple[dict[str, str], bytes]] = []

    async def hear(request: Request) -> Response:
        received.append((dict(request.headers), await request.body()))
        return PlainTextResponse("", status_code=202)

    before = shop.branches["main"]
    after = shop.push("main", "Add login", author="dev")
    payload = github.push_payload(shop, "refs/heads/main", before=before, after=after)
    async with serve(Starlette(routes=[Route("/webhooks/github", hear, methods=["POST"])])) as receiver:
        answer = await github.deliver(f"{receiver}/webhooks/github", "push", payload, "s3cret")
        assert answer.status_code == 202
        await github.redeliver(github.deliveries[0])

    (headers, body), (again, same_body) = received
    digest = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["x-hub-signature-256"] == f"sha256={digest}"
    assert headers["x-github-event"] == "push"
    assert (again["x-github-delivery"], same_body) == (headers["x-github-delivery"], body)
    told = json.loads(body)
    assert (told["before"], told["after"], told["commits"][0]["id"]) == (before, after, after)
    assert [d.status for d in github.deliveries] == [202, 202]


async def test_a_webhook_nobody_takes_is_remembered(github: GitHubServer) -> None:
    with pytest.raises(httpx.ConnectError):
        await github.deliver(f"http://127.0.0.1:{free_port()}/", "ping", {}, "s3cret")

    [delivery] = github.deliveries
    assert (delivery.event, delivery.status) == ("ping", None)


async def test_the_event_of_a_merge_tells_where_it_went(github: GitHubServer, shop: Repository) -> None:
    shop.push("login", "Add login", author="dev")
    pull = shop.open_pull_request("login", author="dev")
    merged = shop.merge(pull, "tara")

    payload = github.pull_request_payload(shop, pull, "closed", sender="tara")

    told = payload["pull_request"]
    assert (payload["action"], told["merged"], told["merge_commit_sha"]) == ("closed", True, merged)
    assert (told["base"]["ref"], told["head"]["sha"]) == ("main", pull.head)
    assert payload["repository"]["full_name"] == PROJECT
