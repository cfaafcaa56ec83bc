"""Words for one person alone."""

from __future__ import annotations

import logging
import re
from datetime import datetime

from slack_sdk.models.blocks import SectionBlock

from activities.errors import UNAVAILABLE
from activities.ledger import EffectsLedger
from activities.slack.destinations import Destinations
from activities.slack.message import Message
from activities.slack.mrkdwn import TEXT_LIMIT, escaped, mrkdwn
from activities.slack.sending import NotSentError, send_once
from activities.slack.web_api import BOT_TOKEN, WebApi
from domain.approval_card import PersonalAnswer
from domain.notification import Delivery

_SCHEME = "slack:"
_REPLY_TO = re.compile(r"slack:([CDG][A-Z0-9]{2,30}):([UW][A-Z0-9]{2,30})")

_log = logging.getLogger(__name__)


class Whispers:
    """Tells one person, where they spoke to us if Slack lets us, else in a direct message.

    What is shown to one person alone cannot be looked up again: after a crash in the wrong moment it comes
    twice.
    """

    def __init__(self, destinations: Destinations, ledger: EffectsLedger) -> None:
        self._destinations = destinations
        self._ledger = ledger

    async def answer(self, answer: PersonalAnswer) -> tuple[Delivery, ...]:
        """Tell a person once; no delivery if they did not speak to us in Slack.

        Raises:
            ApplicationError: Unavailable, if another attempt can help.
        """
        if not answer.reply_to.startswith(_SCHEME):
            return ()
        place = _REPLY_TO.fullmatch(answer.reply_to)
        if place is None:
            reason = f"reply_to is {answer.reply_to!r}; it must be slack:CHANNEL:USER, by their ids"
            return (Delivery(channel="slack", delivered=False, reason=reason),)
        api = self._destinations.bot()
        if api is None:
            reason = f"Slack takes answers to a person from a bot only: set {BOT_TOKEN}"
            return (Delivery(channel=answer.reply_to, delivered=False, reason=reason),)
        channel, user = place.groups()

        async def send(_: datetime | None) -> str | None:
            return await _tell(api, channel, user, answer)

        return (await send_once(self._ledger, answer.key, answer.reply_to, send),)


async def _tell(api: WebApi, channel: str, user: str, answer: PersonalAnswer) -> str | None:
    text = escaped(answer.text, TEXT_LIMIT)
    try:
        await api.whisper(channel, user, text)
    except NotSentError as error:
        if error.kind == UNAVAILABLE:
            raise
        _log.info("%s cannot be told in %s, and gets a direct message: %s", user, channel, error)
        message = Message(text=text, blocks=[SectionBlock(text=mrkdwn(text))], payload={"key": answer.key})
        return str(await api.post(user, message))
    return None
