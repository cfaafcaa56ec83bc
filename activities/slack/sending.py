"""Once is enough, and what became of it: the ledger's part in every message."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from slack_sdk.errors import SlackObjectFormationError

from activities.errors import UNAVAILABLE, fail
from activities.ledger import EffectsLedger
from activities.slack.message import Message
from domain.notification import Delivery

T = TypeVar("T")

_log = logging.getLogger(__name__)


class NotSentError(Exception):
    """Slack certainly did not take the message.

    Attributes:
        kind: ``UNAVAILABLE`` if it may take it later, else why it never will.
        code: Slack's word for it, such as ``not_in_channel``.
    """

    def __init__(
        self, kind: str, message: str, *, code: str = "", retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.retry_after = retry_after


_BLOCKS_REFUSED = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})


async def in_blocks_or_plain(send: Callable[[Message], Awaitable[T]], message: Message) -> T:
    """Send a message, and its plain form if Slack refuses the blocks: it is plainer, and not lost."""
    try:
        return await send(message)
    except SlackObjectFormationError as error:  # the library knows some of Slack's limits
        _log.warning("blocks that Slack would refuse (%s); the message is sent as plain text", error)
    except NotSentError as error:
        if error.code not in _BLOCKS_REFUSED:
            raise
        _log.warning("%s; the message is sent as plain text", error)
    return await send(message.plain)


Send = Callable[[datetime | None], Awaitable[str | None]]
"""Sends a message, unless an attempt since this time (UTC) has; its reference, where there is one."""


async def send_once(
    ledger: EffectsLedger, key: str, channel: str, send: Send, *, earlier_attempt: datetime | None = None
) -> Delivery:
    """Send a message that the ledger does not know to be sent.

    Raises:
        ApplicationError: Unavailable, if another attempt can help.
    """
    earlier = await ledger.intend(key, channel)
    if earlier is not None:
        if earlier.outcome is not None:
            return Delivery.model_validate_json(earlier.outcome)
        earlier_attempt = earlier.intended_at
    try:
        reference = await send(earlier_attempt)
    except NotSentError as error:
        if earlier is None:
            await ledger.withdraw(key, channel)
        return not_sent(error, key, channel)
    delivery = Delivery(channel=channel, delivered=True, reference=reference)
    await ledger.complete(key, channel, delivery.model_dump_json())
    return delivery


def not_sent(error: NotSentError, key: str, channel: str) -> Delivery:
    """What is told of a message that was not taken.

    Raises:
        ApplicationError: Unavailable, if another attempt can help.
    """
    if error.kind == UNAVAILABLE:
        fail(UNAVAILABLE, str(error), retry_after=error.retry_after)
    _log.warning("%s was not told of %s: %s: %s", channel, key, error.kind, error)
    return Delivery(channel=channel, delivered=False, reason=f"{error.kind}: {error}")
