"""Gathers the overview: what is listed by the server, and what the processes say themselves.

Everything is asked at the same time and with short limits. Who does not answer is shown as not answering;
what has ended says the same for ever, so it is read once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from temporalio.client import Client, WorkflowExecution, WorkflowFailureError
from temporalio.service import RPCError, RPCStatusCode

from domain.approval import ApprovalState, ApprovalStatus
from domain.configuration import Configuration
from domain.deployment import DeploymentStatus
from domain.environment import EnvironmentRecord
from domain.rollback import RollbackStatus
from domain.validation import ValidationStatus
from starters.connection import workflow_url
from starters.dashboard import views
from starters.dashboard.overview import (
    Approval,
    End,
    Lane,
    Overview,
    Running,
    Stage,
    Validated,
)
from starters.following import NoAnswerError, ask_status, decode
from workflows.confidentiality import UnreadablePayloadError

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

QUERY_LIMIT = 2.0
"""Seconds a process has to say how it stands."""
AT_ONCE = 32
"""Questions at the same time."""
GIVE_UP_AFTER = 3
"""Processes that stay silent before any has answered; the others are not asked then."""
LISTED = 200
RECENT = 12
KEPT = 500
"""Ended runs whose results are remembered."""

_NEVER = datetime.max.replace(tzinfo=UTC)
SILENT = "no worker answers"
RUNNING = "ExecutionStatus = 'Running'"
# The SDK has no name for the status of a paused workflow, and fails on it.
ENDED = "ExecutionStatus NOT IN ('Running', 'Paused', 'ContinuedAsNew')"


class Results:
    """The results of runs that have ended."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, BaseModel | None] = OrderedDict()

    async def of(self, client: Client, execution: WorkflowExecution, model: type[M]) -> M | None:
        """The result of a run; none if it ended without one that can be read."""
        if execution.run_id not in self._known:
            handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
            try:
                found: M | None = decode(model, await asyncio.wait_for(handle.result(), QUERY_LIMIT))
            except (WorkflowFailureError, ValidationError):
                found = None
            self._known[execution.run_id] = found
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        known = self._known[execution.run_id]
        return known if isinstance(known, model) else None


@dataclass
class _Census:
    """Who was asked and who has answered."""

    asked: int = 0
    answered: int = 0
    silent: list[str] = field(default_factory=list)

    @property
    def hopeless(self) -> bool:
        return self.answered == 0 and len(self.silent) >= GIVE_UP_AFTER


