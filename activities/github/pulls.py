"""Pull requests as GitHub tells them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from activities.github.api import GitHubApi, RefusedError
from domain.projects import same_project
from domain.reviews import Review, ReviewedPullRequest, ReviewState, co_authors

_LONGEST_TEXT = 300
_LONGEST_ADDRESS = 254
_WEB_FLOW = "web-flow"
"""Whom GitHub names as committer of what it commits itself."""
_STATES = frozenset(ReviewState)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class _Account(BaseModel):
    login: str | None = None  # GitHub may tell an account as {}


class _Repository(BaseModel):
    full_name: str
    default_branch: str | None = None


class _Branch(BaseModel):
    ref: str
    sha: str
    repo: _Repository | None = None


class _Pull(BaseModel):
    number: int
    html_url: str
    title: str
    user: _Account | None = None
    merged_at: datetime | None = None
    merge_commit_sha: str | None = None
    head: _Branch
    base: _Branch
    merged_by: _Account | None = None
    commits: int = 0


class _Signature(BaseModel):
    email: str | None = None


class _CommitText(BaseModel):
    author: _Signature | None = None
    committer: _Signature | None = None
    message: str = ""


class _Commit(BaseModel):
    sha: str
    commit: _CommitText
    author: _Account | None = None
    committer: _Account | None = None


class _Review(BaseModel):
    user: _Account | None = None
    state: str
    commit_id: str | None = None
    submitted_at: datetime | None = None
    html_url: str = ""
    body: str | None = None


M = TypeVar("M", bound=BaseModel)


class NoPullRequestError(Exception):
    """No merged pull request brought the commit; the text says what was found instead."""


async def find_merged(api: GitHubApi, project: str, commit: str, branch: str | None) -> ReviewedPullRequest:
    """The merged pull request that brought a commit: of several the one whose merge or head it is.

    Raises:
        NoPullRequestError: there is none.
        RefusedError: GitHub does not tell.
        ApplicationError: Unavailable.
    """
    seen = _read(_Pull, await api.listed(f"/repos/{project}/commits/{commit}/pulls"))
    found = [p for p in seen if _is_merged(p, project, branch)]
    if not found and branch is not None:
        # GitHub knows the pull requests of a commit only once it is on the default branch.
        recent = await api.get(
            f"/repos/{project}/pulls",
            state="closed",
            base=branch,
            sort="updated",
            direction="desc",
            per_page=100,
        )
        found = [
            p
            for p in _read(_Pull, recent)
            if _is_merged(p, project, branch) and commit in (p.merge_commit_sha, p.head.sha)
        ]
    if not found:
        raise NoPullRequestError(_nothing_found(commit, branch, seen))
    best = max(
        found, key=lambda p: (p.merge_commit_sha == commit, p.head.sha == commit, p.merged_at or _BEGINNING)
    )
    return await _with_reviews(api, project, best.number)


async def _with_reviews(api: GitHubApi, project: str, number: int) -> ReviewedPullRequest:
    path = f"/repos/{project}/pulls/{number}"
    [pull] = _read(_Pull, [await api.get(path)])
    commits = _read(_Commit, await api.listed(f"{path}/commits"))
    reviews = _read(_Review, await api.listed(f"{path}/reviews"))
    reviews.sort(key=lambda r: r.submitted_at or _BEGINNING)
    logins = [_login(pull.user), *(_login(account) for c in commits for account in (c.author, c.committer))]
    signatures = [s for c in commits for s in (c.commit.author, c.commit.committer) if s is not None]
    addresses = [
        *(s.email for s in signatures if s.email),
        *(address for c in commits for address in co_authors(c.commit.message)),
    ]
    return ReviewedPullRequest(
        number=pull.number,
        url=pull.html_url,
        title=_short(pull.title),
        base=pull.base.ref,
        head=pull.head.sha,
        merge_commit=pull.merge_commit_sha,
        merged_by=_login(pull.merged_by),
        logins=tuple(dict.fromkeys(login for login in logins if login is not None and login != _WEB_FLOW)),
        addresses=tuple(dict.fromkeys(a for a in addresses if len(a) <= _LONGEST_ADDRESS)),
        unseen_commits=max(pull.commits - len(commits), 0),
        reviews=tuple(
            Review(
                login=_login(review.user),
                state=ReviewState(review.state),
                commit=review.commit_id,
                submitted_at=review.submitted_at,
                url=review.html_url,
                comment=_short(review.body or ""),
            )
            for review in reviews
            if review.state in _STATES
        ),
    )


def _is_merged(pull: _Pull, project: str, branch: str | None) -> bool:
    # A fork shares the commits of the repository, but not the trust in its reviews; nor does a branch that
    # anybody may make share the trust in those that are protected.
    if pull.base.repo is None or not same_project(pull.base.repo.full_name, project):
        return False
    return pull.merged_at is not None and pull.base.ref == (branch or pull.base.repo.default_branch)


def _nothing_found(commit: str, branch: str | None, seen: Iterable[_Pull]) -> str:
    into = " into the default branch" if branch is None else f" into {branch}"
    others = [
        f"#{p.number} is not merged" if p.merged_at is None else f"#{p.number} went into {p.base.ref}"
        for p in list(seen)[:5]
    ]
    besides = f" ({', '.join(others)})" if others else ""
    return f"no merged pull request{into} brought {commit[:12]}{besides}"


def _read(model: type[M], entries: Any) -> list[M]:
    if not isinstance(entries, list):
        raise RefusedError("GitHub's answer is no list")
    try:
        return [model.model_validate(entry) for entry in entries]
    except ValidationError as error:
        places = {".".join(str(part) for part in fault["loc"]) for fault in error.errors()}
        raise RefusedError(f"GitHub's answer cannot be read: {', '.join(sorted(places)[:5])}") from None


def _login(account: _Account | None) -> str | None:
    return None if account is None else account.login


def _short(text: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text).strip()
    return plain if len(plain) <= _LONGEST_TEXT else plain[: _LONGEST_TEXT - 1] + "…"
