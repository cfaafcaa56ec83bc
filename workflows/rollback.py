"""RollbackWorkflow: back to the last good version, verified (spec: Rollback Strategies).

It runs on when the deployment that started it is gone, and never rolls back a roll-back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.errors import INVALID_INPUT
    from activities.signatures import HookSignatures, KubernetesSignatures, PlanSignatures, WatchSignatures
    from domain.analysis import Phase, Watch, WatchOutcome, WatchVerdict
    from domain.audit import AuditCategory
    from domain.canary import CanaryRequest, CanarySettings, CanaryStatus
    from domain.deployment import Command, DeploymentRequest
    from domain.environment import Outcome, TurnAnswer, TurnDecision
    from domain.handover import HandoverProgress, HandoverRequest, HandoverSettings
    from domain.hooks import Hook, HookFailure, HookReport, HookRun
    from domain.notification import NotificationType
    from domain.plan import DeploymentPlan
    from domain.recovery import recovery_watch, return_watch
    from domain.rollback import RollbackRequest, RollbackState, RollbackStatus
    from domain.strategy import RollbackStrategy
    from domain.watches import verification_watch
    from domain.workload import ReleaseQuery, Restore, Track, WorkloadObservation
    from workflows import blue_green, effects, handover, hot_upgrade, presentation, workload
    from workflows.canary import CanaryWorkflow
    from workflows.failures import ProcessError, reason_of, see_through
    from workflows.feature_flags import kill_flags
    from workflows.journal import Journal, show_in_visibility
    from workflows.orders import Orders
    from workflows.turns import Turn, turn_request


ERROR_RATE_VERIFIED = "error-rate-verified"
"""Patch: a roll-back is verified by its error rate, too."""


@workflow.defn(name="RollbackWorkflow")
class RollbackWorkflow:
    """Turn → target → flags off → hooks → the way back → verification → hooks, in ``max_attempts`` attempts.

    The first attempt goes the way of the strategy; where that cannot work, and in all later attempts, the
    earlier version is restored at once.
    """

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
        self._hooked: set[str] = set()
        self._open_flags: tuple[str, ...] = ()
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
        await self._switch_flags_off(plan)
        await self._restore(plan, previous)
        outcome = f"{previous.version or 'the earlier state'} is live again"
        return RollbackState.COMPLETED, "; ".join((outcome, *self._open_flags))

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
        if self._request.to_version is not None:
            raise ProcessError(
                f"{self._request.from_version} is still being deployed and goes back to what it found; abort "
                f"{self._deployment_id}, or leave to_version out"
            )
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
        found = await self._find(plan, wanted)
        if found.exists:
            return found
        if previous is not None:
            return previous
        raise ProcessError(
            f"no revision of {plan.target.deployment} runs {wanted}; "
            "deploy it again instead (erlmcp-deploy deploy)"
        )

    async def _find(self, plan: DeploymentPlan, wanted: str) -> WorkloadObservation:
        """Where the wanted version can still be had, by the way this environment is delivered to."""
        if plan.settings.hot_upgrade is not None:
            return WorkloadObservation(exists=True, name=plan.target.deployment, version=wanted)
        if plan.settings.blue_green is not None:
            return await blue_green.find(plan, wanted, self._request.from_version)
        target = plan.target
        return await workflow.execute_activity_method(
            KubernetesSignatures.find_release,
            ReleaseQuery(target=target, version=wanted, excluding=self._request.from_version),
            summary=f"find {wanted} in the cluster",
            **effects.cluster_write(target.progress_deadline),
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

    async def _switch_flags_off(self, plan: DeploymentPlan, *, again: bool = False) -> None:
        """The kill switch comes first: it works in seconds, and needs no pod.

        Args:
            again: only if one failed before.
        """
        if again and not self._open_flags:
            return
        if not any(flag.kill_on_rollback for flag in plan.settings.feature_flags):
            return
        key = f"{workflow.info().run_id}/again" if again else workflow.info().run_id
        readings = await kill_flags(plan, self._deployment_id, key)
        for reading in readings:
            self._journal.note(
                "rollback.flag_off",
                "set_flag",
                "failed" if reading.error else "success",
                category=AuditCategory.ROLLBACK,
                reason=reading.error or reading.note,
            )
        self._open_flags = tuple(reading.error for reading in readings if reading.error)

    async def _attempt(
        self, plan: DeploymentPlan, previous: WorkloadObservation, attempt: int, deadline: datetime
    ) -> None:
        settings = plan.settings.rollback
        await self._run_hooks(plan, previous, settings.before, "before", attempt)
        if not self._status.restored:
            if not (attempt == 1 and await self._go_the_way_of_the_strategy(plan, previous, deadline)):
                await self._restore_at_once(plan, previous, attempt, deadline)
                await self._verify(plan, previous)
            self._status = self._status.model_copy(update={"restored": True})
            await self._switch_flags_off(plan, again=True)
        await self._run_hooks(plan, previous, settings.after, "after", attempt)

    async def _go_the_way_of_the_strategy(
        self, plan: DeploymentPlan, previous: WorkloadObservation, deadline: datetime
    ) -> bool:
        """Whether the strategy had a way of its own, and it led back."""
        way = self._way(plan, previous, deadline)
        if way is None:
            return False
        name, work = way
        try:
            await work
            await self._verify(plan, previous)
        except (ProcessError, FailureError) as error:
            if is_cancelled_exception(error):
                raise
            reason = str(error) if isinstance(error, ProcessError) else reason_of(error)
            self._journal.note(
                "rollback.strategy",
                "rollback",
                "failed",
                category=AuditCategory.ROLLBACK,
                reason=f"{name}: {reason}; restoring at once",
            )
            return False
        return True

    def _way(
        self, plan: DeploymentPlan, previous: WorkloadObservation, deadline: datetime
    ) -> tuple[RollbackStrategy, Coroutine[Any, Any, None]] | None:
        settings = plan.settings
        if not previous.exists or previous.version is None or settings.hot_upgrade is not None:
            return None
        if settings.blue_green is not None:
            return RollbackStrategy.BLUE_GREEN, self._switch_back(plan, previous, previous.version)
        strategy = settings.rollback.strategy
        if strategy is RollbackStrategy.GRADUAL and previous.template is not None:
            return strategy, self._give_traffic_back(plan, previous, previous.version, deadline)
        return None

    async def _switch_back(self, plan: DeploymentPlan, previous: WorkloadObservation, version: str) -> None:
        await blue_green.switch_back(
            plan,
            to_version=version,
            run_key=workflow.info().run_id,
            name=previous.name,
            within=plan.settings.rollback.timeout,
        )

    async def _give_traffic_back(
        self, plan: DeploymentPlan, previous: WorkloadObservation, version: str, deadline: datetime
    ) -> None:
        """Gradual: the earlier version is the canary of this roll-back.

        Raises:
            ProcessError: one of its steps failed.
        """
        serving = await workload.observe(plan.target, "what serves now")
        if not serving.exists or serving.version == version:
            raise ProcessError(f"{version} serves already" if serving.exists else "nothing serves")
        settings, health = plan.settings.rollback, plan.triggers.health_checks
        request = CanaryRequest(
            deployment_id=self._journal.deployment_id,
            actor=self._request.actor,
            target=plan.target,
            version=version,
            image=previous.image or "",
            replicas=max(previous.replicas, plan.target.replicas),
            settings=CanarySettings(
                initial_percentage=settings.steps[0],
                increment_steps=settings.steps,
                step_duration=settings.step_duration,
                analysis_interval=min(health.check_interval, settings.step_duration),
            ),
            watch=return_watch(plan, version),
            prometheus_url=plan.metrics.prometheus_url,
            template=previous.template,
        )
        ended = await workflow.execute_child_workflow(
            CanaryWorkflow.run,
            request,
            id=f"canary:{self._request.application}:{self._request.environment}:{version}",
            execution_timeout=max(deadline - workflow.now(), settings.step_duration),
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            static_summary=f"give the traffic back to {version}",
        )
        self._status = self._status.model_copy(update={"canary": ended})
        if not ended.succeeded:
            raise ProcessError(ended.reason or "the earlier version failed")

    async def _restore_at_once(
        self, plan: DeploymentPlan, previous: WorkloadObservation, attempt: int, deadline: datetime
    ) -> None:
        if plan.settings.hot_upgrade is not None:
            await hot_upgrade.bring_back(plan, previous, run_key=f"{workflow.info().run_id}/{attempt}")
            return
        target, run = plan.target, workflow.info().run_id
        canary = plan.settings.canary
        if canary is not None and canary.handover is not None and previous.exists:
            await self._bring_back(plan, previous, canary.handover, attempt, deadline)
            return
        if plan.settings.blue_green is not None:
            await blue_green.bring_back(
                plan, previous, run_key=f"{run}/{attempt}", deployment_id=self._journal.deployment_id
            )
            return
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

    async def _bring_back(
        self,
        plan: DeploymentPlan,
        previous: WorkloadObservation,
        settings: HandoverSettings,
        attempt: int,
        deadline: datetime,
    ) -> None:
        """Through the controller that steers this environment: it would undo what is done behind its back."""
        found = await handover.observe(plan.target, settings)
        if found.version == previous.version and found.template == previous.template:
            return  # the canary has taken itself back
        request = HandoverRequest(
            key=f"{workflow.info().run_id}/restore-{attempt}",
            target=plan.target,
            settings=settings,
            version=previous.version or "",
            image=previous.image or "",
            deployment_id=self._journal.deployment_id,
            replicas=max(previous.replicas, plan.target.replicas),
            template=previous.template,
        )
        await handover.bring_back(request, Orders().obey, within=deadline - workflow.now())

    async def _run_hooks(
        self,
        plan: DeploymentPlan,
        previous: WorkloadObservation,
        hooks: tuple[Hook, ...],
        when: str,
        attempt: int,
    ) -> None:
        """Each hook once, in order; one that failed is run again by the next attempt.

        Raises:
            ProcessError: a hook failed that blocks.
        """
        for hook in hooks:
            name = f"{when}-{hook.name}"
            if name in self._hooked:
                continue
            run = HookRun(
                key=f"{workflow.info().run_id}/{name}-{attempt}",
                hook=hook,
                target=plan.target,
                image=previous.image,
                deployment_id=self._journal.deployment_id,
                variables={
                    "FROM_VERSION": self._request.from_version,
                    "TO_VERSION": previous.version or "",
                    "ENVIRONMENT": self._request.environment,
                },
            )
            report = await self._hook_report(run, name)
            self._journal.note(
                "rollback.hook",
                f"hook_{name}",
                "success" if report.succeeded else "failed",
                category=AuditCategory.ROLLBACK,
                reason=report.reason,
                log=report.log,
            )
            if report.succeeded:
                self._hooked.add(name)
            elif hook.on_failure is HookFailure.BLOCK:
                raise ProcessError(f"hook {hook.name} failed: {report.reason}")

    async def _hook_report(self, run: HookRun, name: str) -> HookReport:
        """How a hook ended; one that could not be run has failed, and its policy says what that means."""
        try:
            return await workflow.execute_activity_method(
                HookSignatures.run_hook, run, summary=f"hook {name}", **effects.hook(run.hook.timeout)
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return HookReport(succeeded=False, reason=reason_of(error))

    async def _verify(self, plan: DeploymentPlan, previous: WorkloadObservation) -> None:
        """Healthy again; and where errors are measured, few of them."""
        if not previous.exists or previous.version is None:
            return
        for policy in (verification_watch(plan, previous.version), recovery_watch(plan, previous.version)):
            errors = bool(policy.metrics)
            if not errors and policy.health is None:
                continue
            if errors and not workflow.patched(ERROR_RATE_VERIFIED):
                continue
            self._update(RollbackState.VERIFYING)
            verdict = await workflow.execute_activity_method(
                WatchSignatures.watch_release,
                Watch(policy=policy, prometheus_url=plan.metrics.prometheus_url),
                summary="verify the error rate" if errors else "verify the restored version",
                **effects.watch(policy.interval),
            )
            if errors and _was_not_measured(verdict):
                self._journal.note(
                    "rollback.unmeasured",
                    "watch_release",
                    "warning",
                    category=AuditCategory.ROLLBACK,
                    reason=verdict.reason,
                )
            elif verdict.outcome is not WatchOutcome.PASSED:
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
            live = self._status.to_version if succeeded or self._status.restored else None
            await self._turn.give_back(self._outcome(), live_version=live, reason=request.reason)
        await self._journal.settle()

    def _outcome(self) -> Outcome:
        if self._status.state is RollbackState.COMPLETED or self._status.restored:
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

    @workflow.signal
    def canary_changed(self, status: CanaryStatus) -> None:
        """A gradual roll-back tells of its steps."""
        known = self._status.canary
        if known is None or known.id != status.id or status.revision >= known.revision:
            self._status = self._status.model_copy(update={"canary": status})

    @workflow.signal
    def handover_changed(self, progress: HandoverProgress) -> None:
        """The controller goes on bringing the earlier version back; its end is what counts."""

    @workflow.query
    def status(self) -> RollbackStatus:
        """State, target and attempts."""
        return self._status


def _was_not_measured(verdict: WatchVerdict) -> bool:
    """Whether nothing is known, as the metric source is down: no reason to leave a healthy version."""
    phases = {tally.last_phase for tally in verdict.tally.metrics.values()}
    return verdict.outcome is not WatchOutcome.PASSED and phases <= {Phase.ERROR, None}


def _refuse(message: str) -> NoReturn:
    raise ApplicationError(message, type=INVALID_INPUT, non_retryable=True)
