"""``approve``, ``reject``, ``comment``: decisions at an approval gate (spec: Approval Workflow)."""

from __future__ import annotations

import asyncio
import os
import uuid
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import FailureError
from temporalio.service import RPCError, RPCStatusCode

from domain.approval import ApprovalState, ApprovalStatus, DecisionMessage, DecisionRequest, Verb
from domain.deployment import DeploymentStatus
from domain.signing import SigningKey, subject_of
from starters.connection import command
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

DECISION_TIMEOUT = 15.0
"""Seconds a worker may take to answer a decision."""

GateOption = Annotated[
    str | None,
    typer.Option("--gate", show_default=False, help="Name of the gate; by default the one that is open."),
]
CommentOption = Annotated[
    str, typer.Option("--comment", "-m", show_default=False, help="Why; kept with the decision.")
]
BreakGlassOption = Annotated[
    bool,
    typer.Option(
        "--break-glass",
        help="An emergency: count towards the gate's emergency approval, in place of its rules. Say why.",
    ),
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
    break_glass: BreakGlassOption = False,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a deployment at its approval gate.

    Before the gate opens the approval is kept for it. A refusal is told at once, with exit code 1.
    """
    if break_glass and not comment.strip():
        raise usage_error(
            "comment is missing: breaking the glass needs a reason", remedy='give --comment "…"'
        )
    where = Where(environment, version, application, workflow_id)
    message = DecisionMessage(comment=comment, gate=gate, emergency=break_glass)
    await _decide(Verb.APPROVE, where, message, actor=actor, as_json=as_json)


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
    message = DecisionMessage(comment=comment, gate=gate)
    await _decide(Verb.REJECT, where, message, actor=actor, as_json=as_json)


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
    if not comment.strip():
        raise usage_error("comment is missing", remedy='give --comment "…"')
    where = Where(environment, version, application, workflow_id)
    message = DecisionMessage(comment=comment, gate=gate)
    await _decide(Verb.COMMENT, where, message, actor=actor, as_json=as_json)


async def _decide(
    verb: Verb, where: Where, message: DecisionMessage, *, actor: str | None, as_json: bool
) -> None:
    person, key = require_actor(actor), _signing_key()
    gate = message.gate
    if gate is None and where.workflow_id is not None:
        gate = gate_of(where.workflow_id)
    screen = Screen(as_json=as_json)
    client, target = await connect_to(where)
    message = message.model_copy(
        update={"actor": person, "source": "cli", "gate": gate, "id": str(uuid.uuid4())}
    )
    if key is not None:
        subject = subject_of(client.namespace, target.id_of("deployment"))
        message = key.sign(subject, verb, message, datetime.now(UTC))
    approval_id, answering = await _open_approval(client, target, gate)
    if approval_id is None:
        await _decide_early(client, screen, target, verb, message)
        return
    if not answering:
        await _leave_word(client, screen, approval_id, verb, message)
        return
    status = await _ask(client, approval_id, DecisionRequest(decision=verb, **message.model_dump()))
    screen.document({"outcome": "counted", "approval": status.model_dump(mode="json")})
    screen.show(_counted(verb, status), approval_view(status, datetime.now(UTC)))


def _signing_key() -> SigningKey | None:
    try:
        return SigningKey.from_environment(os.environ)
    except ValueError as error:
        raise usage_error(str(error)) from None


async def _open_approval(client: Client, target: Target, gate: str | None) -> tuple[str | None, bool]:
    """The id of the approval that is open now, if one is, and whether a worker answers for it."""
    if gate is not None:
        approval_id = target.id_of("approval", gate)
        try:
            approval = await read_status(client, approval_id, ApprovalStatus)
        except NoAnswerError:
            return approval_id, False
        if approval is not None and approval.state is ApprovalState.PENDING:
            return approval_id, True
        return None, True
    try:
        status = await read_status(client, target.id_of("deployment"), DeploymentStatus)
    except NoAnswerError:
        found = await running(client, target.id_of("approval", ""))
        return (found[0].workflow_id if found else None), False
    if status is None or status.approval is None or status.approval.state is not ApprovalState.PENDING:
        return None, True
    return status.approval.id, True


async def _leave_word(
    client: Client, screen: Screen, approval_id: str, verb: Verb, message: DecisionMessage
) -> None:
    """No worker can judge the decision now: the server keeps it, as a signal, until one can."""
    await client.get_workflow_handle(approval_id).signal(str(verb), message)
    screen.document({"outcome": "kept", "approval_id": approval_id, "state": None})
    screen.show(
        Text.assemble(
            (f"✔ {verb} kept", "bold yellow"),
            ": no worker answers at the moment; it is judged when one is back (erlmcp-deploy worker)",
        )
    )


async def _ask(client: Client, approval_id: str, request: DecisionRequest) -> ApprovalStatus:
    """Decide by update: the worker's answer is the gate's.

    Raises:
        CommandError: it was refused, or nobody answers.
    """
    handle = client.get_workflow_handle(approval_id)
    asking = asyncio.ensure_future(handle.execute_update("decide", request, id=request.id))
    try:
        await asyncio.wait({asking}, timeout=DECISION_TIMEOUT)
        if not asking.done():
            raise _unanswered(approval_id)
        return decode(ApprovalStatus, asking.result())
    except WorkflowUpdateFailedError as error:
        raise CommandError(f"refused: {_reason(error)}") from None
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise CommandError(f"refused: the approval {approval_id} has just been closed") from None
    finally:
        asking.cancel()


def _reason(error: WorkflowUpdateFailedError) -> str:
    """The first cause: what stands around it tells only where it came from."""
    cause: BaseException = error.cause
    while isinstance(cause, FailureError) and isinstance(cause.cause, FailureError):
        cause = cause.cause
    return cause.message if isinstance(cause, FailureError) else str(cause)


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
        approval = status.approval
        if approval is not None and message.gate not in (None, approval.gate_name):
            raise CommandError(f"refused: there is no gate {message.gate!r}, but {approval.gate_name!r}")
        if approval is not None and approval.state is not ApprovalState.PENDING:
            reason = approval.reason or str(approval.state)
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
