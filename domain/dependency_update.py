"""Dependency updates: what a command changes, as one pull request (spec: Dependency Updates)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from domain.deployment import Actor, Name
from domain.durations import Interval
from domain.events import DeploymentEvent
from domain.gates import GateResult
from domain.model import Model
from domain.validation_check import cell, gate_table

_LEGAL_BRANCH = re.compile(
    r"(?!-)(?!/)(?!.*(?:\.\.|@\{|//|\.lock(?:/|$)))[^\s~^:?*\[\\\x00-\x1f\x7f]+(?<![./])"
)
_PACKAGES_SHOWN = 100
_FILES_SHOWN = 50


def _checked_branch(name: str) -> str:
    if name.startswith("refs/") or not _LEGAL_BRANCH.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a branch; write for example erlmcp-deploy/dependencies")
    return name


def _checked_path(path: str) -> str:
    if not path or path.startswith(("/", "-")) or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no path in the repository; write for example rebar.lock")
    return path


Branch = Annotated[str, AfterValidator(_checked_branch)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class DependencySettings(Model):
    """How the dependencies of an application are brought up to date, and how that is proposed.

    Attributes:
        command: an argument list run in a checkout of its own; what it changes there is the update.
        paths: files and directories that are committed if they changed; none = every tracked file.
        base: the branch that is updated; none = the repository's default branch.
        branch: where the update is pushed. It belongs to the updates: it is made anew each time.
        commit_message: of the update; its first line is the pull request's title.
        labels: of the pull request.
        timeout: the command's process group is killed after it.
    """

    command: Annotated[tuple[Text, ...], Field(min_length=1)] = ("rebar3", "upgrade", "--all")
    paths: tuple[Annotated[str, AfterValidator(_checked_path)], ...] = ("rebar.lock",)
    base: Branch | None = None
    branch: Branch = "erlmcp-deploy/dependencies"
    commit_message: Text = "chore(deps): update dependencies"
    labels: tuple[Annotated[Text, StringConstraints(max_length=50)], ...] = ("dependencies",)
    timeout: Interval = timedelta(minutes=30)

    @model_validator(mode="after")
    def _two_branches(self) -> DependencySettings:
        if self.base == self.branch:
            raise ValueError(
                f"base and branch are both {self.branch!r}, which would be overwritten; "
                "name a branch that is used for nothing else"
            )
        return self


# What the workflow is asked, and what it is told


class DependencyUpdateRequest(Model):
    """The input of DependencyUpdateWorkflow."""

    application: Name
    actor: Actor
    event: DeploymentEvent | None = None

    @property
    def update_id(self) -> str:
        return f"dependency-update:{self.application}"


class GateRule(Model):
    """Which gates pull requests into certain branches are held against.

    Attributes:
        name: of the rule in the configuration.
        branches: globs of the base; none = every branch.
        gates: none = every gate that some environment requires.
    """

    name: str
    branches: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()


class DependencyUpdatePlan(Model):
    """The configuration resolved for one update.

    Attributes:
        rules: of pull requests, in the order of the configuration.
    """

    application: str
    repository: str
    settings: DependencySettings
    rules: tuple[GateRule, ...] = ()


class BranchQuery(Model):
    """Which commit a branch points to; none = the default branch."""

    repository: str
    branch: str | None = None


class BranchHead(Model):
    """A branch and its newest commit."""

    branch: str
    commit: str


class DependencyUpdateRun(Model):
    """Update, commit and push."""

    application: str
    repository: str
    settings: DependencySettings


class PackageChange(Model):
    """One dependency before and after; none: it was not there, or is no more."""

    name: str
    before: str | None = None
    after: str | None = None


class DependencyChange(Model):
    """What an update has changed.

    Attributes:
        base: the branch that was updated.
        base_commit: what it was made of.
        branch: where it was pushed.
        commit: of the update; none if nothing had to be changed.
        files: that it changes.
        packages: read from rebar.lock, where that is among them.
        pushed: false: the branch was like this already.
    """

    base: str
    base_commit: str
    branch: str
    commit: str | None = None
    files: tuple[str, ...] = ()
    packages: tuple[PackageChange, ...] = ()
    pushed: bool = False


# What it answers


class DependencyUpdateState(StrEnum):
    """The spec's states that an update goes through: ``Building`` runs the command, ``Testing`` the gates."""

    PENDING = "Pending"
    BUILDING = "Building"
    TESTING = "Testing"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def final(self) -> bool:
        return self in (DependencyUpdateState.COMPLETED, DependencyUpdateState.FAILED)


