"""A real OTP release at work: erlsample's nodes and releases, and users who never stop asking."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx
from temporalio.testing import ActivityEnvironment

from activities.builds import BuildActivities
from activities.otp import NodeActivities
from domain.build import CheckoutRequest, ReleaseArtefact, ReleaseDefinition, ReleaseRun
from domain.hot_upgrade import NodeCommand, NodeReport, NodeResult, NodeTarget, NodeVerb, ReleaseNode
from sandbox.processes import ProcessFailedError, SupervisedProcess, free_port
from sandbox.sample import create_repository

NAME: Final = "erlsample"
LINEAGE: Final = {"1.0.0": None, "1.1.0": "1.0.0", "1.2.0": "1.1.0", "1.3.0": "1.1.0"}
"""Version → the one it can be upgraded to from."""
_START_SECONDS: Final = 30.0


class Workshop:
    """Builds erlsample's releases as a build worker does; what is built there already is not built again."""

    def __init__(self, home: Path) -> None:
        self.repository = home / "repository"
        if not self.repository.exists():
            create_repository(self.repository, "erlang")
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.worker = BuildActivities(home / "worker", environment=environment)

    async def build(self, version: str, upgrade_from: str | None) -> ReleaseArtefact:
        checkout = await self.worker.check_out(
            CheckoutRequest(
                application=NAME,
                repository=str(self.repository),
                reference=f"v{version}",
                version=version,
                run=version,
            )
        )
        return await self.worker.build_release(
            ReleaseRun(
                release=ReleaseDefinition(),
                checkout=checkout,
                application=NAME,
                version=version,
                image=f"{NAME}:{version}",
                upgrade_from=upgrade_from,
            )
        )

    async def build_all(self) -> dict[str, ReleaseArtefact]:
        """All versions, each with a relup from the one before it (about 20 s)."""
        built = await asyncio.gather(*(self.build(new, old) for new, old in LINEAGE.items()))
        return dict(zip(LINEAGE, built, strict=True))


