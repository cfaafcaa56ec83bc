"""What people see of an approval while it is open, and the answers that they get (spec: Notification Flow).

Nothing here holds a decision up: messages are sent beside it, the latest state replaces what was shown.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.signatures import ConversationSignatures
from domain.approval import ApprovalRequest, ApprovalState, ApprovalStatus
from domain.approval_card import ApprovalCard, PersonalAnswer
from workflows import effects
from workflows.failures import reason_of

ANSWERS_LIMIT = timedelta(seconds=10)
"""What the end of an approval waits for answers to people whose decisions were refused."""


class ApprovalBoard:
    """The message that shows one approval, brought up to date whenever it changes.

    Args:
        request: without facts it comes from a deployment that shows its approval by itself.
        key: names the message, and the conversation below it: approval id and run.
    """

    def __init__(self, request: ApprovalRequest, key: str) -> None:
        self.key = key
        self._request = request
        self._wanted: ApprovalCard | None = None
        self._showing: asyncio.Task[None] | None = None
        self._sending: workflow.ActivityHandle[object] | None = None
        self._answers: list[asyncio.Task[None]] = []

    def show(self, status: ApprovalStatus) -> None:
        """Show this state; those between it and the one that is shown now are passed over."""
        request = self._request
        if request.facts is None:
            return
        self._wanted = ApprovalCard(
            key=self.key,
            revision=status.revision,
            application=request.application,
            environment=request.environment,
            version=request.version,
            requester=request.requester,
            approval=status,
            policy=request.policy,
            facts=request.facts,
            headline=headline(status),
        )
        if self._showing is None or self._showing.done():
            self._showing = asyncio.create_task(self._show())

    async def _show(self) -> None:
        while self._wanted is not None:
            card, self._wanted = self._wanted, None
            is_open = card.approval.state is ApprovalState.PENDING
            self._sending = workflow.start_activity_method(
                ConversationSignatures.show_approval,
                card,
                summary=f"show: {card.headline or card.approval.state}",
                **(effects.CARD if is_open else effects.ANSWER),
            )
            try:
                await self._sending
            except ActivityError as error:
                workflow.logger.warning("the approval is not shown: %s", reason_of(error))

    def leave(self) -> None:
        """Show nothing more: who takes over shows how it ended."""
        self._wanted = None
        if self._sending is not None:
            self._sending.cancel()

    def answer(self, reply_to: str, text: str) -> None:
        """Tell one person alone."""
        answer = PersonalAnswer(key=f"{self.key}/{len(self._answers)}-answer", reply_to=reply_to, text=text)
        self._answers.append(asyncio.create_task(_answer(answer)))

    async def answered(self) -> None:
        """Wait a moment for those whose answers are on their way."""
        if any(not task.done() for task in self._answers):
            try:
                await workflow.wait_condition(
                    lambda: all(task.done() for task in self._answers),
                    timeout=ANSWERS_LIMIT,
                    timeout_summary="answers to refused decisions",
                )
            except TimeoutError:
                workflow.logger.warning("some people were not told why their decisions do not count")

    async def close(self) -> None:
        """Wait until the last state is shown, or that was given up."""
        if self._showing is not None:
            await asyncio.shield(self._showing)


async def _answer(answer: PersonalAnswer) -> None:
    try:
        await workflow.execute_activity_method(
            ConversationSignatures.answer_person,
            answer,
            summary="answer a refused decision",
            **effects.ANSWER,
        )
    except ActivityError as error:
        workflow.logger.warning("not told: %s", reason_of(error))


def headline(status: ApprovalStatus) -> str:
    """What happened last, in few words."""
    if status.state is not ApprovalState.PENDING:
        return status.reason or str(status.state)
    if status.received_approvals:
        latest = status.received_approvals[-1]
        return f"approved by {latest.actor}, {status.approvals_missing} more needed"
    return "escalated: about to expire" if status.escalated_at is not None else "waiting for approval"