class DependencyUpdateStatus(Model):
    """The answer of the ``status`` query and the result of DependencyUpdateWorkflow.

    Attributes:
        change: what was pushed.
        validation: workflow id of the validation of its commit.
        verdict: what the gates said, in one line.
        gates: what they measured.
        pull_request: its number.
        url: of the pull request.
        cancelled: somebody ended it.
    """

    update_id: str
    application: str
    actor: str
    state: DependencyUpdateState
    since: datetime
    started_at: datetime
    finished_at: datetime | None = None
    reason: str | None = None
    waiting_for: str | None = None
    change: DependencyChange | None = None
    validation: str | None = None
    verdict: str | None = None
    gates: tuple[GateResult, ...] = ()
    pull_request: int | None = None
    url: str | None = None
    cancelled: bool = False


# Reading rebar.lock

_LOCKED = re.compile(
    r'\{<<"(?P<name>[^"]+)">>,\s*(?:'
    r'\{pkg,\s*<<"[^"]*">>,\s*<<"(?P<version>[^"]*)">>'
    r'|\{[\w-]+,\s*"[^"]*",\s*\{ref,\s*"(?P<ref>[^"]*)"\})'
)
_SHOWN_REF = 12


def locked_packages(lock: str) -> dict[str, str]:
    """Package → version or revision, of a rebar.lock; what is not understood is left out."""
    return {m["name"]: m["version"] or m["ref"][:_SHOWN_REF] for m in _LOCKED.finditer(lock)}


def package_changes(before: str, after: str) -> tuple[PackageChange, ...]:
    """What differs between two rebar.lock, by name."""
    old, new = locked_packages(before), locked_packages(after)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return tuple(PackageChange(name=n, before=old.get(n), after=new.get(n)) for n in names)


# The pull request


def title_of(settings: DependencySettings) -> str:
    return settings.commit_message.splitlines()[0]


def body_of(plan: DependencyUpdatePlan, change: DependencyChange, status: DependencyUpdateStatus) -> str:
    """The pull request's text: what changes, and what the gates say of the commit (Markdown)."""
    command = " ".join(plan.settings.command)
    lines = [
        f"What {_code(command)} changes of **{cell(plan.application)}** "
        f"on {_code(change.base)} at `{change.base_commit[:12]}`.",
        "",
    ]
    if change.packages:
        lines += ["| Package | From | To |", "|---|---|---|"]
        shown = change.packages[:_PACKAGES_SHOWN]
        lines += [f"| {cell(p.name)} | {cell(p.before or '—')} | {cell(p.after or '—')} |" for p in shown]
        lines += _more(len(change.packages) - len(shown), "package")
    else:
        lines += [f"- {_code(file)}" for file in change.files[:_FILES_SHOWN]]
        lines += _more(len(change.files) - _FILES_SHOWN, "file")
    lines += ["", f"### Gates at `{(change.commit or '')[:12]}`: {cell(status.verdict or 'not held')}", ""]
    if status.gates:
        lines += [*gate_table(status.gates), ""]
    lines.append(
        f"Made by `{status.update_id}`, asked for by {cell(status.actor)}. "
        f"The branch {_code(change.branch)} is made anew by the next update, "
        "unless it holds commits of others."
    )
    return "\n".join(lines)


def _code(text: str) -> str:
    return f"`{text.replace('`', '´')}`"


def _more(count: int, noun: str) -> Iterable[str]:
    return [f"\n… and {count} more {noun}{'s' if count != 1 else ''}"] if count > 0 else []
