"""Where the messages of a topic go, by the configuration and the worker's environment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from activities.channels import resolve, variables
from activities.slack.topics import Topic
from activities.slack.web_api import BOT_TOKEN, WebApi
from activities.slack.webhook import Webhook
from domain.configuration import SlackSettings
from domain.notification import Delivery

_ANY_WEBHOOK = "SLACK_WEBHOOK"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversation:
    """A channel that a bot posts to; `name` as the configuration has it."""

    api: WebApi
    name: str


class Destinations:
    """Looks destinations up, in the environment too, each time a message is sent.

    Args:
        environment: where ``${NAME}`` references and the bot's token are looked up.
    """

    def __init__(self, settings: SlackSettings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._bot: tuple[str, WebApi] | None = None
        self._unconfigured: set[Topic] = set()

    def of(self, topic: Topic) -> Webhook | Conversation | None:
        """The channel of a topic by bot token, else by webhook; none if there is neither."""
        bot = self.bot()
        names = [self._settings.channels[n] for n in topic.channels if self._settings.channels.get(n)]
        if bot is not None and names:
            return Conversation(api=bot, name=names[0])
        for setting in self._webhook_settings(topic):
            if url := resolve(setting, self._environment):
                named = " and ".join(variables(setting))
                return Webhook(
                    url=url, setting=named or f"notification_channels.slack.webhooks.{topic.webhook}"
                )
        return None

    def bot(self) -> WebApi | None:
        """The Web API, if there is a bot token."""
        token = self._environment.get(BOT_TOKEN)
        if not token:
            return None
        if self._bot is None or self._bot[0] != token:
            self._bot = (token, WebApi(token, self._settings.api_url))
        return self._bot[1]

    def missing(self, topic: Topic) -> Delivery:
        """What is told, and once logged, of a topic without a destination."""
        names = [name for setting in self._webhook_settings(topic) for name in variables(setting)]
        reason = f"Slack is not configured for {topic.name}: set {', '.join(names)} or {BOT_TOKEN}"
        if topic not in self._unconfigured:
            self._unconfigured.add(topic)
            _log.warning(reason)
        return Delivery(channel=str(topic), delivered=False, reason=reason)

    def _webhook_settings(self, topic: Topic) -> tuple[str, ...]:
        own = self._settings.webhooks.get(topic.webhook)
        fallback = f"${{{_ANY_WEBHOOK}}}"
        return (fallback,) if own is None else (own, fallback)
