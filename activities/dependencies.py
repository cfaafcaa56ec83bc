"""Dependency updates on a build worker: a command's changes, as one commit on a branch of their own."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from temporalio import activity

from activities.errors import (
    CONFLICT,
    FORBIDDEN,
    INVALID_CONFIGURATION,
    NOT_FOUND,
    REFUSED,
    UNAVAILABLE,
    fail,
)
from activities.file_lock import file_lock
from activities.processes import CannotStartError, ProcessResult, process_environment, run_process
from activities.redaction import Redactor
from activities.signatures import DependencySignatures
from activities.source import Repositories, check_repository, credentials_of
from domain.dependency_update import (
    BranchHead,
    BranchQuery,
    DependencyChange,
    DependencyUpdateRun,
    package_changes,
)
from domain.durations import format_duration

COMMITTER: Final = "erlmcp-deploy"
ADDRESS: Final = "noreply@erlmcp-deploy.invalid"
"""Whose commits the branch of the updates may hold: every other one is somebody's work."""
_LOCK_FILE: Final = "rebar.lock"
_SHELL_NOT_FOUND: Final = (126, 127)
_FOREIGN_SHOWN: Final = 3
_STALE = re.compile(
    r"stale info|fetch first|non-fast-forward|cannot lock ref|failed to update ref", re.IGNORECASE
)
_DECLINED = re.compile(r"remote rejected|hook declined|protected branch|GH006|GH013", re.IGNORECASE)
_BARRED = re.compile(
    r"authentication failed|could not read (?:username|password)|permission (?:to .* )?denied|error: 40[13]"
    r"|write access|access denied|read[- ]only",
    re.IGNORECASE,
)


class _Foreign(NamedTuple):
    commit: str
    committer: str