class Gathering:
    """One overview in the making.

    Args:
        configuration: as deployment.yaml is now; none if it cannot be read.
    """

    def __init__(self, client: Client, configuration: Configuration | None, results: Results) -> None:
        self._client = client
        self._configuration = configuration
        self._results = results
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._census = _Census()
        self._problems: list[str] = []

    async def overview(self) -> Overview:
        """Ask everybody."""
        environments, deployments, rollbacks, approvals, ends, validating, validated = await asyncio.gather(
            self._list("EnvironmentWorkflow", RUNNING),
            self._list("DeploymentWorkflow", RUNNING),
            self._list("RollbackWorkflow", RUNNING),
            self._list("ApprovalWorkflow", f"{RUNNING} AND AwaitingApproval = true"),
            self._list("DeploymentWorkflow", ENDED, RECENT),
            self._list("ValidationWorkflow", RUNNING),
            self._list("ValidationWorkflow", ENDED, RECENT),
        )
        stages, running, turning, waiting, ended, checks = await asyncio.gather(
            self._stages(environments),
            self._each(deployments, self._deployment),
            self._each(rollbacks, self._rollback),
            self._each(approvals, self._approval),
            self._each(ends, self._end),
            self._each([*validating, *validated], self._validated),
        )
        if self._census.silent:
            silent, asked = len(self._census.silent), self._census.asked
            self._problems.append(
                f"{SILENT} for {silent} of {asked} processes: of them only what the server knows is shown, "
                "and they go on as soon as a worker runs (erlmcp-deploy worker)"
            )
        return Overview(
            at=datetime.now(UTC),
            problems=tuple(self._problems),
            blind=self._census.asked > 0 and self._census.answered == 0,
            approvals=self._approvals(waiting, running),
            lanes=self._lanes(stages),
            running=(*turning, *sorted(running, key=_progress)),
            ends=tuple(ended),
            validations=tuple(checks[: max(RECENT, len(validating))]),
        )

    async def _list(self, kind: str, condition: str, limit: int = LISTED) -> list[WorkflowExecution]:
        query = f"WorkflowType = '{kind}' AND {condition}"
        try:
            found = [execution async for execution in self._client.list_workflows(query, limit=limit + 1)]
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            self._problems.append(
                f"{kind}s cannot be listed ({error.message}); "
                "a worker that starts registers what is missing, or says how to"
            )
            return []
        if len(found) > limit and limit == LISTED:
            self._problems.append(f"more than {limit} {kind}s run; the rest is left out")
        return found[:limit]

    async def _each(
        self, executions: Iterable[WorkflowExecution], view: Callable[[WorkflowExecution], Awaitable[T]]
    ) -> list[T]:
        return list(await asyncio.gather(*(view(execution) for execution in executions)))

    async def _ask(self, execution: WorkflowExecution, model: type[M]) -> M | None:
        """How a process stands; none if nobody can say."""
        self._census.asked += 1
        async with self._slots:
            if not self._census.hopeless:
                try:
                    asked = ask_status(self._client, execution.id, model, run_id=execution.run_id)
                    answer = await asyncio.wait_for(asked, QUERY_LIMIT)
                except UnreadablePayloadError as error:
                    self._problem(f"answers cannot be read: {error}")
                except (NoAnswerError, RPCError, TimeoutError, ValidationError):
                    pass
                else:
                    self._census.answered += 1
                    return answer
        self._census.silent.append(execution.id)
        return None

    def _problem(self, words: str) -> None:
        if words not in self._problems:
            self._problems.append(words)

    def _page(self, workflow_id: str, run_id: str | None = None) -> str | None:
        return workflow_url(self._client.namespace, workflow_id, run_id)

    # Environments

    async def _stages(self, executions: Iterable[WorkflowExecution]) -> dict[tuple[str, str], Stage]:
        async def of(execution: WorkflowExecution) -> tuple[tuple[str, str], Stage]:
            _, application, environment = execution.id.split(":", 2)
            record = await self._ask(execution, EnvironmentRecord)
            if record is None:
                stage = views.empty_stage(environment, self._configuration, unknown=SILENT)
            else:
                stage = views.stage(record, self._configuration, datetime.now(UTC), self._page)
            return (application, environment), stage

        return dict(await self._each([e for e in executions if e.id.count(":") == 2], of))

    def _lanes(self, stages: dict[tuple[str, str], Stage]) -> tuple[Lane, ...]:
        """Applications and environments in the order of deployment.yaml; then what it does not name."""
        configuration = self._configuration
        applications = dict.fromkeys(
            [*(configuration.applications if configuration else ()), *sorted(a for a, _ in stages)]
        )
        known = list(configuration.environments if configuration else ())
        lanes = []
        for application in applications:
            others = sorted(e for a, e in stages if a == application and e not in known)
            lanes.append(
                Lane(
                    application=application,
                    stages=tuple(
                        stages.get((application, environment))
                        or views.empty_stage(environment, configuration)
                        for environment in [*known, *others]
                    ),
                )
            )
        return tuple(lanes)

    # Processes that run

    async def _deployment(self, execution: WorkflowExecution) -> Running:
        status = await self._ask(execution, DeploymentStatus)
        if status is None:
            return self._unknown_run(execution)
        return views.deployment(status, self._configuration, self._page)

    async def _rollback(self, execution: WorkflowExecution) -> Running:
        status = await self._ask(execution, RollbackStatus)
        return self._unknown_run(execution) if status is None else views.rollback(status, self._page)

    def _unknown_run(self, execution: WorkflowExecution) -> Running:
        application, environment, version = _parts(execution.id, 3)
        return Running(
            workflow_id=execution.id,
            application=application,
            environment=environment,
            version=version,
            state=_state_of(execution) or "running",
            unknown=SILENT,
            started_at=execution.start_time,
            url=self._page(execution.id),
        )

    async def _approval(
        self, execution: WorkflowExecution
    ) -> tuple[WorkflowExecution, ApprovalStatus | None]:
        return execution, await self._ask(execution, ApprovalStatus)

    def _approvals(
        self,
        waiting: Iterable[tuple[WorkflowExecution, ApprovalStatus | None]],
        running: Iterable[Running],
    ) -> tuple[Approval, ...]:
        """The most urgent first; whoever asked for a deployment is not named among its deciders."""
        requesters = {r.workflow_id: r.actor for r in running}
        approvals = []
        for execution, status in waiting:
            if status is None:
                approvals.append(self._unknown_approval(execution))
            elif status.state is ApprovalState.PENDING:
                requester = requesters.get(status.deployment_id)
                approvals.append(views.approval(status, requester, self._configuration, self._page))
        return tuple(sorted(approvals, key=lambda a: a.expires_at or _NEVER))

    def _unknown_approval(self, execution: WorkflowExecution) -> Approval:
        application, environment, version, gate = _parts(execution.id, 4)
        return Approval(
            workflow_id=execution.id,
            application=application,
            environment=environment,
            version=version,
            gate=gate,
            unknown=SILENT,
            since=execution.start_time,
            url=self._page(execution.id),
        )

    # Processes that have ended

    async def _result(self, execution: WorkflowExecution, model: type[M]) -> M | None:
        async with self._slots:
            try:
                return await self._results.of(self._client, execution, model)
            except UnreadablePayloadError as error:
                self._problem(f"answers cannot be read: {error}")
            except (RPCError, TimeoutError):
                self._problem("some results could not be had in time")
            return None

    async def _end(self, execution: WorkflowExecution) -> End:
        status = await self._result(execution, DeploymentStatus)
        finished = execution.close_time or execution.start_time
        url = self._page(execution.id, execution.run_id)
        if status is not None:
            return views.end(status, finished, url)
        application, environment, version = _parts(execution.id, 3)
        return End(
            workflow_id=execution.id,
            application=application,
            environment=environment,
            version=version,
            state=_ended_as(execution),
            finished_at=finished,
            took=finished - execution.start_time,
            reason="without a result; its history says why",
            url=url,
        )

    async def _validated(self, execution: WorkflowExecution) -> Validated:
        running = execution.close_time is None
        url = self._page(execution.id, execution.run_id)
        read = self._ask if running else self._result
        status = await read(execution, ValidationStatus)
        if status is not None:
            return views.validated(status, url)
        application, commit, kind = _parts(execution.id, 3)
        return Validated(
            workflow_id=execution.id,
            application=application,
            commit=commit,
            kind=kind,
            state=(_state_of(execution) or "running") if running else _ended_as(execution),
            running=running,
            at=execution.close_time or execution.start_time,
            unknown=SILENT if running else None,
            url=url,
        )


def _progress(run: Running) -> int:
    """What changes something comes before what waits in a queue."""
    place = next((i for i, (_, how) in enumerate(run.stages) if how == "now"), 0)
    return -place


def _parts(workflow_id: str, count: int) -> list[str]:
    """The parts of an id after its kind; people may have started what has fewer."""
    parts = workflow_id.split(":", count)[1:]
    return [*parts, *[""] * (count - len(parts))]


def _state_of(execution: WorkflowExecution) -> str | None:
    found = execution.search_attributes.get("DeploymentState")
    return str(found[0]) if found else None


def _ended_as(execution: WorkflowExecution) -> str:
    return "ended" if execution.status is None else execution.status.name.replace("_", " ").capitalize()
