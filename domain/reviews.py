"""What the reviews of a merged pull request are worth for a commit (design, section 9).

An approval counts only for what its reviewer saw, and only if the reviewer wrote none of it. In doubt nothing
counts, and people are asked instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum

from domain.approval import identity
from domain.evidence import ApprovalEvidence, MergedPullRequest, ReviewApproval
from domain.model import Model

_NO_REPLY = re.compile(r"(?:\d+\+)?(?P<login>[^@+\s]+)@users\.noreply\.[\w.-]+", re.IGNORECASE)
_TRAILER = re.compile(r"^co-authored-by:[^<\n]*<([^<>\s]+)>\s*$", re.IGNORECASE | re.MULTILINE)
_REASONS = 12
_NAMES = 500


class ReviewState(StrEnum):
    """As GitHub names them; a comment changes nothing about what the same person said before."""

    APPROVED = "APPROVED"
    CHANGES_REQUESTED = "CHANGES_REQUESTED"
    DISMISSED = "DISMISSED"
    COMMENTED = "COMMENTED"
    PENDING = "PENDING"


class Review(Model):
    """One review.

    Attributes:
        login: none if the account is gone.
        commit: that was the head when it was written; none if it is gone.
    """

    login: str | None
    state: ReviewState
    commit: str | None
    submitted_at: datetime | None
    url: str = ""
    comment: str = ""


class ReviewedPullRequest(Model):
    """A merged pull request with all that was said of it.

    Attributes:
        head: the last commit that was in it when it was merged.
        merge_commit: what the merge made of it: a merge commit, the squashed or the last rebased commit.
        logins: who opened it, wrote commits of it or committed them.
        addresses: the email addresses in its commits, trailers included.
        unseen_commits: how many of its commits the host did not list, whose authors are not known.
        reviews: the oldest first.
    """

    number: int
    url: str
    title: str
    base: str
    head: str
    merge_commit: str | None
    merged_by: str | None
    logins: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    unseen_commits: int = 0
    reviews: tuple[Review, ...] = ()


def co_authors(message: str) -> tuple[str, ...]:
    """The addresses in the ``Co-authored-by`` lines of a commit message."""
    return tuple(_TRAILER.findall(message))


def login_in(address: str) -> str | None:
    """The login that GitHub's own ``…@users.noreply.github.com`` addresses hold."""
    match = _NO_REPLY.fullmatch(address.strip())
    return None if match is None else match["login"]


def weigh(pull: ReviewedPullRequest, commit: str, people: Mapping[str, str]) -> ApprovalEvidence:
    """The approvals that stand for this commit, and for those that do not, why.

    Args:
        people: login, in lower case, → person.
    """
    authors = _Authors(pull, people)
    latest = _latest(pull.reviews)
    objections = [r for r in latest if r.state is ReviewState.CHANGES_REQUESTED]
    general = list(_general_doubts(pull, commit, objections))
    said: list[str] = []
    approvals: list[ReviewApproval] = []
    for review in latest:
        if review.state is not ReviewState.APPROVED or review.login is None or review.submitted_at is None:
            continue
        doubt = authors.doubt(review.login) or _doubt_about_head(review, pull)
        if doubt is not None:
            said.append(f"the approval of {review.login} does not count: {doubt}")
            continue
        person = people.get(review.login.casefold())
        approvals.append(
            ReviewApproval(
                login=review.login,
                person=person,
                submitted_at=review.submitted_at,
                url=review.url,
                comment=review.comment,
            )
        )
        stands = person or "nobody in directory.accounts"
        said.append(f"approved by {review.login} ({stands})")
    if general:
        approvals, said = [], general
    if not said:
        said = ["nobody's approval stands"]
    if len(said) > _REASONS:
        said = [*said[:_REASONS], f"and {len(said) - _REASONS} more"]
    return ApprovalEvidence(
        pull_request=MergedPullRequest(
            number=pull.number,
            url=pull.url,
            title=pull.title,
            authors=authors.names,
            merged_by=pull.merged_by,
            approvals=tuple(approvals),
        ),
        reason=f"pull request #{pull.number} into {pull.base} brought {commit[:12]}: {'; '.join(said)}",
    )


def _latest(reviews: tuple[Review, ...]) -> list[Review]:
    """What each account says in the end. A dismissed review says nothing, nor does what it replaced."""
    decisive = (ReviewState.APPROVED, ReviewState.CHANGES_REQUESTED, ReviewState.DISMISSED)
    latest: dict[str, Review] = {}
    for index, review in enumerate(reviews):
        if review.state in decisive:
            # Accounts that are gone cannot be told apart, so none of them replaces another's word.
            latest[f"?{index}" if review.login is None else review.login.casefold()] = review
    return list(latest.values())


def _general_doubts(pull: ReviewedPullRequest, commit: str, objections: list[Review]) -> Iterator[str]:
    if objections:
        names = ", ".join(r.login or "a deleted account" for r in objections)
        yield f"no approval counts while changes are requested by {names}"
    if commit not in (pull.merge_commit, pull.head):
        yield (
            "no approval counts, as it is only a part of what the reviewers saw; "
            f"deploy {(pull.merge_commit or pull.head)[:12]}"
        )
    if pull.unseen_commits:
        yield f"no approval counts, as the authors of {pull.unseen_commits} of its commits are not known"


def _doubt_about_head(review: Review, pull: ReviewedPullRequest) -> str | None:
    if review.commit == pull.head:
        return None
    seen = "another commit" if review.commit is None else review.commit[:12]
    return f"it is of {seen}, and {pull.head[:12]} was pushed later"


class _Authors:
    """Who wrote a pull request, by login and by person."""

    def __init__(self, pull: ReviewedPullRequest, people: Mapping[str, str]) -> None:
        logins = {login.casefold(): login for login in pull.logins}
        for address in pull.addresses:
            if (login := login_in(address)) is not None:
                logins.setdefault(login.casefold(), login)
        persons = {identity(people[key]): people[key] for key in logins if key in people}
        for address in pull.addresses:
            persons.setdefault(identity(address), address)
        self._people = people
        self._logins = logins
        self._persons = persons

    @property
    def names(self) -> tuple[str, ...]:
        return (*self._logins.values(), *self._persons.values())[:_NAMES]

    def doubt(self, login: str) -> str | None:
        person = self._people.get(login.casefold())
        wrote = login.casefold() in self._logins or (person is not None and identity(person) in self._persons)
        return "who wrote a part of it does not approve it" if wrote else None
