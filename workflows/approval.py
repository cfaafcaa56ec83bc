"""ApprovalWorkflow: one gate, open until it is decided or its time is up (spec: Approval Workflow)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.signatures import IdentitySignatures
    from domain import approval
    from domain.approval import (
        UNSIGNED,
        ApprovalRequest,
        ApprovalState,
        ApprovalStatus,
        DecisionMessage,
        DecisionRequest,
        EarlyDecision,
        Verb,
    )
    from domain.audit import AuditCategory
    from domain.durations import format_duration
    from domain.identity import Identification
    from domain.notification import NotificationType
    from domain.signing import query_of, subject_of
    from workflows import effects, presentation
    from workflows.approval_board import ApprovalBoard
    from workflows.approving import broke_glass
    from workflows.failures import reason_of, see_through
    from workflows.journal import Journal, show_in_visibility
    from workflows.parent import tell_parent


@workflow.defn(name="ApprovalWorkflow")
class ApprovalWorkflow:
    """Waits for people. Every decision, and every refusal of one, is audited; comments never decide."""

    @workflow.init
    def __init__(self, request: ApprovalRequest) -> None:
        self._request = request
        self._policy = request.policy
        self._status = approval.open_approval(request, workflow.now())
        self._judged: dict[tuple[str, ...], str | None] = {}
        self._judging = asyncio.Lock()
        self._undecided = 0
        # A deployment of before there were facts judges its early decisions by itself.
        self._open = request.facts is None
        info = workflow.info()
        self._board = ApprovalBoard(request, f"{info.workflow_id}/{info.run_id}")
        self._journal = Journal(
            deployment_id=request.deployment_id,
            application=request.application,
            environment=request.environment,
            version=request.version,
            actor=request.requester,
        )

    @workflow.run
    async def run(self, request: ApprovalRequest) -> ApprovalStatus:
        self._show_state(awaiting=True)
        self._journal.note(
            "approval.requested",
            "request_approval",
            "started",
            category=AuditCategory.APPROVAL,
            gate=self._policy.gate,
            roles=list(self._policy.roles),
            min_approvals=self._status.min_approvals,
            expires_at=self._status.expires_at.isoformat(),
        )
        try:
            await self._decide_early(request.early)
            await self._wait_for_decision()
        except asyncio.CancelledError:
            self._change(approval.cancel(self._status, workflow.now()))
        await see_through(self._close())
        return self._status

    # Waiting

    async def _wait_for_decision(self) -> None:
        """Until it is decided: remind, escalate, expire."""
        self._show()
        while self._status.state is ApprovalState.PENDING:
            event, at = approval.next_event(self._status, self._policy)
            words = {"reminder": "reminder", "escalation": "is escalated", "expiry": "expires"}
            try:
                await workflow.wait_condition(
                    lambda: self._status.state is not ApprovalState.PENDING,
                    timeout=max(at - workflow.now(), timedelta(0)),
                    timeout_summary=f"approval {self._policy.gate} {words[event]}",
                )
            except TimeoutError:
                if event == "expiry":
                    await self._expire()
                    return
                if event == "escalation":
                    self._escalate()
                else:
                    self._remind()
                await tell_parent("approval_changed", self._status)

    async def _expire(self) -> None:
        if self._undecided:  # who came in time is not too late because a signature takes a moment
            await workflow.wait_condition(lambda: self._undecided == 0)
        self._change(approval.expire(self._status, self._policy, workflow.now()))

    def _remind(self) -> None:
        self._change(approval.remind(self._status, workflow.now()))
        self._tell(NotificationType.APPROVAL_REMINDER)

    def _escalate(self) -> None:
        self._change(approval.escalate(self._status, self._policy, workflow.now()))
        self._journal.note(
            "approval.escalated",
            "escalate_approval",
            "warning",
            category=AuditCategory.APPROVAL,
            gate=self._policy.gate,
            on_call={role: list(people) for role, people in self._policy.on_call.items()},
        )
        self._tell(NotificationType.APPROVAL_ESCALATED)

    def _tell(self, kind: NotificationType) -> None:
        """Name who can still help, and how long there is."""
        missing = approval.missing(self._status, self._policy, workflow.now())
        left = self._status.expires_at - workflow.now()
        self._journal.tell(
            kind,
            thread=self._board.key,
            version=self._request.version,
            gate=self._policy.gate,
            requester=self._request.requester,
            missing=", ".join(f"{m.missing} of {' or '.join(m.roles)}" for m in missing if m.missing),
            time_left=format_duration(timedelta(minutes=round(left / timedelta(minutes=1)))),
            approval_id=self._status.id,
            people=approval.deciders(self._status, self._policy, workflow.now()),
        )

    async def _close(self) -> None:
        """Store how it ended: then the deployment goes on, and shows it. Nothing waits for the messenger."""
        self._open = True  # it may have been cancelled before; who waits for it is told that it is closed
        self._show_state(awaiting=False)
        self._journal.note(
            "approval.closed",
            "close_approval",
            str(self._status.state),
            category=AuditCategory.APPROVAL,
            reason=self._status.reason or "",
            gate=self._policy.gate,
        )
        if people := broke_glass(self._status, self._policy):
            # Under a name of its own, so that whoever reads the trail stumbles over it.
            self._journal.note(
                "approval.break_glass",
                "break_glass",
                "warning",
                category=AuditCategory.APPROVAL,
                reason=self._status.reason or "",
                gate=self._policy.gate,
                people=[d.actor for d in people],
            )
        if self._request.facts is None:
            await self._journal.close()
            return
        self._journal.fall_silent()
        self._board.leave()
        await self._board.answered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        await self._journal.recorded()

    # Decisions: signals and the update go through one reducer.

    @workflow.signal
    async def approve(self, message: DecisionMessage = UNSIGNED) -> None:
        await self._take(Verb.APPROVE, message)

    @workflow.signal
    async def reject(self, message: DecisionMessage = UNSIGNED) -> None:
        await self._take(Verb.REJECT, message)

    @workflow.signal
    async def comment(self, message: DecisionMessage = UNSIGNED) -> None:
        await self._take(Verb.COMMENT, message)

    @workflow.update
    async def decide(self, request: DecisionRequest) -> ApprovalStatus:
        """Decide and be told at once; what may not count is refused with the reason."""
        refused = await self._take(request.decision, request)
        if refused is not None:
            raise ApplicationError(refused, type="DecisionRefused", non_retryable=True)
        return self._answer()

    @decide.validator
    def _validate_decision(self, request: DecisionRequest) -> None:
        """What nobody could be held to; everything else is judged, and audited."""
        reason = None
        if not approval.identity(request.actor) or self._status.state is not ApprovalState.PENDING:
            reason = approval.refusal(
                self._status,
                self._policy,
                request.decision,
                request,
                workflow.now(),
                approval.presumed(request),
            )
        if reason is not None:
            raise ApplicationError(reason, type="DecisionRefused", non_retryable=True)

    async def _take(self, verb: Verb, message: DecisionMessage) -> str | None:
        """Judge one decision; why it was refused, or none."""
        at = workflow.now()
        if not self._open:  # those that came before the gate go first
            await workflow.wait_condition(lambda: self._open)
        before = self._status
        refused = await self._judge(verb, message, at)
        if self._status != before:
            await tell_parent("approval_changed", self._status)
        return refused

    async def _decide_early(self, decisions: tuple[EarlyDecision, ...]) -> None:
        before = self._status
        for early in decisions:
            await self._judge(early.verb, early.message, workflow.now(), evidence=early.evidence)
        if self._status != before and not self._open:
            await tell_parent("approval_changed", self._status)
        self._open = True

    async def _judge(
        self, verb: Verb, message: DecisionMessage, at: datetime, *, evidence: bool = False
    ) -> str | None:
        """One decision after the other, as they came; its time is when it came.

        The same decision again gets the same answer. Who does not sign it cannot take it away from whom it
        names: the signature is part of what makes it the same.
        """
        self._undecided += 1
        try:
            async with self._judging:
                signature = "" if message.proof is None else message.proof.signature
                key = (str(verb), approval.identity(message.actor), message.id or "", signature)
                if message.id is not None and key in self._judged:
                    return self._judged[key]
                refused = approval.oversized(message)
                if refused is not None:
                    message = approval.shortened(message)
                    self._note(verb, message, None, refused)
                else:
                    identification = await self._identify(verb, message, evidence=evidence)
                    refused = self._decide(verb, message, at, identification, evidence=evidence)
                if message.id is not None:
                    self._judged[key] = refused
                if refused is not None and message.reply_to:
                    self._board.answer(message.reply_to, f"Your {verb} does not count: {refused}")
                return refused
        finally:
            self._undecided -= 1

    async def _identify(
        self, verb: Verb, message: DecisionMessage, *, evidence: bool
    ) -> Identification | None:
        if evidence:  # the Git host knows who said it
            return Identification(verified=True)
        if message.proof is None:
            return None
        subject = subject_of(workflow.info().namespace, self._request.deployment_id)
        query = query_of(subject, verb, message, self._request.begun)
        try:
            return await workflow.execute_activity_method(
                IdentitySignatures.verify_identity,
                query,
                summary=f"verify {message.proof.signer}'s signature",
                **effects.VERIFICATION,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            return Identification(
                verified=False,
                signer=message.proof.signer,
                reason=f"it cannot be checked: {reason_of(error)}",
            )

    def _decide(
        self,
        verb: Verb,
        message: DecisionMessage,
        at: datetime,
        identification: Identification | None,
        *,
        evidence: bool,
    ) -> str | None:
        """Apply one decision at once (no await between two decisions) and audit it."""
        status, policy = self._status, self._policy
        if evidence:
            policy = approval.for_reviewer(policy, message.actor)
        refused = approval.refusal(status, policy, verb, message, at, identification)
        self._change(approval.decide(status, policy, verb, message, at, identification))
        self._note(verb, message, identification, refused)
        return refused

    def _note(
        self, verb: Verb, message: DecisionMessage, identification: Identification | None, refused: str | None
    ) -> None:
        self._journal.note(
            f"approval.{verb}",
            str(verb),
            "success" if refused is None else "refused",
            category=AuditCategory.APPROVAL,
            actor=message.actor or "unknown",
            reason=refused or message.comment,
            gate=self._policy.gate,
            source=message.source,
            **_about(message, identification),
        )

    # What it shows

    def _change(self, status: ApprovalStatus) -> None:
        if status != self._status:
            self._status = status
            self._show()

    def _show(self) -> None:
        workflow.set_current_details(presentation.approval(self._status, self._policy))
        self._board.show(self._status)

    def _show_state(self, *, awaiting: bool) -> None:
        show_in_visibility(
            application=self._request.application,
            environment=self._request.environment,
            version=self._request.version,
            state="Approval",
            awaiting_approval=awaiting,
        )

    @workflow.query
    def status(self) -> ApprovalStatus:
        """The approval as it stands, with the time left."""
        return self._answer()

    def _answer(self) -> ApprovalStatus:
        if self._status.state is not ApprovalState.PENDING:
            return self._status
        return self._status.model_copy(update={"time_left": self._status.expires_at - present()})


def _about(message: DecisionMessage, identification: Identification | None) -> dict[str, object]:
    """What the audit trail keeps of a decision's identity."""
    about: dict[str, object] = {"verified": identification is not None and identification.verified}
    if message.proof is not None and identification is not None:
        about |= {"signer": identification.signer, "identification": identification.reason}
    if message.emergency:
        about["emergency"] = True
    return about


def present() -> datetime:
    """The time for an answer: a workflow's own clock stands still while it waits, so a query looks at
    the wall clock too. Where time is skipped the workflow's clock is the later one."""
    with workflow.unsafe.sandbox_unrestricted():
        return max(workflow.now(), datetime.now(UTC)) if workflow.unsafe.is_read_only() else workflow.now()
