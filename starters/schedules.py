"""``erlmcp-deploy schedules``: what the configuration starts by the clock, as schedules in Temporal.

A namespace has one configuration: that of its workers. So every schedule there that carries our mark and has
no rule in the file any more is one to remove.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError
from rich import box
from rich.table import Table
from rich.text import Text
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionResult,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
    WorkflowExecutionStatus,
    WorkflowHandle,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.configuration import ConfigurationError, load_configuration
from domain.configuration import Configuration
from domain.model import Model
from domain.schedules import (
    PREFIX,
    Calendar,
    Overlap,
    ScheduleDefinition,
    ScheduledEvent,
    ScheduledOutcome,
    calendars,
    definitions,
    schedule_id,
)
from starters.configuration import configured_path
from starters.connection import DEPLOYMENTS_QUEUE, command, connect, workflow_url
from starters.errors import ExitCode, usage_error
from starters.rendering import Screen, clean, command_line
from starters.target import JsonOption

app = typer.Typer(
    name="schedules", help="Nightly validations and dependency updates, by the clock.", no_args_is_help=True
)

WORKFLOW: Final = "ScheduledEventWorkflow"
MARK: Final = "managed_by"
OURS: Final = "erlmcp-deploy"
"""Memo of a schedule: schedules of others are neither changed nor removed, whatever their name."""
_TRIES: Final = 3
"""Somebody else may make or remove the same schedule between two looks at it."""
_OVERLAPS: Final = {
    Overlap.SKIP: ScheduleOverlapPolicy.SKIP,
    Overlap.BUFFER_ONE: ScheduleOverlapPolicy.BUFFER_ONE,
}

OnlyOption = Annotated[
    str | None,
    typer.Option("--application", "-a", show_default=False, help="Only the schedules of this application."),
]


class Outcome(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    OMITTED = "omitted"
    REFUSED = "refused"


class Applied(Model):
    """What became of one schedule.

    Attributes:
        differences: what was not as configured: ``times``, ``policy``, ``action``.
        reason: why it was left out or refused.
    """

    id: str
    outcome: Outcome
    differences: tuple[str, ...] = ()
    paused: bool = False
    reason: str = ""


class Standing(StrEnum):
    """How a schedule stands; all but the first two want ``schedules apply``."""

    ACTIVE = "active"
    PAUSED = "paused"
    MISSING = "missing"
    OUTDATED = "outdated"
    OBSOLETE = "obsolete"


class LastRun(Model):
    """The last time a schedule fired.

    Attributes:
        state: ``Running``, the outcome's state, or how Temporal says that the run ended.
        started: workflow id of what it started.
    """

    due: datetime
    workflow_id: str
    run_id: str
    state: str
    reason: str = ""
    started: str | None = None
    commit: str | None = None
    url: str | None = None


class Entry(Model):
    """One schedule.

    Attributes:
        action: what it starts; none if its rule is gone.
        skipped: times it did not fire because the run before had not ended.
        missed: times it did not fire because it was too late to make up for.
    """

    id: str
    application: str
    rule: str
    standing: Standing
    cron: str
    action: str | None = None
    paused: bool = False
    note: str = ""
    next: datetime | None = None
    last: LastRun | None = None
    skipped: int = 0
    missed: int = 0


# Apply


@app.command("apply")
@command
async def apply_schedules(
    *,
    application: OnlyOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the schedules of deployment.yaml in Temporal: create, update, remove what differs."""
    configuration = _configuration()
    screen = Screen(as_json=as_json)
    client = await connect()
    ours = await _ours(client, application)
    _check_application(application, configuration, ours)
    wanted, omitted = definitions(configuration)
    wanted = tuple(d for d in wanted if application in (None, d.application))
    kept = {d.id for d in wanted}
    applied = [
        *await asyncio.gather(*(_put(client, d, dry_run=dry_run) for d in wanted)),
        *await asyncio.gather(*(_remove(client, i, dry_run=dry_run) for i in ours if i not in kept)),
        *(
            Applied(id=o.id, outcome=Outcome.OMITTED, reason=o.reason)
            for o in omitted
            if application is None or o.id.startswith(schedule_id(application, ""))
        ),
    ]
    applied.sort(key=lambda a: a.id)
    screen.document({"dry_run": dry_run, "schedules": [a.model_dump(mode="json") for a in applied]})
    screen.show(*(_applied_line(a, dry_run=dry_run) for a in applied))
    if not applied:
        screen.note("deployment.yaml has no rule with event: schedule")
    if any(a.outcome is Outcome.REFUSED for a in applied):
        raise typer.Exit(ExitCode.FAILED)


