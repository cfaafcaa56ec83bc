"""RollbackWorkflow: back to the last good version, verified (spec: Rollback Strategies).

It runs on when the deployment that started it is gone, and never rolls back a roll-back.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import NoReturn

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.errors import INVALID_INPUT
    from activities.signatures import KubernetesSignatures, PlanSignatures, WatchSignatures
    from domain.analysis import Watch, WatchOutcome
    from domain.audit import AuditCategory
    from domain.deployment import Command, DeploymentRequest
    from domain.environment import Outcome, TurnAnswer, TurnDecision
    from domain.notification import NotificationType
    from domain.plan import DeploymentPlan
    from domain.rollback import RollbackRequest, RollbackState, RollbackStatus
    from domain.watches import verification_watch
    from domain.workload import ReleaseQuery, Restore, Track, WorkloadObservation
    from workflows import effects, presentation, workload
    from workflows.failures import ProcessError, reason_of, see_through
    from workflows.journal import Journal, show_in_visibility
    from workflows.turns import Turn, turn_request


@workflow.defn(name="RollbackWorkflow")
class RollbackWorkflow:
    """Turn → target → restore → roll-out → verification, in at most ``max_attempts`` attempts."""

    @workflow.init
    def __init__(self, request: RollbackRequest | None = None) -> None:
        if request is None:
            _refuse(
                "the workflow has no input; give application, environment, from_version, actor and reason"
            )
        self._request = request
        self._status = RollbackStatus(
            id=workflow.info().workflow_id,
            state=RollbackState.PENDING,
            from_version=request.from_version,
            to_version=request.to_version,
            reason=request.reason,
            actor=request.actor,
            started_at=workflow.now(),
        )
        self._waiting: TurnDecision | None = None
        self._journal = Journal(
            deployment_id=request.deployment_id or request.rollback_id,
            application=request.application,
            environment=request.environment,
            version=request.from_version,
            actor=request.actor,
        )
        self._turn = Turn(
            turn_request(
                application=request.application,
                environment=request.environment,
                version=request.from_version,
                actor=request.actor,
                urgent=True,
                allow_same=True,
            )
        )

    @workflow.run
    async def run(self, request: RollbackRequest | None = None) -> RollbackStatus:
        self._check_caller()
        plan = await self._plan()
        state, outcome = RollbackState.FAILED, "cancelled; what is live now is not known"
        try:
            decision = await self._take_turn()
            if decision is not None and decision.answer is TurnAnswer.WAITING:
                state, outcome = await self._hand_over(decision)
            else:
                state, outcome = await self._process(plan, decision)
        except ProcessError as error:
            outcome = str(error)
        except FailureError as error:
            if not is_cancelled_exception(error):
                outcome = reason_of(error)
        except asyncio.CancelledError:
            workflow.logger.warning("roll-back cancelled in state %s", self._status.state)
        await see_through(self._end(state, outcome))
        return self._status

    async def _process(
        self, plan: DeploymentPlan, decision: TurnDecision | None
    ) -> tuple[RollbackState, str]:
        """Find where to go, say so, and go there."""
        previous = await self._target(plan, decision)
        self._announce(previous)
        await self._restore(plan, previous)
        return RollbackState.COMPLETED, f"{previous.version or 'the earlier state'} is live again"

    def _check_caller(self) -> None:
        """What only a deployment can know is taken from nobody else."""
        request, info = self._request, workflow.info()
        if info.workflow_id != request.rollback_id:
            _refuse(
                f"the workflow id is {info.workflow_id!r}; start it with --workflow-id {request.rollback_id}"
            )
        told = request.turn_held or request.plan is not None or request.previous is not None
        parent = info.parent.workflow_id if info.parent is not None else None
        if told and (parent is None or parent != request.deployment_id):
            _refuse(
                "turn_held, plan and previous are told by a deployment that rolls itself back; leave them out"
            )

    async def _plan(self) -> DeploymentPlan:
        if self._request.plan is not None:
            return self._request.plan
        request = DeploymentRequest(
            application=self._request.application,
            environment=self._request.environment,
            version=self._request.from_version,
            actor=self._request.actor,
        )
        try:
            return await workflow.execute_activity_method(
                PlanSignatures.resolve_deployment_plan,
                request,
                summary="read deployment.yaml",
                **effects.SHORT,
            )
        except ActivityError as error:
            raise ApplicationError(reason_of(error), type=INVALID_INPUT, non_retryable=True) from error

    async def _take_turn(self) -> TurnDecision | None:
        """Wait for the turn; or learn that the version's own deployment has it."""
        if self._request.turn_held:
            return None
        await self._turn.ask()
        await workflow.wait_condition(lambda: self._turn.decision is not None or self._own_deployment())
        return self._turn.decision or self._waiting

    def _own_deployment(self) -> bool:
        return self._waiting is not None and self._waiting.busy_with == self._deployment_id

    @property
    def _deployment_id(self) -> str:
        request = self._request
        return f"deployment:{request.application}:{request.environment}:{request.from_version}"

    async def _hand_over(self, decision: TurnDecision) -> tuple[RollbackState, str]:
        """The version is still being deployed: its deployment rolls itself back, under this id."""
        command = Command(actor=self._request.actor, reason=self._request.reason)
        await workflow.get_external_workflow_handle(self._deployment_id).signal("rollback", command)
        return RollbackState.HANDED_OVER, f"{decision.busy_with} was told to roll back"

    async def _target(self, plan: DeploymentPlan, decision: TurnDecision | None) -> WorkloadObservation:
        """The wanted version among the cluster's revisions; else what the deployment found before it."""
        request = self._request
        previous = request.previous
        if previous is not None and request.to_version in (None, previous.version):
            return previous
        wanted = request.to_version or plan.settings.rollback.backup_version
        if decision is not None:
            current = decision.current_version
            if current is not None and current != request.from_version:
                raise ProcessError(f"{request.environment} runs {current}, not {request.from_version}")
            wanted = request.to_version or decision.rollback_version or plan.settings.rollback.backup_version
        if wanted is None:
            raise ProcessError("no earlier version is known to have been good here; name one with to_version")
        if wanted == request.from_version:
            raise ProcessError(f"{wanted} is the version to leave; name another with to_version")
        found = await workflow.execute_activity_method(
            KubernetesSignatures.find_release,
            ReleaseQuery(target=plan.target, version=wanted, excluding=request.from_version),
            summary=f"find {wanted} in the cluster",
            **effects.cluster_write(plan.target.progress_deadline),
        )
        if found.exists:
            return found
        if previous is not None:
            return previous
        raise ProcessError(
            f"no revision of {plan.target.deployment} runs {wanted}; "
            "deploy it again instead (erlmcp-deploy deploy)"
        )

    def _announce(self, previous: WorkloadObservation) -> None:
        request = self._request
        self._update(RollbackState.RESTORING, to_version=previous.version)
        self._journal.note(
            "rollback.started",
            "rollback",
            "started",
            category=AuditCategory.ROLLBACK,
            reason=request.reason,
            from_version=request.from_version,
            to_version=previous.version,
            automatic=request.automatic,
        )
        self._journal.tell(
            NotificationType.ROLLBACK_STARTED,
            title=None if request.automatic else "Rollback Initiated",
            from_version=request.from_version,
            to_version=previous.version,
            reason=request.reason,
            estimated_duration="3m",
        )

    async def _restore(self, plan: DeploymentPlan, previous: WorkloadObservation) -> None:
        settings = plan.settings.rollback
        deadline = workflow.now() + settings.timeout
        failure = ""
        for attempt in range(1, settings.max_attempts + 1):
            self._update(RollbackState.RESTORING, attempt=attempt)
            try:
                await self._attempt(plan, previous, attempt, deadline)
                return
            except ProcessError as error:
                failure = str(error)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                failure = reason_of(error)
            self._journal.note(
                "rollback.attempt",
                "rollback",
                "failed",
                category=AuditCategory.ROLLBACK,
                reason=failure,
                attempt=attempt,
            )
            if workflow.now() >= deadline:
                raise ProcessError(f"the roll-back ran out of time after {attempt} attempt(s): {failure}")
            await workflow.sleep(timedelta(seconds=2 * attempt), summary="before the next attempt")
        raise ProcessError(f"the roll-back failed {settings.max_attempts} time(s): {failure}")

    async def _attempt(
        self, plan: DeploymentPlan, previous: WorkloadObservation, attempt: int, deadline: datetime
    ) -> None:
        target, run = plan.target, workflow.info().run_id
        replicas = max(previous.replicas, target.replicas) if previous.exists else target.replicas
        left = max(deadline - workflow.now(), timedelta(seconds=30))
        limits = effects.cluster_write(min(target.progress_deadline, left))
        await workflow.execute_activity_method(
            KubernetesSignatures.restore_workload,
            Restore(
                key=f"{run}/restore-{attempt}",
                target=target,
                observation=previous,
                replicas=replicas,
                deployment_id=self._journal.deployment_id,
            ),
            summary=f"restore {previous.version or 'the earlier state'}",
            **limits,
        )
        if previous.exists:
            await workload.roll_out(
                target,
                Track.STABLE,
                previous.version or "",
                replicas,
                summary="roll-out of the restored version",
                failure="the restored version did not roll out",
            )
        await workload.remove_canary(target, limits)
        await self._verify(plan, previous)

    async def _verify(self, plan: DeploymentPlan, previous: WorkloadObservation) -> None:
        if not previous.exists or previous.version is None:
            return
        policy = verification_watch(plan, previous.version)
        if policy.health is None:
            return
        self._update(RollbackState.VERIFYING)
        verdict = await workflow.execute_activity_method(
            WatchSignatures.watch_release,
            Watch(policy=policy, prometheus_url=plan.metrics.prometheus_url),
            summary="verify the restored version",
            **effects.watch(policy.interval),
        )
        if verdict.outcome is not WatchOutcome.PASSED:
            raise ProcessError(f"the restored version is not well: {verdict.reason}")

    async def _end(self, state: RollbackState, outcome: str) -> None:
        request = self._request
        succeeded = state is RollbackState.COMPLETED
        self._update(state, outcome=outcome, finished_at=workflow.now())
        self._journal.note(
            "rollback.ended",
            "rollback",
            {RollbackState.COMPLETED: "success", RollbackState.HANDED_OVER: "handed_over"}.get(
                state, "failed"
            ),
            category=AuditCategory.ROLLBACK,
            reason=outcome,
            from_version=request.from_version,
            to_version=self._status.to_version,
        )
        if state is not RollbackState.HANDED_OVER:
            self._journal.tell(
                NotificationType.ROLLBACK_COMPLETED if succeeded else NotificationType.ROLLBACK_FAILED,
                from_version=request.from_version,
                to_version=self._status.to_version,
                reason=request.reason,
                error_message=None if succeeded else outcome,
            )
        if not request.turn_held:
            live = self._status.to_version if succeeded else None
            await self._turn.give_back(self._outcome(), live_version=live, reason=request.reason)
        await self._journal.settle()

    def _outcome(self) -> Outcome:
        if self._status.state is RollbackState.COMPLETED:
            return Outcome.ROLLED_BACK
        return Outcome.BROKEN if self._status.attempt else Outcome.UNCHANGED

    def _update(self, state: RollbackState, **changes: object) -> None:
        if state is not self._status.state:
            show_in_visibility(
                application=self._request.application,
                environment=self._request.environment,
                version=self._request.from_version,
                state="RollingBack"
                if state in (RollbackState.RESTORING, RollbackState.VERIFYING)
                else str(state),
                awaiting_approval=False,
            )
        self._status = self._status.model_copy(update={"state": state, **changes})
        workflow.set_current_details(presentation.rollback(self._status))

    @workflow.signal
    def turn_decided(self, decision: TurnDecision) -> None:
        self._turn.decided(decision)
        if self._turn.still_waits(decision):
            self._waiting = decision

    @workflow.query
    def status(self) -> RollbackStatus:
        """State, target and attempts."""
        return self._status


def _refuse(message: str) -> NoReturn:
    raise ApplicationError(message, type=INVALID_INPUT, non_retryable=True)
