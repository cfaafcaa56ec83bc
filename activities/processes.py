"""Commands on the build worker: bounded in time and output, without its secrets, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from temporalio import activity

from activities.redaction import Redactor

_GUARD = Path(__file__).with_name("process_guard.py")
_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|XDG_CACHE_HOME|REBAR_CACHE_DIR|HEX_MIRROR|HEX_CDN"
    r"|(?:http|https|no|all)_proxy|(?:HTTP|HTTPS|NO|ALL)_PROXY|SSL_CERT_FILE|SSL_CERT_DIR"
)
_REFERENCE = re.compile(r"\$\{(\w+)\}")
_GRACE = timedelta(seconds=5)
_HEARTBEAT_SECONDS = 1.0
_DRAIN_SECONDS = 2.0
_CHUNK = 65_536
_LONGEST_LINE = 65_536
_LONGEST_SECRET = 8_192
_LOG_LIMIT = 64 * 1024 * 1024
_TAIL_LINES = 12
_TAIL_WIDTH = 300


class UnknownVariableError(ValueError):
    """A step refers to an environment variable that the worker does not have."""


class CannotStartError(RuntimeError):
    """The program does not exist or cannot be executed."""


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How a command ended.

    Attributes:
        status: exit status, negative for a signal; None if it was ended by its timeout.
        output: standard output, if it was asked for; None if it was longer than asked for.
        tail: the last lines of the log, redacted and cut to a printable width.
    """

    status: int | None
    output: bytes | None
    log: Path
    log_bytes: int
    tail: tuple[str, ...]
    duration: timedelta

    @property
    def timed_out(self) -> bool:
        return self.status is None

    def ending(self) -> str:
        """Status and last words in one line, for reasons and errors."""
        words = " | ".join(line for line in self.tail[-4:] if line)
        how = "was ended by its timeout" if self.timed_out else f"ended with status {self.status}"
        return f"{how}: {words}" if words else how


