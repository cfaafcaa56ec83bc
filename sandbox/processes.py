"""Supervision of the local programs that make up the sandbox.

Every program runs in its own session, so that it can be ended together with its children. On Linux the
kernel also kills it when this process dies: an interrupted demo or test run leaves no orphans.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_LOOPBACK = "127.0.0.1"
# Below the kernel's ephemeral range (from 32768): no outgoing connection can take the port meanwhile.
_PORTS = range(20_000, 32_000)
_reserved: set[int] = set()


class ProcessFailedError(RuntimeError):
    """A supervised program could not be started, ended early or never became ready; carries its log tail."""


def free_port() -> int:
    """A loopback TCP port that is free now and is not handed out again by this process."""
    for port in random.sample(_PORTS, k=500):
        if port in _reserved:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                continue
        _reserved.add(port)
        return port
    raise ProcessFailedError(f"no free TCP port on {_LOOPBACK} between {_PORTS.start} and {_PORTS.stop}")


def find_program(name: str, *, install: str) -> Path:
    """The program beside this Python (wheels with binaries) or on PATH.

    Raises ``ProcessFailedError`` naming ``install``, the command that provides it.
    """
    beside = Path(sys.executable).parent / name
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    if found := shutil.which(name):
        return Path(found)
    raise ProcessFailedError(f"program {name!r} found neither beside {sys.executable} nor on PATH: {install}")


class SupervisedProcess:
    """One running program with its log file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._process = process
        self._ended = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str | Path],
        *,
        name: str,
        log_file: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Self:
        """Start ``command``; output goes to ``log_file`` (appended). ``env`` replaces the whole environment.

        Call it from a thread that lives as long as the program should: the kernel's parent-death
        signal follows the starting thread.
        """
        log_file.parent.mkdir(parents=True, exist_ok=True)
        arguments = [*_bound_to_parent(), *map(str, command)]
        with log_file.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                    env=None if env is None else dict(env),
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProcessFailedError(f"{name}: cannot start {command[0]}: {error}") from error
        return cls(name, process, log_file)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative signal number, or None while it runs."""
        return self._process.returncode

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the log, for error messages."""
        try:
            text = self.log_file.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    async def wait(self) -> int:
        return await self._process.wait()

    async def wait_until(
        self, ready: Callable[[], Awaitable[bool]], *, timeout: float = 30.0, interval: float = 0.05
    ) -> None:
        """Wait until ``ready`` answers True, polling every ``interval`` seconds.

        Raises ``ProcessFailedError`` with the log tail when the program ends first or after ``timeout`` s.
        """
        try:
            async with asyncio.timeout(timeout):
                while not await ready():
                    if not self.running:
                        raise self._failure(f"ended with status {self.returncode} before it was ready")
                    await asyncio.sleep(interval)
        except TimeoutError:
            raise self._failure(f"not ready after {timeout:g} s") from None

    async def stop(self, grace: float = 5.0) -> None:
        """SIGTERM to the whole group, SIGKILL after ``grace`` seconds. A second call does nothing."""
        if self.running:
            self._signal_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the whole group, as a crash would."""
        if self._ended:  # by now the number may belong to someone else's group
            return
        self._signal_group(signal.SIGKILL)
        await self._process.wait()
        self._ended = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _signal_group(self, number: signal.Signals) -> None:
        # The program leads its own group; the group outlives it while children run.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _failure(self, what: str) -> ProcessFailedError:
        return ProcessFailedError(f"{self.name}: {what}; last lines of {self.log_file}:\n{self.log_tail()}")


def _bound_to_parent() -> list[str]:
    """Prefix that makes the kernel kill the program with its parent (Linux only)."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
