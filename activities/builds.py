"""Builds on one worker: its own queue, checkouts, measured steps and releases (design, section 3)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from glob import escape
from pathlib import Path
from uuid import uuid4

from pydantic import BaseModel, ValidationError
from temporalio import activity

from activities.artefacts import ArtefactStore, JournalEntry, StoredFile, write_atomically
from activities.commands import OUTPUT_LIMIT, read_object, run_command
from activities.documents import inspect_documents
from activities.errors import INVALID_CONFIGURATION, REFUSED, UNAVAILABLE, WORKSPACE_LOST, fail
from activities.file_lock import file_lock
from activities.measurement import Finding, Workbench, measured, unmeasured
from activities.processes import (
    CannotStartError,
    UnknownVariableError,
    process_environment,
    referenced_secrets,
)
from activities.rebar3.release import build_tarball, build_upgrade
from activities.rebar3.tools import run_tool
from activities.redaction import Redactor
from activities.signatures import BuildSignatures
from activities.source import Repositories, credentials_of
from domain.build import (
    Checkout,
    CheckoutRequest,
    ReleaseArtefact,
    ReleaseRun,
    ReservationRequest,
    StepRun,
    Workspace,
)
from domain.durations import format_duration
from domain.gates import StepReport

_RETENTION = timedelta(days=7)
_SHELL_NOT_FOUND = (126, 127)


class BuildActivities(BuildSignatures):
    """Checks out, measures and builds under one directory of this machine.

    Everything is found again after a crash of the worker: the queue's name, mirrors, work trees, finished
    steps and artefacts. What was half done is done again.

    Attributes:
        root: the worker's home; one worker process at a time.
        environment: of the worker. Builds get an allow-list of it and what their step names, not its secrets.
        credentials: URL prefix → token for reading repositories; from ``GITHUB_TOKEN`` unless given.
        retention: work trees that were not used for longer are removed.
    """

    def __init__(
        self,
        root: Path,
        *,
        environment: Mapping[str, str] | None = None,
        credentials: Mapping[str, str] | None = None,
        retention: timedelta = _RETENTION,
    ) -> None:
        self._root = root.resolve()
        self._root.mkdir(parents=True, exist_ok=True)
        self._environment = dict(os.environ if environment is None else environment)
        tokens = credentials_of(self._environment) if credentials is None else dict(credentials)
        self._tokens = tuple(tokens.values())
        self._repositories = Repositories(self._root, self._environment, tokens)
        self._store = ArtefactStore(self._root)
        self._retention = retention
        self._in_use: dict[Path, int] = {}
        self._worker = _identity(self._root)

    @property
    def own_queue(self) -> str:
        """The task queue that only this worker serves; the same after a restart."""
        return f"builds:{self._worker}"

    @property
    def artefacts(self) -> ArtefactStore:
        """Where releases and logs are kept."""
        return self._store

    @activity.defn
    async def reserve_workspace(self, request: ReservationRequest) -> Workspace:
        """Name the queue of this worker."""
        return Workspace(queue=self.own_queue, worker=self._worker)

    @activity.defn
    async def check_out(self, request: CheckoutRequest) -> Checkout:
        """A work tree of one commit. The same request finds the same commit, even if a tag has moved since.

        Raises:
            ApplicationError: NotFound, Forbidden, Unavailable, InvalidInput or InvalidConfiguration.
        """
        home = self._root / "workspaces" / _slug(request.application) / _slug(request.run)
        record = home / f"request-{_fingerprint(request)}.commit"
        async with self._use(home), file_lock(home / "locks" / "checkout.lock"):
            commit = record.read_text() if record.is_file() else None
            if commit is None:
                commit = await self._repositories.resolve(request)
                write_atomically(record, commit)
            checkout = await self._repositories.materialise(request, commit, home / commit[:12] / "source")
        await self.remove_old_workspaces()
        return checkout

    @activity.defn
    async def run_step(self, run: StepRun) -> StepReport:
        """Measure one step; what was measured before in this checkout is answered again.

        Raises:
            ApplicationError: WorkspaceLost, if the checkout is not on this worker any more.
        """
        tree = self._tree(run.checkout)
        name = f"{_slug(run.name)}-{_fingerprint(run.model_copy(update={'timeout': run.step.timeout}))}"
        record = tree.parent / "steps" / f"{name}.json"
        async with self._use(tree.parent.parent), file_lock(tree.parent / "locks" / f"step-{name}.lock"):
            if (earlier := _read_report(record)) is not None:
                return earlier
            started = time.monotonic()
            log = tree.parent / "logs" / f"{name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.unlink(missing_ok=True)
            finding = await self._measure(run, tree, log)
            redactor = self._redactor(run.step.environment)
            kept = await asyncio.to_thread(self._store.keep_log, log, name) if log.exists() else None
            report = StepReport(
                step=run.name,
                measured=finding.measured,
                reason=redactor.text(finding.reason),
                measurements={
                    key: redactor.text(value) if isinstance(value, str) else value
                    for key, value in finding.measurements.items()
                },
                evidence=tuple(redactor.text(line) for line in finding.evidence),
                log=None if kept is None else kept.uri,
                duration=timedelta(milliseconds=round((time.monotonic() - started) * 1000)),
            )
            write_atomically(record, report.model_dump_json())
            return report

    @activity.defn
    async def build_release(self, run: ReleaseRun) -> ReleaseArtefact:
        """Build the release once for each application, version and commit; keep and publish it once.

        With `upgrade_from`, once for each version that is upgraded from.

        Raises:
            ApplicationError: Refused, if it does not build; InvalidConfiguration; Unavailable, if it cannot
                be published now; WorkspaceLost.
        """
        key = (run.application, run.version, run.checkout.commit)
        built = key if run.upgrade_from is None else (key[0], f"{key[1]} from {run.upgrade_from}", key[2])
        lock = self._store.release_lock(*built)
        remark = lock.with_suffix(".note")
        async with file_lock(lock):
            stored = await asyncio.to_thread(self._store.find_built, *built)
            if stored is None:
                tree = self._tree(run.checkout)
                async with self._use(tree.parent.parent):
                    stored, note = await self._build(run, tree)
                write_atomically(remark, note)
                self._store.record_built(*built, stored)
            published = self._store.find_published(*key, stored)
            image = run.image if published is None else published.image
            if published is None:
                if run.release.publish:
                    image = await self._publish(run, stored)
                entry = JournalEntry(
                    at=datetime.now(UTC).isoformat(timespec="seconds"),
                    application=run.application,
                    version=run.version,
                    commit=run.checkout.commit,
                    artefact=stored,
                    image=image,
                )
                async with file_lock(self._store.journal_lock()):
                    self._store.publish(entry)
            elif not run.release.publish:
                image = run.image  # named by a template, which may differ between environments
        return ReleaseArtefact(
            uri=stored.uri,
            digest=stored.digest,
            size=stored.size,
            image=image,
            commit=run.checkout.commit,
            note=remark.read_text() if remark.is_file() else "",
        )

    async def remove_old_workspaces(self) -> list[Path]:
        """Remove the work trees that nobody used within the retention; answers which."""
        removed = []
        for home in (self._root / "workspaces").glob("*/*"):
            if home.name.startswith(".removed-"):
                await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
            elif home not in self._in_use and _unused_for(home) > self._retention:
                # Renamed first: what is half removed must not look like a checkout.
                grave = home.with_name(f".removed-{uuid4().hex}")
                home.rename(grave)
                await asyncio.to_thread(shutil.rmtree, grave, ignore_errors=True)
                removed.append(home)
        return removed

    async def _measure(self, run: StepRun, tree: Path, log: Path) -> Finding:
        if run.step.tool == "repository.documents":
            found = await asyncio.to_thread(
                inspect_documents, tree, run.step.options, run.version, run.previous_version
            )
            return measured("the documents of the repository", found.measurements, found.evidence)
        try:
            bench = self._bench(tree, run.step.environment, log, min(run.timeout, run.step.timeout))
        except UnknownVariableError as error:
            return unmeasured(str(error))
        if run.step.tool is None:
            return await run_command(run.step.command, bench)
        return await run_tool(run.step.tool, bench)

    async def _build(self, run: ReleaseRun, tree: Path) -> tuple[StoredFile, str]:
        """The release, and what it lacks."""
        pattern = run.release.artefact.replace("{version}", escape(run.version))
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            fail(INVALID_CONFIGURATION, f"`artefact` {pattern!r} leaves the checkout: write a path inside it")
        log = tree.parent / "logs" / f"release-{uuid4().hex[:8]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        older = await self._older(run, tree)
        if older is not None:
            # In a tree of its own: the measured steps go on in that of the new version.
            own = tree.parent / f"from-{older[:12]}" / "source"
            await self._repositories.copy(tree, older, own)
            tree = own
        for stale in _files(tree, pattern):
            stale.unlink()
        bench = self._bench_of_release(run, tree, log)
        note = ""
        if run.release.command:
            await _run_release_command(run, bench)
        elif run.release.tool != "rebar3.release":
            fail(INVALID_CONFIGURATION, f"the release of {run.application} has neither `tool` nor `command`")
        elif run.upgrade_from is not None and older is not None:
            switch = partial(self._repositories.switch, tree, run.checkout.commit)
            note = await build_upgrade(bench, run.release.profile, run.version, run.upgrade_from, switch)
        else:
            await build_tarball(bench, run.release.profile, run.version)
            note = "" if run.upgrade_from is None else f"there is no relup: {run.upgrade_from} has no tag"
        built = _files(tree, pattern)
        if len(built) != 1:
            found = ", ".join(str(file.relative_to(tree)) for file in built) or "none"
            fail(
                INVALID_CONFIGURATION,
                f"the release of {run.version} must leave exactly one file {pattern}, found {found}:"
                " the version in the sources must be that of the tag, and `artefact` must name the file",
            )
        redactor = self._redactor(run.release.environment)
        return await asyncio.to_thread(self._store.keep_artefact, built[0]), redactor.text(note)

    async def _older(self, run: ReleaseRun, tree: Path) -> str | None:
        """The commit of the version that nodes are upgraded from, where rebar3 is to make a relup."""
        if run.upgrade_from in (None, run.version) or run.release.command:
            return None
        tags = [f"v{run.upgrade_from}", run.upgrade_from]
        if run.checkout.tag is not None:
            tags.insert(0, run.checkout.tag.replace(run.version, run.upgrade_from))
        return await self._repositories.find_version(tree, run.upgrade_from, tags)

    async def _publish(self, run: ReleaseRun, stored: StoredFile) -> str:
        """Run the publishing command, again after a crash: pushing the same digest must change nothing."""
        tree = self._tree(run.checkout)
        name = run.release.publish[0]
        log = tree.parent / "logs" / f"publish-{uuid4().hex[:8]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "ARTEFACT": stored.uri.removeprefix("file://"),
            "DIGEST": stored.digest,
            "VERSION": run.version,
            "IMAGE": run.image,
        }
        bench = self._bench_of_release(run, tree, log)
        async with self._use(tree.parent.parent):
            try:
                result = await bench.run(run.release.publish, environment=facts, output_limit=OUTPUT_LIMIT)
            except CannotStartError as error:
                fail(INVALID_CONFIGURATION, f"`publish` cannot run: {error}", cause=error)
        if result.status in _SHELL_NOT_FOUND:
            fail(INVALID_CONFIGURATION, f"`publish` {name} {result.ending()}; install what it calls")
        if result.status != 0:
            fail(UNAVAILABLE, f"`publish` {name} {result.ending()}; the log is {log.as_uri()}")
        try:
            image = read_object((result.output or b"").decode(errors="replace")).get("image")
        except ValueError as error:
            fail(INVALID_CONFIGURATION, f'`publish` {name} must print {{"image": "…"}}: {error}', cause=error)
        if not isinstance(image, str) or not re.fullmatch(r"\S{1,512}", image):
            fail(INVALID_CONFIGURATION, f'`publish` {name} must print {{"image": "…"}}, printed {image!r}')
        return image

    def _bench_of_release(self, run: ReleaseRun, tree: Path, log: Path) -> Workbench:
        try:
            return self._bench(tree, run.release.environment, log, run.release.timeout)
        except UnknownVariableError as error:
            fail(INVALID_CONFIGURATION, str(error), cause=error)

    def _bench(self, tree: Path, additional: Mapping[str, str], log: Path, timeout: timedelta) -> Workbench:
        return Workbench(
            tree=tree,
            reports=tree.parent / "reports",
            locks=tree.parent / "locks",
            environment=process_environment(self._environment, additional),
            redactor=self._redactor(additional),
            log=log,
            timeout=timeout,
        )

    def _redactor(self, additional: Mapping[str, str]) -> Redactor:
        named = referenced_secrets(self._environment, additional)
        return Redactor.of_environment(self._environment, *self._tokens, *named)

    def _tree(self, checkout: Checkout) -> Path:
        """The checkout's work tree, if it is one of this worker's and still there."""
        tree = Path(checkout.path)
        inside = tree.is_relative_to(self._root / "workspaces") and ".." not in tree.parts
        if not (inside and (tree / ".git").is_dir()):
            fail(
                WORKSPACE_LOST,
                f"checkout {checkout.path} of {checkout.commit[:12]} is not on build worker {self._worker}:"
                " start again from checkout",
            )
        return tree

    @asynccontextmanager
    async def _use(self, home: Path) -> AsyncIterator[None]:
        """Keep a workspace from being removed."""
        self._in_use[home] = self._in_use.get(home, 0) + 1
        try:
            home.mkdir(parents=True, exist_ok=True)
            os.utime(home)
            yield
        finally:
            self._in_use[home] -= 1
            if not self._in_use[home]:
                del self._in_use[home]
            with suppress(FileNotFoundError):
                os.utime(home)


async def _run_release_command(run: ReleaseRun, bench: Workbench) -> None:
    name = run.release.command[0]
    try:
        upgrade_from = run.upgrade_from or ""
        facts = {"VERSION": run.version, "UPGRADE_FROM": upgrade_from}
        result = await bench.run(run.release.command, environment=facts)
    except CannotStartError as error:
        fail(INVALID_CONFIGURATION, f"the release command cannot run: {error}", cause=error)
    if result.timed_out:
        limit = format_duration(bench.timeout)
        fail(
            UNAVAILABLE,
            f"the release command {name} did not end within {limit}: raise `timeout` of the release",
        )
    if result.status in _SHELL_NOT_FOUND:
        fail(INVALID_CONFIGURATION, f"the release command {name} {result.ending()}; install what it calls")
    if result.status != 0:
        fail(REFUSED, f"the release command {name} {result.ending()}; the log is {bench.log.as_uri()}")


def _identity(root: Path) -> str:
    """The worker's name: made once for each home directory, whoever is first."""
    file = root / "worker-id"
    if not file.exists():
        host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:40] or "worker"
        draft = root / f".worker-id-{uuid4().hex}"
        draft.write_text(f"{host}-{uuid4().hex[:8]}\n")
        with suppress(FileExistsError):
            file.hardlink_to(draft)
        draft.unlink()
    return file.read_text().strip()


def _slug(text: str) -> str:
    """A name that is safe as one path segment, and differs where the text differs."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:60]
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _fingerprint(request: BaseModel) -> str:
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()[:16]


def _read_report(record: Path) -> StepReport | None:
    try:
        return StepReport.model_validate_json(record.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _files(tree: Path, pattern: str) -> list[Path]:
    root = tree.resolve()
    return [
        path for path in sorted(tree.glob(pattern)) if path.is_file() and path.resolve().is_relative_to(root)
    ]


def _unused_for(home: Path) -> timedelta:
    return timedelta(seconds=time.time() - home.stat().st_mtime)
