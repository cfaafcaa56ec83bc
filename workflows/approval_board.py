"""What people see of an approval while it is open, and the answers that they get (spec: Notification Flow).

Nothing here holds a decision up: messages are sent beside it, the latest state replaces what was shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.signatures import ConversationSignatures
from domain.approval import ApprovalRequest, ApprovalStatus
from domain.approval_card import ApprovalCard, PersonalAnswer
from workflows import effects
from workflows.failures import reason_of


class ApprovalBoard:
    """The message that shows one approval, brought up to date whenever it changes.

    Args:
        request: without facts it comes from a deployment that shows its approval by itself.
    """

    def __init__(self, request: ApprovalRequest) -> None:
        self._request = request
        self._wanted: ApprovalCard | None = None
        self._showing: asyncio.Task[None] | None = None
        self._answers: list[asyncio.Task[None]] = []

    def show(self, status: ApprovalStatus, headline: str) -> None:
        """Show this state; those between it and the one that is shown now are passed over."""
        request = self._request
        if request.facts is None:
            return
        self._wanted = ApprovalCard(
            key=card_key(),
            revision=status.revision,
            application=request.application,
            environment=request.environment,
            version=request.version,
            requester=request.requester,
            approval=status,
            policy=request.policy,
            facts=request.facts,
            headline=headline,
        )
        if self._showing is None or self._showing.done():
            self._showing = asyncio.create_task(self._show())

    async def _show(self) -> None:
        while self._wanted is not None:
            card, self._wanted = self._wanted, None
            await _tried(
                workflow.execute_activity_method(
                    ConversationSignatures.show_approval,
                    card,
                    summary=f"show: {card.headline or card.approval.state}",
                    **effects.NOTICE,
                )
            )

    def answer(self, reply_to: str, text: str) -> None:
        """Tell one person alone."""
        answer = PersonalAnswer(
            key=f"{card_key()}/{len(self._answers)}-answer",
            reply_to=reply_to,
            text=text,
        )
        self._answers.append(
            asyncio.create_task(
                _tried(
                    workflow.execute_activity_method(
                        ConversationSignatures.answer_person,
                        answer,
                        summary="answer a refused decision",
                        **effects.NOTICE,
                    )
                )
            )
        )

    async def close(self) -> None:
        """Wait until the last state is shown and everybody is answered, or that was given up."""
        if self._showing is not None:
            await asyncio.shield(self._showing)
        while pending := [a for a in self._answers if not a.done()]:
            await asyncio.shield(asyncio.gather(*pending))


def card_key() -> str:
    """Names the card of this approval, and the conversation below it."""
    info = workflow.info()
    return f"{info.workflow_id}/{info.run_id}"


async def _tried(sending: Coroutine[Any, Any, object]) -> None:
    try:
        await sending
    except ActivityError as error:
        workflow.logger.warning("not told: %s", reason_of(error))
