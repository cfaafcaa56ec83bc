"""The GitHub stand-in takes pull requests and pushes as GitHub does."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.github import PERSONAL_TOKEN, GitHubServer, Repository
from tests.activities.builds.service_repository import commit_files, git

PROJECT = "acme/shop"


@pytest.fixture
async def github() -> AsyncIterator[GitHubServer]:
    async with GitHubServer.start() as server:
        yield server


@pytest.fixture
def shop(github: GitHubServer, tmp_path: Path) -> Repository:
    """A repository with a real one behind it."""
    clone = tmp_path / "clone"
    clone.mkdir()
    git(clone, "init", "--quiet", "--initial-branch=main", "--template=")
    commit_files(clone, {"a": "a\n"}, "v1.0.0")
    git(tmp_path, "clone", "--quiet", "--bare", str(clone), str(tmp_path / "origin.git"))
    git(clone, "checkout", "--quiet", "-b", "cart")
    commit_files(clone, {"b": "b\n"}, "cart-1")
    repository = github.add_repository(PROJECT)
    repository.serve(tmp_path / "origin.git")
    return repository


async def ask(github: GitHubServer, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {PERSONAL_TOKEN}"}
    async with httpx.AsyncClient(base_url=github.api_url, headers=headers) as http:
        return await http.request(method, f"/repos/{PROJECT}/{path}", json=body)


async def push(github: GitHubServer, clone: Path, token: str | None) -> subprocess.CompletedProcess[bytes]:
    address = github.url.replace("://", f"://x:{token}@") if token else github.url
    command = ["git", "push", "--quiet", f"{address}/{PROJECT}.git", "cart"]
    environment = {"PATH": os.environ["PATH"], "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
    return await asyncio.to_thread(
        subprocess.run, command, cwd=clone, env=environment, capture_output=True, check=False
    )


async def test_a_branch_that_was_pushed_with_a_token_becomes_a_pull_request(
    github: GitHubServer, shop: Repository, tmp_path: Path
) -> None:
    assert (await push(github, tmp_path / "clone", None)).returncode != 0
    assert (await push(github, tmp_path / "clone", "ghp_wrong")).returncode != 0
    new = {"title": "Cart", "head": "cart", "base": "main", "body": "It has one."}
    early = await ask(github, "POST", "pulls", new)
    assert (early.status_code, early.json()["errors"][0]["field"]) == (422, "head")

    done = await push(github, tmp_path / "clone", PERSONAL_TOKEN)
    assert done.returncode == 0, done.stderr

    opened = await ask(github, "POST", "pulls", new)
    assert opened.status_code == 201
    head = git(tmp_path / "clone", "rev-parse", "cart")
    assert (opened.json()["number"], opened.json()["head"]["sha"]) == (1, head)
    again = await ask(github, "POST", "pulls", new)
    assert again.status_code == 422
    assert again.json()["errors"][0]["message"] == "A pull request already exists for acme:cart."
    changed = await ask(github, "PATCH", "pulls/1", {"title": "A cart"})
    assert (changed.json()["title"], changed.json()["body"]) == ("A cart", "It has one.")
    labels = await ask(github, "POST", "issues/1/labels", {"labels": ["new", "shop"]})
    assert [label["name"] for label in labels.json()] == ["new", "shop"]
    assert (await ask(github, "GET", "pulls/1", {})).json()["labels"] == [{"name": "new"}, {"name": "shop"}]


async def test_a_pull_request_follows_its_branch(
    github: GitHubServer, shop: Repository, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    await push(github, clone, PERSONAL_TOKEN)
    await ask(github, "POST", "pulls", {"title": "Cart", "head": "cart", "base": "main"})
    commit_files(clone, {"c": "c\n"}, "cart-2")
    await push(github, clone, PERSONAL_TOKEN)
    pull = (await ask(github, "GET", "pulls/1", {})).json()
    assert (pull["head"]["sha"], pull["commits"]) == (git(clone, "rev-parse", "cart"), 2)
