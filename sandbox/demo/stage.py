"""What a person sees: a live board on a terminal, a line per change in a log."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from domain.deployment import DeploymentStatus
from sandbox.demo.traffic import TRACKS, TrafficMeter
from sandbox.world import World
from starters.rendering import changes, clean, console, deployment_board

_BAR = 24


class Stage(ABC):
    """Shows what happens. `tick` it about twice a second while a deployment is followed."""

    def __init__(self, made: Console) -> None:
        self.console = made
        self._world: World | None = None
        self._meter: TrafficMeter | None = None

    def enter(self, world: World, meter: TrafficMeter) -> None:
        """From now on there is traffic to show."""
        self._world, self._meter = world, meter

    def say(self, *parts: RenderableType) -> None:
        """Something that stays."""
        for part in parts:
            # A terminal gets whole words, a log one line for each event.
            self.console.print(part, soft_wrap=isinstance(part, Text) and not self.console.is_terminal)

    def copyable(self, command: Text) -> None:
        """A command, without line breaks of ours."""
        self.console.print(command, soft_wrap=True)

    def act(self, title: str) -> None:
        """A new part of the story."""
        self.say(Text())
        self.console.rule(Text(title, style="bold"), align="left", style="bright_black")

    def remark(self, mark: str, text: str, style: str = "") -> None:
        """Something that happened just now, or that we did."""
        line = Text.assemble((f"{datetime.now().astimezone():%H:%M:%S} ", "dim"), (f"{mark} ", style))
        self.say(line.append(clean(text), style=style))

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Something takes a while."""
        self.remark("…", what, "dim")
        yield

    @contextmanager
    @abstractmethod
    def follow(self, url: str, *, keep: bool = True) -> Iterator[None]:
        """Show one deployment; with `keep` its last picture stays."""

    @contextmanager
    def interlude(self) -> Iterator[None]:
        """The person is asked something; nothing moves meanwhile."""
        yield

    @abstractmethod
    def update(self, status: DeploymentStatus | None, problem: str | None) -> None:
        """A new picture of the deployment that is followed, or why there is none."""

    def tick(self) -> None:
        """Time goes on."""
        if self._meter is not None:
            self._meter.sample()


class Board(Stage):
    """A live board, for a terminal."""

    def __init__(self, made: Console) -> None:
        super().__init__(made)
        self._live: Live | None = None
        self._url = ""
        self._status: DeploymentStatus | None = None
        self._problem: str | None = None

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        with self.console.status(what):
            yield

    @contextmanager
    def follow(self, url: str, *, keep: bool = True) -> Iterator[None]:
        self._url, self._status, self._problem = url, None, None
        self._open()
        try:
            yield
        finally:
            self._close()
        if keep and self._status is not None:
            self.console.print(self._board())

    @contextmanager
    def interlude(self) -> Iterator[None]:
        self._close()
        self.console.print(self._board())
        try:
            yield
        finally:
            self._open()

    def update(self, status: DeploymentStatus | None, problem: str | None) -> None:
        self._status, self._problem = status, problem
        self._draw()

    def tick(self) -> None:
        super().tick()
        self._draw()

    def _open(self) -> None:
        self._live = Live(console=self.console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._live.start()

    def _close(self) -> None:
        if self._live is not None:
            self._live.update(Text())  # the last picture is drawn in full: one line fits every terminal
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        traffic = self._traffic()
        if traffic is None:
            return self._board(self.console.height)
        height = self.console.height - traffic.row_count
        board = self._board(height)
        fits = len(self.console.render_lines(board)) <= height
        return Group(board, traffic) if fits else Group(traffic, board)

    def _board(self, height: int | None = None) -> RenderableType:
        if self._status is None:
            return Text(self._problem or "the deployment begins", style="yellow")
        return deployment_board(
            self._status,
            datetime.now(UTC),
            problem=self._problem,
            url=self._url,
            width=self.console.width,
            height=height,
        )

    def _traffic(self) -> Table | None:
        """Who gets the users' requests now, and how many of them fail."""
        if self._world is None or self._meter is None or self._world.traffic.rate == 0:
            return None
        versions = {front.track: front.version for front in self._world.services.status()}
        rates = {track: self._meter.rate(track) for track in TRACKS}
        total = sum(rate.per_second for rate in rates.values())
        table = Table.grid(padding=(0, 2))
        for index, (track, rate) in enumerate(rates.items()):
            share = rate.per_second / total if total else 0.0
            errors = rate.error_rate
            bad = errors is not None and errors >= 1
            style = "red" if bad else "green" if track == "stable" else "cyan"
            filled = round(share * _BAR)
            table.add_row(
                Text("  Traffic" if index == 0 else "", style="bold"),
                Text(f"{track} {versions.get(track) or ''}", style="" if share else "dim"),
                Text.assemble(("━" * filled, style), ("─" * (_BAR - filled), "bright_black")),
                Text(f"{share:4.0%}  {rate.per_second:4.1f}/s", style="" if share else "dim"),
                Text("" if errors is None else f"{errors:.1f}% errors", style="bold red" if bad else "dim"),
            )
        return table


class Transcript(Stage):
    """A plain line per change, for a log."""

    def __init__(self, made: Console) -> None:
        super().__init__(made)
        self._before: DeploymentStatus | None = None
        self._problem: str | None = None

    @contextmanager
    def follow(self, url: str, *, keep: bool = True) -> Iterator[None]:
        self._before, self._problem = None, None
        self.say(Text(url, style="dim"))
        yield

    def update(self, status: DeploymentStatus | None, problem: str | None) -> None:
        now = datetime.now(UTC)
        if problem is not None and problem != self._problem:
            self._line(now, problem)
        self._problem = problem
        if status is None:
            return
        for line in changes(self._before, status, now):
            self._line(line.at, line.text)
        if _judged_steps(status) > _judged_steps(self._before):
            self._line(now, self._traffic())
        self._before = status

    def _line(self, at: datetime, text: str) -> None:
        self.say(Text(f"{at.astimezone():%H:%M:%S} {clean(text)}"))

    def _traffic(self) -> str:
        if self._meter is None:
            return ""
        words = []
        for track in TRACKS:
            rate = self._meter.rate(track)
            errors = "" if rate.error_rate is None else f" with {rate.error_rate:.1f}% errors"
            words.append(f"{track} {rate.per_second:.1f}/s{errors}")
        return f"traffic: {', '.join(words)}"


def _judged_steps(status: DeploymentStatus | None) -> int:
    if status is None or status.canary is None:
        return 0
    return sum(step.finished_at is not None for step in status.canary.steps)


def open_stage() -> Stage:
    """A board if standard output is a terminal that can move its cursor, else a transcript."""
    made = console(sys.stdout)
    return Board(made) if sys.stdout.isatty() and not made.is_dumb_terminal else Transcript(made)
