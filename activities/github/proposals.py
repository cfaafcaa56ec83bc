"""Pull requests that the product opens: one for each branch, brought up to date rather than opened twice."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ValidationError
from temporalio import activity

from activities.github.access import GitHubAccess, settings_of
from activities.github.api import GitHubApi, RefusedError
from activities.signatures import PullRequestSignatures
from domain.projects import ForeignProjectError, project_at, same_project
from domain.pull_requests import PullRequestDraft, PullRequestQuery, PullRequestReceipt

_LONGEST_TITLE: Final = 256
_LONGEST_BODY: Final = 65_536
_UNPROCESSABLE: Final = 422


class _Repository(BaseModel):
    full_name: str


class _End(BaseModel):
    ref: str
    repo: _Repository | None = None


class _Label(BaseModel):
    name: str


class _Pull(BaseModel):
    number: int
    html_url: str
    title: str
    body: str | None = None
    head: _End
    base: _End
    labels: tuple[_Label, ...] = ()


class PullRequestActivities(GitHubAccess, PullRequestSignatures):
    """Opens pull requests at GitHub. What GitHub refuses is told, not raised."""

    @activity.defn
    async def find_pull_request(self, query: PullRequestQuery) -> PullRequestReceipt:
        """The open pull request of a branch.

        Raises:
            ApplicationError: Unavailable. Where there can be none, the receipt says why.
        """
        try:
            api, project = await self._host(query.application)
            found = await _open(api, project, query.branch)
        except RefusedError as error:
            return PullRequestReceipt(possible=False, reason=str(error))
        return PullRequestReceipt() if not found else _receipt(found[0])

    @activity.defn
    async def open_pull_request(self, draft: PullRequestDraft) -> PullRequestReceipt:
        """Open the one pull request of a branch, or bring it up to date.

        Raises:
            ApplicationError: Unavailable. What GitHub refuses is in the receipt.
        """
        try:
            api, project = await self._host(draft.application)
            pull, created = await _propose(api, project, draft)
        except RefusedError as error:
            return PullRequestReceipt(possible=False, reason=str(error))
        missing = [
            label for label in draft.labels if label.lower() not in {x.name.lower() for x in pull.labels}
        ]
        reason = ""
        if missing:
            try:
                path = f"/repos/{project}/issues/{pull.number}/labels"
                await api.post(path, {"labels": missing})
            except RefusedError as error:
                reason = f"the labels {', '.join(missing)} are not set: {error}"
        return _receipt(pull, created=created, reason=reason)

    async def _host(self, application: str) -> tuple[GitHubApi, str]:
        configuration = await self._configuration()
        settings = settings_of(configuration, application)
        try:
            project = project_at(configuration.git_hosts.github.url, settings.repository, settings.project)
        except ForeignProjectError as error:
            raise RefusedError(str(error)) from None
        return self._api(configuration), project


async def _open(api: GitHubApi, project: str, branch: str) -> list[_Pull]:
    """The open pull requests of a branch of the project itself, the oldest first."""
    owner = project.partition("/")[0]
    listed = await api.listed(f"/repos/{project}/pulls", state="open", head=f"{owner}:{branch}")
    pulls = [_read(entry) for entry in listed]
    ours = [p for p in pulls if p.head.ref == branch and p.head.repo is not None]
    ours = [p for p in ours if p.head.repo is not None and same_project(p.head.repo.full_name, project)]
    return sorted(ours, key=lambda p: p.number)


async def _propose(api: GitHubApi, project: str, draft: PullRequestDraft) -> tuple[_Pull, bool]:
    title, body = _cut(draft.title, _LONGEST_TITLE), _cut(draft.body, _LONGEST_BODY)
    found = await _into(api, project, draft)
    if found is None:
        new = {"title": title, "head": draft.branch, "base": draft.base, "body": body}
        try:
            return _read(await api.send("POST", f"/repos/{project}/pulls", new)), True
        except RefusedError as error:
            # An attempt before this one, whose answer was lost, may have opened it.
            found = await _into(api, project, draft) if error.status == _UNPROCESSABLE else None
            if found is None:
                raise
    changes: dict[str, Any] = {}
    if found.title != title:
        changes["title"] = title
    if (found.body or "").replace("\r\n", "\n") != body:
        changes["body"] = body
    if changes:
        found = _read(await api.send("PATCH", f"/repos/{project}/pulls/{found.number}", changes))
    return found, False


async def _into(api: GitHubApi, project: str, draft: PullRequestDraft) -> _Pull | None:
    found = await _open(api, project, draft.branch)
    return next((pull for pull in found if pull.base.ref == draft.base), None)


def _receipt(pull: _Pull, *, created: bool = False, reason: str = "") -> PullRequestReceipt:
    return PullRequestReceipt(number=pull.number, url=pull.html_url, created=created, reason=reason)


def _read(entry: Any) -> _Pull:
    try:
        return _Pull.model_validate(entry)
    except ValidationError as error:
        places = {".".join(str(part) for part in fault["loc"]) for fault in error.errors()}
        raise RefusedError(f"GitHub's answer cannot be read: {', '.join(sorted(places)[:5])}") from None


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
