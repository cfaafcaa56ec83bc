"""``approve``, ``reject``, ``comment``: decisions at an approval gate (spec: Approval Workflow)."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.exceptions import FailureError
from temporalio.service import RPCError, RPCStatusCode

from domain.approval import ApprovalState, ApprovalStatus, DecisionMessage, DecisionRequest, Verb
from domain.deployment import DeploymentStatus
from starters.connection import TRANSIENT, command
from starters.errors import CommandError, usage_error
from starters.finding import Where, connect_to, describe, read_status, running
from starters.following import NoAnswerError, decode
from starters.rendering import Screen, approval_view, clean
from starters.target import (
    ActorOption,
    ApplicationOption,
    IdOption,
    JsonOption,
    OptionalEnvironment,
    OptionalVersion,
    Target,
    gate_of,
    require_actor,
)

DECISION_TIMEOUT = 20.0
"""Seconds a worker may take to answer a decision."""

GateOption = Annotated[
    str | None,
    typer.Option("--gate", show_default=False, help="Name of the gate; by default the one that is open."),
]
CommentOption = Annotated[
    str, typer.Option("--comment", "-m", show_default=False, help="Why; kept with the decision.")
]


@command
async def approve(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    gate: GateOption = None,
    actor: ActorOption = None,
    comment: CommentOption = "",
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a deployment at its approval gate.

    Before the gate opens the approval is kept for it. A refusal is told at once, with exit code 1.
    """
    where = Where(environment, version, application, workflow_id)
    await _decide(Verb.APPROVE, where, gate=gate, actor=actor, comment=comment, as_json=as_json)


