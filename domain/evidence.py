"""Approval by evidence: the reviews of the pull request that brought a commit (design, section 9)."""

from __future__ import annotations

from datetime import datetime

from domain.model import Model


class EvidenceQuery(Model):
    """Which reviews approve this commit.

    Attributes:
        project: ``owner/name`` on the Git host; none derives it from the application's repository.
        branch: that the pull request must have been merged into; none means the project's default branch.
    """

    application: str
    commit: str
    project: str | None = None
    branch: str | None = None


class ReviewApproval(Model):
    """One person's standing approval of a merged pull request.

    Attributes:
        person: by ``directory.accounts``; none if nobody there has this login.
    """

    login: str
    person: str | None
    submitted_at: datetime
    url: str
    comment: str = ""


class MergedPullRequest(Model):
    """The merged pull request that brought a commit.

    Attributes:
        authors: logins and persons of who wrote it; they approve nothing.
    """

    number: int
    url: str
    title: str
    authors: tuple[str, ...]
    merged_by: str | None = None
    approvals: tuple[ReviewApproval, ...] = ()


class ApprovalEvidence(Model):
    """What was found, and where nothing counts, why.

    Attributes:
        reason: what was looked at and with which result, for the audit trail.
    """

    pull_request: MergedPullRequest | None = None
    reason: str
