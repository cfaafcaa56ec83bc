"""Finding what runs: by id first, by visibility where only a part of the id is known.

Visibility is read by workflow id, so it needs no search attribute and lags at most moments behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.service import RPCError, RPCStatusCode

from starters.connection import connect
from starters.errors import CommandError, usage_error
from starters.following import NoAnswerError, ask_status, broken, decode
from starters.target import Place, Target, find_place, find_target, target_of

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Found:
    """A workflow as the server lists it.

    Attributes:
        state: search attribute ``DeploymentState``, if it is set.
    """

    workflow_id: str
    run_id: str
    running: bool
    state: str | None


async def describe(client: Client, workflow_id: str) -> WorkflowExecutionDescription | None:
    """What the server itself knows of a workflow; none if it never was.

    Raises:
        NoAnswerError: it was paused in Temporal itself, which the SDK cannot describe.
    """
    try:
        return await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower():
            return None
        raise
    except ValueError:
        raise NoAnswerError(
            f"it was paused in Temporal itself; temporal workflow unpause --workflow-id {workflow_id}"
        ) from None


async def read_status(client: Client, workflow_id: str, model: type[M]) -> M | None:
    """How a process stands, or ended: the query while it runs, its result afterwards; none if it never was.

    A process that has ended is read from its history, which needs no worker.

    Raises:
        CommandError: it ended without a result.
        NoAnswerError: it runs, and nobody can say how.
    """
    described = await describe(client, workflow_id)
    if described is None:
        return None
    if described.status is WorkflowExecutionStatus.RUNNING:
        try:
            return await ask_status(client, workflow_id, model, run_id=described.run_id)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    try:
        result: Any = await client.get_workflow_handle(workflow_id, run_id=described.run_id).result()
    except WorkflowFailureError as error:
        raise broken(workflow_id, error) from None
    return decode(model, result)


async def running(client: Client, prefix: str) -> list[Found]:
    """The running workflows whose id begins with `prefix`, the youngest first."""
    return [f for f in await listed(client, prefix, limit=200) if f.running]


async def listed(client: Client, prefix: str, *, limit: int) -> list[Found]:
    """Workflows by the beginning of their id, the youngest first."""
    quoted = prefix.replace("'", "''")
    # The SDK has no name for the status of a paused workflow, and fails on it.
    query = f"WorkflowId STARTS_WITH '{quoted}' AND ExecutionStatus != 'Paused'"
    found = []
    async for execution in client.list_workflows(query, limit=limit):
        state = execution.search_attributes.get("DeploymentState")
        found.append(
            Found(
                workflow_id=execution.id,
                run_id=execution.run_id,
                running=execution.status is WorkflowExecutionStatus.RUNNING,
                state=str(state[0]) if isinstance(state, Sequence) and state else None,
            )
        )
    return found


@dataclass(frozen=True)
class Where:
    """How a person names a deployment: by environment and version, or by a workflow id."""

    environment: str | None
    version: str | None
    application: str | None
    workflow_id: str | None = None


async def connect_to(where: Where) -> tuple[Client, Target]:
    """A client, and the deployment a command means; without version the only one that runs.

    Raises:
        CommandError: it cannot be known, or the server does not answer.
    """
    if where.workflow_id is None and where.environment is not None and where.version is None:
        place = find_place(where.environment, where.application)
        client = await connect()
        return client, await running_target(client, place)
    target = find_target(where.environment, where.version, where.application, where.workflow_id)
    return await connect(), target


async def running_target(client: Client, place: Place) -> Target:
    """The only deployment that runs in an environment.

    Raises:
        CommandError: none runs, or several do.
    """
    found = await running(client, f"deployment:{place.application}:{place.environment}:")
    targets = [target_of(f.workflow_id) for f in found]
    if not targets:
        raise CommandError(
            f"no deployment of {place.application} runs in {place.environment}",
            remedy=f"see what was: erlmcp-deploy status {place.environment} -a {place.application}",
        )
    if len(targets) > 1:
        versions = ", ".join(sorted(t.version for t in targets))
        raise usage_error(
            f"version is missing: several deployments run in {place.environment}: {versions}",
            remedy="give VERSION",
        )
    return targets[0]
