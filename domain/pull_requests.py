"""Pull requests that are opened by the product itself: one for each branch."""

from __future__ import annotations

from domain.model import Model


class PullRequestQuery(Model):
    """Is there an open pull request of a branch, and could there be one?"""

    application: str
    branch: str


class PullRequestDraft(Model):
    """What a pull request shall be.

    Attributes:
        branch: that is to be merged; of the application's own project.
        base: where it goes.
        body: Markdown.
        labels: added to those that it has.
    """

    application: str
    branch: str
    base: str
    title: str
    body: str
    labels: tuple[str, ...] = ()


class PullRequestReceipt(Model):
    """What there is, and what became of it.

    Attributes:
        number: of the open pull request; none if there is none.
        created: it was opened now.
        reason: why there can be none; and where there is one, what could not be done to it.
    """

    number: int | None = None
    url: str | None = None
    created: bool = False
    possible: bool = True
    reason: str = ""