class UpdateBranches(Repositories):
    """The branches that updates are made of, and pushed to."""

    async def head(self, repository: str, branch: str | None) -> BranchHead:
        """The newest commit of a branch, or of the default branch, as the repository itself says now."""
        check_repository(repository)
        wanted = "HEAD" if branch is None else f"refs/heads/{branch}"
        self._root.mkdir(parents=True, exist_ok=True)
        asked = await self._git(
            self._root, "ls-remote", "--symref", "--", repository, wanted, remote=repository
        )
        if asked.status != 0:
            self._refuse(repository, asked)
        commit, name = None, branch
        for line in (asked.output or b"").decode(errors="replace").splitlines():
            value, _, reference = line.partition("\t")
            if reference != wanted:
                continue
            if value.startswith("ref: refs/heads/"):
                name = value.removeprefix("ref: refs/heads/")
            elif not value.startswith("ref: "):
                commit = value
        if commit is None and branch is not None:
            fail(NOT_FOUND, f"{repository} has no branch {branch!r}: push it, or correct deployment.yaml")
        if commit is None or name is None:
            fail(
                NOT_FOUND,
                f"{repository} has no default branch with a commit: set one on the Git host",
            )
        return BranchHead(branch=name, commit=commit)

    async def fresh_tree(self, repository: str, base: BranchHead, tree: Path) -> None:
        """A clean work tree of the base, made anew, from a mirror that is up to date."""
        mirror = self._mirror(repository)
        async with file_lock(self._lock(mirror)):
            await self._update(repository, mirror)
            if not await self._has(mirror, base.commit):
                fail(CONFLICT, f"{base.branch} of {repository} was replaced in this moment")
            await self.copy(mirror, base.commit, tree)
            # What the clone knows of the branches is the mirror's, and the mirror may go on.
            await self._local(tree, "remote", "remove", "origin")
            refs = "+refs/heads/*:refs/mirror/*"
            await self._local(tree, "fetch", "--quiet", "--no-tags", "--", str(mirror), refs)

    async def pushed(self, tree: Path, branch: str) -> str | None:
        """What the branch pointed to when the tree was made."""
        return await self._peeled(tree, f"refs/mirror/{branch}")

    async def foreign(self, tree: Path, base: str, head: str) -> list[_Foreign]:
        """Commits of a branch, beyond its base, that no update has made."""
        listed = await self._entries(tree, "log", "-z", "--format=%H%x09%ce", f"{base}..{head}", "--")
        entries = (entry.partition("\t") for entry in listed)
        return [_Foreign(commit, address) for commit, _, address in entries if address != ADDRESS]

    async def stage(self, tree: Path, paths: tuple[str, ...]) -> tuple[str, ...]:
        """Stage what has changed; answers which files."""
        if paths:
            changed = await self._status(tree, "--untracked-files=all", "--", *paths)
            if not changed:
                return ()
            await self._local(tree, "--literal-pathspecs", "add", "--all", "--", *changed)
        else:
            await self._local(tree, "add", "--update")
        return tuple(await self._entries(tree, "diff", "--cached", "--name-only", "--no-renames", "-z"))

    async def tracked_changes(self, tree: Path) -> tuple[str, ...]:
        """Tracked files that differ from the commit, staged or not."""
        return tuple(await self._status(tree, "--untracked-files=no"))

    async def commit(self, tree: Path, message: str) -> str:
        identity = ("-c", f"user.name={COMMITTER}", "-c", f"user.email={ADDRESS}")
        options = ("--quiet", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace")
        await self._local(tree, *identity, "commit", *options, f"--message={message}")
        return await self._local(tree, "rev-parse", "HEAD")

    async def same_change(self, tree: Path, one: str, other: str) -> bool:
        """Whether two commits make the same files of the same commit."""
        made = [
            await self._git(tree, "rev-parse", f"{commit}^1", f"{commit}^{{tree}}") for commit in (one, other)
        ]
        return made[0].status == made[1].status == 0 and made[0].output == made[1].output

    async def push(self, repository: str, tree: Path, branch: str, expected: str | None) -> None:
        """Bring a branch to the tree's commit, if it still points to what is expected."""
        reference = f"refs/heads/{branch}"
        lease = f"--force-with-lease={reference}:{expected or ''}"
        target = f"HEAD:{reference}"
        result = await self._git(
            tree, "push", "--quiet", "--no-verify", lease, "--", repository, target, remote=repository
        )
        if result.status != 0:
            self._refuse_push(repository, branch, result)

    async def text_of(self, tree: Path, commit: str, file: str) -> str:
        """A file as it is in a commit; empty if it is not there."""
        shown = await self._git(tree, "cat-file", "blob", f"{commit}:{file}")
        return (shown.output or b"").decode(errors="replace") if shown.status == 0 else ""

    async def _status(self, tree: Path, *arguments: str) -> list[str]:
        options = ("--porcelain=v1", "--no-renames", "-z")
        entries = await self._entries(tree, "--literal-pathspecs", "status", *options, *arguments)
        return [entry[3:] for entry in entries]

    async def _entries(self, tree: Path, *arguments: str) -> list[str]:
        """What git lists with ``-z``, to the byte."""
        result = await self._git(tree, *arguments)
        if result.status != 0 or result.output is None:
            fail(UNAVAILABLE, f"git {' '.join(arguments[:2])} in {tree} {result.ending()}")
        return [entry for entry in result.output.decode(errors="surrogateescape").split("\0") if entry]

    def _refuse_push(self, repository: str, branch: str, result: ProcessResult) -> NoReturn:
        said = " ".join(line for line in result.tail if line) or result.ending()
        if _STALE.search(said):
            fail(CONFLICT, f"branch {branch} of {repository} was pushed to in the same moment: {said}")
        if _BARRED.search(said):
            fail(
                FORBIDDEN,
                f"repository {repository} does not let the build worker push {branch}: {said}; set "
                "GITHUB_TOKEN to a token with contents: write, or give the worker an SSH key that may",
            )
        if _DECLINED.search(said):
            fail(
                REFUSED,
                f"repository {repository} declines the push of {branch}: {said}; allow it there, or name "
                "another branch under `dependencies` in deployment.yaml",
            )
        fail(UNAVAILABLE, f"repository {repository} cannot be pushed to now: {said}")


class DependencyActivities(DependencySignatures):
    """Updates dependencies under the home directory of a build worker.

    Everything is made anew each time, so an attempt that died leaves nothing that the next one trusts.

    Args:
        root: as of `BuildActivities`, whose mirrors of repositories it shares.
        environment: of the worker. The command gets an allow-list of it, and no secret.
        credentials: URL prefix → token; from ``GITHUB_TOKEN`` unless given.
    """

    def __init__(
        self,
        root: Path,
        *,
        environment: Mapping[str, str] | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self._root = root.resolve()
        self._environment = dict(os.environ if environment is None else environment)
        tokens = credentials_of(self._environment) if credentials is None else dict(credentials)
        self._branches = UpdateBranches(self._root, self._environment, tokens)
        self._redactor = Redactor.of_environment(self._environment, *tokens.values())

    @activity.defn
    async def find_branch_head(self, query: BranchQuery) -> BranchHead:
        """The newest commit of a branch, asked of the repository itself.

        Raises:
            ApplicationError: NotFound, Forbidden, Unavailable, InvalidConfiguration.
        """
        return await self._branches.head(query.repository, query.branch)

    @activity.defn
    async def update_dependencies(self, run: DependencyUpdateRun) -> DependencyChange:
        """Run the command in a fresh checkout, commit what it changes, push that.

        What is pushed already is not pushed again, so that the same change stays the same commit. A branch
        with commits of others is left alone.

        Raises:
            ApplicationError: Refused, if the branch holds commits of others, or the change cannot be told;
                InvalidConfiguration, if the command cannot run; Conflict, Unavailable, if another try can
                help; NotFound; Forbidden.
        """
        home = self._root / "dependency-updates" / run.application
        async with file_lock(home.with_suffix(".lock")):
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
            try:
                return await self._update(run, home)
            finally:
                await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)

    async def _update(self, run: DependencyUpdateRun, home: Path) -> DependencyChange:
        settings, tree = run.settings, home / "source"
        base = await self._branches.head(run.repository, settings.base)
        if base.branch == settings.branch:
            fail(
                INVALID_CONFIGURATION,
                f"dependencies.branch {settings.branch!r} is the branch that is updated, and would be "
                "overwritten: name one that is used for nothing else",
            )
        change = DependencyChange(base=base.branch, base_commit=base.commit, branch=settings.branch)
        await self._branches.fresh_tree(run.repository, base, tree)
        known = await self._branches.pushed(tree, settings.branch)
        if known is not None:
            await self._refuse_foreign(run, tree, base, known)
        await self._run(run, tree, home / "update.log")
        files = await self._branches.stage(tree, settings.paths)
        if not files:
            await self._nothing_else(run, tree)
            return change
        commit = await self._branches.commit(tree, settings.commit_message)
        pushed = known is None or not await self._branches.same_change(tree, commit, known)
        if pushed:
            await self._branches.push(run.repository, tree, settings.branch, known)
        locks = [await self._branches.text_of(tree, c, _LOCK_FILE) for c in (base.commit, commit)]
        return change.model_copy(
            update={
                "commit": commit if pushed else known,
                "files": tuple(_printable(file) for file in files),
                "packages": package_changes(*locks),
                "pushed": pushed,
            }
        )

    async def _refuse_foreign(
        self, run: DependencyUpdateRun, tree: Path, base: BranchHead, known: str
    ) -> None:
        foreign = await self._branches.foreign(tree, base.commit, known)
        if not foreign:
            return
        shown = ", ".join(f"{f.commit[:12]} by {_printable(f.committer)}" for f in foreign[:_FOREIGN_SHOWN])
        more = f" and {len(foreign) - _FOREIGN_SHOWN} more" if len(foreign) > _FOREIGN_SHOWN else ""
        fail(
            REFUSED,
            f"branch {run.settings.branch} holds commits of others ({shown}{more}), which an update would "
            "overwrite: merge its pull request, or delete the branch",
        )

    async def _run(self, run: DependencyUpdateRun, tree: Path, log: Path) -> None:
        settings = run.settings
        name = " ".join(settings.command)[:200]
        try:
            result = await run_process(
                settings.command,
                directory=tree,
                environment=process_environment(self._environment, {}),
                log=log,
                timeout=settings.timeout,
                redactor=self._redactor,
            )
        except CannotStartError as error:
            fail(INVALID_CONFIGURATION, f"dependencies.command cannot run: {error}", cause=error)
        if result.timed_out:
            limit = format_duration(settings.timeout)
            fail(REFUSED, f"{name} did not end within {limit}: raise dependencies.timeout")
        if result.status in _SHELL_NOT_FOUND:
            fail(
                INVALID_CONFIGURATION, f"{name} {result.ending()}; install what it calls on the build worker"
            )
        if result.status != 0:
            # The registry of the packages may be out of reach just now.
            fail(UNAVAILABLE, f"{name} {result.ending()}")

    async def _nothing_else(self, run: DependencyUpdateRun, tree: Path) -> None:
        """An update of other files than those that are committed is not "nothing to update"."""
        others = await self._branches.tracked_changes(tree)
        if others:
            shown = ", ".join(_printable(file) for file in others[:5])
            fail(
                REFUSED,
                f"{' '.join(run.settings.command)[:200]} changes {shown}, which is not among "
                f"dependencies.paths ({', '.join(run.settings.paths)}): add it",
            )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:300]
