"""Approvals in Slack: one message each, brought up to date in place."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from activities.ledger import EffectsLedger
from activities.slack.approval_message import approval_message, decided
from activities.slack.destinations import Conversation, Destinations
from activities.slack.message import payload_of
from activities.slack.sending import NotSentError, not_sent, send_once
from activities.slack.threads import CLOCK_DIFFERENCE, Threads
from activities.slack.topics import APPROVALS
from activities.slack.web_api import Reference, if_readable
from activities.slack.webhook import Webhook
from domain.approval_card import ApprovalCard
from domain.model import Model
from domain.notification import Delivery

_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})

_log = logging.getLogger(__name__)


class _Posted(Model):
    """A card's message: where it is, and which revision it shows."""

    reference: str
    revision: int


class ApprovalMessages:
    """Shows cards in the channel for approvals.

    Which revision a message shows stands in its metadata, so workers on several machines see it. Slack has
    no conditional update: an update by a worker that was held up between looking and writing may still be the
    last. The next revision puts that right.
    """

    def __init__(self, destinations: Destinations, ledger: EffectsLedger, threads: Threads) -> None:
        self._destinations = destinations
        self._ledger = ledger
        self._threads = threads
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def show(self, card: ApprovalCard) -> tuple[Delivery, ...]:
        """Show a card, or bring it up to date.

        By webhook, which cannot change what it sent, only the first and the last word on an approval are
        messages; for a revision between them there is no delivery.

        Raises:
            ApplicationError: Unavailable, if another attempt can help.
        """
        destination = self._destinations.of(APPROVALS)
        if destination is None:
            return (self._destinations.missing(APPROVALS),)
        async with self._turns.setdefault(card.key, asyncio.Lock()):
            if isinstance(destination, Webhook):
                return await self._announce(destination, card)
            return (await self._bring_up_to_date(destination, card),)

    async def _announce(self, webhook: Webhook, card: ApprovalCard) -> tuple[Delivery, ...]:
        channel, opening, closing = str(APPROVALS), f"{card.key}#opening", f"{card.key}#closing"
        if not decided(card):
            said = [await self._ledger.find(key, channel) for key in (opening, closing)]
            if any(effect is not None and effect.outcome is not None for effect in said):
                return ()

        async def send(_: datetime | None) -> None:
            await webhook.send(approval_message(card, datetime.now(UTC), interactive=False))

        key = closing if decided(card) else opening
        return (await send_once(self._ledger, key, channel, send),)

    async def _bring_up_to_date(self, conversation: Conversation, card: ApprovalCard) -> Delivery:
        channel = str(APPROVALS)
        earlier = await self._ledger.intend(card.key, channel)
        known = None if earlier is None or earlier.outcome is None else earlier.outcome
        try:
            posted = (
                await self._look_up(conversation, card)
                if known is None
                else _Posted.model_validate_json(known)
            )
            posted = await self._write(conversation, card, posted)
        except NotSentError as error:
            if earlier is None:
                await self._ledger.withdraw(card.key, channel)
            return not_sent(error, f"{card.key} revision {card.revision}", channel)
        await self._ledger.revise(card.key, channel, posted.model_dump_json())
        await self._threads.begin(conversation, card.key, Reference.parse(posted.reference))
        return Delivery(channel=channel, delivered=True, reference=posted.reference)

    async def _look_up(self, conversation: Conversation, card: ApprovalCard) -> _Posted | None:
        """The message of a worker that died before it could note it, or is on another machine."""
        api, name = conversation.api, conversation.name
        opened = min(card.approval.created_at, datetime.now(UTC))
        found = await if_readable(
            api.find(name, lambda m: payload_of(m).get("key") == card.key, since=opened - CLOCK_DIFFERENCE),
            name,
        )
        if found is None:
            return None
        return _Posted(reference=str(await api.reference(name, found)), revision=_revision(payload_of(found)))

    async def _write(self, conversation: Conversation, card: ApprovalCard, posted: _Posted | None) -> _Posted:
        message = approval_message(card, datetime.now(UTC), interactive=True)
        if posted is not None:
            if posted.revision >= card.revision:
                return posted
            reference = Reference.parse(posted.reference)
            shown = await if_readable(conversation.api.read(reference), conversation.name)
            revision = -1 if shown is None else _revision(payload_of(shown))
            if revision >= card.revision:
                return _Posted(reference=posted.reference, revision=revision)
            try:
                await conversation.api.update(reference, message)
            except NotSentError as error:
                if error.code not in _GONE:
                    raise
                other = await self._look_up(conversation, card)
                if other is not None and other.reference != posted.reference:
                    return await self._write(conversation, card, other)
                _log.warning("the message of %s cannot be updated, and is posted anew: %s", card.key, error)
            else:
                return _Posted(reference=posted.reference, revision=card.revision)
        reference = await conversation.api.post(conversation.name, message)
        return _Posted(reference=str(reference), revision=card.revision)


def _revision(payload: object) -> int:
    revision = payload.get("revision") if isinstance(payload, dict) else None
    return revision if isinstance(revision, int) else -1
