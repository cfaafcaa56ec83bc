"""Slack (spec: Notification Channels), through incoming webhooks or, with ``SLACK_BOT_TOKEN``, the Web API.

Exactly once: each message is written into the effects ledger before and after it is sent. When a worker
dies in between, the next attempt looks the key up in the channel's history (the bot needs the scopes
``chat:write``, ``channels:read`` and ``channels:history``, for private channels ``groups:read`` and
``groups:history``). An incoming webhook cannot be asked, so in that narrow window a message may come
twice; it is never lost.

Webhook addresses and tokens are secrets: they appear in no error, result or log, only the names of the
variables that hold them do.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NoReturn
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient
from temporalio.exceptions import ApplicationError

from activities.channels import resolve, variables
from activities.errors import FORBIDDEN, REFUSED, UNAVAILABLE, fail
from activities.ledger import EffectsLedger
from activities.slack_message import EVENT_TYPE, blocks, metadata, text
from domain.configuration import SlackSettings
from domain.notification import Delivery, Notification, NotificationType, Severity

_BOT_TOKEN = "SLACK_BOT_TOKEN"  # noqa: S105 - the name of a variable
_ANY_WEBHOOK = "SLACK_WEBHOOK"
_TIMEOUT_SECONDS = 10
_CLOCK_DIFFERENCE = timedelta(minutes=5)

_FORBIDDEN_ANSWERS = frozenset(
    {
        *("account_inactive", "invalid_auth", "invalid_token", "missing_scope", "no_permission"),
        *("not_authed", "not_in_channel", "restricted_action", "token_expired", "token_revoked"),
    }
)
_PASSING_ANSWERS = frozenset({"fatal_error", "internal_error", "request_timeout", "service_unavailable"})
_ERROR_CODE = re.compile(r"[a-z_]{1,60}")

_log = logging.getLogger(__name__)
# slack-sdk writes whole addresses and bodies into its debug log.
_silent = logging.getLogger(f"{__name__}.sdk")
_silent.disabled = True


@dataclass(frozen=True)
class Topic:
    """What a message is about, by its names in the configuration's ``webhooks`` and ``channels``."""

    webhook: str
    channel: str

    def __str__(self) -> str:
        return f"slack:{self.webhook}"


DEPLOYMENTS = Topic(webhook="deployments", channel="deployment_updates")
ALERTS = Topic(webhook="alerts", channel="alerts")
INCIDENTS = Topic(webhook="incidents", channel="critical")

_ALERTING = frozenset(
    {
        NotificationType.DEPLOYMENT_FAILED,
        NotificationType.ROLLBACK_STARTED,
        NotificationType.ROLLBACK_COMPLETED,
        NotificationType.ROLLBACK_FAILED,
    }
)


def topics(notification: Notification, production: Collection[str]) -> tuple[Topic, ...]:
    """Where a notification goes (spec: Notification Flow); what is critical in production is an incident."""
    if notification.type not in _ALERTING:
        return (DEPLOYMENTS,)
    if notification.severity is Severity.CRITICAL and notification.fields.get("environment") in production:
        return (ALERTS, INCIDENTS)
    return (ALERTS,)


@dataclass(frozen=True)
class _Webhook:
    url: str = field(repr=False)
    setting: str = field(compare=False)


@dataclass(frozen=True)
class _Conversation:
    token: str = field(repr=False)
    name: str