def process_environment(worker: Mapping[str, str], additional: Mapping[str, str]) -> dict[str, str]:
    """The environment of a build process: an allow-list of the worker's, and what the step adds.

    A step gets a secret of the worker only by naming it: ``{"HEX_API_KEY": "${HEX_API_KEY}"}``.

    Raises:
        UnknownVariableError: a ``${NAME}`` is not set on the worker.
    """

    def referenced(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in worker:
            raise UnknownVariableError(
                f"`environment` refers to ${{{name}}}, which is not set on the build worker: set it there"
            )
        return worker[name]

    inherited = {name: value for name, value in worker.items() if _INHERITED.fullmatch(name)}
    named = {name: _REFERENCE.sub(referenced, value) for name, value in additional.items()}
    return {"HOME": str(Path.home()), "LANG": "C.UTF-8", **inherited, "TERM": "dumb", **named}


def referenced_secrets(worker: Mapping[str, str], additional: Mapping[str, str]) -> list[str]:
    """The values of the worker's variables that a step names."""
    names = {name for value in additional.values() for name in _REFERENCE.findall(value)}
    return [worker[name] for name in names if name in worker]


async def run_process(
    arguments: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    log: Path,
    timeout: timedelta,
    redactor: Redactor,
    output_limit: int | None = None,
    grace: timedelta = _GRACE,
) -> ProcessResult:
    """Run a command to its end, in a process group of its own.

    Output is appended to `log`, redacted; its size and last lines are heartbeated. With `output_limit`
    (bytes), standard output is kept as well. Timeout and cancellation end the whole group (SIGTERM, SIGKILL
    after `grace`), and so does the death of this process; what the command left running ends with it.

    Raises:
        CannotStartError: the program is missing or not executable.
    """
    program = _program(arguments[0], directory, environment)
    started = time.monotonic()
    with log.open("ab") as file, contextlib.ExitStack() as pipes:
        ours, theirs = socket.socketpair()
        pipes.enter_context(ours)
        ours.setblocking(False)
        transcript = _Transcript(file, redactor)
        kept = bytearray()
        with contextlib.ExitStack() as inherited:
            inherited.enter_context(theirs)
            output, output_end = await _pipe(pipes, inherited)
            readers = [asyncio.create_task(transcript.follow(output, kept, output_limit))]
            errors_end = output_end
            if output_limit is not None:
                errors, errors_end = await _pipe(pipes, inherited)
                readers.append(asyncio.create_task(transcript.follow(errors, kept, None)))
            guard = [
                sys.executable,
                "-I",
                "-S",
                str(_GUARD),
                str(theirs.fileno()),
                str(grace.total_seconds()),
            ]
            process = await asyncio.create_subprocess_exec(
                *guard,
                program,
                *arguments[1:],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output_end,
                stderr=errors_end,
                cwd=directory,
                env=dict(environment),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        heart = asyncio.create_task(transcript.heartbeat())
        timed_out = False
        try:
            try:
                async with asyncio.timeout(timeout.total_seconds()):
                    await process.wait()
            except TimeoutError:
                timed_out = True
                await _stop(process, ours, grace)
            # A program that left the group may hold the pipes open for ever.
            await asyncio.wait(readers, timeout=_DRAIN_SECONDS)
        except asyncio.CancelledError:
            await _stop(process, ours, grace)
            raise
        finally:
            for task in (heart, *readers):
                task.cancel()
            await asyncio.gather(heart, *readers, return_exceptions=True)
            transcript.finish()
        status = _status(ours, arguments[0])
    return ProcessResult(
        status=None if timed_out else status,
        output=bytes(kept) if output_limit is not None and len(kept) <= output_limit else None,
        log=log,
        log_bytes=transcript.size,
        tail=tuple(transcript.tail),
        duration=timedelta(seconds=time.monotonic() - started),
    )


async def _pipe(
    ours: contextlib.ExitStack, inherited: contextlib.ExitStack
) -> tuple[asyncio.StreamReader, int]:
    """A pipe: a reader, and the descriptor of the end to write to."""
    read_end, write_end = os.pipe()
    inherited.callback(os.close, write_end)
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
    )
    ours.callback(transport.close)
    return reader, write_end


def _program(name: str, directory: Path, environment: Mapping[str, str]) -> str:
    """The program's path: relative to the directory if it has a slash, else from the command's own PATH."""
    if os.sep in name:
        path = directory / name
        if not path.is_file():
            raise CannotStartError(f"{name} does not exist in the checkout")
        if not os.access(path, os.X_OK):
            raise CannotStartError(f"{name} is not executable: chmod +x it and commit that")
        return str(path)
    found = shutil.which(name, path=environment.get("PATH", os.defpath))
    if found is None:
        raise CannotStartError(f"{name} is not installed on the build worker (not on PATH)")
    return found


async def _stop(process: asyncio.subprocess.Process, channel: socket.socket, grace: timedelta) -> None:
    with contextlib.suppress(OSError):
        channel.shutdown(socket.SHUT_WR)
    try:
        async with asyncio.timeout(grace.total_seconds() + _DRAIN_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _status(channel: socket.socket, name: str) -> int:
    try:
        word, _, number = channel.recv(64).decode().partition(" ")
    except OSError:
        word, number = "", ""
    if word == "start":
        code = int(number)
        remedy = (
            "the interpreter of its first line is missing: install it"
            if code == errno.ENOENT
            else "make it an executable program"
        )
        raise CannotStartError(f"{name} cannot be started ({os.strerror(code)}): {remedy}")
    # Without a word the guard itself was killed, for example by the kernel for want of memory.
    return int(number) if word == "exit" else -9


class _Transcript:
    """The redacted output of a command in its log file."""

    def __init__(self, file: BinaryIO, redactor: Redactor) -> None:
        self._file = file
        self._redactor = redactor
        self._partial: dict[int, bytearray] = {}
        self.size = 0
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)

    async def follow(self, stream: asyncio.StreamReader, kept: bytearray, limit: int | None) -> None:
        rest = self._partial.setdefault(id(stream), bytearray())
        while chunk := await stream.read(_CHUNK):
            if limit is not None and len(kept) <= limit:
                kept += chunk
            rest += chunk
            # Whole lines: a secret cut in two would not be recognised.
            if end := rest.rfind(b"\n") + 1:
                self._write(bytes(rest[:end]))
                del rest[:end]
            elif len(rest) > _LONGEST_LINE:
                # What is kept back is longer than any secret that it may hold the beginning of.
                masked = self._redactor.text(rest.decode(errors="replace")).encode()
                self._write(masked[:-_LONGEST_SECRET])
                rest[:] = masked[-_LONGEST_SECRET:]
        self._write(bytes(rest))
        rest.clear()

    async def heartbeat(self) -> None:
        while activity.in_activity():
            activity.heartbeat({"log_bytes": self.size, "last_lines": list(self.tail)[-4:]})
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    def finish(self) -> None:
        for rest in self._partial.values():
            self._write(bytes(rest))
        self._file.flush()

    def _write(self, output: bytes) -> None:
        if not output:
            return
        text = self._redactor.text(output.decode(errors="replace"))
        for line in text.splitlines():
            if line.strip():
                self.tail.append("".join(c for c in line if c.isprintable())[:_TAIL_WIDTH])
        room = _LOG_LIMIT - self.size
        written = text.encode()
        self.size += len(written)
        if room > 0:
            self._file.write(written[:room])
            if len(written) > room:
                self._file.write(f"\n[the log is cut off at {_LOG_LIMIT} bytes]\n".encode())
            self._file.flush()
