"""GitLab's webhooks as host events: pushes, tags and merge requests.

What the payloads do not say of themselves, and GitLab's documentation does:

- ``after`` of an annotated tag is the tag object; the commit is ``checkout_sha``.
- A push lists its newest 20 commits; ``total_commits_count`` says how many there are.
- A merge request that was merged by fast-forward has no ``merge_commit_sha``. Its last commit may be on no
  branch (it was rebased or squashed), so that the push which comes with it is the one to deploy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from domain.events import EventType
from domain.triggers.host_event import HostEvent
from domain.triggers.reading import (
    BRANCHES,
    ZEROS,
    Delivery,
    EventIgnoredError,
    Fields,
    commit_if_told,
    pushed,
)

_ACTIONS = {"open": "opened", "reopen": "reopened", "close": "closed", "merge": "closed", "update": "edited"}
"""GitLab's word → GitHub's; an update that brings commits is ``synchronize``."""


def read_gitlab(
    header: str,
    payload: Mapping[str, Any],
    *,
    delivery: str,
    received: datetime,
    metadata: Mapping[str, str] = {},
) -> HostEvent:
    """The event that a payload of GitLab tells of.

    Args:
        header: ``X-Gitlab-Event``.
        delivery: ``X-Gitlab-Event-UUID`` or ``Idempotency-Key``.
        metadata: kept with the event.

    Raises:
        EventIgnoredError: nothing can start by such an event.
        EventUnusableError: the payload lacks what its kind must have.
    """
    readers = {"Push Hook": _push, "Tag Push Hook": _push, "Merge Request Hook": _merge_request}
    if header not in readers:
        raise EventIgnoredError(
            f"GitLab's event {header[:60]!r} starts nothing; "
            "Push Hook, Tag Push Hook and Merge Request Hook do"
        )
    return readers[header](Fields.of(payload), Delivery("gitlab", delivery, received, metadata))


def _push(fields: Fields, delivery: Delivery) -> HostEvent:
    branch, tag = pushed(fields)
    deleted = fields.text("after") == ZEROS
    if tag is None:
        commit = fields.commit("after")
    else:
        commit = ZEROS if deleted else commit_if_told(fields, "checkout_sha")
    project = fields.part("project")
    name = project.project("path_with_namespace")
    page = project.link("web_url")
    return HostEvent(
        kind="push",
        host="gitlab",
        project=name,
        event=delivery.record(
            EventType.PUSH if tag is None else EventType.TAG,
            actor=fields.login("user_username"),
            ref=fields.text("ref"),
            commit=commit,
            project=name,
            url=f"{page}/-/commit/{commit}" if page and commit and not deleted else None,
        ),
        branch=branch,
        tag=tag,
        deleted=deleted,
        paths=_paths(fields) if branch is not None and not deleted else None,
    )


def _paths(fields: Fields) -> tuple[str, ...] | None:
    commits = fields.parts("commits")
    if not fields.has("total_commits_count") or fields.number("total_commits_count") > len(commits):
        return None
    if not commits:
        # As at GitHub: a new branch changes nothing, one that was set back does.
        return () if fields.values.get("before") == ZEROS else None
    changed = (p for c in commits for kind in ("added", "modified", "removed") for p in c.paths(kind))
    return tuple(dict.fromkeys(changed))


def _merge_request(fields: Fields, delivery: Delivery) -> HostEvent:
    request = fields.part("object_attributes")
    told = request.text("action") if request.has("action") else ""
    if told not in _ACTIONS:
        raise EventIgnoredError(
            f"a merge request's action {told!r} starts nothing; open, update, reopen, merge and close do"
        )
    action = "synchronize" if told == "update" and request.has("oldrev") else _ACTIONS[told]
    merged = told == "merge"
    branch = request.text("target_branch")
    number = request.number("iid")
    if not merged:
        commit = request.part("last_commit").commit("id")
    elif not (commit := commit_if_told(request, "merge_commit_sha", "squash_commit_sha")):
        raise EventIgnoredError(
            f"merge request {number} was merged by fast-forward, and GitLab does not say to which commit; "
            f"the push of {branch} tells"
        )
    project = fields.part("project").project("path_with_namespace")
    return HostEvent(
        kind="pull_request",
        host="gitlab",
        project=project,
        event=delivery.record(
            EventType.PR,
            actor=fields.part("user").login("username"),
            ref=f"{BRANCHES}{branch}" if merged else f"refs/merge-requests/{number}/head",
            commit=commit,
            project=project,
            happened=request.time("updated_at"),
            pull_request=str(number),
            url=request.link("url"),
        ),
        branch=branch,
        action=action,
        merged=merged,
        fork=_is_fork(request),
        number=number,
    )


def _is_fork(request: Fields) -> bool:
    """Where the other project is gone, it was another one."""
    if not request.has("source_project_id"):
        return True
    return request.number("source_project_id") != request.number("target_project_id")
