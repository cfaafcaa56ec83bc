"""``status``, ``pending``, ``watch``: how things stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import RenderableType
from rich.text import Text
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.approval import ApprovalState, ApprovalStatus
from domain.canary import CanaryStatus
from domain.deployment import DeploymentStatus
from domain.environment import EnvironmentRecord
from domain.rollback import RollbackStatus
from domain.validation import ValidationStatus
from starters import github_actions
from starters.connection import command, connect, workflow_url
from starters.deploy import EXIT_CODES, Started, see_through
from starters.errors import CommandError, usage_error
from starters.finding import Found, Where, connect_to, describe, listed, read_status
from starters.following import NoAnswerError, ask_status
from starters.rendering import (
    Screen,
    approval_view,
    canary_view,
    deployment_board,
    environment_view,
    pending_table,
    rollback_view,
    validation_view,
)
from starters.target import (
    ApplicationOption,
    IdOption,
    JsonOption,
    OptionalEnvironment,
    OptionalVersion,
    default_application,
    find_place,
    find_target,
    target_of,
)

M = TypeVar("M", bound=BaseModel)


@command
async def status(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[ENVIRONMENT | ID]", show_default=False, help="An environment, or any workflow id."
        ),
    ] = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """How a deployment stands, an environment, or (without arguments) all environments of an application."""
    screen = Screen(as_json=as_json)
    if workflow_id is None and subject is not None and ":" in subject:
        workflow_id, subject = subject, None
    if workflow_id is not None:
        if subject is not None or version is not None:
            raise usage_error("an id names everything already; leave environment and version out")
        reader = _reader(workflow_id)
        await reader(await connect(), screen, workflow_id)
    elif subject is None:
        name = default_application(application)
        await _show_all(await connect(), screen, name)
    elif version is None:
        place = find_place(subject, application)
        await _show_environment(await connect(), screen, place.workflow_id)
    else:
        target = find_target(subject, version, application)
        await _show_deployment(await connect(), screen, target.id_of("deployment"))


def _reader(workflow_id: str) -> Callable[[Client, Screen, str], Any]:
    readers = {
        "deployment": _show_deployment,
        "environment": _show_environment,
        "approval": _show_approval,
        "canary": _show_canary,
        "rollback": _show_rollback,
        "validation": _show_validation,
    }
    kind = workflow_id.partition(":")[0]
    if kind not in readers:
        raise usage_error(
            f"id is {workflow_id!r}: unknown kind {kind!r}",
            remedy=f"an id begins with one of: {', '.join(readers)}",
        )
    return readers[kind]


async def _read(client: Client, screen: Screen, workflow_id: str, model: type[M]) -> M | None:
    """A status; if nobody can answer, what the server itself knows, and none."""
    try:
        found = await read_status(client, workflow_id, model)
    except NoAnswerError as error:
        described = await describe(client, workflow_id)
        state = None if described is None else described.search_attributes.get("DeploymentState")
        known = f"last known state: {state[0]}" if state else "it runs"
        screen.document({"id": workflow_id, "state": state[0] if state else None, "problem": str(error)})
        screen.show(Text.assemble((workflow_id, "bold"), f": {known}; ", (str(error), "yellow")))
        raise typer.Exit(1) from None
    if found is None:
        raise CommandError(
            f"there is no {workflow_id}",
            remedy="check the name, --application and TEMPORAL_NAMESPACE; erlmcp-deploy status lists all",
        )
    screen.document(found)
    return found


async def _show_deployment(client: Client, screen: Screen, workflow_id: str) -> None:
    target_of(workflow_id)
    found = await _read(client, screen, workflow_id, DeploymentStatus)
    if found is not None:
        url = workflow_url(client.namespace, workflow_id)
        screen.show(deployment_board(found, datetime.now(UTC), url=url, width=screen.console.width))


async def _show_approval(client: Client, screen: Screen, workflow_id: str) -> None:
    found = await _read(client, screen, workflow_id, ApprovalStatus)
    if found is not None:
        screen.show(approval_view(found, datetime.now(UTC)))


async def _show_canary(client: Client, screen: Screen, workflow_id: str) -> None:
    found = await _read(client, screen, workflow_id, CanaryStatus)
    if found is not None:
        screen.show(canary_view(found, datetime.now(UTC)))


async def _show_rollback(client: Client, screen: Screen, workflow_id: str) -> None:
    found = await _read(client, screen, workflow_id, RollbackStatus)
    if found is not None:
        screen.show(rollback_view(found, datetime.now(UTC)))


async def _show_validation(client: Client, screen: Screen, workflow_id: str) -> None:
    found = await _read(client, screen, workflow_id, ValidationStatus)
    if found is not None:
        screen.show(validation_view(found, datetime.now(UTC)))


async def _show_environment(client: Client, screen: Screen, workflow_id: str) -> None:
    found = await _read(client, screen, workflow_id, EnvironmentRecord)
    if found is not None:
        screen.show(await _environment(client, found))


async def _environment(client: Client, record: EnvironmentRecord) -> RenderableType:
    running: DeploymentStatus | None = None
    holder = record.holder
    if holder is not None and holder.holder.startswith("deployment:"):
        try:
            running = await ask_status(client, holder.holder, DeploymentStatus)
        except NoAnswerError:
            running = None
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    return environment_view(record, datetime.now(UTC), running=running)


async def _show_all(client: Client, screen: Screen, application: str) -> None:
    """Every environment of the application that was ever used."""
    found = await listed(client, f"environment:{application}:", limit=100)
    answers = await asyncio.gather(*(_try(client, f.workflow_id, EnvironmentRecord) for f in found))
    records = sorted((r for r, _ in answers if r is not None), key=lambda r: r.environment)
    silent = [f.workflow_id for f, (r, _) in zip(found, answers, strict=True) if r is None]
    screen.document(
        {
            "application": application,
            "environments": [r.model_dump(mode="json") for r in records],
            "without_answer": silent,
        }
    )
    if not found:
        screen.show(Text(f"nothing was deployed of {application} yet"))
    for record in records:
        screen.show(await _environment(client, record))
    for (_, problem), one in zip(answers, found, strict=True):
        if problem is not None:
            screen.show(Text.assemble((one.workflow_id, "bold"), ": ", (problem, "yellow")))


async def _try(client: Client, workflow_id: str, model: type[M]) -> tuple[M | None, str | None]:
    try:
        return await read_status(client, workflow_id, model), None
    except NoAnswerError as error:
        return None, str(error)
    except CommandError as error:
        return None, error.message


# Approvals


@command
async def pending(
    environment: OptionalEnvironment = None,
    application: Annotated[
        str | None, typer.Option("--application", "-a", show_default=False, help="Of this application only.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """All approvals that wait for somebody, the most urgent first."""
    screen = Screen(as_json=as_json)
    client = await connect()
    found = await _awaiting(client)
    answers = await asyncio.gather(*(_try(client, f.workflow_id, ApprovalStatus) for f in found))
    approvals = sorted(
        (a for a, _ in answers if a is not None and a.state is ApprovalState.PENDING),
        key=lambda a: a.expires_at,
    )
    approvals = [a for a in approvals if _concerns(a, application, environment)]
    silent = [f.workflow_id for f, (a, _) in zip(found, answers, strict=True) if a is None]
    screen.document({"pending": [a.model_dump(mode="json") for a in approvals], "without_answer": silent})
    if approvals:
        screen.show(
            pending_table(approvals, datetime.now(UTC)),
            Text("erlmcp-deploy approve|reject ENVIRONMENT VERSION --comment …", style="dim"),
        )
    elif not silent:
        screen.show(Text("nothing waits for approval"))
    for workflow_id in silent:
        screen.show(Text.assemble((workflow_id, "bold"), (": no worker answers", "yellow")))


async def _awaiting(client: Client) -> list[Found]:
    query = "WorkflowType = 'ApprovalWorkflow' AND AwaitingApproval = true AND ExecutionStatus = 'Running'"
    return [
        Found(workflow_id=e.id, run_id=e.run_id, running=True, state=None)
        async for e in client.list_workflows(query, limit=500)
    ]


def _concerns(approval: ApprovalStatus, application: str | None, environment: str | None) -> bool:
    _, of_application, of_environment, _ = approval.deployment_id.split(":", 3)
    return application in (None, of_application) and environment in (None, of_environment)


# Watching


@command
async def watch(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a deployment until it ends; without VERSION, the one that runs in the environment.

    Exit codes as with deploy --wait. Ctrl-C stops watching, not the deployment.
    """
    screen = Screen(as_json=as_json)
    client, target = await connect_to(Where(environment, version, application, workflow_id))
    deployment_id = target.id_of("deployment")
    described = await describe(client, deployment_id)
    if described is None:
        raise CommandError(
            f"there is no {deployment_id}",
            remedy=f"start it: erlmcp-deploy deploy {target.arguments} -a {target.application}",
        )
    url = workflow_url(client.namespace, deployment_id, described.run_id)
    started = Started(deployment_id, described.run_id, fresh=False)
    final = await see_through(client, screen, started, workflow_url(client.namespace, deployment_id))
    screen.document(final)
    github_actions.report_end(final, url)
    raise typer.Exit(EXIT_CODES[final.state])