def _configuration() -> Configuration:
    path = configured_path(None)
    try:
        return load_configuration(path)
    except ConfigurationError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        raise usage_error(
            f"{error.problems[0]}{more}", remedy=f"erlmcp-deploy config validate {path} shows every mistake"
        ) from None


def _check_application(application: str | None, configuration: Configuration, ours: Iterable[str]) -> None:
    """Refuse a name that nobody knows. One that only schedules know is an application that is gone."""
    if application is not None and application not in configuration.applications and not list(ours):
        raise usage_error(
            f"application is {application!r}: deployment.yaml has none of that name",
            remedy=f"choose one of: {', '.join(sorted(configuration.applications))}",
        )


async def _ours(client: Client, application: str | None) -> dict[str, ScheduleDescription]:
    """Our schedules in the namespace by id, of one application or all."""
    prefix = PREFIX if application is None else schedule_id(application, "")
    ids = [
        listed.id
        async for listed in await client.list_schedules()
        if listed.id.startswith(prefix) and await listed.memo_value(MARK, default=None) == OURS
    ]
    described = await asyncio.gather(*(_describe(client, schedule) for schedule in sorted(ids)))
    return {d.id: d for d in described if d is not None}


async def _describe(client: Client, schedule: str) -> ScheduleDescription | None:
    try:
        return await client.get_schedule_handle(schedule).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None


async def _is_ours(description: ScheduleDescription) -> bool:
    return bool(await description.memo_value(MARK, default=None) == OURS)


async def _put(client: Client, wanted: ScheduleDefinition, *, dry_run: bool) -> Applied:
    """Bring one schedule to what it shall be, whoever else does so at the same time."""
    for _ in range(_TRIES):
        found = await _describe(client, wanted.id)
        if found is None:
            if dry_run or await _create(client, wanted):
                return Applied(id=wanted.id, outcome=Outcome.CREATED)
            continue
        if not await _is_ours(found):
            return Applied(id=wanted.id, outcome=Outcome.REFUSED, reason=_foreign(wanted.id))
        differences, paused = await _differences(client, wanted, found.schedule), found.schedule.state.paused
        if not differences:
            return Applied(id=wanted.id, outcome=Outcome.UNCHANGED, paused=paused)
        if dry_run or await _update(client, wanted):
            return Applied(id=wanted.id, outcome=Outcome.UPDATED, differences=differences, paused=paused)
    return Applied(
        id=wanted.id, outcome=Outcome.REFUSED, reason="others make and remove it all the time; try again"
    )


def _foreign(schedule: str) -> str:
    return (
        "there is a schedule of this name that erlmcp-deploy has not made; remove it "
        f"(temporal schedule delete --schedule-id {schedule}), or rename the rule"
    )


async def _create(client: Client, wanted: ScheduleDefinition) -> bool:
    """Whether it was made now, and not by somebody else in the same moment."""
    note = f"{wanted.summary}: rule {wanted.rule} of deployment.yaml"
    try:
        await client.create_schedule(
            wanted.id, _schedule(wanted, ScheduleState(note=note)), memo={MARK: OURS}
        )
    except ScheduleAlreadyRunningError:
        return False
    return True


async def _update(client: Client, wanted: ScheduleDefinition) -> bool:
    """Whether it was there to be changed. Who has paused it, and why, stays."""

    def changed(found: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(schedule=_schedule(wanted, found.description.schedule.state))

    try:
        await client.get_schedule_handle(wanted.id).update(changed)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def _remove(client: Client, schedule: str, *, dry_run: bool) -> Applied:
    if not dry_run:
        try:
            await client.get_schedule_handle(schedule).delete()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:  # somebody else was faster
                raise
    return Applied(id=schedule, outcome=Outcome.REMOVED)


# A schedule as Temporal has it


def _schedule(wanted: ScheduleDefinition, state: ScheduleState) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            WORKFLOW,
            wanted.event,
            id=wanted.id,
            task_queue=DEPLOYMENTS_QUEUE,
            static_summary=wanted.summary,
        ),
        spec=ScheduleSpec(calendars=[_calendar(c, wanted.cron) for c in calendars(wanted.cron)]),
        policy=SchedulePolicy(overlap=_OVERLAPS[wanted.overlap], catchup_window=wanted.catch_up),
        state=state,
    )


def _calendar(times: Calendar, cron: str) -> ScheduleCalendarSpec:
    return ScheduleCalendarSpec(
        minute=_ranges(times.minutes),
        hour=_ranges(times.hours),
        day_of_month=_ranges(times.days),
        month=_ranges(times.months),
        day_of_week=_ranges(times.weekdays),
        comment=cron,
    )