class _NotSentError(Exception):
    """Slack certainly did not take the message.

    Attributes:
        kind: ``UNAVAILABLE`` if it may take it later, else why it never will.
    """

    def __init__(self, kind: str, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class SlackChannel:
    """Sends notifications to the Slack channels of the configuration.

    Args:
        environment: where ``${NAME}`` references are looked up, each time a message is sent.
        production: environments whose critical messages are incidents.
    """

    def __init__(
        self,
        settings: SlackSettings,
        ledger: EffectsLedger,
        *,
        environment: Mapping[str, str] = os.environ,
        production: Collection[str] = ("production",),
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._environment = environment
        self._production = production
        self._unconfigured: set[Topic] = set()

    async def deliver(
        self, notification: Notification, *, earlier_attempt: datetime | None = None
    ) -> tuple[Delivery, ...]:
        """Send once to the destination of each topic; see `activities.channels.NotificationChannel`."""
        deliveries: list[Delivery] = []
        unavailable: ApplicationError | None = None
        told: set[_Webhook | _Conversation] = set()
        for topic in topics(notification, self._production):
            destination = self._destination(topic)
            if destination is None:
                deliveries.append(self._without_destination(topic))
            elif destination not in told:
                told.add(destination)
                try:
                    deliveries.append(await self._tell(topic, destination, notification, earlier_attempt))
                except ApplicationError as error:
                    unavailable = unavailable or error
        if unavailable is not None:
            raise unavailable
        return tuple(deliveries)

    def _destination(self, topic: Topic) -> _Webhook | _Conversation | None:
        token = self._environment.get(_BOT_TOKEN)
        name = self._settings.channels.get(topic.channel)
        if token and name:
            return _Conversation(token=token, name=name)
        for setting in self._webhook_settings(topic):
            if url := resolve(setting, self._environment):
                names = " and ".join(variables(setting))
                return _Webhook(
                    url=url, setting=names or f"notification_channels.slack.webhooks.{topic.webhook}"
                )
        return None

    def _webhook_settings(self, topic: Topic) -> tuple[str, ...]:
        own = self._settings.webhooks.get(topic.webhook)
        fallback = f"${{{_ANY_WEBHOOK}}}"
        return (fallback,) if own is None else (own, fallback)

    def _without_destination(self, topic: Topic) -> Delivery:
        names = [name for setting in self._webhook_settings(topic) for name in variables(setting)]
        reason = f"Slack is not configured for {topic.webhook}: set {', '.join(names)} or {_BOT_TOKEN}"
        if topic not in self._unconfigured:
            self._unconfigured.add(topic)
            _log.warning(reason)
        return Delivery(channel=str(topic), delivered=False, reason=reason)

    async def _tell(
        self,
        topic: Topic,
        destination: _Webhook | _Conversation,
        notification: Notification,
        earlier_attempt: datetime | None,
    ) -> Delivery:
        key, channel = notification.key, str(topic)
        earlier = await self._ledger.intend(key, channel)
        if earlier is not None:
            if earlier.outcome is not None:
                return Delivery.model_validate_json(earlier.outcome)
            earlier_attempt = earlier.intended_at
        try:
            if isinstance(destination, _Conversation):
                reference = await self._post(destination, notification, earlier_attempt)
            else:
                await _send(destination, notification)
                reference = None
        except _NotSentError as error:
            if earlier is None:
                await self._ledger.withdraw(key, channel)
            if error.kind == UNAVAILABLE:
                fail(UNAVAILABLE, str(error), retry_after=error.retry_after)
            _log.warning("%s was not told of %s: %s: %s", channel, key, error.kind, error)
            return Delivery(channel=channel, delivered=False, reason=f"{error.kind}: {error}")
        delivery = Delivery(channel=channel, delivered=True, reference=reference)
        await self._ledger.complete(key, channel, delivery.model_dump_json())
        return delivery

    async def _post(
        self, conversation: _Conversation, notification: Notification, earlier_attempt: datetime | None
    ) -> str:
        """Post by bot token, unless an earlier attempt did; the message's ``channel:timestamp``."""
        client = AsyncWebClient(
            token=conversation.token,
            base_url=self._settings.api_url,
            timeout=_TIMEOUT_SECONDS,
            retry_handlers=[],  # a retry that does not look at the ledger and the history could send twice
            logger=_silent,
        )
        try:
            if earlier_attempt is not None:
                since = earlier_attempt.astimezone(UTC) - _CLOCK_DIFFERENCE
                if reference := await _find_message(client, conversation.name, notification.key, since):
                    return reference
            answer = await client.chat_postMessage(
                channel=conversation.name,
                text=text(notification),
                blocks=blocks(notification),
                metadata=metadata(notification),
            )
        except SlackApiError as error:
            _explain(_status(error), _code(error), f"{_BOT_TOKEN} for {conversation.name}", _headers(error))
        except aiohttp.ClientConnectorError as error:
            raise _NotSentError(
                UNAVAILABLE, f"Slack cannot be reached at {self._settings.api_url}"
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            fail(UNAVAILABLE, f"Slack broke off at {self._settings.api_url}: {type(error).__name__}")
        return f"{answer['channel']}:{answer['ts']}"


async def _send(webhook: _Webhook, notification: Notification) -> None:
    """Post to an incoming webhook, which names no message in its answer."""
    if not _is_address(webhook.url):
        raise _NotSentError(REFUSED, f"{webhook.setting} is not an http or https address")
    client = AsyncWebhookClient(webhook.url, timeout=_TIMEOUT_SECONDS, retry_handlers=[], logger=_silent)
    # No cause is kept: aiohttp's errors quote the address.
    try:
        answer = await client.send(text=text(notification), blocks=blocks(notification))
    except aiohttp.ClientConnectorError:
        raise _NotSentError(UNAVAILABLE, f"Slack cannot be reached at {webhook.setting}") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        fail(UNAVAILABLE, f"Slack broke off at {webhook.setting}: {type(error).__name__}")
    if answer.status_code != 200:
        _explain(answer.status_code, answer.body.strip(), webhook.setting, answer.headers)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket or port that cannot be read
        return False


async def _find_message(client: AsyncWebClient, name: str, key: str, since: datetime) -> str | None:
    """The reference of the message with this key, if it is in the channel.

    A bot that may not read the channel cannot know; the message is then sent again rather than lost.
    """
    try:
        channel = await _channel_id(client, name)
        if channel is None:
            return None
        pages = await client.conversations_history(
            channel=channel, oldest=f"{since.timestamp():.6f}", include_all_metadata=True, limit=200
        )
        async for page in pages:
            for message in page["messages"]:
                about = message.get("metadata", {})
                if about.get("event_type") == EVENT_TYPE and about.get("event_payload", {}).get("key") == key:
                    return f"{channel}:{message['ts']}"
    except SlackApiError as error:
        if _status(error) == 429 or _status(error) >= 500 or _code(error) in _PASSING_ANSWERS:
            raise
        _log.warning("Slack does not say whether %s was told of %s: %s", name, key, _code(error))
    return None


async def _channel_id(client: AsyncWebClient, name: str) -> str | None:
    """The id of a channel; chat.postMessage takes names, conversations.history does not."""
    if not name.startswith("#"):
        return name
    pages = await client.conversations_list(
        types="public_channel,private_channel", exclude_archived=True, limit=1000
    )
    async for page in pages:
        for channel in page["channels"]:
            if channel["name"] == name.removeprefix("#"):
                return str(channel["id"])
    return None


def _explain(status: int, code: str, where: str, headers: Mapping[str, str]) -> NoReturn:
    """Tell apart: not sent but may be later, not sent and never will be, and not known."""
    # The words of an answer are repeated only if they are one of Slack's error codes.
    answer = code if _ERROR_CODE.fullmatch(code) else f"HTTP {status}"
    if status == 429 or code == "ratelimited":
        seconds = headers.get("Retry-After", "")
        retry_after = timedelta(seconds=int(seconds)) if seconds.isdecimal() else None
        raise _NotSentError(UNAVAILABLE, f"Slack limits the rate of {where}", retry_after)
    if status >= 500 or code in _PASSING_ANSWERS:
        fail(UNAVAILABLE, f"Slack answered {answer} to {where}")
    kind = FORBIDDEN if code in _FORBIDDEN_ANSWERS or status in {401, 403} else REFUSED
    raise _NotSentError(kind, f"Slack answered {answer} to {where}")


def _status(error: SlackApiError) -> int:
    # After an unreadable answer this is aiohttp's response instead of slack-sdk's.
    status = getattr(error.response, "status_code", getattr(error.response, "status", None))
    return status if isinstance(status, int) else 500


def _code(error: SlackApiError) -> str:
    data = getattr(error.response, "data", None)
    return str(data.get("error", "")) if isinstance(data, dict) else ""


def _headers(error: SlackApiError) -> Mapping[str, str]:
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    return headers
