"""``pause`` … ``abort``, ``alert``, ``rollback``, ``freeze``, ``unfreeze``: what people order.

Orders are signals: the server keeps them although no worker may be there to obey at the moment.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from activities.configuration import ConfigurationError, load_configuration
from domain.canary import Alert
from domain.deployment import Command, DeploymentState
from domain.durations import parse_duration
from domain.environment import EnvironmentRecord, HoldMessage
from domain.rollback import RollbackStatus
from starters.configuration import configured_path
from starters.connection import DEPLOYMENTS_QUEUE, command, connect, workflow_url
from starters.deploy import Started, see_through
from starters.errors import CommandError, ExitCode, usage_error
from starters.finding import Where, connect_to, describe, running, running_target
from starters.following import Follower
from starters.orders import (
    SERVING,
    ToldDeployment,
    environment_record,
    order_rollback,
    rollback_request,
    send,
)
from starters.rendering import Screen, clean, command_line, rollback_view, target_words
from starters.target import (
    ActorOption,
    ApplicationOption,
    EnvironmentArgument,
    IdOption,
    JsonOption,
    OptionalEnvironment,
    OptionalVersion,
    Place,
    ReasonOption,
    Target,
    check_configured,
    find_place,
    require_actor,
    target_of,
)

_ORDERS = {
    "pause": "paused before its next state; a running canary step stops its clock",
    "resume": "goes on",
    "promote": "the rest of the canary step is skipped, or the waiting blue/green switch is made",
    "abort": "stops now; what is half deployed is rolled back",
    "rollback": "stops now and is rolled back",
}


@command
async def pause(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    actor: ActorOption = None,
    reason: ReasonOption = "",
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a running deployment before its next state; a canary step's clock stops."""
    where = Where(environment, version, application, workflow_id)
    await _order("pause", where, actor=actor, reason=reason, as_json=as_json)


