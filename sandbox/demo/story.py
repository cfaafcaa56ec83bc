"""The story of the demo: what runs today, a good release, a bad one, and what came of it."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from temporalio.client import Client

from domain.canary import CanaryPhase
from domain.deployment import DeploymentRequest, DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord
from sandbox.configuration import APPLICATION, APPROVER
from sandbox.demo import closing
from sandbox.demo.decision import approve_early, decide
from sandbox.demo.following import Followed
from sandbox.demo.parts import ServiceChoice, describe
from sandbox.demo.stage import Stage
from sandbox.demo.traffic import Counted, TrafficMeter
from sandbox.temporal import NAMESPACE
from sandbox.world import World
from starters.connection import quiet_runtime
from starters.deploy import start
from starters.errors import CommandError, ExitCode
from starters.following import ask_status
from workflows.conversion import data_converter

ENVIRONMENT = "production"
REQUESTER = "developer@example.com"
TODAY, GOOD, BAD = "1.0.0", "1.1.0", "1.2.0"
REPLICAS = 10
"""Pods in production, so that a weight of 10 % is one of them."""
REQUESTS_PER_SECOND = 40.0
_ABSENCE_SECONDS = 2.0
"""How long nobody carries the deployment out after the kill."""
_LONGEST_SECONDS = 600.0
"""For one deployment, if nobody is there to give up."""

Scene = Callable[[Followed], Coroutine[Any, Any, None]]
"""Something done to a deployment while it goes on."""


async def perform(
    stage: Stage,
    directory: Path,
    service: ServiceChoice,
    *,
    kubernetes: Literal["real", "emulator"],
    ask: bool,
    keep: bool,
) -> ExitCode:
    """Show everything in a fresh world, which is gone afterwards."""
    stage.say(_opening(ask=ask))
    async with AsyncExitStack() as stack:
        with stage.busy("starting Temporal, Kubernetes, metrics, Slack and the worker"):
            world = await stack.enter_async_context(
                World.start(
                    directory,
                    flavour=service.flavour,
                    prefer=kubernetes,
                    changes={"applications": {APPLICATION: {"workload": {"replicas": REPLICAS}}}},
                    traffic_rate=0,
                    ui=True,
                )
            )
            stack.push_async_callback(world.kill_worker)
            await world.start_worker()
            client = await Client.connect(
                world.temporal.address, data_converter=data_converter, runtime=quiet_runtime()
            )
        stage.say(_parts(world, service))
        try:
            code = await Story(stage, world, client, ask=ask).tell()
        except asyncio.CancelledError:
            stage.say(Text("\nstopping all of it …", style="yellow"))
            raise
        if keep:
            _invite(stage, world)
            await _until_interrupted()
        else:
            stage.say(Text("\nAll of it stops now; with --keep it stays, to look at.", style="dim"))
        return code


class Story:
    """Three deployments to production, one after the other."""

    def __init__(self, stage: Stage, world: World, client: Client, *, ask: bool) -> None:
        self._stage = stage
        self._world = world
        self._client = client
        self._ask = ask
        self._meter = TrafficMeter(world.traffic)
        self._chapters: list[closing.Chapter] = []
        self._killed = False
        self._before = self._meter.totals()
        stage.enter(world, self._meter)

    async def tell(self) -> ExitCode:
        """All acts, and what came of them; a deployment that ends unexpectedly ends the story too."""
        for act in (self._today, self._good, self._bad):
            await act()
            chapter = self._chapters[-1]
            if chapter.status.state is not chapter.expected or chapter.expected is DeploymentState.REJECTED:
                break
        return await self._close()

    # The acts

    async def _today(self) -> None:
        self._stage.act(f"1  What runs today: {TODAY}")
        ended = await self._deploy(TODAY, self._approve_ahead, keep=False)
        self._chapter(ended, DeploymentState.COMPLETED)
        if ended.state is DeploymentState.COMPLETED:
            self._stage.remark(
                "✔",
                f"{TODAY} runs in production on {REPLICAS} pods (the first one needs no canary); "
                f"from now on users send {REQUESTS_PER_SECOND:.0f} requests per second",
                "green",
            )
            self._world.traffic.rate = REQUESTS_PER_SECOND

    async def _good(self) -> None:
        self._stage.act(f"2  A good release: {TODAY} → {GOOD}")
        ended = await self._deploy(GOOD, self._decide, self._kill_worker)
        rejected = self._ask and ended.state is DeploymentState.REJECTED
        self._chapter(ended, DeploymentState.REJECTED if rejected else DeploymentState.COMPLETED)

    async def _bad(self) -> None:
        self._stage.act(f"3  A bad release: {GOOD} → {BAD}")
        self._stage.say(Text("It passes every gate; only real traffic shows that it fails.", style="dim"))
        ended = await self._deploy(BAD, self._approve_ahead)
        self._chapter(ended, DeploymentState.FAILED)
        self._stage.remark("↩", f"why: {ended.reason}", "yellow")
        if ended.rollback is not None:
            self._stage.remark("↩", f"roll-back: {ended.rollback.reason}", "yellow")
        hold = (await self._environment()).held_versions.get(BAD)
        if hold is not None:
            self._stage.remark("↩", f"hold: {hold.reason}", "yellow")

    async def _deploy(self, version: str, *scenes: Scene, keep: bool = True) -> DeploymentStatus:
        """Deploy a version, show it to its end, and play scenes on the way."""
        request = DeploymentRequest(
            application=APPLICATION, environment=ENVIRONMENT, version=version, actor=REQUESTER
        )
        self._before = self._meter.totals()
        started = await start(self._client, request)
        with self._stage.follow(self._page(request.deployment_id), keep=keep):
            followed = Followed(self._client, started, self._stage)
            try:
                async with asyncio.timeout(None if self._ask else _LONGEST_SECONDS):
                    return await followed.result(scenes)
            except TimeoutError:
                raise CommandError(
                    f"{request.deployment_id} has not ended within {_LONGEST_SECONDS:g} s",
                    remedy=f"look at {self._world.data_dir / 'worker.log'}",
                ) from None

    def _chapter(self, ended: DeploymentStatus, expected: DeploymentState) -> None:
        after = self._meter.totals()
        traffic = {track: after[track] - self._before[track] for track in after}
        page = self._page(ended.deployment_id)
        self._chapters.append(closing.Chapter(ended, expected, traffic, page))

    # The scenes

    async def _approve_ahead(self, followed: Followed) -> None:
        """An early decision is kept until its gate opens."""
        await approve_early(self._client, followed.workflow_id, "approved ahead by the demo")
        self._stage.remark("▶", f"approved ahead as {APPROVER}: kept until the gate opens", "dim")

    async def _decide(self, followed: Followed) -> None:
        await decide(self._client, self._world.temporal.address, self._stage, followed, ask=self._ask)

    async def _kill_worker(self, followed: Followed) -> None:
        """Kill the worker in the canary, and start it again: the deployment must go on where it was."""
        if not await followed.until(_is_analysed) or self._world.worker is None:
            return
        weight, pid, before = _weight(followed.latest), self._world.worker.pid, self._meter.totals()
        await self._world.kill_worker()
        self._killed = True
        self._stage.remark(
            "☠", f"kill -9 {pid}: the worker dies in the canary at {weight}%; nobody works now", "bold red"
        )
        await asyncio.sleep(_ABSENCE_SECONDS)
        await self._world.start_worker()
        after = self._meter.totals()
        users = sum((after[track] - before[track] for track in after), Counted())
        self._stage.remark("▶", f"the worker was started again; the users meanwhile: {users}", "bold")
        if await followed.until(lambda status: _weight(status) > weight):
            self._stage.remark("✔", f"the canary went on where it was: {weight}% passed", "bold green")

    # The end

    async def _close(self) -> ExitCode:
        self._stage.act("What came of it")
        last = self._chapters[-1].status
        completed = [c.status.version for c in self._chapters if c.status.state is DeploymentState.COMPLETED]
        verification, events = await asyncio.to_thread(closing.read_audit, self._world.home / "audit.db")
        records = closing.Records(
            verification=verification,
            events=events,
            messages=self._world.slack.messages,
            fronts=self._world.services.status(),
            environment=await self._environment(),
        )
        claims = closing.judge(
            self._chapters,
            records,
            live=completed[-1] if completed else TODAY,
            bad=BAD if last.version == BAD else None,
            killed=self._killed,
        )
        self._stage.say(
            closing.summary(self._chapters),
            closing.verdicts(claims),
            closing.section("Slack was told", closing.slack_titles(records.messages)),
            closing.section("In Temporal's UI", closing.pages(self._chapters)),
        )
        if not all(claim.holds for claim in claims):
            self._stage.say(Text("Not all went as claimed: see ✘ above.", style="bold red"))
            return ExitCode.FAILED
        return ExitCode.REJECTED if last.state is DeploymentState.REJECTED else ExitCode.OK

    async def _environment(self) -> EnvironmentRecord:
        return await ask_status(self._client, f"environment:{APPLICATION}:{ENVIRONMENT}", EnvironmentRecord)

    def _page(self, workflow_id: str) -> str:
        base = f"{self._world.temporal.ui_url}/namespaces/{NAMESPACE}/workflows"
        return f"{base}/{quote(workflow_id, safe='')}"


def _is_analysed(status: DeploymentStatus) -> bool:
    canary = status.canary
    return canary is not None and canary.phase is CanaryPhase.ANALYSING and bool(canary.steps)


def _weight(status: DeploymentStatus) -> int:
    return 0 if status.canary is None else status.canary.weight


# What is said around it


def _opening(*, ask: bool) -> RenderableType:
    approval = "your approval" if ask else "approval (given by itself: --yes)"
    lines = [
        f"A service, {APPLICATION}, is deployed to production on this machine:",
        f"  1  {TODAY} first, to have something that runs today;",
        f"  2  {GOOD}, a good release: build, gates, {approval}, canary, monitoring;",
        "     in its canary the worker is killed with kill -9 and started again;",
        f"  3  {BAD}, a bad release that passes every gate: caught in the canary and rolled back.",
        "It takes about two minutes. Ctrl-C stops all of it.",
    ]
    return Panel(
        Text("\n".join(lines)),
        title=Text("erlmcp-deploy demo", style="bold"),
        title_align="left",
        box=box.ROUNDED,
        border_style="cyan",
        padding=(0, 1),
    )


def _parts(world: World, service: ServiceChoice) -> RenderableType:
    """What runs, and which waits are shorter than the specification's."""
    used = Table.grid(padding=(0, 2), expand=True)
    used.add_column(no_wrap=True)
    used.add_column(ratio=1, overflow="fold")
    for name, description in describe(world, service):
        used.add_row(Text(name, style="bold"), Text(description))
    times = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in ("Shortened time", "Specification", "Here"):
        times.add_column(column, justify="left" if column == "Shortened time" else "right")
    for row in world.times.shortened():
        times.add_row(*row)
    return Group(Text(), used, times)


