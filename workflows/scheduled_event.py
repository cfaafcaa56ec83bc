"""ScheduledEventWorkflow: from a schedule that fires to what its rule starts (spec: Scheduled Events).

A schedule knows no commit, and Temporal adds the time to the ids of what it starts. So the schedule starts
this, which finds the commit, asks the rules, starts the process under the id of the contract and stays until
that has ended: the schedule's overlap policy counts on it, and `schedules list` shows its result.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.errors import INVALID_INPUT
    from activities.signatures import DependencySignatures, ScheduleSignatures
    from domain.dependency_update import (
        BranchHead,
        BranchQuery,
        DependencyUpdateState,
        DependencyUpdateStatus,
    )
    from domain.schedules import ScheduledEvent, ScheduledOccurrence, ScheduledOutcome, ScheduledState
    from domain.triggers import Route, RouteOutcome
    from domain.validation import ValidationStatus
    from workflows import children, effects, presentation
    from workflows.dependency_update import DependencyUpdateWorkflow
    from workflows.failures import ProcessError, reason_of
    from workflows.journal import show_in_visibility
    from workflows.validation import ValidationWorkflow

DUE = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""Set by Temporal on what a schedule starts."""
QUESTION = effects.Options(
    start_to_close_timeout=timedelta(minutes=1),
    schedule_to_close_timeout=timedelta(minutes=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
"""What is asked of the repository: later than this, the night is not what was meant any more."""


@workflow.defn(name="ScheduledEventWorkflow")
class ScheduledEventWorkflow:
    """One time that a schedule fires."""

    @workflow.init
    def __init__(self, event: ScheduledEvent | None = None) -> None:
        if event is None:
            raise ApplicationError(
                'the workflow has no input; give {"application", "rule", "cron"}',
                type=INVALID_INPUT,
                non_retryable=True,
            )
        due = workflow.info().typed_search_attributes.get(DUE)
        self._event = event
        self._outcome = ScheduledOutcome(
            application=event.application, rule=event.rule, at=due or workflow.info().start_time
        )

    @workflow.run
    async def run(self, event: ScheduledEvent | None = None) -> ScheduledOutcome:
        self._take()
        try:
            route = await self._route()
            if route.outcome is RouteOutcome.START:
                await self._carry_out(route)
            else:
                self._take(ScheduledState.FAILED, reason=route.reason)
        except asyncio.CancelledError:
            self._take(ScheduledState.FAILED, reason="cancelled by a cancellation request")
        except ProcessError as error:
            self._take(ScheduledState.FAILED, reason=str(error))
        return self._outcome

    async def _route(self) -> Route:
        try:
            rule = await workflow.execute_activity_method(
                ScheduleSignatures.read_scheduled_rule,
                self._event,
                summary="read deployment.yaml",
                **effects.SHORT,
            )
            head: BranchHead | None = None
            if rule.needs_commit:
                head = await workflow.execute_activity_method(
                    DependencySignatures.find_branch_head,
                    BranchQuery(repository=rule.repository),
                    task_queue=effects.BUILDS_QUEUE,
                    summary="newest commit of the default branch",
                    **QUESTION,
                )
                self._take(branch=head.branch, commit=head.commit)
            return await workflow.execute_activity_method(
                ScheduleSignatures.route_scheduled_event,
                ScheduledOccurrence(
                    event=self._event, id=workflow.info().workflow_id, at=self._outcome.at, head=head
                ),
                summary="what the rule starts",
                **effects.SHORT,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            raise ProcessError(reason_of(error)) from error

    async def _carry_out(self, route: Route) -> None:
        """Start what the route says and wait for its end; what runs already is left to itself."""
        run: Any
        request: Any
        if route.validation is not None:
            run, request = ValidationWorkflow.run, route.validation
            workflow_id = route.validation.validation_id
            summary = f"validate {route.validation.application} {route.validation.commit[:12]} (nightly)"
        elif route.dependency_update is not None:
            run, request = DependencyUpdateWorkflow.run, route.dependency_update
            workflow_id = route.dependency_update.update_id
            summary = f"update the dependencies of {route.dependency_update.application}"
        else:
            raise ProcessError(f"{route.reason}, which no schedule can start")
        self._take(started=workflow_id)
        try:
            child = await workflow.start_child_workflow(
                run,
                request,
                id=workflow_id,
                static_summary=summary,
                parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
            )
        except WorkflowAlreadyStartedError:
            self._take(ScheduledState.COMPLETED, reason=f"{workflow_id} runs already")
            return
        try:
            # A cancelled wait for the child itself would go on until its end; the close policy cancels it.
            result = await children.result(child)
        except FailureError as error:
            raise ProcessError(reason_of(error)) from error
        self._take(_state_of(result), reason=result.reason or str(result.state))

    def _take(self, state: ScheduledState = ScheduledState.PENDING, **changes: Any) -> None:
        self._outcome = self._outcome.model_copy(update={"state": state, **changes})
        workflow.set_current_details(presentation.scheduled(self._outcome))
        if state is not ScheduledState.PENDING or not changes:
            show_in_visibility(
                application=self._event.application,
                environment="schedule",
                version=self._event.rule,
                state=str(state),
                awaiting_approval=False,
            )

    @workflow.query
    def status(self) -> ScheduledOutcome:
        """What it has started, and how that ended."""
        return self._outcome


def _state_of(result: ValidationStatus | DependencyUpdateStatus) -> ScheduledState:
    if isinstance(result, DependencyUpdateStatus):
        good = result.state is DependencyUpdateState.COMPLETED
    else:
        good = result.passed
    return ScheduledState.COMPLETED if good else ScheduledState.FAILED
