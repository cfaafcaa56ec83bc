"""Slack as a channel for notifications and conversations."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from temporalio.exceptions import ApplicationError

from activities.ledger import EffectsLedger
from activities.slack.approvals import ApprovalMessages
from activities.slack.destinations import Conversation, Destinations
from activities.slack.message import payload_of
from activities.slack.notification_message import notification_message
from activities.slack.people import People, named
from activities.slack.sending import NotSentError, send_once
from activities.slack.threads import CLOCK_DIFFERENCE, Threads
from activities.slack.topics import Topic, only_in_threads, topics
from activities.slack.web_api import Reference, Shown, if_readable
from activities.slack.webhook import Webhook
from activities.slack.whispers import Whispers
from domain.approval_card import ApprovalCard, PersonalAnswer
from domain.configuration import Directory, SlackSettings
from domain.notification import Delivery, Notification, NotificationType, Severity

_BROADCAST = frozenset({Severity.HIGH, Severity.CRITICAL})
_NO_THREAD = frozenset(
    {
        *("cannot_reply_to_message", "invalid_thread_ts", "message_not_found", "thread_not_found"),
        *("restricted_action_non_threadable_channel", "restricted_action_thread_locked"),
    }
)


class SlackChannel:
    """Tells people by the Slack channels of the configuration; see `activities.channels`.

    Args:
        environment: where ``${NAME}`` references are looked up, each time a message is sent.
        production: environments whose critical messages are incidents.
        directory: whose accounts say who is who in Slack.
    """

    def __init__(
        self,
        settings: SlackSettings,
        ledger: EffectsLedger,
        *,
        environment: Mapping[str, str] = os.environ,
        production: Collection[str] = ("production",),
        directory: Directory | None = None,
    ) -> None:
        self._ledger = ledger
        self._production = production
        self._destinations = Destinations(settings, environment)
        self._people = People({} if directory is None else directory.accounts)
        self._threads = Threads(ledger)
        self._approvals = ApprovalMessages(self._destinations, ledger, self._threads)
        self._whispers = Whispers(self._destinations, ledger)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def show_approval(self, card: ApprovalCard) -> tuple[Delivery, ...]:
        """Show an approval, or bring it up to date; see `activities.channels.ConversationChannel`."""
        return await self._approvals.show(card)

    async def answer_person(self, answer: PersonalAnswer) -> tuple[Delivery, ...]:
        """Tell one person alone; see `activities.channels.ConversationChannel`."""
        return await self._whispers.answer(answer)

    async def deliver(
        self, notification: Notification, *, earlier_attempt: datetime | None = None
    ) -> tuple[Delivery, ...]:
        """Send once to the destination of each topic; see `activities.channels.NotificationChannel`.

        An approval that is shown as a card is not announced once more.
        """
        if notification.type is NotificationType.APPROVAL_REQUESTED and notification.thread is not None:
            return ()
        deliveries: list[Delivery] = []
        unavailable: ApplicationError | None = None
        told: set[Webhook | Conversation] = set()
        for topic in topics(notification, self._production):
            destination = self._destinations.of(topic)
            if only_in_threads(notification) and not isinstance(destination, Conversation):
                continue
            if destination is None:
                deliveries.append(self._destinations.missing(topic))
            elif destination not in told:
                told.add(destination)
                try:
                    deliveries.append(await self._tell(topic, destination, notification, earlier_attempt))
                except ApplicationError as error:
                    unavailable = unavailable or error
        if unavailable is not None:
            raise unavailable
        return tuple(deliveries)

    async def _tell(
        self,
        topic: Topic,
        destination: Webhook | Conversation,
        notification: Notification,
        earlier_attempt: datetime | None,
    ) -> Delivery:
        async def send(earlier: datetime | None) -> str | None:
            if isinstance(destination, Conversation):
                return str(await self._say(destination, notification, earlier))
            await destination.send(notification_message(notification, named(notification.people)))
            return None

        return await send_once(
            self._ledger, notification.key, str(topic), send, earlier_attempt=earlier_attempt
        )

    async def _say(
        self, conversation: Conversation, notification: Notification, earlier_attempt: datetime | None
    ) -> Reference:
        """Post into the conversation, unless an earlier attempt did; where the message is."""
        if notification.thread is None:
            return await self._post(conversation, notification, earlier_attempt, parent=None)
        thread = notification.thread
        # Two first messages of a thread must not both begin it.
        async with self._turns.setdefault((thread, conversation.name), asyncio.Lock()):
            parent = await self._parent(conversation, notification, earlier_attempt)
            posted = await self._post(conversation, notification, earlier_attempt, parent=parent)
            if parent is None:
                await self._threads.begin(conversation, thread, posted)
            return posted

    async def _parent(
        self, conversation: Conversation, notification: Notification, earlier_attempt: datetime | None
    ) -> Reference | None:
        thread = notification.thread or ""
        if notification.type is NotificationType.DEPLOYMENT_STARTED and earlier_attempt is None:
            # Nothing was told of this deployment before; the channel need not be read.
            return await self._threads.known(conversation, thread)
        return await self._threads.find(conversation, thread)

    async def _post(
        self,
        conversation: Conversation,
        notification: Notification,
        earlier_attempt: datetime | None,
        *,
        parent: Reference | None,
    ) -> Reference:
        api, name = conversation.api, conversation.name
        if earlier_attempt is not None:
            found = await self._find(conversation, notification.key, earlier_attempt, parent)
            if found is not None:
                return found
        message = notification_message(notification, await self._people.mentions(api, notification.people))
        if parent is None:
            return await api.post(name, message)
        try:
            return await api.post(
                name, message, thread=parent.ts, broadcast=notification.severity in _BROADCAST
            )
        except NotSentError as error:
            if error.code not in _NO_THREAD:
                raise
            posted = await api.post(name, message)
            await self._threads.begin(conversation, notification.thread or "", posted)
            return posted

    async def _find(
        self, conversation: Conversation, key: str, earlier_attempt: datetime, parent: Reference | None
    ) -> Reference | None:
        """The message with this key, if an earlier attempt has posted it: as a reply, or by itself.

        A bot that may not read the channel cannot know; the message is then sent again rather than lost.
        """
        api, name = conversation.api, conversation.name
        since = earlier_attempt.astimezone(UTC) - CLOCK_DIFFERENCE

        def ours(message: Shown) -> bool:
            return payload_of(message).get("key") == key

        found = None
        if parent is not None:
            found = await if_readable(api.find_reply(parent, ours, since=since), name)
        if found is None:
            found = await if_readable(api.find(name, ours, since=since), name)
        return None if found is None else await api.reference(name, found)