def _invite(stage: Stage, world: World) -> None:
    """How to look further while all of it runs."""
    settings = {
        name: value
        for name, value in world.environment().items()
        if name.startswith(("TEMPORAL_", "ERLMCP_DEPLOY_", "KUBECONFIG"))
    } | {"TEMPORAL_UI_URL": world.temporal.ui_url, "ERLMCP_DEPLOY_AUDIT_STORE": str(world.home / "audit.db")}
    file = world.data_dir / "environment.sh"
    lines = [f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"']
    lines += [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    file.write_text("\n".join(lines) + "\n")
    stage.say(
        Text(f"\nAll of it goes on running until Ctrl-C. Temporal's UI: {world.temporal.ui_url}"),
        Text("From another terminal:"),
    )
    commands = [
        f". {shlex.quote(str(file))}",
        "erlmcp-deploy status",
        f"erlmcp-deploy deploy {ENVIRONMENT} 1.3.0 --actor {REQUESTER} --wait",
        "erlmcp-deploy audit verify",
        f"kubectl -n {world.namespace(ENVIRONMENT)} get deployments,pods",
    ]
    stage.copyable(Text("\n".join(f"  {command}" for command in commands), style="bold cyan"))


async def _until_interrupted() -> None:
    """Wait for Ctrl-C (or SIGTERM), which here is the wanted end."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
