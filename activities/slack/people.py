"""People in Slack: how they are mentioned."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping

from temporalio.exceptions import ApplicationError

from activities.errors import UNAVAILABLE
from activities.slack.mrkdwn import one_line
from activities.slack.sending import NotSentError
from activities.slack.web_api import WebApi
from domain.approval import identity
from domain.configuration import Accounts

MENTIONS_LIMIT = 30
"""People of one message who are mentioned; more than a gate should have."""
_REMEMBERED_SECONDS = 3600.0
_NAME_LENGTH = 80
_MEMBER = re.compile(r"[UW][A-Z0-9]{2,30}")

_log = logging.getLogger(__name__)


class People:
    """Finds people by the directory's ``accounts``, else by their address, and remembers them for an hour.

    Args:
        accounts: person → accounts.
    """

    def __init__(self, accounts: Mapping[str, Accounts]) -> None:
        self._members = {
            identity(person): known.slack
            for person, known in accounts.items()
            if known.slack is not None and _MEMBER.fullmatch(known.slack)
        }
        self._looked_up: dict[str, tuple[float, str | None]] = {}

    async def mentions(self, api: WebApi, people: Iterable[str]) -> list[str]:
        """Each person as mrkdwn that mentions them, or only names them, if Slack does not know them now:
        no message waits for that."""
        wanted = list(dict.fromkeys(people))
        mentions = await asyncio.gather(*(self._mention(api, person) for person in wanted[:MENTIONS_LIMIT]))
        return [*mentions, *named(wanted[MENTIONS_LIMIT:])]

    async def _mention(self, api: WebApi, person: str) -> str:
        member = self._members.get(identity(person)) or await self._by_address(api, person)
        return one_line(person, _NAME_LENGTH) if member is None else f"<@{member}>"

    async def _by_address(self, api: WebApi, person: str) -> str | None:
        address = identity(person)
        if "@" not in address:
            return None
        known_until, member = self._looked_up.get(address, (0.0, None))
        if time.monotonic() < known_until:
            return member
        try:
            member = await api.member_by_email(person.strip())
        except (NotSentError, ApplicationError) as error:
            _log.info("Slack does not say who %s is: %s", person, error)
            if not isinstance(error, NotSentError) or error.kind == UNAVAILABLE:
                return None
            member = None
        if member is not None and not _MEMBER.fullmatch(member):
            member = None
        self._looked_up[address] = (time.monotonic() + _REMEMBERED_SECONDS, member)
        return member


def named(people: Iterable[str]) -> list[str]:
    """People as text that mentions nobody."""
    return [one_line(person, _NAME_LENGTH) for person in people]