@command
async def resume(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    actor: ActorOption = None,
    reason: ReasonOption = "",
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a paused deployment go on."""
    where = Where(environment, version, application, workflow_id)
    await _order("resume", where, actor=actor, reason=reason, as_json=as_json)


@command
async def promote(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    actor: ActorOption = None,
    reason: ReasonOption = "",
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on without waiting: the canary's next weight, or the blue/green switch that waits for a person."""
    where = Where(environment, version, application, workflow_id)
    await _order("promote", where, actor=actor, reason=reason, as_json=as_json)


@command
async def abort(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    actor: ActorOption = None,
    reason: ReasonOption = "",
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a running deployment at once; what is half deployed is rolled back."""
    where = Where(environment, version, application, workflow_id)
    await _order("abort", where, actor=actor, reason=reason, as_json=as_json)


async def _order(order: str, where: Where, *, actor: str | None, reason: str, as_json: bool) -> None:
    person = require_actor(actor)
    screen = Screen(as_json=as_json)
    client, target = await connect_to(where)
    await send(client, target, order, Command(actor=person, reason=reason))
    _report_order(screen, target, order, person)


@command
async def alert(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    name: Annotated[str, typer.Option("--name", show_default=False, help="Which alert; kept as the reason.")],
    severity: Annotated[
        str, typer.Option("--severity", help="As the monitoring system calls it: critical, warning …")
    ] = "critical",
    workflow_id: IdOption = None,
    actor: ActorOption = None,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Abort by alert: traffic leaves the new version at once, and what was deployed is rolled back.

    It counts from Deploying to the end of Monitoring. Where ``abort_on_alerts`` names severities, only those
    abort. Without VERSION the deployment is meant that is being rolled out or watched, not one in the queue.
    """
    message = Alert(name=name.strip(), severity=severity.strip(), actor=(actor or "").strip())
    if not message.name:
        raise usage_error("name is empty", remedy="say what is wrong: --name HighErrorRate")
    screen = Screen(as_json=as_json)
    client, target = await _alerted(Where(environment, version, application, workflow_id))
    state = await _state(client, target)
    await send(client, target, "alert", message)
    _report_alert(screen, target, message, state)


async def _alerted(where: Where) -> tuple[Client, Target]:
    """The deployment an alert means: with several in one environment, the one that is past its queue."""
    if where.workflow_id is not None or where.environment is None or where.version is not None:
        return await connect_to(where)
    place = find_place(where.environment, where.application)
    client = await connect()
    prefix = f"deployment:{place.application}:{place.environment}:"
    serving = [f for f in await running(client, prefix) if f.state in SERVING]
    if len(serving) == 1:
        return client, target_of(serving[0].workflow_id)
    return client, await running_target(client, place)


async def _state(client: Client, target: Target) -> str | None:
    """The state as the server knows it: an alert needs no worker to be kept."""
    described = await describe(client, target.id_of("deployment"))
    state = None if described is None else described.search_attributes.get("DeploymentState")
    return str(state[0]) if state else None


def _severities(target: Target) -> tuple[str, ...]:
    """What alerts abort there, as far as this machine's configuration says; what counts is the plan's."""
    try:
        environments = load_configuration(configured_path(None)).environments
    except ConfigurationError:
        return ()
    return environments[target.environment].abort_on_alerts if target.environment in environments else ()


def _report_alert(screen: Screen, target: Target, message: Alert, state: str | None) -> None:
    deployment_id = target.id_of("deployment")
    severities = _severities(target)
    aborts = (state is None or state in SERVING) and message.counts(severities)
    screen.document(
        {
            "deployment_id": deployment_id,
            "order": "alert",
            "name": message.name,
            "severity": message.severity,
            "state": state,
            "sent": True,
            "aborts": aborts,
        }
    )
    text = Text.assemble(("✔ alert sent", "bold green"), f" to {deployment_id}: ")
    words = target_words(target.application, target.environment, target.version)
    if aborts:
        text.append(f"{clean(message.name)} ({clean(message.severity)}) aborts it, and it is rolled back\n  ")
        text.append_text(command_line("watch", *words))
    elif message.counts(severities):
        text.append(
            f"it is still {state}, where nothing of it serves and alerts change nothing\n  ", "yellow"
        )
        text.append_text(command_line("abort", *words))
    else:
        said = f"only {', '.join(severities)} alerts abort in {target.environment} (abort_on_alerts)"
        text.append(f"{said}, so it goes on\n  ", "yellow")
        text.append_text(command_line("abort", *words))
    screen.show(text)


def _report_order(screen: Screen, target: Target, order: str, person: str) -> None:
    deployment_id = target.id_of("deployment")
    screen.document({"deployment_id": deployment_id, "order": order, "actor": person, "sent": True})
    text = Text.assemble((f"✔ {order} sent", "bold green"), f" to {deployment_id}: {_ORDERS[order]}\n  ")
    words = target_words(target.application, target.environment, target.version)
    text.append_text(command_line("watch", *words))
    screen.show(text)


# Roll-back


@command
async def rollback(
    environment: EnvironmentArgument,
    *,
    reason: Annotated[
        str, typer.Option("--reason", show_default=False, help="Why; kept in the audit trail.")
    ],
    to_version: Annotated[
        str | None,
        typer.Option("--to", show_default=False, help="Version to go back to; by default the last good one."),
    ] = None,
    actor: ActorOption = None,
    application: ApplicationOption = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring an environment back to its last good version.

    A deployment that is being rolled out or watched there is stopped and rolls back what it did; otherwise
    the live version is rolled back, and a deployment that still builds or waits for approval is stopped.
    Needs no approval and is never blocked by a freeze.

    Exit codes: 0 rolled back (or told to, without --wait), 1 not rolled back, 2 invalid input,
    130 interrupted (the roll-back goes on).
    """
    place = find_place(environment, application)
    person = require_actor(actor)
    rollback_request(place, person, reason, from_version="0.0.0", to_version=to_version)
    check_configured(place.application, place.environment)
    screen = Screen(as_json=as_json)
    client = await connect()
    record = await environment_record(client, place)
    done = await order_rollback(client, record, actor=person, reason=reason.strip(), to_version=to_version)
    if isinstance(done, ToldDeployment):
        await _report_told(client, screen, done, person, wait=wait)
        return
    if done.stopped is not None:
        screen.note(f"{done.stopped} has the turn and has not deployed anything yet: it is stopped")
    await _report_rollback(client, screen, done.workflow_id, fresh=done.fresh, wait=wait)


async def _report_told(
    client: Client, screen: Screen, told: ToldDeployment, person: str, *, wait: bool
) -> None:
    if not wait:
        _report_order(screen, told.target, "rollback", person)
        return
    deployment_id = told.target.id_of("deployment")
    started = Started(deployment_id, None, fresh=False)
    url = workflow_url(client.namespace, deployment_id)
    final = await see_through(client, screen, started, url, seen=told.seen)
    screen.document(final)
    if final.state is DeploymentState.COMPLETED:
        raise CommandError(
            f"{deployment_id} had completed before the order reached it: its version is live",
            remedy="give the order again; it rolls the live version back now",
        )
    undone = final.rollback is None or final.rollback.succeeded
    raise typer.Exit(ExitCode.OK if undone else ExitCode.FAILED)


async def _report_rollback(
    client: Client, screen: Screen, workflow_id: str, *, fresh: bool, wait: bool
) -> None:
    url = workflow_url(client.namespace, workflow_id)
    mark = ("✔ started", "bold green") if fresh else ("● runs already", "bold yellow")
    text = Text.assemble(mark, " ", workflow_id)
    if url is not None:
        text.append(f"\n  {url}", style="dim")
    screen.show(text)
    answer = {"rollback_id": workflow_id, "started": fresh, "workflow_url": url}
    if not wait:
        screen.document(answer)
        return
    seen: list[str] = []

    def show(status: RollbackStatus | None, problem: str | None) -> None:
        words = problem or ("" if status is None else f"{status.state}")
        if words and words not in seen[-1:]:
            seen.append(words)
            screen.note(words)

    try:
        final = await Follower(client, workflow_id, RollbackStatus, run_id=None, show=show).result()
    except asyncio.CancelledError:
        raise CommandError(
            f"stopped waiting; {workflow_id} goes on",
            remedy=f"come back: erlmcp-deploy status {workflow_id}",
            exit_code=ExitCode.INTERRUPTED,
        ) from None
    screen.document({**answer, "status": final.model_dump(mode="json")})
    screen.show(rollback_view(final, datetime.now(UTC)))
    raise typer.Exit(ExitCode.OK if final.succeeded else ExitCode.FAILED)


# Freezes


@command
async def freeze(
    environment: EnvironmentArgument,
    *,
    reason: Annotated[str, typer.Option("--reason", show_default=False, help="Why; shown to all who wait.")],
    until: Annotated[
        str | None,
        typer.Option(
            "--until", show_default=False, help="When it ends by itself: 2h, 3d, or 2026-12-27T08:00+01:00."
        ),
    ] = None,
    actor: ActorOption = None,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let no new deployment into an environment. What runs goes on; roll-backs are never blocked."""
    place = find_place(environment, application)
    if not reason.strip():
        raise usage_error("reason is empty", remedy='give --reason "…"')
    message = HoldMessage(
        actor=require_actor(actor), reason=reason, until=None if until is None else parse_until(until)
    )
    await _tell_environment(place, "freeze", message, as_json=as_json)


@command
async def unfreeze(
    environment: EnvironmentArgument,
    *,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a freeze; who waits goes on in order."""
    place = find_place(environment, application)
    message = HoldMessage(actor=require_actor(actor), reason=reason)
    await _tell_environment(place, "unfreeze", message, as_json=as_json)


def parse_until(text: str, now: datetime | None = None) -> datetime:
    """A point in time, or a duration from now.

    Raises:
        CommandError: it is neither, lies in the past, or names no time zone.
    """
    now = now or datetime.now(UTC)
    try:
        return now + parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise usage_error(
            f"until is {text!r}: neither a duration nor a time", remedy="write 2h, or 2026-12-27T08:00+01:00"
        ) from None
    if moment.tzinfo is None:
        raise usage_error(
            f"until is {text!r}: it names no time zone", remedy=f"write {text}Z or {text}+01:00"
        )
    if moment <= now:
        raise usage_error(f"until is {text!r}: that is over")
    return moment


async def _tell_environment(place: Place, order: str, message: HoldMessage, *, as_json: bool) -> None:
    check_configured(place.application, place.environment)
    screen = Screen(as_json=as_json)
    client = await connect()
    await client.start_workflow(
        "EnvironmentWorkflow",
        EnvironmentRecord(application=place.application, environment=place.environment),
        id=place.workflow_id,
        task_queue=DEPLOYMENTS_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        start_signal=order,
        start_signal_args=[message],
        static_summary=f"{place.application} in {place.environment}",
    )
    until = None if message.until is None else message.until.isoformat()
    screen.document(
        {"environment_id": place.workflow_id, "order": order, "actor": message.actor, "until": until}
    )
    text = Text.assemble((f"✔ {order} sent", "bold green"), f" to {place.workflow_id}")
    if message.until is not None:
        text.append(f", until {message.until.astimezone():%Y-%m-%d %H:%M %Z}")
    text.append("\n  ")
    text.append_text(command_line("status", *target_words(place.application, place.environment, None)))
    screen.show(text)
