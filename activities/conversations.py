"""Conversations with people, where they can answer (spec: Approval Workflow)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence

from temporalio import activity

from activities.channels import ConversationChannel
from activities.signatures import ConversationSignatures
from domain.approval_card import ApprovalCard, PersonalAnswer
from domain.notification import Delivery, NotificationReceipt


class ConversationActivities(ConversationSignatures):
    """Talks on all channels; one that is down keeps no other from being used."""

    def __init__(self, channels: Sequence[ConversationChannel]) -> None:
        self._channels = tuple(channels)

    @activity.defn
    async def show_approval(self, card: ApprovalCard) -> NotificationReceipt:
        """Show an approval on every channel, or bring what is shown up to date. An older revision than the
        one that is shown changes nothing.

        Raises:
            ApplicationError: Unavailable, after all channels were tried.
        """
        return NotificationReceipt(deliveries=await _all(c.show_approval(card) for c in self._channels))

    @activity.defn
    async def answer_person(self, answer: PersonalAnswer) -> NotificationReceipt:
        """Tell one person alone, on the channel they spoke to us.

        Raises:
            ApplicationError: Unavailable, if another attempt can help.
        """
        deliveries = await _all(c.answer_person(answer) for c in self._channels)
        if not deliveries:
            reason = f"no channel serves reply_to {answer.reply_to!r}"
            deliveries = (Delivery(channel="none", delivered=False, reason=reason),)
        return NotificationReceipt(deliveries=deliveries)


async def _all(work: Iterable[Awaitable[tuple[Delivery, ...]]]) -> tuple[Delivery, ...]:
    deliveries: list[Delivery] = []
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        deliveries.extend(outcome)
    return tuple(deliveries)
