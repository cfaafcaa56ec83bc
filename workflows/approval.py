"""ApprovalWorkflow: one gate, open until it is decided or its time is up (spec: Approval Workflow)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from domain import approval
    from domain.approval import (
        UNSIGNED,
        ApprovalRequest,
        ApprovalState,
        ApprovalStatus,
        DecisionMessage,
        DecisionRequest,
        Verb,
    )
    from domain.audit import AuditCategory
    from workflows import presentation
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
        self._seen: set[str] = set()
        self._journal = Journal(
            deployment_id=request.deployment_id,
            application=request.application,
            environment=request.environment,
            version=request.version,
            actor=request.requester,
        )

    @workflow.run
    async def run(self, request: ApprovalRequest) -> ApprovalStatus:
        show_in_visibility(
            application=request.application,
            environment=request.environment,
            version=request.version,
            state="Approval",
            awaiting_approval=True,
        )
        self._journal.note(
            "approval.requested",
            "request_approval",
            "started",
            category=AuditCategory.APPROVAL,
            gate=self._policy.gate,
            roles=list(self._policy.roles),
            min_approvals=self._policy.min_approvals,
            expires_at=self._status.expires_at.isoformat(),
        )
        for early in request.early:
            self._decide(early.verb, early.message)
        try:
            await self._wait_for_decision()
        except asyncio.CancelledError:
            if self._status.state is ApprovalState.PENDING:
                self._status = self._status.model_copy(
                    update={
                        "state": ApprovalState.REJECTED,
                        "decided_at": workflow.now(),
                        "reason": "cancelled with its deployment",
                    }
                )
        await self._close()
        return self._status

    async def _wait_for_decision(self) -> None:
        self._show()
        left = self._status.expires_at - workflow.now()
        try:
            await workflow.wait_condition(
                lambda: self._status.state is not ApprovalState.PENDING,
                timeout=max(left, timedelta(0)),
                timeout_summary=f"approval {self._policy.gate} expires",
            )
        except TimeoutError:
            self._status = approval.expire(self._status, self._policy, workflow.now())

    async def _close(self) -> None:
        self._show()
        show_in_visibility(
            application=self._request.application,
            environment=self._request.environment,
            version=self._request.version,
            state="Approval",
            awaiting_approval=False,
        )
        self._journal.note(
            "approval.closed",
            "close_approval",
            str(self._status.state),
            category=AuditCategory.APPROVAL,
            reason=self._status.reason or "",
            gate=self._policy.gate,
        )
        await self._journal.close()

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
        await self._take(request.decision, request)
        return self._answer()

    @decide.validator
    def _validate_decision(self, request: DecisionRequest) -> None:
        reason = approval.refusal(self._status, self._policy, request.decision, request)
        if reason is not None:
            raise ApplicationError(reason, type="DecisionRefused", non_retryable=True)

    async def _take(self, verb: Verb, message: DecisionMessage) -> None:
        before = self._status
        self._decide(verb, message)
        if self._status != before:
            await tell_parent("approval_changed", self._status)

    def _decide(self, verb: Verb, message: DecisionMessage) -> None:
        """Apply one decision at once (no await between two decisions) and audit it."""
        if message.id is not None:
            if message.id in self._seen:
                return
            self._seen.add(message.id)
        refused = approval.refusal(self._status, self._policy, verb, message)
        self._status = approval.decide(self._status, self._policy, verb, message, workflow.now())
        self._show()
        self._journal.note(
            f"approval.{verb}",
            str(verb),
            "success" if refused is None else "refused",
            category=AuditCategory.APPROVAL,
            actor=message.actor or "unknown",
            reason=refused or message.comment,
            gate=self._policy.gate,
            source=message.source,
        )

    def _show(self) -> None:
        workflow.set_current_details(presentation.approval(self._status, self._policy))

    @workflow.query
    def status(self) -> ApprovalStatus:
        """The approval as it stands, with the time left."""
        return self._answer()

    def _answer(self) -> ApprovalStatus:
        if self._status.state is not ApprovalState.PENDING:
            return self._status
        return self._status.model_copy(update={"time_left": self._status.expires_at - present()})


def present() -> datetime:
    """The time for an answer: a workflow's own clock stands still while it waits, so a query looks at
    the wall clock too. Where time is skipped the workflow's clock is the later one."""
    with workflow.unsafe.sandbox_unrestricted():
        return max(workflow.now(), datetime.now(UTC)) if workflow.unsafe.is_read_only() else workflow.now()
