"""Threads: the messages of one deployment in one channel, under the first of them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from temporalio.exceptions import ApplicationError

from activities.ledger import EffectsLedger
from activities.slack.destinations import Conversation
from activities.slack.message import payload_of
from activities.slack.sending import NotSentError
from activities.slack.web_api import Reference, Shown

CLOCK_DIFFERENCE = timedelta(minutes=5)
"""How far Slack's clock and ours may be apart."""
_AGE = timedelta(days=7)
_PAGES = 10

_log = logging.getLogger(__name__)


class Threads:
    """Remembers the message that a thread hangs on, by the channel's name."""

    def __init__(self, ledger: EffectsLedger) -> None:
        self._ledger = ledger

    async def begin(self, conversation: Conversation, thread: str, parent: Reference) -> None:
        """From now on, messages of this thread are replies to `parent`."""
        await self._ledger.revise(_key(thread), _channel(conversation), str(parent))

    async def known(self, conversation: Conversation, thread: str) -> Reference | None:
        """The message this thread hangs on, as far as this machine knows."""
        effect = await self._ledger.find(_key(thread), _channel(conversation))
        return None if effect is None or effect.outcome is None else Reference.parse(effect.outcome)

    async def find(self, conversation: Conversation, thread: str) -> Reference | None:
        """The message this thread hangs on, also if a worker on another machine posted it.

        A thread is a convenience: what Slack does not say now, or only in a page far back, is not waited for.
        """
        if known := await self.known(conversation, thread):
            return known

        def belongs(message: Shown) -> bool:
            return payload_of(message).get("thread") == thread

        api, name = conversation.api, conversation.name
        try:
            found = await api.find(name, belongs, since=datetime.now(UTC) - _AGE, pages=_PAGES)
            if found is None:
                return None
            # A reply that was shown in the channel as well names its parent.
            parent = await api.reference(name, {"ts": found.get("thread_ts") or found["ts"]})
        except (NotSentError, ApplicationError) as error:
            _log.warning("Slack does not say where %s is told of in %s: %s", thread, name, error)
            return None
        await self.begin(conversation, thread, parent)
        return parent


def _key(thread: str) -> str:
    return f"thread:{thread}"


def _channel(conversation: Conversation) -> str:
    return f"slack:{conversation.name}"