@command
async def reject(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    gate: GateOption = None,
    actor: ActorOption = None,
    comment: CommentOption = "",
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject a deployment at its approval gate; one rejection ends it."""
    where = Where(environment, version, application, workflow_id)
    await _decide(Verb.REJECT, where, gate=gate, actor=actor, comment=comment, as_json=as_json)


@command
async def comment(
    environment: OptionalEnvironment = None,
    version: OptionalVersion = None,
    *,
    workflow_id: IdOption = None,
    gate: GateOption = None,
    actor: ActorOption = None,
    comment: CommentOption = "",
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Comment on an open approval; a comment never decides."""
    if not comment:
        raise usage_error("comment is missing", remedy='give --comment "…"')
    where = Where(environment, version, application, workflow_id)
    await _decide(Verb.COMMENT, where, gate=gate, actor=actor, comment=comment, as_json=as_json)


async def _decide(
    verb: Verb, where: Where, *, gate: str | None, actor: str | None, comment: str, as_json: bool
) -> None:
    person = require_actor(actor)
    if gate is None and where.workflow_id is not None:
        gate = gate_of(where.workflow_id)
    screen = Screen(as_json=as_json)
    client, target = await connect_to(where)
    message = DecisionMessage(actor=person, comment=comment, source="cli", gate=gate, id=str(uuid.uuid4()))
    approval_id = await _open_approval(client, target, gate)
    if approval_id is None:
        await _decide_early(client, screen, target, verb, message)
        return
    status = await _ask(client, approval_id, DecisionRequest(decision=verb, **message.model_dump()))
    screen.document({"outcome": "counted", "approval": status.model_dump(mode="json")})
    screen.show(_counted(verb, status), approval_view(status, datetime.now(UTC)))


async def _open_approval(client: Client, target: Target, gate: str | None) -> str | None:
    """The id of the approval that is open now, if one is."""
    if gate is not None:
        described = await describe(client, target.id_of("approval", gate))
        is_open = described is not None and described.status is WorkflowExecutionStatus.RUNNING
        return target.id_of("approval", gate) if is_open else None
    try:
        status = await read_status(client, target.id_of("deployment"), DeploymentStatus)
    except NoAnswerError:
        status = None
    if status is not None and status.state.final:
        return None
    if status is not None and status.approval is not None:
        return status.approval.id if status.approval.state is ApprovalState.PENDING else None
    found = await running(client, target.id_of("approval", ""))
    return found[0].workflow_id if found else None


async def _ask(client: Client, approval_id: str, request: DecisionRequest) -> ApprovalStatus:
    """Decide by update: the worker's answer is the gate's.

    Raises:
        CommandError: it was refused, or nobody answers.
    """
    handle = client.get_workflow_handle(approval_id)
    try:
        async with asyncio.timeout(DECISION_TIMEOUT):
            answer: object = await handle.execute_update("decide", request, id=request.id)
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        reason = cause.message if isinstance(cause, FailureError) else str(cause)
        raise CommandError(f"refused: {reason}") from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise CommandError(f"refused: the approval {approval_id} has just been closed") from None
        if error.status not in TRANSIENT or error.status is RPCStatusCode.UNAVAILABLE:
            raise
        raise _unanswered(approval_id) from None
    except TimeoutError:
        raise _unanswered(approval_id) from None
    return decode(ApprovalStatus, answer)


def _unanswered(approval_id: str) -> CommandError:
    return CommandError(
        f"no worker answered within {DECISION_TIMEOUT:g} s; whether the decision counts is not known",
        remedy="start a worker (erlmcp-deploy worker), look (erlmcp-deploy status --id "
        f"{approval_id}) and decide again: a second vote of the same person never counts twice",
    )


def _counted(verb: Verb, status: ApprovalStatus) -> Text:
    if verb is Verb.COMMENT:
        return Text("✔ comment kept", style="green")
    if status.state is ApprovalState.APPROVED:
        return Text("✔ approved; the deployment goes on", style="bold green")
    if status.state is ApprovalState.REJECTED:
        return Text("✘ rejected; the deployment ends", style="bold red")
    missing = status.approvals_missing
    return Text(f"✔ approval counted; {missing} more needed", style="green")


async def _decide_early(
    client: Client, screen: Screen, target: Target, verb: Verb, message: DecisionMessage
) -> None:
    """The gate is not open: keep the decision for it, or say that it never will be."""
    deployment_id = target.id_of("deployment")
    try:
        status = await read_status(client, deployment_id, DeploymentStatus)
    except NoAnswerError:
        status = None
        described = await describe(client, deployment_id)
        if described is None:
            raise _not_running(target, None) from None
    else:
        if status is None or status.state.final:
            raise _not_running(target, status)
        if status.approval is not None and status.approval.state is not ApprovalState.PENDING:
            reason = status.approval.reason or str(status.approval.state)
            raise CommandError(f"refused: the approval is closed: {clean(reason)}")
    if verb is Verb.COMMENT:
        raise CommandError(
            f"the gate of {deployment_id} is not open, so there is nothing to comment on yet",
            remedy="comment when it waits for approval: erlmcp-deploy pending",
        )
    try:
        await client.get_workflow_handle(deployment_id).signal(str(verb), message)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise _not_running(target, None) from None
        raise
    where = "no worker answers" if status is None else f"the deployment is {status.state}"
    screen.document(
        {
            "outcome": "kept",
            "deployment_id": deployment_id,
            "state": None if status is None else str(status.state),
        }
    )
    word = "approval" if verb is Verb.APPROVE else "rejection"
    screen.show(
        Text.assemble(
            (f"✔ {word} kept", "bold green"),
            f": the gate is not open yet ({where}); it is judged when the gate opens",
        )
    )


def _not_running(target: Target, status: DeploymentStatus | None) -> CommandError:
    if status is None:
        return CommandError(
            f"there is no deployment {target.id_of('deployment')} to decide on",
            remedy="see what waits: erlmcp-deploy pending",
        )
    return CommandError(
        f"refused: {target.id_of('deployment')} has ended already: {status.state}"
        + (f" ({clean(status.reason)})" if status.reason else "")
    )
