"""Notifications to people (spec: Notification Workflows)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporalio import activity

from activities.channels import NotificationChannel
from activities.signatures import NotificationSignatures
from domain.notification import Delivery, Notification, NotificationReceipt


class NotificationActivities(NotificationSignatures):
    """Sends each notification to all channels; a channel that is down keeps no other from being told."""

    def __init__(self, channels: Sequence[NotificationChannel]) -> None:
        self._channels = tuple(channels)

    @activity.defn
    async def notify(self, notification: Notification) -> NotificationReceipt:
        """Tell every channel once.

        Raises:
            ApplicationError: Unavailable, after all channels were tried; those that were told already
                answer the next attempt from their ledger.
        """
        info = activity.info()
        earlier_attempt = info.scheduled_time if info.attempt > 1 else None
        outcomes = await asyncio.gather(
            *(channel.deliver(notification, earlier_attempt=earlier_attempt) for channel in self._channels),
            return_exceptions=True,
        )
        deliveries: list[Delivery] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            deliveries.extend(outcome)
        return NotificationReceipt(deliveries=tuple(deliveries))
