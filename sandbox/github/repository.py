"""What a repository on GitHub holds, and what people do there."""

import hashlib
import itertools
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

_BEGINNING = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Account:
    """Somebody with an account; GitHub knows their commits by their address."""

    login: str
    email: str
    bot: bool = False


WEB_FLOW = Account("web-flow", "noreply@github.com")
"""Who commits what is merged on the pages."""


@dataclass(frozen=True)
class Commit:
    """One commit. ``author`` and ``committer`` are addresses: an account is found by them, or none is."""

    sha: str
    message: str
    author: str
    committer: str
    parents: tuple[str, ...]
    at: datetime


class ReviewState(StrEnum):
    APPROVED = "APPROVED"
    CHANGES_REQUESTED = "CHANGES_REQUESTED"
    COMMENTED = "COMMENTED"
    DISMISSED = "DISMISSED"


@dataclass
class Review:
    id: int
    login: str | None
    state: ReviewState
    commit: str | None
    at: datetime
    body: str = ""


@dataclass
class PullRequest:
    """``commits`` are those of its branch, the oldest first."""

    number: int
    title: str
    author: str
    branch: str
    base: str
    base_sha: str
    commits: list[str]
    created_at: datetime
    body: str = ""
    reviews: list[Review] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    updated_at: datetime = _BEGINNING
    closed_at: datetime | None = None
    merged_at: datetime | None = None
    merged_by: str | None = None
    merge_commit: str | None = None
    brought: list[str] = field(default_factory=list)  # what the merge added to the base

    @property
    def head(self) -> str:
        return self.commits[-1]

    @property
    def state(self) -> str:
        return "open" if self.closed_at is None else "closed"


@dataclass
class CheckRun:
    """One check run as it stands; ``updates`` counts its changes."""

    id: int
    head_sha: str
    fields: dict[str, Any]
    app: str
    updates: int = 0


@dataclass(frozen=True)
class CommitStatus:
    id: int
    sha: str
    state: str
    context: str
    description: str | None
    target_url: str | None
    creator: str
    at: datetime


