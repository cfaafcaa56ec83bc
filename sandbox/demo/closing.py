"""What came of the demo: facts read from the parts themselves, and whether they are as claimed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from activities.audit_sqlite import SqliteAuditTrail
from domain.audit import AuditEvent
from domain.audit_report import AuditQuery, TrailVerification
from domain.deployment import DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord
from sandbox.demo.traffic import TRACKS, Counted
from sandbox.services import FrontStatus
from sandbox.slack import SlackMessage
from starters.rendering import brief, clean, state_style


@dataclass(frozen=True)
class Chapter:
    """One deployment that has ended.

    Attributes:
        expected: the state it was to end in.
        traffic: the users' requests while it went on, by track.
        url: its page in Temporal's UI.
    """

    status: DeploymentStatus
    expected: DeploymentState
    traffic: Mapping[str, Counted]
    url: str

    @property
    def rolled_back(self) -> bool:
        return self.status.rollback is not None and self.status.rollback.succeeded


@dataclass(frozen=True)
class Records:
    """What the parts say at the end."""

    verification: TrailVerification
    events: Sequence[AuditEvent]
    messages: Sequence[SlackMessage]
    fronts: Sequence[FrontStatus]
    environment: EnvironmentRecord


@dataclass(frozen=True)
class Claim:
    """Something the demo claims, and whether it is so."""

    text: str
    holds: bool


def read_audit(store: Path) -> tuple[TrailVerification, list[AuditEvent]]:
    """The audit trail: its chains verified, and its events in order.

    Raises:
        UnreadableTrailError: it cannot be read.
    """
    with SqliteAuditTrail.open(store) as trail:
        return trail.verify(), [stored.event for stored in trail.query(AuditQuery())]


def judge(
    chapters: Sequence[Chapter], records: Records, *, live: str, bad: str | None, killed: bool
) -> list[Claim]:
    """Every claim of the demo.

    Args:
        live: the version that should run now.
        bad: the version that should be rolled back and on hold.
        killed: the worker was killed in between.
    """
    claims = [_ended(chapter) for chapter in chapters]
    if bad is not None:
        claims += [_rolled_back(chapters[-1], live), _held(records.environment, bad)]
    again = [*_repeated_events(records.events), *_repeated_messages(records.messages)]
    death = " although the worker was killed (kill -9) in the canary" if killed else ""
    claims += [
        _live(records.fronts, live),
        Claim(
            f"nothing was done twice{death}: {len(records.events)} audit events and "
            f"{len(records.messages)} Slack messages, each once" + _instead("; ".join(again)),
            not again,
        ),
        _intact(records.verification),
    ]
    return claims


def _instead(found: str) -> str:
    return f" – but: {found}" if found else ""


def _ended(chapter: Chapter) -> Claim:
    status, holds = chapter.status, chapter.status.state is chapter.expected
    text = f"{status.version} ended {chapter.expected}, as it should"
    return Claim(text + _instead("" if holds else f"{status.state} ({status.reason})"), holds)


def _rolled_back(chapter: Chapter, live: str) -> Claim:
    status, summary = chapter.status, chapter.status.rollback
    holds = chapter.rolled_back and summary is not None and summary.to_version == live
    caught = status.canary is not None and status.canary.reason is not None
    where = "caught in the canary and " if caught else ""
    took = f" in {brief(summary.duration)}" if summary is not None and summary.duration is not None else ""
    text = f"{status.version} was {where}rolled back to {live} automatically{took}"
    found = "no roll-back" if summary is None else f"to {summary.to_version}: {summary.reason}"
    return Claim(text + _instead("" if holds and caught else found), holds and caught)


def _held(environment: EnvironmentRecord, bad: str) -> Claim:
    holds = bad in environment.held_versions
    text = f"{bad} is on hold: no automation ships it again until a person says so"
    found = f"on hold is {', '.join(environment.held_versions) or 'nothing'}"
    return Claim(text + _instead("" if holds else found), holds)


def _live(fronts: Sequence[FrontStatus], live: str) -> Claim:
    serving = {front.track: front.version for front in fronts if front.serving and front.version}
    holds = serving == {"stable": live}
    text = f"{live} is what serves production now, and no canary is left"
    return Claim(text + _instead("" if holds else f"serving is {serving or 'nothing'}"), holds)


def _intact(verification: TrailVerification) -> Claim:
    faults = [f"{f.chain}, event {f.sequence}: {f.reason}" for f in verification.faults]
    text = f"audit trail verified: {verification.chains} hash chains with {verification.events} events intact"
    holds = verification.intact and verification.events > 0
    return Claim(text + _instead("; ".join([*faults, *verification.unprotected])), holds)


def _repeated_events(events: Iterable[AuditEvent]) -> list[str]:
    """Effects that were recorded more than once; people may say the same twice."""
    seen = Counter(
        (e.deployment_id, e.event_type, e.action, str(e.details))
        for e in events
        if not e.event_type.startswith("approval.")
    )
    return [f"{what[0]}: {what[1]} {n} times" for what, n in seen.items() if n > 1]


def _repeated_messages(messages: Iterable[SlackMessage]) -> list[str]:
    seen = Counter((m.channel, _payload(m).get("key", m.text)) for m in messages)
    return [f"Slack #{channel}: {key} {n} times" for (channel, key), n in seen.items() if n > 1]


def _payload(message: SlackMessage) -> dict[str, object]:
    payload = (message.metadata or {}).get("event_payload", {})
    return payload if isinstance(payload, dict) else {}


# What is shown


def summary(chapters: Sequence[Chapter]) -> Table:
    """The deployments: outcome, duration, why, and what the users got meanwhile."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, expand=True)
    table.add_column("Version", no_wrap=True)
    table.add_column("Outcome", no_wrap=True)
    table.add_column("Took", justify="right", no_wrap=True)
    table.add_column("Why", ratio=1)
    for track in TRACKS:
        table.add_column(f"Users: {track}", justify="right", no_wrap=True)
    for chapter in chapters:
        status = chapter.status
        outcome = Text(str(status.state), style=state_style(status.state))
        if chapter.rolled_back and status.rollback is not None:
            outcome.append(f" ↩ {status.rollback.to_version or 'nothing'}", style="yellow")
        took = (status.finished_at or status.since) - status.started_at
        table.add_row(
            Text(status.version, style="bold"),
            outcome,
            brief(took),
            Text(clean(status.reason or "")),
            *(_traffic(chapter.traffic[track]) for track in TRACKS),
        )
    return table


