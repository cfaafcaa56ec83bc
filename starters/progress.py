"""How a running deployment is shown: a live board on a terminal, a line per change in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from rich.live import Live
from rich.text import Text

from domain.deployment import DeploymentState, DeploymentStatus
from starters import github_actions
from starters.rendering import Screen, changes, clean, deployment_board, target_words


class Progress(Protocol):
    """Shows the pictures of a deployment as they come."""

    def update(self, status: DeploymentStatus | None, problem: str | None) -> None:
        """A new picture, or why there is none."""

    def close(self) -> None:
        """Nothing more will come."""


class Board:
    """A live board on a terminal; its clocks run on between two pictures."""

    def __init__(self, screen: Screen, url: str | None) -> None:
        self._console = screen.console
        self._url = url
        self._status: DeploymentStatus | None = None
        self._problem: str | None = None
        self._live = Live(
            console=self._console, get_renderable=self._render, refresh_per_second=2, vertical_overflow="crop"
        )
        self._live.start()

    def update(self, status: DeploymentStatus | None, problem: str | None) -> None:
        self._status, self._problem = status, problem
        if status is not None and status.state.final:
            self._live.vertical_overflow = "visible"
        self._live.refresh()

    def close(self) -> None:
        self._live.stop()

    def _render(self) -> Any:
        if self._status is None:
            return Text(self._problem or "waiting for the first answer", style="yellow")
        return deployment_board(
            self._status,
            datetime.now(UTC),
            problem=self._problem,
            url=self._url,
            width=self._console.width,
            height=None if self._status.state.final else self._console.height,
        )


class Log:
    """One line per change, for logs; in GitHub Actions, one group per state."""

    def __init__(self, screen: Screen, seen: DeploymentStatus | None) -> None:
        # The runner's commands go to stderr; lines and groups must not be torn apart.
        self._console = screen.diagnostics if github_actions.active() else screen.console
        self._before = seen
        self._problem: str | None = None
        self._grouped = False
        self._called = False

    def update(self, status: DeploymentStatus | None, problem: str | None) -> None:
        now = datetime.now(UTC)
        if problem is not None and problem != self._problem:
            self._line(now, problem)
        self._problem = problem
        if status is None:
            return
        for line in changes(self._before, status, now):
            if line.entered is not None:
                self._group(line.entered)
            self._line(line.at, line.text)
        self._call_for_approval(status)
        self._before = status

    def close(self) -> None:
        if self._grouped:
            github_actions.end_group()

    def _group(self, state: DeploymentState) -> None:
        if self._grouped:
            github_actions.end_group()
        github_actions.begin_group(str(state))
        self._grouped = True

    def _call_for_approval(self, status: DeploymentStatus) -> None:
        """Tell the people who look at the job's page, once."""
        if self._called or status.state is not DeploymentState.APPROVAL or status.waiting_for is None:
            return
        self._called = True
        target = " ".join(target_words(status.application, status.environment, status.version))
        github_actions.annotate(
            "notice", "Approval needed", f"{status.waiting_for}: erlmcp-deploy approve {target}"
        )

    def _line(self, at: datetime, text: str) -> None:
        line = Text.assemble((f"{at.astimezone():%H:%M:%S} ", "dim"), clean(text))
        self._console.print(line, soft_wrap=True)


@contextmanager
def progress(screen: Screen, url: str | None, seen: DeploymentStatus | None = None) -> Iterator[Progress]:
    """A board on a terminal, a log elsewhere; the log leaves out what was `seen` already."""
    live = screen.console.is_terminal and not github_actions.active()
    shown: Progress = Board(screen, url) if live else Log(screen, seen)
    try:
        yield shown
    finally:
        shown.close()
