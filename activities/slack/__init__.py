"""Slack (spec: Notification Channels), through incoming webhooks or, with ``SLACK_BOT_TOKEN``, the Web API.

Exactly once: each message is written into the effects ledger before and after it is sent. When a worker
dies in between, the next attempt looks the message up in the channel, by the key in its metadata. The bot
needs the scopes ``chat:write``, ``channels:read`` and ``channels:history``, for private channels also
``groups:read`` and ``groups:history``, and to find people by their address ``users:read.email``. What it may
not look up, for want of a scope, is sent again rather than lost. An incoming
webhook cannot be asked, and neither can a message to one person alone, so in that narrow window these may
come twice; nothing is ever lost.

With a bot token the messages of a deployment form a thread, and an approval is one message with buttons that
is brought up to date. Without, messages stand alone, and people decide at a terminal.

Webhook addresses and tokens are secrets: they appear in no error, result or log, only the names of the
variables that hold them do.
"""

from activities.slack.channel import SlackChannel

__all__ = ["SlackChannel"]
