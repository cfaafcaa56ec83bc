"""DependencyUpdateWorkflow: an update and what the gates say of it, as one pull request (spec: Dependency
Updates).

Whether there can be a pull request at all is asked first, so that nothing is left half done. The branch is
pushed before the gates are held, as they are held against what everybody can see; and the pull request shows
what they say, good or bad: whether it is merged is for people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, WorkflowAlreadyStartedError
from temporalio.workflow import ActivityCancellationType, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.errors import INVALID_INPUT
    from activities.signatures import (
        DependencyPlanSignatures,
        DependencySignatures,
        PullRequestSignatures,
    )
    from domain.dependency_plan import gates_for
    from domain.dependency_update import (
        DependencyChange,
        DependencyUpdatePlan,
        DependencyUpdateRequest,
        DependencyUpdateRun,
        DependencyUpdateState,
        DependencyUpdateStatus,
        body_of,
        title_of,
    )
    from domain.pull_requests import PullRequestDraft, PullRequestQuery, PullRequestReceipt
    from domain.validation import ValidationKind, ValidationRequest, ValidationStatus
    from domain.version import commit_version
    from workflows import children, effects, presentation
    from workflows.failures import ProcessError, reason_of, see_through
    from workflows.journal import Journal, show_in_visibility
    from workflows.orders import Orders, StoppedError
    from workflows.validation import ValidationWorkflow

S = DependencyUpdateState
ENVIRONMENT = "dependencies"
"""Where the audit trail and the search attributes file updates under."""
AROUND_THE_COMMAND = timedelta(minutes=20)
"""For the checkout and the push."""
HOST = effects.Options(
    start_to_close_timeout=timedelta(minutes=1),
    schedule_to_close_timeout=timedelta(hours=2),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5)),
)
"""The Git host may be away for a while, or limit the rate: the branch is pushed, and waits."""
FOLLOWING = effects.Options(
    start_to_close_timeout=timedelta(hours=12),
    heartbeat_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)


def _update(limit: timedelta) -> effects.Options:
    """Registries of packages fail for minutes; what fails for longer is for the next week, or for people."""
    return effects.Options(
        start_to_close_timeout=limit + AROUND_THE_COMMAND,
        schedule_to_start_timeout=timedelta(hours=2),
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=15), backoff_coefficient=4, maximum_attempts=4
        ),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


@workflow.defn(name="DependencyUpdateWorkflow")
class DependencyUpdateWorkflow:
    """One update of the dependencies of one application."""

    @workflow.init
    def __init__(self, request: DependencyUpdateRequest | None = None) -> None:
        if request is None:
            raise ApplicationError(
                'the workflow has no input; give {"application", "actor"}',
                type=INVALID_INPUT,
                non_retryable=True,
            )
        now = workflow.now()
        self._request = request
        self._status = DependencyUpdateStatus(
            update_id=request.update_id,
            application=request.application,
            actor=request.actor,
            state=S.PENDING,
            since=now,
            started_at=now,
        )
        self._journal = Journal(
            deployment_id=request.update_id,
            application=request.application,
            environment=ENVIRONMENT,
            version=ENVIRONMENT,
            actor=request.actor,
        )
        self._orders = Orders()
        self._planned = False

    @workflow.run
    async def run(self, request: DependencyUpdateRequest | None = None) -> DependencyUpdateStatus:
        self._check_id()
        self._show()
        end: Coroutine[Any, Any, None]
        try:
            end = self._finish(S.COMPLETED, await self._process())
        except (StoppedError, asyncio.CancelledError):
            self._set(cancelled=True)
            canceller = self._orders.stopped_by("a cancellation request").actor
            end = self._finish(S.FAILED, f"cancelled by {canceller}")
        except ProcessError as error:
            end = self._finish(S.FAILED, str(error))
        except FailureError as error:
            if not self._planned:
                raise
            end = self._finish(S.FAILED, reason_of(error))
        await see_through(end)
        return self._status

    async def _process(self) -> str:
        """From top to bottom; answers what came of it."""
        plan = await self._read_plan()
        await self._journal.record(
            "dependency_update.requested",
            "update_dependencies",
            "started",
            command=list(plan.settings.command),
            branch=plan.settings.branch,
        )
        proposed = await self._find_pull_request(plan)
        await self._enter(S.BUILDING)
        change = await self._change(plan)
        if change.commit is None:
            command = " ".join(plan.settings.command)
            return (
                f"nothing to update: {command} changes nothing on {change.base} ({change.base_commit[:12]})"
            )
        await self._enter(S.TESTING)
        await self._validate(plan, change, change.commit, proposed.number)
        receipt = await self._open(plan, change)
        verb = "opened" if receipt.created else "brought up to date"
        remark = f"; {receipt.reason}" if receipt.reason else ""
        return f"pull request {receipt.number} {verb}; gates: {self._status.verdict}{remark}"

    # Pending

    def _check_id(self) -> None:
        wanted, given = self._request.update_id, workflow.info().workflow_id
        if given != wanted:
            raise ApplicationError(
                f"the workflow id is {given!r}; start this update with --workflow-id {wanted}, "
                "so that only one runs at a time",
                type=INVALID_INPUT,
                non_retryable=True,
            )

    async def _read_plan(self) -> DependencyUpdatePlan:
        try:
            plan = await self._orders.obey(
                workflow.execute_activity_method(
                    DependencyPlanSignatures.resolve_dependency_update,
                    self._request,
                    summary="read deployment.yaml",
                    **effects.SHORT,
                )
            )
        except ActivityError as error:
            reason = reason_of(error)
            self._take(S.FAILED, reason)
            await see_through(self._journal.close())
            raise ApplicationError(reason, type=INVALID_INPUT, non_retryable=True) from error
        self._planned = True
        return plan

    async def _find_pull_request(self, plan: DependencyUpdatePlan) -> PullRequestReceipt:
        found = await self._orders.obey(
            workflow.execute_activity_method(
                PullRequestSignatures.find_pull_request,
                PullRequestQuery(application=plan.application, branch=plan.settings.branch),
                summary="the open pull request",
                **HOST,
            )
        )
        if not found.possible:
            raise ProcessError(f"there can be no pull request, so nothing was pushed: {found.reason}")
        self._set(pull_request=found.number, url=found.url)
        return found

    # Building

    async def _change(self, plan: DependencyUpdatePlan) -> DependencyChange:
        settings = plan.settings
        change = await self._orders.obey(
            workflow.execute_activity_method(
                DependencySignatures.update_dependencies,
                DependencyUpdateRun(
                    application=plan.application, repository=plan.repository, settings=settings
                ),
                task_queue=effects.BUILDS_QUEUE,
                summary=f"{' '.join(settings.command)} on {settings.base or 'the default branch'}"[:200],
                **_update(settings.timeout),
            )
        )
        self._set(change=change)
        if change.commit is not None:
            self._journal.version = commit_version(change.branch, change.commit)
            await self._journal.record(
                "dependency_update.pushed",
                "push",
                "success" if change.pushed else "unchanged",
                commit=change.commit,
                branch=change.branch,
                base=change.base,
                base_commit=change.base_commit,
                files=list(change.files),
            )
        return change

    # Testing

    async def _validate(
        self, plan: DependencyUpdatePlan, change: DependencyChange, commit: str, number: int | None
    ) -> None:
        """Hold the gates against the commit. What they say decides nothing here: it is shown."""
        request = ValidationRequest(
            application=plan.application,
            commit=commit,
            kind=ValidationKind.PULL_REQUEST,
            actor=self._request.actor,
            ref=f"refs/heads/{change.branch}",
            gates=gates_for(plan, change.base),
            pull_request=number,
        )
        self._set(validation=request.validation_id, waiting_for=request.validation_id)
        try:
            held = await self._held(request)
        except FailureError as error:
            self._set(verdict=f"not held: {reason_of(error)}", waiting_for=None)
            return
        verdict = held.verdict if held.passed else held.reason or str(held.state)
        self._set(verdict=verdict, gates=held.gates, waiting_for=None)

    async def _held(self, request: ValidationRequest) -> ValidationStatus:
        try:
            child = await self._orders.obey(
                workflow.start_child_workflow(
                    ValidationWorkflow.run,
                    request,
                    id=request.validation_id,
                    static_summary=f"validate {request.application} {request.commit[:12]} (dependencies)",
                    parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                )
            )
        except WorkflowAlreadyStartedError:
            # The Git host has told of the push, and the receiver was faster.
            return await self._orders.obey(
                workflow.execute_activity_method(
                    DependencyPlanSignatures.follow_validation,
                    request,
                    summary=f"the result of {request.validation_id}",
                    **FOLLOWING,
                )
            )
        # A stop does not wait for the child: the close policy cancels that.
        return await self._orders.obey(children.result(child))

    async def _open(self, plan: DependencyUpdatePlan, change: DependencyChange) -> PullRequestReceipt:
        settings = plan.settings
        draft = PullRequestDraft(
            application=plan.application,
            branch=change.branch,
            base=change.base,
            title=title_of(settings),
            body=body_of(plan, change, self._status),
            labels=settings.labels,
        )
        receipt = await self._orders.obey(
            workflow.execute_activity_method(
                PullRequestSignatures.open_pull_request,
                draft,
                summary=f"pull request of {change.branch} into {change.base}",
                **HOST,
            )
        )
        await self._journal.record(
            "dependency_update.proposed",
            "open_pull_request" if receipt.created else "update_pull_request",
            "failed" if receipt.number is None else "success",
            reason=receipt.reason,
            pull_request=receipt.number,
            url=receipt.url,
            verdict=self._status.verdict,
        )
        if receipt.number is None:
            raise ProcessError(f"branch {change.branch} is pushed, and has no pull request: {receipt.reason}")
        self._set(pull_request=receipt.number, url=receipt.url)
        return receipt

    # What it shows of itself

    async def _finish(self, state: DependencyUpdateState, reason: str) -> None:
        self._take(state, reason)
        await self._journal.close()
        if self._journal.lost:
            lost = f"{len(self._journal.lost)} audit event(s) could not be stored: {self._journal.lost[0]}"
            self._set(reason=f"{reason}; {lost}")

    async def _enter(self, state: DependencyUpdateState) -> None:
        """Go on to a state; it is audited before it counts."""
        self._take(state, "")
        await self._orders.obey(self._journal.stored())

    def _take(self, state: DependencyUpdateState, reason: str) -> None:
        now, previous = workflow.now(), self._status.state
        changes: dict[str, Any] = {"state": state, "since": now, "waiting_for": None}
        if state.final:
            changes |= {"finished_at": now, "reason": reason}
        self._set(**changes)
        self._show()
        self._journal.note(
            "dependency_update.transition",
            "update_dependencies",
            "failed" if state is S.FAILED else "success",
            reason=reason,
            from_state=str(previous),
            to_state=str(state),
        )

    def _set(self, **changes: Any) -> None:
        self._status = self._status.model_copy(update=changes)
        workflow.set_current_details(presentation.dependency_update(self._status))

    def _show(self) -> None:
        show_in_visibility(
            application=self._request.application,
            environment=ENVIRONMENT,
            version=self._journal.version,
            state=str(self._status.state),
            awaiting_approval=False,
        )

    @workflow.query
    def status(self) -> DependencyUpdateStatus:
        """State, what was changed, what the gates said, and the pull request."""
        return self._status
