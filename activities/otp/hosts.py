"""Where a release runs: how commands and files get there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, Protocol

from activities.errors import INVALID_CONFIGURATION, NOT_FOUND, UNAVAILABLE, fail
from activities.processes import (
    CannotStartError,
    UnknownVariableError,
    process_environment,
    referenced_secrets,
    run_process,
)
from activities.redaction import Redactor, is_secret_name
from domain.durations import format_duration
from domain.hot_upgrade import NodeTarget

OUTPUT_LIMIT = 1024 * 1024
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command on a node ended; `output` is standard output and errors, redacted."""

    status: int
    output: str

    def ending(self) -> str:
        """Status and last words in one line, for errors."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        words = "".join(c for c in " | ".join(lines[-3:]) if c.isprintable())[:_LONGEST_TEXT]
        return f"ended with status {self.status}" + (f": {words}" if words else "")


class ReleaseHost(Protocol):
    """A place with a shell and a file system, and the node's environment."""

    async def run(self, *arguments: str) -> Answer:
        """Run a program to its end, at most for the target's timeout.

        Raises:
            ApplicationError: InvalidConfiguration, Forbidden, NotFound; Unavailable, also out of time.
        """
        ...

    async def put(self, source: Path, path: str) -> None:
        """Write a file under this path; it is not there before it is whole and on the disk."""
        ...


def environment_of(target: NodeTarget, worker: Mapping[str, str]) -> dict[str, str]:
    """The variables of a target, with the worker's in place of ``${NAME}``.

    Raises:
        ApplicationError: InvalidConfiguration; the worker does not have one.
    """
    try:
        filled = process_environment(worker, target.environment)
    except UnknownVariableError:
        names = [name for name, value in target.environment.items() if "${" in value]
        fail(
            INVALID_CONFIGURATION,
            f"node {target.node.name}: `hot_upgrade.environment` ({', '.join(names)}) refers to variables "
            "that this worker does not have: set them in its environment",
        )
    return {name: filled[name] for name in target.environment}


def redactor_of(target: NodeTarget, worker: Mapping[str, str]) -> Redactor:
    """Knows the secrets of the worker and of the target."""
    clear = [value for name, value in target.environment.items() if is_secret_name(name)]
    return Redactor.of_environment(worker, *referenced_secrets(worker, target.environment), *clear)


def out_of_time(target: NodeTarget, program: str) -> NoReturn:
    """The command's end is not known: the next attempt looks at the node again."""
    limit = format_duration(target.timeout)
    fail(
        UNAVAILABLE,
        f"node {target.node.name}: {program} did not end within {limit}; raise hot_upgrade.timeout",
    )


def digest_of(file: Path) -> str:
    """``sha256:…`` of a file.

    Raises:
        ApplicationError: NotFound.
    """
    try:
        with file.open("rb") as content:
            return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
    except OSError as error:
        fail(
            NOT_FOUND,
            f"the release {file.name} is not on this worker ({type(error).__name__}): hot upgrades need a "
            "worker that shares its home with the build worker (python -m workers --role all)",
        )


class LocalHost:
    """The worker's own host. A command sees the target's variables and an allow-list of the worker's."""

    def __init__(self, target: NodeTarget, worker: Mapping[str, str]) -> None:
        self._target = target
        self._environment = process_environment(worker, environment_of(target, worker))
        self._redactor = redactor_of(target, worker)

    async def run(self, *arguments: str) -> Answer:
        with TemporaryDirectory(prefix="erlmcp-deploy-") as directory:
            log = Path(directory, "log")
            try:
                result = await run_process(
                    ["sh", "-c", 'exec 2>&1; exec "$@"', "sh", *arguments],
                    directory=Path("/"),
                    environment=self._environment,
                    log=log,
                    timeout=self._target.timeout,
                    redactor=self._redactor,
                    output_limit=OUTPUT_LIMIT,
                )
            except CannotStartError as error:
                fail(INVALID_CONFIGURATION, f"node {self._target.node.name}: {error}", cause=error)
        if result.status is None:
            out_of_time(self._target, arguments[0])
        if result.status < 0:
            fail(UNAVAILABLE, f"node {self._target.node.name}: {arguments[0]} was killed")
        return Answer(result.status, self._redactor.text((result.output or b"").decode(errors="replace")))

    async def put(self, source: Path, path: str) -> None:
        try:
            await asyncio.to_thread(_copy, source, Path(path))
        except OSError as error:
            fail(
                INVALID_CONFIGURATION,
                f"node {self._target.node.name}: {path} cannot be written ({error.strerror}): "
                "give the worker's user the right to",
                cause=error,
            )


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.new")
    with source.open("rb") as content, draft.open("wb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(target)
