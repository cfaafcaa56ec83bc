"""Orders to what runs, the same for command line and chat: signals, and the start of a roll-back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.canary import Alert
from domain.deployment import Command, DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord, Outcome
from domain.rollback import RollbackRequest
from domain.version import SemVer
from starters.connection import DEPLOYMENTS_QUEUE
from starters.errors import CommandError, invalid_input
from starters.finding import describe, read_status
from starters.following import NoAnswerError
from starters.rendering import clean
from starters.target import Place, Target, target_of

SERVING = frozenset(
    {
        DeploymentState.DEPLOYING,
        DeploymentState.VERIFYING,
        DeploymentState.MONITORING,
        DeploymentState.ROLLING_BACK,
    }
)
"""States in which something of the new version serves, or may."""


DELIVERY = "delivery"
"""Memo of a run: what ordered it, as ``slack:trigger id``; the receiver's name for it too."""
_LOOKED_AT = 5
"""The last roll-backs of an environment among which one that is ordered again is sought."""


_DELIVERED_WITHIN = timedelta(minutes=15)
"""After its end nothing that ordered it is delivered any more: Slack's signatures live five minutes."""


class _Delivered(Command):
    """An order that knows by what it came, as its deployment's history keeps it; see `DELIVERY`."""

    delivery: str


async def send(client: Client, target: Target, order: str, message: Command | Alert) -> None:
    """Signal a running deployment.

    Raises:
        CommandError: it does not run.
    """
    deployment_id = target.id_of("deployment")
    try:
        await client.get_workflow_handle(deployment_id).signal(order, message)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND or "namespace" in error.message.lower():
            raise
        described = await describe(client, deployment_id)
        what = "has ended already" if described is not None else "does not exist"
        see = f"see what runs: erlmcp-deploy status {target.environment} -a {target.application}"
        undo = f"erlmcp-deploy rollback {target.environment} -a {target.application} --reason …"
        live = order in ("abort", "alert") and described is not None
        raise CommandError(
            f"{order}: {deployment_id} {what}",
            remedy=f"{see}; if it is live and must go: {undo}" if live else see,
        ) from None


# Roll-back


@dataclass(frozen=True)
class ToldDeployment:
    """The deployment that has the turn was told to roll back what it did.

    Attributes:
        seen: how it stood, if a worker said so.
    """

    target: Target
    seen: DeploymentStatus | None


@dataclass(frozen=True)
class RollbackRun:
    """A RollbackWorkflow rolls the live version back.

    Attributes:
        fresh: it was started now; otherwise it ran already.
        stopped: the deployment that had the turn, had deployed nothing yet, and was told to stop.
        again: this very order was delivered before, and was carried out by it.
    """

    workflow_id: str
    fresh: bool
    stopped: str | None = None
    again: bool = False


async def order_rollback(
    client: Client,
    record: EnvironmentRecord,
    *,
    actor: str,
    reason: str,
    to_version: str | None = None,
    delivery: str | None = None,
) -> ToldDeployment | RollbackRun:
    """Bring an environment back to its last good version; ordering it twice is ordering it once.

    A deployment that is being rolled out or watched rolls back what it did; otherwise the live version is
    rolled back, and a deployment that still builds or waits for approval is stopped.

    A `delivery` that comes again, even after what it ordered has ended, does nothing: it is sought among the
    environment's last roll-backs, and among the signals of the deployment that rolled back last. It is not
    found any more when the same version was rolled back once more since, or when that deployment was not the
    last one; deliveries come again within minutes.

    Args:
        delivery: tells an order that is delivered again from one that is given again.

    Raises:
        CommandError: there is nothing to roll back, or the order makes no sense.
    """
    if delivery is not None and (before := await _ordered_by(client, record, delivery)) is not None:
        return RollbackRun(before, fresh=False, again=True)
    holder = "" if record.holder is None else record.holder.holder
    if holder.startswith("rollback:"):
        return RollbackRun(holder, fresh=False)
    place = Place(application=record.application, environment=record.environment)
    deployment = target_of(holder) if holder.startswith("deployment:") else None
    seen = None if deployment is None else await _seen(client, deployment)
    order = Command(actor=actor, reason=reason)
    told = order if delivery is None else _Delivered(actor=actor, reason=reason, delivery=delivery)
    if deployment is not None and (seen is None or _has_deployed(seen) or record.current_version is None):
        if to_version is not None:
            raise CommandError(
                f"to is {to_version}, but {holder} runs and goes back to what it found",
                remedy="leave --to out, or abort it first and roll back when it has ended",
            )
        await send(client, deployment, "rollback", told)
        return ToldDeployment(deployment, seen)
    if record.current_version is None:
        raise CommandError(
            f"nothing was deployed to {place.environment} yet, so there is nothing to roll back",
            remedy=f"see erlmcp-deploy status {place.environment} -a {place.application}",
        )
    request = rollback_request(
        place, actor, reason, from_version=record.current_version, to_version=to_version
    )
    fresh = await _start(client, request, delivery)
    if deployment is None:
        return RollbackRun(request.rollback_id, fresh)
    # The roll-back is first in the queue by now: it follows as soon as the turn is given back.
    with suppress(CommandError):  # it has ended in the meantime
        await send(client, deployment, "rollback", order)
    return RollbackRun(request.rollback_id, fresh, stopped=holder)


