"""What a Git host tells, in the words of the rules: GitHub's and GitLab's payloads become one of these."""

from __future__ import annotations

from typing import Literal

from domain.events import DeploymentEvent
from domain.model import Model

HostEventKind = Literal["push", "pull_request", "workflow_dispatch", "schedule"]
Host = Literal["github", "gitlab"]


class HostEvent(Model):
    """One event of a Git host, ready to be held against the rules.

    Attributes:
        kind: as the rules' ``trigger.event`` names it.
        host: where it happened, so whose login `event.actor` is; none for a schedule of our own.
        project: ``owner/name`` on the host; none for a schedule of our own that concerns every application.
        event: the spec's record; it goes with the request into the history. Its commit is empty where the
            host names none: a manual dispatch, and a tag that GitHub could not resolve.
        branch: that was pushed, or that a pull request goes into.
        tag: that was pushed, without ``refs/tags/``.
        deleted: the branch or tag is gone; there is nothing to deploy.
        paths: changed files; none where the host did not say, or cut its list short.
        action: of a pull request, in GitHub's words: opened, synchronize, reopened, closed …
        merged: the pull request was merged, and not just closed; the event's commit is then the merge's.
        fork: the pull request comes from another repository.
        number: of the pull request.
        workflow: the file of a manual dispatch: a repository may have others than ours.
        inputs: of a manual dispatch, as they were sent.
        schedule: the cron expression that fired.
    """

    kind: HostEventKind
    host: Host | None = None
    project: str | None = None
    event: DeploymentEvent
    branch: str | None = None
    tag: str | None = None
    deleted: bool = False
    paths: tuple[str, ...] | None = None
    action: str | None = None
    merged: bool = False
    fork: bool = False
    number: int | None = None
    workflow: str | None = None
    inputs: dict[str, str | bool] = {}
    schedule: str | None = None
