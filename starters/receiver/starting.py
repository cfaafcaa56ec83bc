"""Starting what an event asks for, once, however often and to however many receivers it is delivered.

The workflow id makes one process of all events that ask for the same; the memos ``delivery`` and ``body``
tell an event that is delivered again from a new one that asks again for what has failed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.deployment import DeploymentRequest, DeploymentState
from domain.triggers import Route
from domain.validation import ValidationRequest
from starters.connection import DEPLOYMENTS_QUEUE
from starters.receiver.temporal import NOT_SERVING
from starters.rendering import clean

DELIVERY = "delivery"
"""Memo of a run: ``host:delivery id`` of the event that started it."""
BODY = "body"
"""Memo of a run: SHA-256 of the signed bytes that started it. Whoever sends them again, under whichever
delivery id (no signature covers that), brings no new event."""


@dataclass(frozen=True)
class Delivery:
    """What tells one event from another.

    Attributes:
        name: ``host:delivery id``.
        body: SHA-256 of the request, where the sender's signature covers it.
    """

    name: str
    body: str | None

    @property
    def memo(self) -> dict[str, str]:
        return {DELIVERY: self.name} | ({} if self.body is None else {BODY: self.body})


@dataclass(frozen=True)
class Run:
    """What carries a request out.

    Attributes:
        fresh: it was started now; else it runs, or did what is asked already.
    """

    workflow_id: str
    rule: str | None
    fresh: bool


@dataclass(frozen=True)
class _Process:
    workflow: str
    workflow_id: str
    request: DeploymentRequest | ValidationRequest
    summary: str
    details: str


async def start_all(client: Client, routes: tuple[Route, ...], delivery: Delivery) -> list[Run]:
    """Start everything the routes ask for. It may be done again: what was started is found.

    Raises:
        RPCError: Temporal did not take one of them.
    """
    starting = [start(client, route, delivery) for route in routes]
    # All are tried, so that none is lost for another's sake; then the first failure counts.
    runs = await asyncio.gather(*starting, return_exceptions=True)
    failures = [run for run in runs if isinstance(run, BaseException)]
    # One that Temporal cannot take now goes first: the sender comes again then, and finds the others.
    failures.sort(key=lambda f: not (isinstance(f, RPCError) and f.status in NOT_SERVING))
    for failure in failures:
        raise failure
    return [run for run in runs if isinstance(run, Run)]


async def start(client: Client, route: Route, delivery: Delivery) -> Run:
    """Start what one route asks for, unless it runs or was done already."""
    process = _process(route, delivery)
    try:
        await _start(client, process, delivery, WorkflowIDReusePolicy.REJECT_DUPLICATE)
    except WorkflowAlreadyStartedError:
        if await _done(client, process.workflow_id, delivery):
            return Run(process.workflow_id, route.rule, fresh=False)
    else:
        return Run(process.workflow_id, route.rule, fresh=True)
    try:
        await _start(client, process, delivery, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
    except WorkflowAlreadyStartedError:  # another receiver was faster
        return Run(process.workflow_id, route.rule, fresh=False)
    return Run(process.workflow_id, route.rule, fresh=True)


async def _start(client: Client, process: _Process, delivery: Delivery, reuse: WorkflowIDReusePolicy) -> None:
    await client.start_workflow(
        process.workflow,
        process.request,
        id=process.workflow_id,
        task_queue=DEPLOYMENTS_QUEUE,
        id_reuse_policy=reuse,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        memo=delivery.memo,
        static_summary=process.summary,
        static_details=process.details,
    )


async def _done(client: Client, workflow_id: str, delivery: Delivery) -> bool:
    """Whether the last run makes another one superfluous: it runs, it completed, or this event started it."""
    try:
        found = await client.get_workflow_handle(workflow_id).describe()
    except ValueError:  # paused in Temporal itself, which the SDK has no word for
        return True
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:  # its retention ended this moment
            return False
        raise
    if found.status is WorkflowExecutionStatus.RUNNING:
        return True
    state = found.search_attributes.get("DeploymentState")
    if state and state[0] == DeploymentState.COMPLETED:
        return True
    if await found.memo_value(DELIVERY, default="") == delivery.name:
        return True
    return delivery.body is not None and bool(await found.memo_value(BODY, default="") == delivery.body)


def _process(route: Route, delivery: Delivery) -> _Process:
    if (deployment := route.deployment) is not None:
        return _Process(
            workflow="DeploymentWorkflow",
            workflow_id=deployment.deployment_id,
            request=deployment,
            summary=f"{deployment.application} {deployment.version} → {deployment.environment}",
            details=_details(deployment, route, delivery),
        )
    if (validation := route.validation) is not None:
        return _Process(
            workflow="ValidationWorkflow",
            workflow_id=validation.validation_id,
            request=validation,
            summary=f"validate {validation.application} {validation.commit[:12]} ({validation.kind})",
            details=_details(validation, route, delivery),
        )
    raise ValueError(f"the route of rule {route.rule} starts nothing")


def _details(request: DeploymentRequest | ValidationRequest, route: Route, delivery: Delivery) -> str:
    lines = {
        "rule": route.rule,
        "asked for by": request.actor,
        "commit": request.commit,
        "ref": request.ref,
        "event": delivery.name,
    }
    return "\n".join(f"- {name}: {clean(value)}" for name, value in lines.items() if value)