def rollback_request(
    place: Place, actor: str, reason: str, *, from_version: SemVer, to_version: str | None
) -> RollbackRequest:
    """The input of RollbackWorkflow.

    Raises:
        CommandError: a field is missing or malformed (exit code 2).
    """
    try:
        return RollbackRequest(
            application=place.application,
            environment=place.environment,
            from_version=from_version,
            to_version=to_version,
            actor=actor,
            reason=reason.strip(),
        )
    except ValidationError as error:
        raise invalid_input(error, RollbackRequest) from None


async def environment_record(client: Client, place: Place) -> EnvironmentRecord:
    """What an environment knows of itself.

    Raises:
        CommandError: nobody can say, or nothing was ever deployed there.
    """
    try:
        record = await read_status(client, place.workflow_id, EnvironmentRecord)
    except NoAnswerError as error:
        raise CommandError(
            f"{place.workflow_id}: {error}", remedy="start a worker: erlmcp-deploy worker"
        ) from None
    if record is None:
        raise CommandError(
            f"nothing was ever deployed to {place.environment} of {place.application} from here",
            remedy="check --application and TEMPORAL_NAMESPACE",
        )
    return record


async def _seen(client: Client, target: Target) -> DeploymentStatus | None:
    try:
        return await read_status(client, target.id_of("deployment"), DeploymentStatus)
    except NoAnswerError:
        return None


def _has_deployed(status: DeploymentStatus) -> bool:
    return any(entered.state in SERVING for entered in status.history)


async def _ordered_by(client: Client, record: EnvironmentRecord, delivery: str) -> str | None:
    """What carried this delivery out, if it is among the last or about to be repeated."""
    past = [p.holder for p in reversed(record.history) if p.holder.startswith("rollback:")]
    ids = [*dict.fromkeys(past)][:_LOOKED_AT]
    if record.current_version is not None:
        # Until its end is written into the environment's history, it is known by what it rolls back.
        ids.append(f"rollback:{record.application}:{record.environment}:{record.current_version}")
    ids = [*dict.fromkeys(ids)]
    deliveries = await asyncio.gather(*(_delivery_of(client, workflow_id) for workflow_id in ids))
    found = next((i for i, carried in zip(ids, deliveries, strict=True) if carried == delivery), None)
    return found or await _told_by(client, record, delivery)


async def _told_by(client: Client, record: EnvironmentRecord, delivery: str) -> str | None:
    """The deployment that rolled back what it did, if it ended a moment ago and this delivery told it to."""
    last = record.history[-1] if record.history else None
    if last is None or not last.holder.startswith("deployment:") or last.outcome is Outcome.DEPLOYED:
        return None
    if datetime.now(UTC) - last.finished_at > _DELIVERED_WITHIN:
        return None
    async for event in client.get_workflow_handle(last.holder).fetch_history_events():
        if not event.HasField("workflow_execution_signaled_event_attributes"):
            continue
        signal = event.workflow_execution_signaled_event_attributes
        if signal.signal_name == "rollback" and signal.input.payloads:
            [order] = await client.data_converter.decode(signal.input.payloads[:1], [dict])
            if isinstance(order, dict) and order.get(DELIVERY) == delivery:
                return last.holder
    return None


async def _delivery_of(client: Client, workflow_id: str) -> str | None:
    try:
        described = await describe(client, workflow_id)
    except NoAnswerError:  # paused in Temporal itself, so it runs: to be started again it would have to end
        return None
    return None if described is None else await described.memo_value(DELIVERY, default=None, type_hint=str)


async def _start(client: Client, request: RollbackRequest, delivery: str | None) -> bool:
    """Whether it was started now."""
    try:
        await client.start_workflow(
            "RollbackWorkflow",
            request,
            id=request.rollback_id,
            task_queue=DEPLOYMENTS_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            memo=None if delivery is None else {DELIVERY: delivery},
            static_summary=f"roll back {request.application} {request.from_version} in {request.environment}",
            static_details=f"- asked for by: {clean(request.actor)}\n- reason: {clean(request.reason)}",
        )
    except WorkflowAlreadyStartedError:
        return False
    return True