def _ranges(values: Iterable[int]) -> list[ScheduleRange]:
    """The values as few ranges."""
    ranges: list[ScheduleRange] = []
    for value in sorted(values):
        if ranges and ranges[-1].end == value - 1:
            ranges[-1] = ScheduleRange(ranges[-1].start, value)
        else:
            ranges.append(ScheduleRange(value, value))
    return ranges


async def _differences(client: Client, wanted: ScheduleDefinition, found: Schedule) -> tuple[str, ...]:
    """In which parts a schedule is not what it shall be; its state is people's."""
    parts = {
        "times": _times(found.spec) == set(calendars(wanted.cron)),
        "policy": found.policy
        == SchedulePolicy(overlap=_OVERLAPS[wanted.overlap], catchup_window=wanted.catch_up),
        "action": await _starts(client, found, wanted),
    }
    return tuple(name for name, same in parts.items() if not same)


def _times(spec: ScheduleSpec) -> set[Calendar] | None:
    """The times of a schedule that has nothing but times of the day in UTC; none of any other."""
    others = (spec.intervals, spec.cron_expressions, spec.skip, spec.start_at, spec.end_at, spec.jitter)
    if any(others) or (spec.time_zone_name or "UTC") != "UTC":
        return None
    if any(c.year or _values(c.second) != {0} for c in spec.calendars):
        return None
    return {
        Calendar(*(_values(r) for r in (c.minute, c.hour, c.day_of_month, c.month, c.day_of_week)))
        for c in spec.calendars
    }


def _values(ranges: Sequence[ScheduleRange]) -> frozenset[int]:
    return frozenset(value for r in ranges for value in range(r.start, r.end + 1, r.step))


async def _starts(client: Client, found: Schedule, wanted: ScheduleDefinition) -> bool:
    action = found.action
    return (
        isinstance(action, ScheduleActionStartWorkflow)
        and (action.workflow, action.id, action.task_queue) == (WORKFLOW, wanted.id, DEPLOYMENTS_QUEUE)
        and await _event_of(client, found) == wanted.event
    )


async def _event_of(client: Client, found: Schedule) -> ScheduledEvent | None:
    """What a schedule tells the workflow; none if that cannot be read."""
    action = found.action
    if not isinstance(action, ScheduleActionStartWorkflow) or len(action.args) != 1:
        return None
    try:
        [event] = await client.data_converter.decode(list(action.args), [ScheduledEvent])
    except (ApplicationError, ValidationError, ValueError, TypeError):
        return None
    return event if isinstance(event, ScheduledEvent) else None


# List


@app.command("list")
@command
async def list_schedules(*, application: OnlyOption = None, as_json: JsonOption = False) -> None:
    """Show the schedules: what each starts and when, and what came of it the last time."""
    configuration = _configuration()
    screen = Screen(as_json=as_json)
    client = await connect()
    ours = await _ours(client, application)
    _check_application(application, configuration, ours)
    wanted = {d.id: d for d in definitions(configuration)[0] if application in (None, d.application)}
    described = {**ours}
    for missing in wanted.keys() - ours.keys():  # the list may lag behind what was just made
        found = await _describe(client, missing)
        if found is not None and await _is_ours(found):
            described[missing] = found
    entries = await asyncio.gather(
        *(
            _entry(client, i, wanted.get(i), described.get(i))
            for i in sorted(wanted.keys() | described.keys())
        )
    )
    screen.document({"schedules": [e.model_dump(mode="json") for e in entries]})
    screen.show(*_overview(entries))
    if not entries:
        screen.note("there is no schedule, and deployment.yaml has no rule with event: schedule")


async def _entry(
    client: Client,
    schedule: str,
    wanted: ScheduleDefinition | None,
    found: ScheduleDescription | None,
) -> Entry:
    application, _, rule = schedule.removeprefix(PREFIX).partition(":")
    entry = Entry(
        id=schedule,
        application=application,
        rule=rule,
        standing=Standing.MISSING,
        cron="" if wanted is None else wanted.cron,
        action=None if wanted is None else wanted.action,
    )
    if found is None:
        return entry
    event = await _event_of(client, found.schedule)
    state, info = found.schedule.state, found.info
    if wanted is None:
        standing = Standing.OBSOLETE
    elif await _differences(client, wanted, found.schedule):
        standing = Standing.OUTDATED
    else:
        standing = Standing.PAUSED if state.paused else Standing.ACTIVE
    return entry.model_copy(
        update={
            "standing": standing,
            "cron": entry.cron if event is None else event.cron,
            "paused": state.paused,
            "note": state.note or "",
            "next": info.next_action_times[0] if info.next_action_times and not state.paused else None,
            "last": await _last_run(client, info.recent_actions[-1]) if info.recent_actions else None,
            "skipped": info.num_actions_skipped_overlap,
            "missed": info.num_actions_missed_catchup_window,
        }
    )


