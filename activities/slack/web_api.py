"""Slack's Web API, as far as messages need it. No call is repeated here: Temporal does, after a look-up."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from activities.errors import UNAVAILABLE
from activities.slack.answers import SILENT, TIMEOUT_SECONDS, understood
from activities.slack.message import Message
from activities.slack.sending import NotSentError, in_blocks_or_plain

BOT_TOKEN: Final = "SLACK_BOT_TOKEN"  # noqa: S105 - the name of a variable
_PAGE: Final = 200

_log = logging.getLogger(__name__)

Shown = Mapping[str, Any]
"""A message as Slack tells it."""


class Reference(NamedTuple):
    """Where a message is."""

    channel: str
    ts: str

    def __str__(self) -> str:
        return f"{self.channel}:{self.ts}"

    @classmethod
    def parse(cls, text: str) -> Self:
        channel, _, ts = text.partition(":")
        return cls(channel, ts)


class WebApi:
    """The calls of one bot.

    All raise NotSentError or ApplicationError; see `activities.slack.answers.understood`.
    """

    def __init__(self, token: str, api_url: str) -> None:
        self._url = api_url
        self._ids: dict[str, str] = {}
        self._client = AsyncWebClient(
            token=token,
            base_url=api_url,
            timeout=TIMEOUT_SECONDS,
            retry_handlers=[],  # a retry that does not look at the ledger and the history could send twice
            logger=SILENT,
        )

    async def post(
        self, channel: str, message: Message, *, thread: str | None = None, broadcast: bool = False
    ) -> Reference:
        """Post to a channel by name or id, or to a person by member id; as a reply if `thread` is given."""

        async def send(message: Message) -> Reference:
            with self._understood(channel):
                answer = await self._client.chat_postMessage(
                    channel=channel,
                    text=message.text,
                    blocks=message.blocks,
                    metadata=message.metadata,
                    thread_ts=thread,
                    reply_broadcast=broadcast or None,
                    unfurl_links=False,
                    unfurl_media=False,
                )
            return Reference(answer["channel"], answer["ts"])

        posted = await in_blocks_or_plain(send, message)
        self._ids[channel] = posted.channel
        return posted

    async def update(self, reference: Reference, message: Message) -> None:
        """Replace a message."""

        async def send(message: Message) -> None:
            with self._understood(reference.channel):
                await self._client.chat_update(
                    channel=reference.channel,
                    ts=reference.ts,
                    text=message.text,
                    blocks=message.blocks,  # none take those away that are shown
                    metadata=message.metadata,
                )

        await in_blocks_or_plain(send, message)

    async def whisper(self, channel: str, user: str, text: str) -> None:
        """Show a text to one member of a channel alone."""
        with self._understood(channel):
            await self._client.chat_postEphemeral(channel=channel, user=user, text=text)

    async def member_by_email(self, email: str) -> str:
        """The id of the member with this address."""
        with self._understood("users.lookupByEmail"):
            answer = await self._client.users_lookupByEmail(email=email)
        return str(answer["user"]["id"])

    async def find(
        self, channel: str, wanted: Callable[[Shown], bool], *, since: datetime, pages: int | None = None
    ) -> Shown | None:
        """The newest message of a channel (without the replies in it) that is wanted."""
        channel_id = await self._channel_id(channel)
        if channel_id is None:
            return None
        return await self._first(
            self._client.conversations_history(
                channel=channel_id, oldest=_ts(since), include_all_metadata=True, limit=_PAGE
            ),
            wanted,
            where=channel,
            pages=pages,
        )

    async def find_reply(
        self, parent: Reference, wanted: Callable[[Shown], bool], *, since: datetime
    ) -> Shown | None:
        """A reply in a thread that is wanted."""
        return await self._first(
            self._client.conversations_replies(
                channel=parent.channel,
                ts=parent.ts,
                oldest=_ts(since),
                include_all_metadata=True,
                limit=_PAGE,
            ),
            wanted,
            where=parent.channel,
        )

    async def read(self, reference: Reference) -> Shown | None:
        """A message as it stands, if it is still there."""
        return await self._first(
            self._client.conversations_history(
                channel=reference.channel,
                oldest=reference.ts,
                latest=reference.ts,
                inclusive=True,
                include_all_metadata=True,
                limit=1,
            ),
            lambda message: message["ts"] == reference.ts,
            where=reference.channel,
            pages=1,
        )

    async def reference(self, channel: str, message: Shown) -> Reference:
        """Where a message is that was found in this channel."""
        return Reference(await self._channel_id(channel) or channel, str(message["ts"]))

    async def _first(
        self,
        request: Awaitable[AsyncSlackResponse],
        wanted: Callable[[Shown], bool],
        *,
        where: str,
        pages: int | None = None,
    ) -> Shown | None:
        with self._understood(where):
            async for messages in _limited(await request, pages):
                for message in messages:
                    if wanted(message):
                        return message
        return None

    async def _channel_id(self, name: str) -> str | None:
        """The id of a channel; chat.postMessage takes names, conversations.history does not."""
        if not name.startswith("#"):
            return name
        if name not in self._ids:
            try:
                await self._list(name, "public_channel,private_channel")
            except NotSentError as error:
                if error.code != "missing_scope":
                    raise
                # Without groups:read Slack refuses the whole list, not only the private channels in it.
                await self._list(name, "public_channel")
        return self._ids.get(name)

    async def _list(self, name: str, types: str) -> None:
        with self._understood(name):
            pages = await self._client.conversations_list(types=types, exclude_archived=True, limit=1000)
            async for page in pages:
                self._ids |= {f"#{channel['name']}": str(channel["id"]) for channel in page["channels"]}

    def _understood(self, where: str) -> AbstractContextManager[None]:
        return understood(f"{BOT_TOKEN} for {where}", self._url)


async def if_readable(look_up: Awaitable[Shown | None], where: str) -> Shown | None:
    """What a look-up finds. A bot that may not read the channel cannot know, and finds nothing.

    Raises:
        NotSentError: Unavailable; later it may be known.
    """
    try:
        return await look_up
    except NotSentError as error:
        if error.kind == UNAVAILABLE:
            raise
        _log.warning("Slack does not say what %s was told: %s", where, error)
        return None


async def _limited(answer: AsyncSlackResponse, pages: int | None) -> AsyncIterator[list[Shown]]:
    read = 0
    async for page in answer:
        yield page["messages"]
        read += 1
        if read == pages:
            return


def _ts(time: datetime) -> str:
    return f"{time.timestamp():.6f}"