def _traffic(counted: Counted) -> Text:
    if not counted.requests:
        return Text("–", style="dim")
    return Text(f"{counted.requests}, {counted.failed} failed", style="red" if counted.failed else "green")


def slack_titles(messages: Sequence[SlackMessage]) -> Table:
    """What the channels were told, in order, a line for each version."""
    told: dict[str, list[tuple[str, list[str]]]] = {}
    for message in messages:
        version, title = _about(message)
        titles = told.setdefault(version, [])
        if titles and titles[-1][0] == title:
            titles[-1][1].append(message.channel)
        else:
            titles.append((title, [message.channel]))
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for version, titles in told.items():
        line, where = Text(), ""
        for title, channels in titles:
            line.append(" → " if line else "", style="dim")
            before, where = where, " ".join(f"#{channel}" for channel in channels)
            if where != before:
                line.append(f"{where} ", style="cyan")
            line.append(title)
        table.add_row(Text(version, style="bold"), line)
    return table


def _about(message: SlackMessage) -> tuple[str, str]:
    """The version that a message is about, and its title."""
    payload = _payload(message)
    title = message.text.partition("\n")[0]
    notice = payload.get("notification")
    if isinstance(notice, dict):
        fields = notice.get("fields", {})
        return str(fields.get("version") or fields.get("from_version") or ""), str(
            notice.get("title") or title
        )
    kind, *names = str(payload.get("key", "")).split(":")
    return (names[2] if kind == "approval" and len(names) > 2 else ""), title


def verdicts(claims: Iterable[Claim]) -> Text:
    """A line for each claim."""
    lines = [
        Text.assemble(("✔ ", "green") if claim.holds else ("✘ ", "bold red"), clean(claim.text))
        for claim in claims
    ]
    return Text("\n").join(lines)


def pages(chapters: Iterable[Chapter]) -> Text:
    """Where each deployment is seen in full."""
    return Text("\n").join(Text(chapter.url, style="underline") for chapter in chapters)


def section(title: str, body: RenderableType) -> RenderableType:
    """A part of the summary under its title."""
    return Group(Text(f"\n{title}", style="bold"), Padding(body, (0, 0, 0, 2)))
