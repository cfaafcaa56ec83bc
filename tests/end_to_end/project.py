"""A project at GitHub: real commits in a real repository, what GitHub knows of them, and its webhooks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

from sandbox.configuration import DEVELOPER, LOGINS, PROJECT
from sandbox.github import PullRequest, Repository
from sandbox.world import RECEIVER_SECRETS, World

LOGIN = LOGINS[DEVELOPER]
CHANGED = "config/settings.ini"
"""What every commit here changes: one of the paths that deploy."""


class Project:
    """The developer's clone of the world's repository. What is pushed from it GitHub tells to the receiver.

    Tags of the sample that the story is about to push are taken away first.
    """

    def __init__(self, world: World, *, unpublished: tuple[str, ...] = ()) -> None:
        assert world.github is not None
        self._world = world
        self._github = world.github
        self._clone = world.data_dir / "clone"
        self._git(world.repository, "config", "receive.denyCurrentBranch", "ignore")
        self._git(world.data_dir, "clone", "--quiet", str(world.repository), str(self._clone))
        for tag in unpublished:
            self._git(world.repository, "tag", "--delete", tag)
        self.hosted: Repository = self._github.add_repository(PROJECT)
        for commit in self._git(self._clone, "rev-list", "--reverse", "main").split():
            self.hosted.push("main", "a release", author=DEVELOPER, sha=commit)

    # What the developer does

    def push(self, branch: str) -> str:
        """One more commit on a branch, which begins at main; its id."""
        begun = branch in self.hosted.branches
        self._git(self._clone, "switch", "--quiet", *([branch] if begun else ["--create", branch, "main"]))
        file = self._clone / CHANGED
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as settings:
            settings.write(f"{branch} = {len(self.hosted.commits)}\n")
        self._git(self._clone, "add", CHANGED)
        self._git(self._clone, "commit", "--quiet", "--message", f"Change {branch}")
        self._git(self._clone, "push", "--quiet", "origin", branch)
        commit = self._git(self._clone, "rev-parse", branch).strip()
        return self.hosted.push(branch, f"Change {branch}", author=DEVELOPER, sha=commit)

    def open(self, branch: str) -> PullRequest:
        return self.hosted.open_pull_request(branch, f"Change {branch}", author=LOGIN)

    def merge(self, pull: PullRequest, by: str) -> str:
        """Merge a pull request; the commit that main is at then."""
        self._git(self._clone, "switch", "--quiet", "main")
        message = f"{pull.title} (#{pull.number})"
        self._git(self._clone, "merge", "--quiet", "--no-ff", "--message", message, pull.branch)
        self._git(self._clone, "push", "--quiet", "origin", "main")
        commit = self._git(self._clone, "rev-parse", "main").strip()
        return self.hosted.merge(pull, by, sha=commit)

    def push_tag(self, tag: str) -> str:
        """Publish a tag; its commit."""
        self._git(self._clone, "push", "--quiet", "origin", tag)
        commit = self._git(self._clone, "rev-parse", f"{tag}^{{commit}}").strip()
        self.hosted.tags[tag] = commit
        return commit

    # What GitHub tells

    async def tell_push(self, reference: str, *, before: str | None, after: str, by: str) -> httpx.Response:
        payload = self._github.push_payload(self.hosted, reference, before=before, after=after, pusher=by)
        for commit in payload["commits"]:
            commit["modified"] = [CHANGED]
        return await self.tell("push", payload)

    async def tell_pull_request(
        self, pull: PullRequest, action: str, *, by: str = LOGIN, fork: bool = False
    ) -> httpx.Response:
        payload = self._github.pull_request_payload(self.hosted, pull, action, sender=by)
        if fork:
            payload["pull_request"]["head"]["repo"]["full_name"] = f"{by}/fork"
        return await self.tell("pull_request", payload)

    async def dispatch(self, by: str, **inputs: str) -> httpx.Response:
        """Somebody fills in the form of a manual deployment; GitHub sends all of it as text."""
        payload = {
            "inputs": inputs,
            "ref": "refs/heads/main",
            "workflow": ".github/workflows/deploy.yml",
            "repository": {"full_name": PROJECT},
            "sender": {"login": by, "type": "User"},
        }
        return await self.tell("workflow_dispatch", payload)

    async def tell(self, event: str, payload: dict[str, Any]) -> httpx.Response:
        url = f"{self._world.receiver_url}/webhooks/github"
        secrets = RECEIVER_SECRETS | self._world.variables
        return await self._github.deliver(url, event, payload, secrets["GITHUB_WEBHOOK_SECRET"])

    async def tell_again(self) -> httpx.Response:
        """Somebody presses "redeliver" at the last delivery."""
        return await self._github.redeliver(self._github.deliveries[-1])

    def _git(self, where: Path, *arguments: str) -> str:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            environ |= {f"GIT_{role}_NAME": "Developer", f"GIT_{role}_EMAIL": DEVELOPER}
        ran = subprocess.run(
            ["git", *arguments], cwd=where, env=environ, check=True, capture_output=True, text=True
        )
        return ran.stdout
