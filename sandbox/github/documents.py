"""What a repository holds, in the JSON of GitHub's REST API and webhooks."""

from datetime import UTC, datetime
from typing import Any

from sandbox.github.repository import (
    CheckRun,
    CommitStatus,
    PullRequest,
    Repository,
    Review,
)

_ZERO = "0" * 40


class Documents:
    """``pages`` and ``api`` are the base addresses that links are made of."""

    def __init__(self, pages: str, api: str) -> None:
        self._pages = pages
        self._api = api

    def account(self, login: str | None) -> dict[str, Any] | None:
        if login is None:
            return None
        kind = "Bot" if login.endswith("[bot]") else "User"
        return {"login": login, "type": kind, "html_url": f"{self._pages}/{login}", "site_admin": False}

    def repository(self, repository: Repository) -> dict[str, Any]:
        owner, _, name = repository.project.partition("/")
        return {
            "name": name,
            "full_name": repository.project,
            "private": repository.private,
            "owner": self.account(owner),
            "html_url": f"{self._pages}/{repository.project}",
            "clone_url": f"{self._pages}/{repository.project}.git",
            "default_branch": repository.default_branch,
            "fork": False,
        }

    def commit(self, repository: Repository, sha: str) -> dict[str, Any]:
        """As in lists of commits."""
        commit = repository.commits[sha]
        return {
            "sha": sha,
            "html_url": f"{self._pages}/{repository.project}/commit/{sha}",
            "commit": {
                "author": self._signature(commit.author, commit.at),
                "committer": self._signature(commit.committer, commit.at),
                "message": commit.message,
            },
            "author": self._known(repository, commit.author),
            "committer": self._known(repository, commit.committer),
            "parents": [{"sha": parent} for parent in commit.parents],
        }

    def pull(self, repository: Repository, pull: PullRequest, *, whole: bool) -> dict[str, Any]:
        """A pull request; in lists (not ``whole``) GitHub leaves out who merged it, and its counts."""
        merge = pull.merge_commit
        document: dict[str, Any] = {
            "number": pull.number,
            "state": pull.state,
            "locked": False,
            "draft": False,
            "title": pull.title,
            "body": pull.body or None,
            "user": self.account(pull.author),
            "html_url": f"{self._pages}/{repository.project}/pull/{pull.number}",
            "url": f"{self._api}/repos/{repository.project}/pulls/{pull.number}",
            "created_at": _time(pull.created_at),
            "updated_at": _time(pull.updated_at),
            "closed_at": _time(pull.closed_at),
            "merged_at": _time(pull.merged_at),
            # Of an open or rejected one it is the commit that GitHub has tried the merge with.
            "merge_commit_sha": merge or pull.head[::-1],
            "head": self._end(repository, pull.branch, pull.head),
            "base": self._end(repository, pull.base, pull.base_sha),
            "author_association": "CONTRIBUTOR",
            "labels": [{"name": label} for label in pull.labels],
        }
        if whole:
            document |= {
                "merged": pull.merged_at is not None,
                "merged_by": self.account(pull.merged_by),
                "mergeable": True if pull.state == "open" else None,
                "commits": len(pull.commits),
                "comments": 0,
                "review_comments": 0,
            }
        return document

    def review(self, repository: Repository, pull: PullRequest, review: Review) -> dict[str, Any]:
        page = f"{self._pages}/{repository.project}/pull/{pull.number}#pullrequestreview-{review.id}"
        return {
            "id": review.id,
            "user": self.account(review.login),
            "body": review.body,
            "state": review.state.value,
            "html_url": page,
            "submitted_at": _time(review.at),
            "commit_id": review.commit,
            "author_association": "MEMBER",
        }

    def check_run(self, repository: Repository, run: CheckRun) -> dict[str, Any]:
        output = {"title": None, "summary": None, "text": None} | run.fields.get("output", {})
        return {
            "id": run.id,
            "head_sha": run.head_sha,
            "name": run.fields["name"],
            "external_id": run.fields.get("external_id", ""),
            "status": run.fields.get("status", "queued"),
            "conclusion": run.fields.get("conclusion"),
            "started_at": run.fields.get("started_at"),
            "completed_at": run.fields.get("completed_at"),
            "details_url": run.fields.get("details_url"),
            "html_url": f"{self._pages}/{repository.project}/runs/{run.id}",
            "url": f"{self._api}/repos/{repository.project}/check-runs/{run.id}",
            "output": output,
            "app": {"slug": run.app, "name": run.app},
        }

    def status(self, repository: Repository, status: CommitStatus) -> dict[str, Any]:
        return {
            "id": status.id,
            "url": f"{self._api}/repos/{repository.project}/statuses/{status.sha}",
            "state": status.state,
            "context": status.context,
            "description": status.description,
            "target_url": status.target_url,
            "created_at": _time(status.at),
            "updated_at": _time(status.at),
        }

    # Payloads of webhooks

    def push_event(
        self, repository: Repository, reference: str, before: str | None, after: str | None, pusher: str
    ) -> dict[str, Any]:
        commits = [] if after is None else repository.between(before or after, after)
        if after is not None and not commits:
            commits = [after]
        span = f"{(before or _ZERO)[:12]}...{(after or _ZERO)[:12]}"
        told = [self._told(repository, sha) for sha in commits]
        return {
            "ref": reference,
            "before": before or _ZERO,
            "after": after or _ZERO,
            "created": before is None,
            "deleted": after is None,
            "forced": False,
            "base_ref": None,
            "compare": f"{self._pages}/{repository.project}/compare/{span}",
            "commits": told,
            "head_commit": None if after is None else self._told(repository, after),
            "repository": self.repository(repository),
            "pusher": {"name": pusher, "email": f"{pusher}@example.com"},
            "sender": self.account(pusher),
        }

    def pull_request_event(
        self, repository: Repository, pull: PullRequest, action: str, sender: str
    ) -> dict[str, Any]:
        return {
            "action": action,
            "number": pull.number,
            "pull_request": self.pull(repository, pull, whole=True),
            "repository": self.repository(repository),
            "sender": self.account(sender),
        }

    def _told(self, repository: Repository, sha: str) -> dict[str, Any]:
        commit = repository.commits[sha]
        return {
            "id": sha,
            "message": commit.message,
            "timestamp": _time(commit.at),
            "url": f"{self._pages}/{repository.project}/commit/{sha}",
            "author": {"name": commit.author.partition("@")[0], "email": commit.author},
            "committer": {"name": commit.committer.partition("@")[0], "email": commit.committer},
            "distinct": True,
            "added": [],
            "removed": [],
            "modified": [],
        }

    def _known(self, repository: Repository, address: str) -> dict[str, Any] | None:
        account = repository.account_of(address)
        return None if account is None else self.account(account.login)

    def _end(self, repository: Repository, branch: str, sha: str) -> dict[str, Any]:
        owner = repository.project.partition("/")[0]
        return {
            "label": f"{owner}:{branch}",
            "ref": branch,
            "sha": sha,
            "user": self.account(owner),
            "repo": self.repository(repository),
        }

    @staticmethod
    def _signature(address: str, at: datetime) -> dict[str, Any]:
        return {"name": address.partition("@")[0], "email": address, "date": _time(at)}


def _time(time: datetime | None) -> str | None:
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
