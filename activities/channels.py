"""The ports through which people are told (spec: Notification Channels); one adapter per outside system."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from string import Template
from typing import Protocol

from domain.approval_card import ApprovalCard, PersonalAnswer
from domain.notification import Delivery, Notification


class NotificationChannel(Protocol):
    """One way to reach people."""

    async def deliver(
        self, notification: Notification, *, earlier_attempt: datetime | None = None
    ) -> tuple[Delivery, ...]:
        """Tell it once per key, to every destination this type of notification goes to.

        Args:
            earlier_attempt: when a first attempt, whose end nobody knows, may have begun (UTC).

        Returns:
            One delivery per destination. A destination that is not configured, or that will never accept
            the message, is a delivery with ``delivered=False`` and the reason. A type that this channel does
            not tell of has none.

        Raises:
            ApplicationError: Unavailable, if another attempt can help.
        """
        ...


class ConversationChannel(Protocol):
    """One way to talk with people.

    Its methods return no delivery where they have nothing to do, and raise ApplicationError, Unavailable, if
    another attempt can help.
    """

    async def show_approval(self, card: ApprovalCard) -> tuple[Delivery, ...]:
        """Show an approval, or bring what is shown up to date."""
        ...

    async def answer_person(self, answer: PersonalAnswer) -> tuple[Delivery, ...]:
        """Tell one person alone, if they spoke to us here."""
        ...


def variables(setting: str) -> tuple[str, ...]:
    """The names of the environment variables that a setting such as ``${SLACK_ALERTS_WEBHOOK}`` refers to."""
    return tuple(Template(setting).get_identifiers())


def resolve(setting: str, environment: Mapping[str, str]) -> str | None:
    """A setting with its ``${NAME}`` references replaced; none if one of the variables is unset or empty."""
    if any(not environment.get(name) for name in variables(setting)):
        return None
    return Template(setting).safe_substitute(environment).strip() or None
