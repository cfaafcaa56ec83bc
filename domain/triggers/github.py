"""GitHub's webhooks as host events: push, pull_request and workflow_dispatch.

What the payloads do not say of themselves, and GitHub's documentation does:

- ``after`` of an annotated tag is the tag object; the commit is ``head_commit``.
- A push lists at most 2,048 commits, and at most 3,000 files of each commit.
- ``merge_commit_sha`` is the commit that the base branch was brought to: merge, squash or rebase. While a
  pull request is open, and when it is closed unmerged, it is a test merge that is on no branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from domain.events import EventType
from domain.triggers.host_event import HostEvent
from domain.triggers.reading import (
    BRANCHES,
    TAGS,
    ZEROS,
    Delivery,
    EventIgnoredError,
    Fields,
    commit_if_told,
    pushed,
)

_MOST_COMMITS = 2048
_MOST_FILES = 3000


def read_github(
    header: str,
    payload: Mapping[str, Any],
    *,
    delivery: str,
    received: datetime,
    metadata: Mapping[str, str] = {},
) -> HostEvent:
    """The event that a payload of GitHub tells of.

    Args:
        header: ``X-GitHub-Event``.
        delivery: ``X-GitHub-Delivery``.
        metadata: kept with the event.

    Raises:
        EventIgnoredError: nothing can start by such an event.
        EventUnusableError: the payload lacks what its kind must have.
    """
    readers = {"push": _push, "pull_request": _pull_request, "workflow_dispatch": _workflow_dispatch}
    if header not in readers:
        raise EventIgnoredError(
            f"GitHub's event {header[:60]!r} starts nothing; push, pull_request and workflow_dispatch do"
        )
    return readers[header](Fields.of(payload), Delivery("github", delivery, received, metadata))


def _push(fields: Fields, delivery: Delivery) -> HostEvent:
    branch, tag = pushed(fields)
    head = fields.part("head_commit") if fields.has("head_commit") else Fields({})
    deleted = (fields.has("deleted") and fields.flag("deleted")) or fields.values.get("after") == ZEROS
    if tag is None:
        commit = ZEROS if deleted else fields.commit("after")
    else:
        commit = ZEROS if deleted else commit_if_told(head, "id")
    project = fields.part("repository").project("full_name")
    return HostEvent(
        kind="push",
        host="github",
        project=project,
        event=delivery.record(
            EventType.PUSH if tag is None else EventType.TAG,
            actor=_pusher(fields),
            ref=fields.text("ref"),
            commit=commit,
            project=project,
            url=head.link("url"),
            compare_url=fields.link("compare"),
        ),
        branch=branch,
        tag=tag,
        deleted=deleted,
        paths=_paths(fields) if branch is not None and not deleted else None,
    )


def _pusher(fields: Fields) -> str:
    """Deploy keys push without a sender."""
    if fields.has("sender"):
        return fields.part("sender").login("login")
    return fields.part("pusher").login("name")


def _paths(fields: Fields) -> tuple[str, ...] | None:
    commits = fields.parts("commits")
    if not commits:
        # A new branch without commits of its own changes nothing. A branch that was set back does, and
        # GitHub does not list what.
        return () if fields.values.get("before") == ZEROS else None
    if len(commits) >= _MOST_COMMITS:
        return None
    paths: dict[str, None] = {}
    for commit in commits:
        if not commit.has("added"):
            return None
        changed = [p for kind in ("added", "modified", "removed") for p in commit.paths(kind)]
        if len(changed) >= _MOST_FILES:
            return None
        paths.update(dict.fromkeys(changed))
    return tuple(paths)


def _pull_request(fields: Fields, delivery: Delivery) -> HostEvent:
    action = fields.text("action")
    request = fields.part("pull_request")
    head, base = request.part("head"), request.part("base")
    number = request.number("number")
    merged = request.flag("merged") if action == "closed" else False
    project = fields.part("repository").project("full_name")
    branch = base.text("ref")
    return HostEvent(
        kind="pull_request",
        host="github",
        project=project,
        event=delivery.record(
            EventType.PR,
            actor=fields.part("sender").login("login"),
            ref=f"{BRANCHES}{branch}" if merged else f"refs/pull/{number}/head",
            commit=request.commit("merge_commit_sha") if merged else head.commit("sha"),
            project=project,
            happened=request.time("updated_at"),
            pull_request=str(number),
            url=request.link("html_url"),
        ),
        branch=branch,
        action=action,
        merged=merged,
        fork=_is_fork(head, project),
        number=number,
    )


def _is_fork(head: Fields, project: str) -> bool:
    """Where the other repository is gone, or its name is, it was another one."""
    if not head.has("repo"):
        return True
    return head.part("repo").project("full_name").lower() != project.lower()


def _workflow_dispatch(fields: Fields, delivery: Delivery) -> HostEvent:
    """It names no commit: what is deployed is said by its inputs."""
    ref = fields.text("ref")
    project = fields.part("repository").project("full_name")
    workflow = fields.text("workflow") if fields.has("workflow") else None
    return HostEvent(
        kind="workflow_dispatch",
        host="github",
        project=project,
        event=delivery.record(
            EventType.MANUAL,
            actor=fields.part("sender").login("login"),
            ref=ref,
            commit="",
            project=project,
            workflow=workflow,
        ),
        branch=None if ref.startswith(TAGS) else ref.removeprefix(BRANCHES),
        tag=ref.removeprefix(TAGS) if ref.startswith(TAGS) else None,
        workflow=workflow,
        inputs=fields.inputs("inputs"),
    )