class Repository:
    """One repository. Its clock goes on by a minute with everything that happens."""

    def __init__(
        self, project: str, *, private: bool, default_branch: str, accounts: dict[str, Account]
    ) -> None:
        self.project = project
        self.private = private
        self.default_branch = default_branch
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.pulls: dict[int, PullRequest] = {}
        self.check_runs: list[CheckRun] = []
        self.statuses: list[CommitStatus] = []
        self._accounts = accounts
        self._numbers = itertools.count(1)
        self._ids = itertools.count(1000)
        self._clock = _BEGINNING
        self.origin: Path | None = None
        self.branches[default_branch] = self._add("Initial commit", WEB_FLOW.email, ()).sha

    def now(self) -> datetime:
        self._clock += timedelta(minutes=1)
        return self._clock

    def next_id(self) -> int:
        return next(self._ids)

    # What people do

    def push(
        self,
        branch: str,
        *messages: str,
        author: str,
        committer: str | None = None,
        sha: str | None = None,
    ) -> str:
        """Commits on a branch, which is made if it is not there; the last one's id.

        ``author`` and ``committer`` are logins or addresses. A ``sha`` gives the (only) commit this id, such
        as that of a commit of a real repository. Open pull requests of the branch take the commits over.
        """
        tip = self.branches.get(branch, self.branches[self.default_branch])
        for message in messages or ("Change something",):
            by = self._address(committer or author)
            tip = self._add(message, self._address(author), (tip,), committer=by, sha=sha).sha
            for pull in self.pulls.values():
                if pull.state == "open" and pull.branch == branch:
                    pull.commits.append(tip)
                    pull.updated_at = self.now()
        self.branches[branch] = tip
        return tip

    def open_pull_request(
        self, branch: str, title: str = "A change", *, author: str, base: str | None = None, body: str = ""
    ) -> PullRequest:
        base = base or self.default_branch
        commits = self.between(self.branches[base], self.branches[branch])
        if not commits:
            raise ValueError(f"{branch} has no commit that {base} has not; push one")
        pull = PullRequest(
            number=next(self._numbers),
            title=title,
            author=author,
            branch=branch,
            base=base,
            base_sha=self.branches[base],
            commits=commits,
            created_at=self.now(),
            body=body,
        )
        pull.updated_at = pull.created_at
        self.pulls[pull.number] = pull
        return pull

    def review(
        self,
        pull: PullRequest,
        login: str | None,
        state: ReviewState = ReviewState.APPROVED,
        body: str = "",
    ) -> Review:
        """A review of the present head; ``login`` None: an account that is gone."""
        review = Review(self.next_id(), login, state, pull.head, self.now(), body)
        pull.reviews.append(review)
        return review

    def dismiss(self, review: Review) -> None:
        review.state = ReviewState.DISMISSED

    def merge(self, pull: PullRequest, by: str, *, method: str = "merge", sha: str | None = None) -> str:
        """Merge by ``merge``, ``squash`` or ``rebase``; what the base points to then."""
        tip, merger = self.branches[pull.base], self._address(by)
        before = tip
        if method == "rebase":
            for old in (self.commits[c] for c in pull.commits):
                tip = self._add(old.message, old.author, (tip,), committer=merger).sha
        else:
            title = f"{pull.title} (#{pull.number})"
            author = merger if method == "merge" else self._address(pull.author)
            parents = (tip, pull.head) if method == "merge" else (tip,)
            tip = self._add(title, author, parents, committer=WEB_FLOW.email, sha=sha).sha
        self.branches[pull.base] = pull.merge_commit = tip
        pull.brought = self.between(before, tip)
        pull.merged_at = pull.closed_at = pull.updated_at = self.now()
        pull.merged_by = by
        return tip

    def close(self, pull: PullRequest) -> None:
        pull.closed_at = pull.updated_at = self.now()

    def serve(self, origin: Path) -> None:
        """Hold what a real bare repository holds, and see from now on what is pushed there."""
        self.origin = origin
        self.commits.clear()
        self.refresh()

    def refresh(self) -> None:
        """Take over what was pushed to the real repository; open pull requests follow their branches."""
        if self.origin is None:
            return
        for line in self._git(
            "log", "--all", "--reverse", "--topo-order", "--format=%H%x09%P%x09%ae%x09%ce%x09%s"
        ):
            sha, parents, author, committer, message = line.split("\t", 4)
            if sha not in self.commits:
                self.commits[sha] = Commit(
                    sha, message, author, committer, tuple(parents.split()), self.now()
                )
        heads = (
            line.split("\t")
            for line in self._git(
                "for-each-ref", "--format=%(refname:lstrip=2)%09%(objectname)", "refs/heads"
            )
        )
        self.branches = dict(heads)
        for pull in self.pulls.values():
            head = self.branches.get(pull.branch)
            if pull.state == "open" and head is not None and head != pull.head:
                pull.commits = self.between(self.branches[pull.base], head) or [head]
                pull.updated_at = self.now()

    def _git(self, *arguments: str) -> list[str]:
        done = subprocess.run(
            ["git", *arguments], cwd=self.origin, check=True, capture_output=True, text=True
        )
        return done.stdout.splitlines()

    # What can be asked

    def account_of(self, address: str) -> Account | None:
        return next((a for a in self._accounts.values() if a.email.lower() == address.lower()), None)

    def resolve(self, reference: str) -> str | None:
        """The commit that a branch, tag or id (or the beginning of one) means."""
        if found := self.branches.get(reference) or self.tags.get(reference):
            return found
        matches = [sha for sha in self.commits if len(reference) >= 7 and sha.startswith(reference)]
        return matches[0] if len(matches) == 1 else None

    def ancestors(self, sha: str) -> Iterator[str]:
        """The commit and all that it is made on, the newest first."""
        seen, waiting = set(), [sha]
        while waiting:
            waiting.sort(key=lambda c: self.commits[c].at)
            current = waiting.pop()
            if current not in seen:
                seen.add(current)
                yield current
                waiting += self.commits[current].parents

    def between(self, base: str, head: str) -> list[str]:
        """The commits of ``head`` that ``base`` has not, the oldest first."""
        known = set(self.ancestors(base))
        return [c for c in self.ancestors(head) if c not in known][::-1]

    def pulls_of(self, sha: str) -> Sequence[PullRequest]:
        """As GitHub sees it: merged ones only once the commit is on the default branch, else open ones."""
        on_default = sha in set(self.ancestors(self.branches[self.default_branch]))
        return [
            pull
            for pull in self.pulls.values()
            if (pull.state == "open" and sha in pull.commits)
            or (on_default and pull.merged_at is not None and sha in (*pull.brought, *pull.commits))
        ]

    def _add(
        self,
        message: str,
        author: str,
        parents: tuple[str, ...],
        *,
        committer: str | None = None,
        sha: str | None = None,
    ) -> Commit:
        text = f"{self.project} {len(self.commits)} {message} {parents}"
        name = sha or hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        commit = Commit(name, message, author, committer or author, parents, self.now())
        self.commits[name] = commit
        return commit

    def _address(self, who: str) -> str:
        """The address of a login; what is an address already stays one."""
        if "@" in who:
            return who
        return self._accounts.setdefault(who.lower(), Account(who, f"{who}@example.com")).email
