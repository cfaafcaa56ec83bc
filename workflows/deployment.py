"""DeploymentWorkflow: the state machine of the specification (spec: State Machine).

Read `_process` from top to bottom: it is the drawing. Each state is one method; a method either
returns, which leads on, or raises, which leads to Failed, Rejected or RollingBack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.errors import INVALID_INPUT
    from activities.signatures import PlanSignatures, WatchSignatures
    from domain.analysis import Watch, WatchOutcome, WatchPolicy, WatchProgress
    from domain.approval import (
        EARLY_LIMIT,
        UNSIGNED,
        ApprovalPolicy,
        ApprovalRequest,
        ApprovalState,
        ApprovalStatus,
        DecisionMessage,
        EarlyDecision,
        Verb,
        open_approval,
        oversized,
        shortened,
        with_authors,
    )
    from domain.audit import AuditCategory
    from domain.build import ReleaseArtefact
    from domain.canary import UNNAMED_ALERT, Alert, CanaryPhase, CanaryRequest, CanarySettings, CanaryStatus
    from domain.compliance import ComplianceReport
    from domain.deployment import (
        ACTOR_LENGTH,
        UNSIGNED_COMMAND,
        Built,
        Command,
        DeploymentRequest,
        DeploymentState,
        DeploymentStatus,
        RollbackSummary,
        Transition,
        may_follow,
    )
    from domain.durations import format_duration
    from domain.environment import Outcome, TurnAnswer, TurnDecision
    from domain.events import EventSource, EventType
    from domain.gates import GateResult, StepReport
    from domain.notification import NotificationType
    from domain.plan import DeploymentPlan
    from domain.rollback import RollbackRequest
    from domain.watches import canary_watch, monitoring_watch, verification_watch
    from domain.workload import ReleaseApply, Track, WorkloadObservation
    from workflows import blue_green, effects, handover, hot_upgrade, presentation, workload
    from workflows.approval import ApprovalWorkflow, present
    from workflows.approval_board import ApprovalBoard
    from workflows.approving import broke_glass, find_evidence, gather_facts
    from workflows.blue_green import BlueGreen
    from workflows.building import BuildSite
    from workflows.canary import CanaryWorkflow
    from workflows.children import Children, result
    from workflows.delivering import Delivering
    from workflows.failures import ProcessError, reason_of, see_through
    from workflows.feature_flags import FlagRollouts
    from workflows.gates import Gates
    from workflows.hot_upgrade import HotUpgrade
    from workflows.journal import Journal, show_in_visibility
    from workflows.orders import ALERTING, Orders, Stop, StoppedError
    from workflows.rollback import RollbackWorkflow
    from workflows.turns import Turn, turn_request

S = DeploymentState
PROGRESS = frozenset({S.TESTING, S.DEPLOYING, S.MONITORING})
"""States that the conversation about a deployment is told of; the others are told in words of their own."""
LEAVES_BLUE_GREEN = "leaves-blue-green"
"""Patch: an environment may stop being blue/green."""
VERDICT_NOTED = "verdict-noted"
"""Patch: a bad verdict does not wait for the audit trail."""
CANARY_SAYS_ITS_END = "canary-says-its-end"
"""Patch: a canary has ended when it says so; its audit trail may take longer."""
PROMOTION_RESUMES = "promotion-resumes"
"""Patch: who promotes a paused deployment wants it to go on."""
WATCHED_AT_ONCE = "watched-at-once"
"""Patch: a version that serves is watched before its transition is stored."""
GUARDED_STATES = "guarded-states"
"""Patch: a version that serves is watched for failures while its deployment is paused."""
APPROVAL_FACTS = "approval-facts"
"""Patch: people are shown what they need to decide, and reviews of pull requests count."""
RESULT_DECIDES = "result-decides"
"""Patch: an approval has ended when its workflow has, whoever says so before."""
EARLY_WORDS_AUDITED = "early-words-audited"
"""Patch: decisions that no gate has asked for are not forgotten without a word."""
PROGRESS_TOLD = "progress-told"
"""Patch: the conversation about a deployment is told how it goes on."""


class _TurnedAwayError(Exception):
    """The environment will not take this deployment; it ends where it stands."""

    def __init__(self, state: DeploymentState, reason: str) -> None:
        super().__init__(reason)
        self.state = state


@workflow.defn(name="DeploymentWorkflow")
class DeploymentWorkflow:
    """One version on its way into one environment."""

    @workflow.init
    def __init__(self, request: DeploymentRequest | None = None) -> None:
        if request is None:
            raise ApplicationError(
                'the workflow has no input; give {"application", "environment", "version", "actor"}',
                type=INVALID_INPUT,
                non_retryable=True,
            )
        now = workflow.now()
        self._request = request
        self._status = DeploymentStatus(
            deployment_id=request.deployment_id,
            application=request.application,
            environment=request.environment,
            version=request.version,
            actor=request.actor,
            state=S.PENDING,
            since=now,
            started_at=now,
            history=[Transition(state=S.PENDING, at=now)],
        )
        self._journal = Journal(
            deployment_id=request.deployment_id,
            application=request.application,
            environment=request.environment,
            version=request.version,
            actor=request.actor,
        )
        self._turn: Turn | None = None
        self._orders = Orders()
        self._children = Children(self._orders, self._wait_for)
        self._early: list[EarlyDecision] = []
        self._approval: workflow.ChildWorkflowHandle[Any, ApprovalStatus] | None = None
        self._asked: ApprovalRequest | None = None
        self._board: ApprovalBoard | None = None
        self._canary: workflow.ChildWorkflowHandle[Any, CanaryStatus] | None = None
        self._previous: WorkloadObservation | None = None
        self._blue_green: BlueGreen | None = None
        self._watching: str | None = None
        self._touched = False
        self._serves = False
        self._last_good: str | None = None
        self._plan: DeploymentPlan
        self._site: BuildSite
        self._gates: Gates
        self._release: ReleaseArtefact

    @workflow.run
    async def run(self, request: DeploymentRequest | None = None) -> DeploymentStatus:
        self._check_id()
        self._show()
        end: Coroutine[Any, Any, None]
        try:
            await self._process()
            end = self._finish(S.COMPLETED, "stable")
        except _TurnedAwayError as refusal:
            end = self._finish(refusal.state, str(refusal))
        except (StoppedError, asyncio.CancelledError):
            stop = self._orders.stopped_by("a cancellation request")
            end = self._leave(str(stop), trigger=stop.action)
        except ProcessError as error:
            end = self._leave(str(error), trigger=error.trigger)
        except FailureError as error:
            if self._turn is None:
                raise
            end = self._leave(reason_of(error), trigger="error")
        await see_through(end)
        await see_through(self._close())
        return self._status

    async def _process(self) -> None:
        """The drawing, from top to bottom."""
        await self._pending()
        await self._enter(S.VALIDATION, "the environment is ours")
        await self._validate()
        await self._enter(S.BUILDING, "checks passed")
        await self._build()
        await self._enter(S.TESTING, "build succeeded")
        await self._test()
        await self._enter(S.APPROVAL, "tests passed")
        await self._approve()
        await self._enter(S.DEPLOYING, self._approval_reason())
        await self._deploy()
        await self._enter(S.VERIFYING, f"{self._request.version} is rolled out")
        await self._verify()
        await self._enter(S.MONITORING, "health checks passed")
        await self._monitor()
        if self._orders.stop is not None:
            raise StoppedError

    # Pending

    def _check_id(self) -> None:
        wanted, given = self._request.deployment_id, workflow.info().workflow_id
        if given != wanted:
            raise ApplicationError(
                f"the workflow id is {given!r}; start this deployment with --workflow-id {wanted}, "
                "so that it runs only once",
                type=INVALID_INPUT,
                non_retryable=True,
            )

    async def _pending(self) -> None:
        """Resolve the plan, then wait for the environment to be ours."""
        request = self._request
        try:
            self._plan = await self._orders.obey(
                workflow.execute_activity_method(
                    PlanSignatures.resolve_deployment_plan,
                    request,
                    summary="read deployment.yaml",
                    **effects.SHORT,
                )
            )
        except ActivityError as error:
            reason = reason_of(error)
            self._journal.note("deployment.refused", self._action, "refused", reason=reason)
            await self._journal.settle()
            raise ApplicationError(reason, type=INVALID_INPUT, non_retryable=True) from error
        event = request.event
        await self._journal.record(
            "deployment.requested",
            self._action,
            "started",
            reason=request.reason or "",
            origin=None if event is None else event.metadata,
            **({} if event is None else {"event": event.model_dump(mode="json")}),
        )
        self._turn = Turn(
            turn_request(
                application=request.application,
                environment=request.environment,
                version=request.version,
                actor=request.actor,
                commit=request.commit,
                policy=self._plan.settings.queue,
                automated=event is not None
                and event.source is not EventSource.API
                and event.type is not EventType.MANUAL,
            )
        )
        self._wait_for(f"its turn in {request.environment}")
        await self._orders.obey(self._turn.ask())
        decision = await self._orders.obey(self._turn.wait())
        self._set(queue_position=None, waiting_for=None)
        if decision.answer is TurnAnswer.LIVE_ALREADY:
            raise _TurnedAwayError(S.COMPLETED, decision.reason)
        if decision.answer is not TurnAnswer.GRANTED:
            raise _TurnedAwayError(S.REJECTED, decision.reason)
        self._last_good = decision.last_good_version
        self._set(previous_version=decision.current_version)

    # Validation

    async def _validate(self) -> None:
        """The version must be a commit, and the compliance preconditions must hold."""
        plan = self._plan
        self._site = BuildSite(plan, self._request)
        self._gates = Gates(
            plan,
            self._site,
            self._journal,
            self._orders,
            show_gate=self._set_gate,
            show_compliance=self._set_compliance,
        )
        observed = await self._orders.obey(self._observe("what runs now"))
        if observed.version is not None:
            self._set(previous_version=observed.version)
        self._site.previous_version = self._status.previous_version
        self._wait_for("a build worker")
        checkout = await self._gates.check_out()
        self._wait_for(None)
        self._set(built=Built(commit=checkout.commit))
        self._journal.tell(
            NotificationType.DEPLOYMENT_STARTED,
            version=self._request.version,
            commit=checkout.commit[:7],
            actor=self._request.actor,
            workflow_url=self._request.deployment_id,
            estimated_duration=format_duration(self._plan.planned_waits),
        )
        await self._gates.check_preconditions()

    async def _observe(self, summary: str) -> WorkloadObservation:
        """What serves now, by the way this environment is delivered to."""
        plan = self._plan
        if plan.settings.hot_upgrade is not None:
            return await hot_upgrade.observe(plan)
        if plan.settings.blue_green is not None:
            return (await blue_green.observe(plan.target, summary)).serving
        if plan.settings.canary is not None and plan.settings.canary.handover is not None:
            return await handover.observe(plan.target, plan.settings.canary.handover)
        return await workload.observe(plan.target, summary)

    # Building

    async def _build(self) -> None:
        """Compile, then make the release."""
        await self._gates.compile()
        self._release = release = await self._orders.obey(self._site.build_release())
        self._set(
            built=Built(
                commit=release.commit, artefact=release.uri, digest=release.digest, image=release.image
            )
        )
        await self._journal.record(
            "release.built",
            "build_release",
            "success",
            digest=release.digest,
            commit=release.commit,
            size=release.size,
            note=release.note,
        )

    # Testing

    async def _test(self) -> None:
        """All other automated gates, in parallel; then the whole compliance checklist."""
        await self._gates.test(self._request)

    # Approval

    async def _approve(self) -> None:
        """Open the gate and wait for its decision; none is needed where the plan names no approvers."""
        policy = self._plan.approval
        if policy is None:
            return
        request = await self._approval_request(policy)
        self._early.clear()
        gate = await self._children.start(
            ApprovalWorkflow.run,
            request,
            workflow_id=self._request.child_id("approval", policy.gate),
            summary=f"approval {policy.gate} of {self._request.version}",
        )
        self._approval = gate
        if request.facts is not None:
            self._asked = request
            self._board = ApprovalBoard(request, f"{gate.id}/{gate.first_execution_run_id}")
        self._set(approval=open_approval(request, workflow.now()))
        self._show(awaiting_approval=True)
        while self._early:
            # They came while the gate was opening.
            early = self._early.pop(0)
            if not await self._children.pass_on(gate, str(early.verb), early.message):
                self._refuse(early.verb, early.message, "the approval has just been closed")
        self._journal.tell(
            NotificationType.APPROVAL_REQUESTED,
            version=self._request.version,
            commit=self._release.commit[:7],
            actor=self._request.actor,
            gate=policy.gate,
            approvers=", ".join(policy.roles),
            approval_id=self._request.child_id("approval", policy.gate),
            time_left=format_duration(policy.timeout),
        )
        self._wait_for(f"approval by {', '.join(policy.roles)}")
        decided = await self._orders.obey(result(gate))
        self._approval = None
        self._wait_for(None)
        self._set(approval=decided)
        self._show_decision(decided)
        if decided.state is not ApprovalState.APPROVED:
            raise _TurnedAwayError(S.REJECTED, decided.reason or str(decided.state))

    async def _approval_request(self, policy: ApprovalPolicy) -> ApprovalRequest:
        """The gate's rules, and what is known for it: facts, reviews, decisions that came early."""
        request, evidence, facts = self._request, tuple[EarlyDecision, ...](), None
        if workflow.patched(APPROVAL_FACTS):
            checkout = self._site.checkout
            policy = with_authors(policy, checkout.authors)
            facts = await self._orders.obey(gather_facts(self._plan, request, self._status, checkout))
            if request.approval == "automatic" and self._plan.settings.evidence_counts:
                evidence = await self._orders.obey(find_evidence(request, policy, checkout, self._journal))
        return ApprovalRequest(
            deployment_id=request.deployment_id,
            application=request.application,
            environment=request.environment,
            version=request.version,
            requester=request.actor,
            policy=policy,
            early=(*evidence, *self._early),
            facts=facts,
            begun=self._status.started_at,
        )

    def _show_decision(self, decided: ApprovalStatus) -> None:
        """The gate has ended: what people see of it is brought up to date from here."""
        board = self._board
        if board is None or self._asked is None:
            return
        board.show(decided)
        if people := broke_glass(decided, self._asked.policy):
            self._journal.tell(
                NotificationType.APPROVAL_BREAK_GLASS,
                thread=board.key,
                version=self._request.version,
                gate=decided.gate_name,
                approved_by=", ".join(d.actor for d in people),
                reason="; ".join(d.comment for d in people),
            )

    def _approval_reason(self) -> str:
        approval = self._status.approval
        return (approval.reason or "approved") if approval is not None else "no approval required"

    # Deploying

    async def _deploy(self) -> None:
        """By the way of the environment; where a canary would have nothing beside it, by a rolling update."""
        settings = self._plan.settings
        previous = await self._orders.obey(self._observe("what is to be replaced"))
        previous = self._previous = await self._out_of_blue_green(previous)
        self._touched = True
        if settings.hot_upgrade is not None:
            await HotUpgrade(self._course(previous)).deliver()
        elif settings.blue_green is not None:
            self._blue_green = BlueGreen(self._course(previous))
            await self._blue_green.deliver()
        elif settings.canary is not None and (previous.replicas > 0 or settings.canary.handover is not None):
            await self._deploy_by_canary(settings.canary, previous)
        else:
            await self._deploy_by_rollout(previous)
        self._serves = True
        if settings.feature_flags:
            await FlagRollouts(self._course(previous)).roll_out()

    async def _out_of_blue_green(self, previous: WorkloadObservation) -> WorkloadObservation:
        """An environment that was blue/green before has its traffic on a side, where no other way of
        delivering would bring the version: what serves goes to the plain Deployment first.
        """
        plan = self._plan
        canary = plan.settings.canary
        own_place = plan.settings.blue_green or plan.settings.hot_upgrade or (canary and canary.handover)
        if own_place or previous.replicas > 0 or not workflow.patched(LEAVES_BLUE_GREEN):
            return previous
        return await self._orders.obey(
            blue_green.return_to_plain(
                plan, run_key=workflow.info().run_id, deployment_id=self._request.deployment_id
            )
        )

    def _course(self, previous: WorkloadObservation) -> Delivering:
        return Delivering(
            plan=self._plan,
            request=self._request,
            release=self._release,
            previous=previous,
            begun=self._status.since,
            journal=self._journal,
            obey=self._orders.obey,
            watch=self._watch,
            promotion=self._orders.promotion,
            unpaused=self._unpaused,
            show=lambda delivery: self._set(delivery=delivery),
            so_far=self._status.delivery,
        )

    async def _deploy_by_rollout(self, previous: WorkloadObservation) -> None:
        plan, release = self._plan, self._release
        # Whoever has scaled it up, an autoscaler or a person, had a reason.
        replicas = max(plan.target.replicas, previous.replicas)
        apply = ReleaseApply(
            key=f"{workflow.info().run_id}/stable",
            target=plan.target,
            track=Track.STABLE,
            version=self._request.version,
            image=release.image,
            replicas=replicas,
            deployment_id=self._request.deployment_id,
            commit=release.commit,
            artefact=release.uri,
            digest=release.digest,
        )
        await self._orders.obey(workload.apply(apply, f"apply {self._request.version}"))
        await self._orders.obey(
            workload.roll_out(
                plan.target,
                Track.STABLE,
                self._request.version,
                replicas,
                summary="roll-out",
                failure="the roll-out failed",
            )
        )
        await self._journal.record("workload.applied", self._action, "success", digest=release.digest)

    async def _deploy_by_canary(self, settings: CanarySettings, previous: WorkloadObservation) -> None:
        plan, release = self._plan, self._release
        request = CanaryRequest(
            deployment_id=self._request.deployment_id,
            actor=self._request.actor,
            target=plan.target,
            version=self._request.version,
            image=release.image,
            replicas=max(plan.target.replicas, previous.replicas),
            settings=settings,
            watch=canary_watch(plan, self._request.version),
            prometheus_url=plan.metrics.prometheus_url,
            paused=self._orders.paused_by is not None,
            abort_on_alerts=plan.settings.abort_on_alerts,
            commit=release.commit,
            artefact=release.uri,
            digest=release.digest,
        )
        canary = await self._children.start(
            CanaryWorkflow.run,
            request,
            workflow_id=self._request.child_id("canary"),
            summary=f"canary {self._request.version}",
        )
        self._canary = canary
        try:
            ended = await self._orders.obey(self._end_of(canary))
        except (StoppedError, asyncio.CancelledError):
            # The canary takes its own traffic away; only then is there anything to roll back.
            await see_through(self._stop_canary(canary, self._orders.stopped_by("a cancellation request")))
            raise
        finally:
            self._canary = None
        self._set(canary=ended, warnings=())
        if ended.phase is CanaryPhase.ABORTED:
            raise ProcessError(f"canary aborted: {ended.reason}", trigger=ended.trigger or "abort")
        if not ended.succeeded:
            raise ProcessError(ended.reason or "the canary failed", trigger=ended.trigger)

    async def _stop_canary(self, canary: workflow.ChildWorkflowHandle[Any, CanaryStatus], stop: Stop) -> None:
        await self._children.pass_on(canary, "abort", Command(actor=stop.actor, reason=stop.reason))
        self._set(canary=await self._end_of(canary))

    async def _end_of(self, canary: workflow.ChildWorkflowHandle[Any, CanaryStatus]) -> CanaryStatus:
        """What the canary says at its end, before it has also written it to the audit trail."""
        if not workflow.patched(CANARY_SAYS_ITS_END):
            return await result(canary)

        def said() -> CanaryStatus | None:
            known = self._status.canary
            return known if known is not None and known.id == canary.id and known.ended else None

        await workflow.wait_condition(lambda: canary.done() or said() is not None)
        ended = said()
        return ended if ended is not None else await result(canary)

    # Verifying and Monitoring

    async def _verify(self) -> None:
        policy = verification_watch(self._plan, self._request.version)
        if policy.health is not None:
            await self._watch(policy)

    async def _monitor(self) -> None:
        """The soak; blue/green keeps the old side for the way back meanwhile, and retires it at the end."""
        policy = self._monitoring_policy()
        side = self._blue_green
        retiring = None if side is None else asyncio.create_task(side.wait_to_retire())
        try:
            if policy.health is None and not policy.metrics:
                soak = self._plan.settings.soak_duration
                await self._orders.obey(workflow.sleep(soak, summary="soak"))
            else:
                self._wait_for(f"{format_duration(policy.interval * policy.rounds)} of stable running")
                await self._watch(policy)
            self._wait_for(None)
            if retiring is not None and side is not None:
                self._wait_for("the time in which the old side is kept for the way back")
                await self._orders.obey(_awaited(retiring))
                self._wait_for(None)
                await self._orders.obey(side.retire())
        finally:
            if retiring is not None:
                retiring.cancel()

    def _monitoring_policy(self) -> WatchPolicy:
        plan = self._plan if self._blue_green is None else self._blue_green.plan
        return monitoring_watch(plan, self._request.version, self._deploying_since())

    def _deploying_since(self) -> datetime:
        return next(t.at for t in self._status.history if t.state is S.DEPLOYING)

    async def _watch(self, policy: WatchPolicy) -> None:
        """Watch until the verdict.

        Raises:
            ProcessError: it is not good.
        """
        self._watching = policy.subject
        verdict = await self._orders.obey(
            workflow.execute_activity_method(
                WatchSignatures.watch_release,
                Watch(policy=policy, prometheus_url=self._plan.metrics.prometheus_url, report=True),
                summary=policy.subject,
                **effects.watch(policy.interval),
            )
        )
        passed = verdict.outcome is WatchOutcome.PASSED
        told = ("watch.verdict", "watch_release", "success" if passed else "failed")
        if passed:
            self._warn(())
        else:
            self._set(warnings=())
        if passed or not workflow.patched(VERDICT_NOTED):
            await self._orders.obey(
                self._journal.record(*told, reason=verdict.reason, subject=policy.subject)
            )
        else:
            # What is not well is left at once: the audit trail may be what is down.
            self._journal.note(*told, reason=verdict.reason, subject=policy.subject)
        if not passed:
            raise ProcessError(verdict.reason, trigger=verdict.trigger)

    # The ends

    async def _leave(self, reason: str, *, trigger: str | None) -> None:
        """Go to Failed, by way of RollingBack if the cluster was touched. Runs under cancellation too."""
        stage = self._status.state
        if self._touched:
            self._take_edge(S.ROLLING_BACK, reason)
            summary = await self._roll_back(reason)
            self._set(rollback=summary)
            if not summary.succeeded:
                reason = f"{reason}; and the roll-back failed: {summary.reason}"
        elif self._approval is not None:
            await self._cancel_approval()
        self._take_edge(S.FAILED, reason)
        self._journal.tell(
            NotificationType.DEPLOYMENT_FAILED,
            version=self._request.version,
            stage=stage.lower(),
            error_message=reason,
            trigger=trigger,
            rollback_initiated=self._touched,
        )

    async def _cancel_approval(self) -> None:
        if self._approval is None:
            return
        self._approval.cancel()
        try:
            ended = await result(self._approval)
            self._set(approval=ended)
            self._show_decision(ended)
        except FailureError as error:
            workflow.logger.info("the approval ended with its deployment: %s", reason_of(error))
        self._approval = None

    async def _roll_back(self, reason: str) -> RollbackSummary:
        started = workflow.now()
        previous, stop = self._previous, self._orders.stop
        request = RollbackRequest(
            application=self._request.application,
            environment=self._request.environment,
            from_version=self._request.version,
            to_version=self._rollback_version(previous),
            actor=stop.actor if stop is not None else "erlmcp-deploy",
            reason=reason or "no reason given",
            deployment_id=self._request.deployment_id,
            turn_held=True,
            plan=self._plan,
            previous=previous,
            automatic=stop is None or stop.action == "alert",
        )
        try:
            child = await self._children.start(
                RollbackWorkflow.run,
                request,
                workflow_id=request.rollback_id,
                summary=f"roll back {self._request.version}",
                compensates=True,
            )
            ended = await result(child)
        except (FailureError, ProcessError) as error:
            return RollbackSummary(
                workflow_id=request.rollback_id,
                to_version=request.to_version,
                succeeded=False,
                reason=reason_of(error) if isinstance(error, FailureError) else str(error),
            )
        return RollbackSummary(
            workflow_id=request.rollback_id,
            to_version=ended.to_version,
            succeeded=ended.succeeded,
            restored=ended.restored or ended.succeeded,
            reason=ended.outcome or "",
            duration=workflow.now() - started,
        )

    def _rollback_version(self, previous: WorkloadObservation | None) -> str | None:
        """The environment's last good version; what was found running, where it knows none."""
        found = None if previous is None or not previous.exists else previous.version
        if found is None or self._last_good in (None, self._request.version):
            return found
        return self._last_good

    async def _finish(self, state: DeploymentState, reason: str) -> None:
        """Take the last edge, for good."""
        self._take_edge(state, reason)

    async def _close(self) -> None:
        """Give the turn back and wait until all is written and told."""
        status = self._status
        if status.state is S.COMPLETED and self._touched:
            self._journal.tell(
                NotificationType.DEPLOYMENT_COMPLETED,
                version=status.version,
                duration=format_duration(workflow.now() - status.started_at),
                health_checks="passed",
                rollback_available=self._previous is not None and self._previous.exists,
            )
        elif status.state is S.REJECTED:
            self._journal.tell(
                NotificationType.DEPLOYMENT_REJECTED, version=status.version, reason=status.reason
            )
        if self._turn is not None:
            # Recorded before `restored` was told: it has succeeded.
            rolled_back = status.rollback is not None and (
                status.rollback.restored or status.rollback.succeeded
            )
            outcome, live = Outcome.UNCHANGED, None
            if status.state is S.COMPLETED and self._touched:
                outcome, live = Outcome.DEPLOYED, status.version
            elif self._touched:
                outcome = Outcome.ROLLED_BACK if rolled_back else Outcome.BROKEN
                live = status.rollback.to_version if rolled_back and status.rollback else None
            commit = status.built.commit if status.built is not None else None
            await self._turn.give_back(outcome, live_version=live, commit=commit, reason=status.reason or "")
        if self._early and workflow.patched(EARLY_WORDS_AUDITED):
            for early in self._early:
                self._refuse(early.verb, early.message, "no gate has asked for it")
        await self._journal.close()
        if self._board is not None:
            await self._board.close()
        if self._journal.lost:
            lost = f"{len(self._journal.lost)} audit event(s) could not be stored: {self._journal.lost[0]}"
            self._set(reason=f"{status.reason}; {lost}")

    # Moving between states

    async def _enter(self, state: DeploymentState, reason: str) -> None:
        """Take one edge, unless somebody pauses or stops the deployment; it is audited before it counts."""
        await self._unpaused()
        self._take_edge(state, reason)
        if self._serves and workflow.patched(WATCHED_AT_ONCE):
            return  # what serves is watched without waiting for the store; the verdict waits for it
        await self._orders.obey(self._journal.stored())

    async def _unpaused(self) -> None:
        """Wait while people pause; a version that serves is watched for failures meanwhile.

        Raises:
            ProcessError: it is not well.
        """
        orders = self._orders
        if orders.paused_by is None or not self._serves or not workflow.patched(GUARDED_STATES):
            await orders.unpaused()
            return
        policy = self._monitoring_policy()
        guard = asyncio.create_task(
            workflow.execute_activity_method(
                WatchSignatures.watch_release,
                Watch(policy=policy, prometheus_url=self._plan.metrics.prometheus_url, guard=True),
                summary="paused, watched for failures",
                **effects.watch(policy.interval),
            )
        )
        try:
            await orders.obey(workflow.wait_condition(lambda: guard.done() or orders.paused_by is None))
        finally:
            over = guard.done()
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)
        if over and (verdict := guard.result()).outcome is WatchOutcome.FAILED:
            raise ProcessError(f"paused: {verdict.reason}", trigger=verdict.trigger)
        await orders.unpaused()

    def _take_edge(self, state: DeploymentState, reason: str) -> None:
        """Take one edge at once; the audit trail learns of it without holding it up."""
        if not may_follow(self._status.state, state):
            raise RuntimeError(f"the state machine has no edge {self._status.state} → {state}")
        now, previous = workflow.now(), self._status.state
        changes: dict[str, Any] = {
            "state": state,
            "since": now,
            "history": [*self._status.history, Transition(state=state, at=now, reason=reason)],
            "waiting_for": None,
        }
        if state.final:
            changes |= {"finished_at": now, "reason": reason}
        self._set(**changes)
        self._show()
        if state in PROGRESS and workflow.patched(PROGRESS_TOLD):
            self._journal.tell(
                NotificationType.DEPLOYMENT_PROGRESS,
                title=f"{state}: {self._request.version}",
                version=self._request.version,
                state=str(state),
                reason=reason,
            )
        self._journal.note(
            "deployment.transition",
            self._action,
            {S.FAILED: "failed", S.REJECTED: "rejected"}.get(state, "success"),
            reason=reason,
            from_state=str(previous),
            to_state=str(state),
        )

    @property
    def _action(self) -> str:
        return f"deploy_{self._request.environment}"

    # What it shows

    def _set(self, **changes: Any) -> None:
        self._status = self._status.model_copy(update=changes)
        workflow.set_current_details(presentation.deployment(self._status))

    def _set_gate(self, gate: GateResult) -> None:
        brief = gate.model_copy(update={"steps": tuple(_brief(step) for step in gate.steps)})
        gates = {g.name: g for g in self._status.gates} | {brief.name: brief}
        self._set(gates=list(gates.values()))

    def _set_compliance(self, report: ComplianceReport) -> None:
        self._set(compliance=report)

    def _warn(self, warnings: tuple[str, ...]) -> None:
        """The spec's Warning: watched on, until it is stable again or rolled back."""
        if warnings != self._status.warnings:
            self._set(warnings=warnings)
            self._journal.note(
                "deployment.warning",
                "watch_release",
                "warning" if warnings else "stable",
                reason="; ".join(warnings),
            )

    def _wait_for(self, what: str | None) -> None:
        self._set(waiting_for=what)

    def _show(self, *, awaiting_approval: bool = False) -> None:
        show_in_visibility(
            application=self._request.application,
            environment=self._request.environment,
            version=self._request.version,
            state=str(self._status.state),
            awaiting_approval=awaiting_approval,
        )
        workflow.set_current_details(presentation.deployment(self._status))

    @workflow.query
    def status(self) -> DeploymentStatus:
        """State, history, gates, approval with time left, canary, and the reason when it ended."""
        approval = self._status.approval
        if approval is None or approval.state is not ApprovalState.PENDING:
            return self._status
        left = approval.expires_at - present()
        return self._status.model_copy(update={"approval": approval.model_copy(update={"time_left": left})})

    # What people say

    @workflow.signal
    async def approve(self, message: DecisionMessage = UNSIGNED) -> None:
        await self._decided(Verb.APPROVE, message)

    @workflow.signal
    async def reject(self, message: DecisionMessage = UNSIGNED) -> None:
        await self._decided(Verb.REJECT, message)

    async def _decided(self, verb: Verb, message: DecisionMessage) -> None:
        """Pass a decision on to the open gate, or keep it for the gate that will open."""
        approval, refused = self._status.approval, oversized(message)
        if refused is not None:
            message = shortened(message)
        elif approval is not None and approval.state is not ApprovalState.PENDING:
            refused = f"the approval is closed: it was {approval.state}"
        elif self._approval is None or self._early:
            if len(self._early) < EARLY_LIMIT:
                self._early.append(EarlyDecision(verb=verb, message=message))
            else:
                refused = f"{EARLY_LIMIT} decisions wait for the gate already; decide when it is open"
        elif not await self._children.pass_on(self._approval, str(verb), message):
            refused = "the approval has just been closed"
        if refused is not None:
            self._refuse(verb, message, refused)

    def _refuse(self, verb: Verb, message: DecisionMessage, reason: str) -> None:
        self._journal.note(
            f"approval.{verb}",
            str(verb),
            "refused",
            category=AuditCategory.APPROVAL,
            actor=message.actor or "unknown",
            reason=reason,
        )

    @workflow.signal
    def approval_changed(self, status: ApprovalStatus) -> None:
        """The open gate tells how it stands. How it ends, only its own result says: anybody can signal."""
        known = self._status.approval
        if self._approval is None or known is None or status.id != known.id:
            return
        if status.state is not ApprovalState.PENDING and workflow.patched(RESULT_DECIDES):
            return
        if status.revision >= known.revision:
            self._set(approval=status)

    @workflow.signal
    def canary_changed(self, status: CanaryStatus) -> None:
        known = self._status.canary
        if known is None or known.id != status.id or status.revision >= known.revision:
            self._set(canary=status)

    @workflow.signal
    def watch_changed(self, progress: WatchProgress) -> None:
        """A running watch tells of failures and warnings."""
        if progress.subject == self._watching:
            self._warn(progress.tally.warnings)

    @workflow.signal
    def turn_decided(self, decision: TurnDecision) -> None:
        if self._turn is None:
            return
        self._turn.decided(decision)
        if self._turn.still_waits(decision):
            self._set(queue_position=decision.position, waiting_for=decision.reason)

    @workflow.signal
    async def pause(self, command: Command = UNSIGNED_COMMAND) -> None:
        self._orders.paused_by = command.actor or "unknown"
        self._set(paused=True)
        await self._commanded("pause", command)

    @workflow.signal
    async def resume(self, command: Command = UNSIGNED_COMMAND) -> None:
        self._orders.paused_by = None
        self._set(paused=False)
        await self._commanded("resume", command)

    @workflow.signal
    async def promote(self, command: Command = UNSIGNED_COMMAND) -> None:
        if self._status.state is S.DEPLOYING:
            self._orders.promoted_by = command.actor or "unknown"
            if self._orders.paused_by is not None and workflow.patched(PROMOTION_RESUMES):
                self._orders.paused_by = None
                self._set(paused=False)
        await self._commanded("promote", command)

    @workflow.signal
    def abort(self, command: Command = UNSIGNED_COMMAND) -> None:
        self._halt("abort", command)

    @workflow.signal
    def rollback(self, command: Command = UNSIGNED_COMMAND) -> None:
        self._halt("rollback", command)

    @workflow.signal
    def alert(self, alert: Alert = UNNAMED_ALERT) -> None:
        """The monitoring system says that it is not well: as good as a failed check, and at once."""
        command = Command(actor=alert.actor or ALERTING, reason=str(alert))
        if self._touched and alert.counts(self._plan.settings.abort_on_alerts):
            self._halt("alert", command)
        else:
            self._note_command("alert", command, "refused")

    def _halt(self, action: str, command: Command) -> None:
        """Stop, unless it has ended or is being rolled back already."""
        late = self._status.state.final or self._status.state is S.ROLLING_BACK
        if not late:
            self._orders.halt(Stop(action, command.actor.strip()[:ACTOR_LENGTH] or "unknown", command.reason))
        self._note_command(action, command, "refused" if late else "success")

    async def _commanded(self, action: str, command: Command) -> None:
        """Pass a command on to the canary, if there is one."""
        if self._canary is not None:
            await self._children.pass_on(self._canary, action, command)
        self._note_command(action, command, "success")

    def _note_command(self, action: str, command: Command, status: str) -> None:
        self._journal.note(
            f"deployment.{action}", action, status, actor=command.actor or "unknown", reason=command.reason
        )


async def _awaited(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


def _brief(report: StepReport) -> StepReport:
    """A report without its evidence, which the audit trail keeps."""
    return report.model_copy(update={"evidence": report.evidence[:5]})