async def _last_run(client: Client, last: ScheduleActionResult) -> LastRun | None:
    action = last.action
    if not isinstance(action, ScheduleActionExecutionStartWorkflow):
        return None
    handle: WorkflowHandle[Any, ScheduledOutcome] = client.get_workflow_handle(
        action.workflow_id, run_id=action.first_execution_run_id, result_type=ScheduledOutcome
    )
    run = LastRun(
        due=last.scheduled_at,
        workflow_id=action.workflow_id,
        run_id=action.first_execution_run_id,
        state="Running",
        url=workflow_url(client.namespace, action.workflow_id, action.first_execution_run_id),
    )
    try:
        status = (await handle.describe()).status
    except ValueError:  # paused in Temporal itself, which the SDK has no word for
        return run
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return run.model_copy(update={"state": "Unknown", "reason": "it is past the namespace's retention"})
    if status is WorkflowExecutionStatus.COMPLETED:
        outcome = await handle.result()
        about = {"reason": outcome.reason, "started": outcome.started, "commit": outcome.commit}
        return run.model_copy(update={"state": str(outcome.state), **about})
    if status is None or status is WorkflowExecutionStatus.RUNNING:
        return run
    return run.model_copy(update={"state": status.name.replace("_", " ").capitalize()})


# For people

_OUTCOME_STYLES: Final = {
    Outcome.CREATED: ("+", "bold green"),
    Outcome.UPDATED: ("~", "bold yellow"),
    Outcome.UNCHANGED: ("=", "dim"),
    Outcome.REMOVED: ("-", "bold red"),
    Outcome.OMITTED: ("○", "dim"),
    Outcome.REFUSED: ("✘", "bold red"),
}
_STANDING_STYLES: Final = {
    Standing.ACTIVE: "green",
    Standing.PAUSED: "yellow",
    Standing.MISSING: "bold red",
    Standing.OUTDATED: "bold yellow",
    Standing.OBSOLETE: "bold red",
}
_STATE_STYLES: Final = {"Completed": "green", "Running": "cyan"}


def _applied_line(applied: Applied, *, dry_run: bool) -> Text:
    mark, style = _OUTCOME_STYLES[applied.outcome]
    changes = applied.outcome in (Outcome.CREATED, Outcome.UPDATED, Outcome.REMOVED)
    word = f"would be {applied.outcome}" if dry_run and changes else str(applied.outcome)
    line = Text.assemble((f"{mark} {word}", style), f"  {clean(applied.id)}")
    remarks = [*([", ".join(applied.differences)] if applied.differences else []), applied.reason]
    if applied.paused:
        remarks.append("stays paused")
    text = "; ".join(clean(remark) for remark in remarks if remark)
    return line.append(f"  {text}", style="dim") if text else line


def _overview(entries: Sequence[Entry]) -> list[Table | Text]:
    if not entries:
        return []
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for title in ("Schedule", "Starts", "Cron", "State", "Next (UTC)", "Last (UTC)", "Result"):
        table.add_column(title, overflow="fold", no_wrap=title.endswith("(UTC)"))
    for entry in entries:
        table.add_row(
            Text(clean(f"{entry.application} / {entry.rule}")),
            Text(clean((entry.action or "").replace("_", " "))),
            Text(clean(entry.cron)),
            Text(str(entry.standing), style=_STANDING_STYLES[entry.standing]),
            Text("" if entry.next is None else _utc(entry.next)),
            Text("never" if entry.last is None else _utc(entry.last.due)),
            _result(entry),
        )
    shown: list[Table | Text] = [table]
    shown += [
        Text(clean(f"{e.application} / {e.rule} is paused: {e.note or 'no reason given'}"), style="yellow")
        for e in entries
        if e.paused
    ]
    if any(e.standing in (Standing.MISSING, Standing.OUTDATED, Standing.OBSOLETE) for e in entries):
        shown.append(Text.assemble("not as configured: ", command_line("schedules", "apply")))
    return shown


def _result(entry: Entry) -> Text:
    text = Text()
    if (last := entry.last) is not None:
        text.append(clean(last.state), style=_STATE_STYLES.get(last.state, "bold red"))
        text.append(f" {clean(last.reason)}" if last.reason else "")
    for count, word in ((entry.skipped, "skipped"), (entry.missed, "missed")):
        if count:
            text.append(f"{' ' if text else ''}({count} {word})", style="yellow")
    return text


def _utc(time: datetime) -> str:
    return f"{time.astimezone(UTC):%a %Y-%m-%d %H:%M}"
