"""``erlmcp-deploy audit``: reads the local audit store, worker or not (spec: Audit Query Examples)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from activities.audit_sqlite import SqliteAuditTrail, UnreadableTrailError
from domain.audit import AuditCategory, AuditEvent
from domain.audit_report import AuditQuery, ComplianceReport, TrailVerification, compliance_report
from starters.errors import CommandError, ExitCode, usage_error
from starters.rendering import Screen, clean
from starters.target import JsonOption
from workers.settings import WorkerSettings

app = typer.Typer(name="audit", help="Query, verify and report on the audit trail.", no_args_is_help=True)


def _time(text: str) -> datetime:
    """A date or time of ISO 8601; UTC if it names no zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no ISO 8601 date or time, e.g. 2026-02-02T12:00:00Z") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        show_default="audit.db in ERLMCP_DEPLOY_HOME",
        help="The SQLite file of the worker on this machine, or a copy of it.",
    ),
]
SinceOption = Annotated[
    datetime | None,
    typer.Option("--since", parser=_time, metavar="TIME", help="From this time on (ISO 8601)."),
]
UntilOption = Annotated[
    datetime | None,
    typer.Option("--until", parser=_time, metavar="TIME", help="Before this time (ISO 8601)."),
]

_STATUS_STYLES = {"failed": "bold red", "refused": "bold red", "started": "cyan"}


@app.command()
def query(
    *,
    store: StoreOption = None,
    version: Annotated[str | None, typer.Option(help="Only events of this version.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this person or service did.")] = None,
    category: Annotated[AuditCategory | None, typer.Option(help="Only events of this kind.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only events of this environment.")] = None,
    deployment: Annotated[str | None, typer.Option(help="Only events of this deployment id.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the events that match every option, oldest first."""
    wanted = AuditQuery(
        version=version,
        actor=actor,
        category=category,
        environment=environment,
        deployment=deployment,
        since=since,
        until=until,
    )
    screen = Screen(as_json=as_json)
    with _trail(store) as trail:
        found = list(trail.query(wanted))
    screen.document([stored.model_dump(mode="json") for stored in found])
    screen.show(*(_event_line(stored.event) for stored in found))
    if not found:
        screen.note("no matching event")


@app.command()
def verify(
    *,
    store: StoreOption = None,
    deployment: Annotated[str | None, typer.Option(help="Only the chain of this deployment id.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the hash chains; exit code 1 and the place if anything was changed, moved or removed."""
    screen = Screen(as_json=as_json)
    with _trail(store) as trail:
        verification = trail.verify(deployment)
    if deployment is not None and verification.chains == 0:
        raise usage_error(
            f"the audit store has no chain for deployment {deployment!r}",
            remedy="name the workflow id, e.g. deployment:erlmcp:staging:3.0.0",
        )
    screen.document({**verification.model_dump(mode="json"), "intact": verification.intact})
    screen.show(*_verification_lines(verification))
    if not verification.intact:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def report(
    *,
    store: StoreOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """The compliance report of a time range; exit code 1 if the trail behind it is broken."""
    screen = Screen(as_json=as_json)
    wanted = AuditQuery(since=since, until=until)
    with _trail(store) as trail:
        verification = trail.verify()
        compiled = compliance_report(wanted, (stored.event for stored in trail.query(wanted)), verification)
    screen.document(compiled)
    _show_report(screen, compiled)
    if not verification.intact:
        raise typer.Exit(ExitCode.FAILED)


@contextmanager
def _trail(named: Path | None) -> Iterator[SqliteAuditTrail]:
    store = named or WorkerSettings().audit_store
    remedy = "name the worker's store with --store, or its directory with ERLMCP_DEPLOY_HOME"
    if not store.is_file():
        raise usage_error(f"there is no audit store {store}", remedy=remedy)
    if not os.access(store, os.R_OK):
        raise usage_error(f"audit store {store} may not be read by this user", remedy=remedy)
    try:
        with SqliteAuditTrail.open(store) as trail:
            yield trail
    except UnreadableTrailError as error:
        raise CommandError(str(error), remedy=remedy) from error


def _event_line(event: AuditEvent) -> Text:
    """One line, so that it can be searched and cut."""
    line = Text(f"{event.timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}  ", style="dim")
    line.append(clean(event.status), style=_STATUS_STYLES.get(event.status, "green"))
    line.append(f"  {clean(event.action)}  {clean(event.deployment_id)}  {clean(event.actor)}", style="")
    if event.reason:
        line.append(f"  {clean(event.reason)}", style="dim")
    return line


def _verification_lines(verification: TrailVerification) -> list[Text]:
    summary = f"{verification.events} events in {verification.chains} chains"
    if verification.intact:
        return [Text(f"✔ intact: {summary}", style="green")]
    return [
        Text(f"✘ NOT intact: {summary}", style="bold red"),
        *(
            Text(f"  {clean(fault.chain)}, event {fault.sequence}: {clean(fault.reason)}", style="red")
            for fault in verification.faults
        ),
        *(Text(f"  {clean(found)}", style="red") for found in verification.unprotected),
    ]


def _show_report(screen: Screen, compiled: ComplianceReport) -> None:
    first = "the beginning" if compiled.since is None else f"{compiled.since.isoformat()}"
    last = "now" if compiled.until is None else f"{compiled.until.isoformat()}"
    screen.show(Text(f"Compliance report from {first} until {last}: {compiled.events} events", style="bold"))
    screen.show(*_verification_lines(compiled.verification))
    for title, counts in (
        ("Status", compiled.by_status),
        ("Environment", compiled.by_environment),
        ("Action", compiled.by_action),
    ):
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        table.add_column(title)
        table.add_column("Events", justify="right")
        for name, count in counts.items():
            table.add_row(Text(clean(name)), str(count))
        screen.show(table)
    for title, events in (
        ("Approvals", compiled.approvals),
        ("Refusals", compiled.refusals),
        ("Roll-backs", compiled.rollbacks),
    ):
        screen.show(Text(f"{title}: {len(events)}", style="bold"))
        screen.show(*(_event_line(event) for event in events))
