"""A stand-in for Slack: incoming webhooks, a part of the Web API, Socket Mode, and the people who answer.

It speaks Slack's HTTP and its WebSocket protocol, so the official clients work against it unchanged, keeps
every message it received, refuses the blocks Slack refuses, and can be told to fail, to throttle or to be
slow. Its people press buttons, fill in modals and type commands. Nothing leaves the machine.
"""

from sandbox.slack.delivery import Delivery, UnreachableError
from sandbox.slack.server import SlackServer
from sandbox.slack.workspace import (
    APP_TOKEN,
    BOT_TOKEN,
    SIGNING_SECRET,
    TEAM,
    Ephemeral,
    SlackMessage,
    SlackUser,
    SlackView,
)

__all__ = [
    "APP_TOKEN",
    "BOT_TOKEN",
    "SIGNING_SECRET",
    "TEAM",
    "Delivery",
    "Ephemeral",
    "SlackMessage",
    "SlackServer",
    "SlackUser",
    "SlackView",
    "UnreachableError",
]
