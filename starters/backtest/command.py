"""The command ``erlmcp-deploy backtest``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from domain.analysis import WatchOutcome
from domain.backtest import Replay, length, lookback, pace, replay
from domain.durations import format_duration, parse_duration
from starters.backtest import figure, plots, report
from starters.backtest.moments import parse_moment
from starters.backtest.policy import WATCHES, Frame, Subject, find_subject
from starters.backtest.recording import record
from starters.connection import command
from starters.errors import ExitCode, usage_error
from starters.rendering import Screen
from starters.target import ApplicationOption, JsonOption

_MOST_STARTS = 2_000
_INCONCLUSIVE = 3


@command
async def backtest(
    policy: Annotated[
        str,
        typer.Argument(
            show_default=False,
            help=f"A YAML file (an analysis block or a watch policy), or a watch: {', '.join(WATCHES)}.",
        ),
    ],
    *,
    begin: Annotated[
        str, typer.Option("--from", show_default=False, help="When the watch starts: RFC 3339, or 2h ago.")
    ],
    end: Annotated[str, typer.Option("--to", help="Up to when metrics are read.")] = "now",
    prometheus: Annotated[
        str | None,
        typer.Option("--prometheus", show_default=False, help="Its address; by default the application's."),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", "-e", show_default=False, help="Whose watch, and whose queries."),
    ] = None,
    application: ApplicationOption = None,
    version: Annotated[
        str | None, typer.Option("--version", "-v", show_default=False, help="For queries that name it.")
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option(
            "--watch", show_default=False, help="For an analysis block: the watch its metrics belong to."
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option("--every", show_default=False, help="Start again and again, such as 1h: false alarms."),
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", show_default=False, help="Let the watch last so long.")
    ] = None,
    step: Annotated[
        str | None,
        typer.Option("--step", show_default=False, help="Between two values read; by default exact."),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", show_default=False, help="Draw into this file.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", show_default=False, help="Draw into this file.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw in the terminal.")] = True,
    as_json: JsonOption = False,
) -> None:
    """What a policy would have decided over recorded metrics, with the numbers of Prometheus.

    Nothing is started and nothing is changed. Health checks leave no record and count as healthy.

    Exit codes: 0 it would have passed, 1 it would have failed, 3 it would have been inconclusive or the
    record ends too early, 2 there is no answer (invalid input, or no metrics). With --every: 1 if any
    start would have failed, else 3 if any was inconclusive.
    """
    now = datetime.now(UTC)
    start, until = parse_moment("--from", begin, now), parse_moment("--to", end, now)
    if start >= until:
        raise usage_error(
            f"--from ({start.isoformat()}) is not before --to ({until.isoformat()})", remedy="exchange them"
        )
    files = [(option, path) for option, path in (("svg", svg), ("png", png)) if path is not None]
    for option, path in files:
        figure.check_drawable(f"--{option}", path)
    if watch is not None and watch not in WATCHES:
        raise usage_error(f"--watch is {watch!r}", remedy=f"choose one of: {', '.join(WATCHES)}")
    frame = Frame(
        environment=environment,
        application=application,
        version=version,
        watch=watch,
        duration=_duration("--duration", duration),
        start=start,
        end=until,
    )
    subject = find_subject(policy, frame)
    url = prometheus or subject.prometheus_url
    if url is None:
        raise usage_error("there is no Prometheus to ask", remedy="give --prometheus http://HOST:9090")
    screen = Screen(as_json=as_json)
    starts = list(_starts(subject, start, until, _duration("--every", every)))
    replays, drawn = await _replayed(subject, url, starts, until, _duration("--step", step))
    notes = [*subject.notes, *_absent(drawn)]
    if every is None:
        screen.show(report.one(replays[0], notes))
        screen.document({**report.document(replays[0]), "notes": notes})
    else:
        screen.show(report.many(replays, notes))
        found = {"totals": report.totals(replays), "starts": [report.document(r) for r in replays]}
        screen.document({"subject": replays[0].policy.subject, **found, "notes": notes})
    if plot:
        width = screen.console.width
        screen.show(*(plots.in_terminal(panel, width) for panel in plots.telling(drawn)))
    for option, path in files:
        figure.to_file(path, option, _title(replays), drawn)
        screen.note(f"drawn into {path}")
    raise typer.Exit(_exit_code(replays))


async def _replayed(
    subject: Subject, url: str, starts: Sequence[datetime], until: datetime, step: timedelta | None
) -> tuple[list[Replay], list[plots.Panel]]:
    policies = [subject.policy_at(start) for start in starts]
    gaps = [later - starts[0] for later in starts[1:2]]
    before = lookback(policies[0])
    exact = pace(policies[0], before, *gaps)
    recording = await record(policies[0], url, starts[0] - before, until, step or exact)
    replays = [
        replay(policy, recording, start, until) for policy, start in zip(policies, starts, strict=True)
    ]
    return replays, plots.panels(recording, replays)


def _absent(drawn: Sequence[plots.Panel]) -> list[str]:
    absent = [panel.title for panel in drawn if panel.empty]
    if not absent:
        return []
    return [
        f"nothing was recorded of {', '.join(absent)} in this time: is the query right, and its selector?"
    ]


def _starts(
    subject: Subject, start: datetime, until: datetime, every: timedelta | None
) -> Iterator[datetime]:
    """Where the watch begins: each start of which the whole watch was recorded."""
    if every is None:
        yield start
        return
    lasting = length(subject.policy_at(start))
    count = (until - start - lasting) // every + 1
    if count < 1:
        raise usage_error(
            f"the watch lasts {format_duration(lasting)}, longer than from --from to --to",
            remedy="look at a longer time, or give a shorter --duration",
        )
    if count > _MOST_STARTS:
        raise usage_error(
            f"{count} starts are too many (at most {_MOST_STARTS})", remedy="take a longer --every"
        )
    yield from (start + every * number for number in range(count))


def _duration(option: str, text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise usage_error(f"{option}: {error}") from None
    if found < timedelta(milliseconds=1):
        raise usage_error(f"{option} is {text!r}: too short", remedy="write for example 30s")
    return found


def _title(replays: Sequence[Replay]) -> str:
    first = replays[0]
    if len(replays) == 1:
        return f"{first.policy.subject}: {first.outcome} at {report.stamp(first.decided_at)}\n{first.reason}"
    failed = sum(replay.outcome is WatchOutcome.FAILED for replay in replays)
    return f"{first.policy.subject}: {failed} of {len(replays)} starts failed"


def _exit_code(replays: Sequence[Replay]) -> int:
    outcomes = {replay.outcome for replay in replays}
    if WatchOutcome.FAILED in outcomes:
        return ExitCode.FAILED
    return _INCONCLUSIVE if WatchOutcome.INCONCLUSIVE in outcomes else ExitCode.OK
