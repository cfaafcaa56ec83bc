"""Incoming webhooks: an address that takes messages for one channel, and tells nothing of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.webhook.async_client import AsyncWebhookClient

from activities.errors import REFUSED, UNAVAILABLE, fail
from activities.slack.answers import SILENT, TIMEOUT_SECONDS, explain
from activities.slack.message import Message
from activities.slack.sending import NotSentError, in_blocks_or_plain


@dataclass(frozen=True)
class Webhook:
    """An incoming webhook.

    Attributes:
        url: a secret.
        setting: what may be said of it: the variable that holds it.
    """

    url: str = field(repr=False)
    setting: str = field(compare=False)

    async def send(self, message: Message) -> None:
        """Post a message.

        Raises:
            NotSentError: Slack certainly did not take it.
            ApplicationError: Unavailable; nobody knows whether it did.
        """
        if not _is_address(self.url):
            raise NotSentError(REFUSED, f"{self.setting} is not an http or https address")
        await in_blocks_or_plain(self._post, message)

    async def _post(self, message: Message) -> None:
        client = AsyncWebhookClient(self.url, timeout=TIMEOUT_SECONDS, retry_handlers=[], logger=SILENT)
        # No cause is kept: aiohttp's errors quote the address.
        try:
            answer = await client.send(text=message.text, blocks=message.blocks)
        except aiohttp.ClientConnectorError:
            raise NotSentError(UNAVAILABLE, f"Slack cannot be reached at {self.setting}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            fail(UNAVAILABLE, f"Slack broke off at {self.setting}: {type(error).__name__}")
        if answer.status_code != 200:
            explain(answer.status_code, answer.body.strip(), self.setting, answer.headers)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket or port that cannot be read
        return False