@dataclass
class RunningNode:
    """A release in a directory of its own, running on this host with a port mapper of its own."""

    directory: Path
    port: int = field(default_factory=free_port)
    epmd_port: int = field(default_factory=free_port)
    cookie: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def variables(self) -> dict[str, str]:
        """What the node is started with."""
        return {
            "ERLSAMPLE_PORT": str(self.port),
            "ERLSAMPLE_NODE": f"{NAME}{self.port}@localhost",
            "ERLSAMPLE_COOKIE": self.cookie,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self, release: ReleaseArtefact) -> AsyncIterator[RunningNode]:
        """The node, from the release's own tarball, until the end."""
        self.directory.mkdir(parents=True)
        with tarfile.open(unquote(urlsplit(release.uri).path)) as archive:
            archive.extractall(self.directory, filter="tar")
        mapper = next(self.directory.glob("erts-*/bin/epmd"))
        process = await SupervisedProcess.start(
            [self.directory / "bin" / NAME, "foreground"],
            name=f"{NAME} {self.port}",
            log_file=self.directory / "node.log",
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **self.variables},
        )
        try:
            await process.wait_until(self._answers, timeout=_START_SECONDS)
            yield self
        finally:
            await process.kill()
            # It has left the node's process group, and ends only when it knows of no node.
            subprocess.run([mapper, "-kill"], env=self.variables, capture_output=True, check=False)  # noqa: ASYNC221

    async def _answers(self) -> bool:
        try:
            return (await self.get("/ready")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    async def ask(self, *arguments: str) -> str:
        """What the release's script answers to another caller, who has the node's own variables."""
        process = await asyncio.create_subprocess_exec(
            self.directory / "bin" / NAME,
            *arguments,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", **self.variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return output.decode()

    async def life(self) -> str:
        """Something that changes when the node restarts."""
        return await self.ask("eval", "erlang:system_info(creation).")

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as http:
            return await http.get(f"{self.url}{path}")

    async def health(self) -> tuple[int, str]:
        """Status and version of ``/health``."""
        answer = await self.get("/health")
        return answer.status_code, answer.json()["version"]


@dataclass
class Users:
    """Ask for ``/bump`` all the time, and remember what they got.

    Attributes:
        answered: requests that went well.
        failures: what went wrong with the others.
        count: the last answer: how often the service has been bumped since its state was made.
        longest_gap: longest time without a good answer, in seconds.
    """

    url: str
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    count: int = 0
    longest_gap: float = 0.0
    _last: float = field(default_factory=time.monotonic)

    @classmethod
    @asynccontextmanager
    async def of(cls, node: RunningNode, number: int = 3) -> AsyncIterator[Users]:
        """Users of a node; some of their requests are answered before this returns."""
        users = cls(node.url)
        tasks = [asyncio.create_task(users._ask()) for _ in range(number)]
        try:
            await users.served(5)
            yield users
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def served(self, more: int) -> None:
        """Wait until so many more requests went well."""
        wanted = self.answered + more
        async with asyncio.timeout(_START_SECONDS):
            while self.answered < wanted:  # noqa: ASYNC110 - counted by several tasks
                await asyncio.sleep(0.01)

    async def _ask(self) -> None:
        async with httpx.AsyncClient(timeout=10) as http:
            while True:
                try:
                    answer = await http.get(f"{self.url}/bump")
                    self._take(answer)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                await asyncio.sleep(0.01)

    def _take(self, answer: httpx.Response) -> None:
        if answer.status_code != httpx.codes.OK:
            self.failures.append(f"{answer.status_code} {answer.text}")
            return
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - self._last)
        self._last, self.count = now, int(answer.text)
        self.answered += 1


@dataclass(frozen=True)
class Outage:
    """What users noticed of a change of version.

    Attributes:
        seconds: that the change took, observations and all.
        failed: requests of three users, a hundred in a second each at most.
        gap: longest time without an answer, in seconds.
        state_kept: whether the service still knew what it had counted.
    """

    seconds: float
    failed: int
    gap: float
    state_kept: bool


async def measure_outages(work_dir: Path, packages: Mapping[str, ReleaseArtefact]) -> dict[str, Outage]:
    """1.0.0 → 1.1.0 under load: ``hot upgrade`` against ``restart``, each on a node of its own (about 10 s).

    Args:
        packages: as `Workshop.build_all` makes them.
    """
    ways = {"hot upgrade": (NodeVerb.UPGRADE, NodeVerb.MAKE_PERMANENT), "restart": (NodeVerb.RESTART,)}
    outages = {}
    for way, verbs in ways.items():
        node = RunningNode(work_dir / way.replace(" ", "-"))
        async with node.running(packages["1.0.0"]), Users.of(node) as users:
            began = time.monotonic()
            for verb in verbs:
                await _carry_out(node, verb, "1.1.0", packages["1.1.0"])
            seconds = time.monotonic() - began
            await users.served(5)
            kept = users.count >= users.answered  # each answer is a bump of the same counter
            outages[way] = Outage(seconds, len(users.failures), users.longest_gap, kept)
    return outages


async def _carry_out(node: RunningNode, verb: NodeVerb, version: str, package: ReleaseArtefact) -> None:
    target = NodeTarget(
        node=ReleaseNode(name=NAME, path=str(node.directory)),
        release=NAME,
        environment=node.variables,
        timeout=timedelta(minutes=1),
    )
    command = NodeCommand(
        key=f"{verb}-{version}",
        target=target,
        verb=verb,
        version=version,
        artefact=package.uri,
        digest=package.digest,
    )
    report: NodeReport = await ActivityEnvironment().run(NodeActivities().command_node, command)
    if report.result is not NodeResult.DONE:
        raise ProcessFailedError(f"{verb} {version} of {NAME}: {report.reason}")
