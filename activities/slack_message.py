"""A notification as a Slack message: blocks for the eye, text for push notices, metadata for machines."""

from __future__ import annotations

import json
from typing import Any

from slack_sdk.models.blocks import Block, HeaderBlock, MarkdownTextObject, PlainTextObject, SectionBlock
from slack_sdk.models.metadata import Metadata

from domain.notification import Notification

EVENT_TYPE = "erlmcp_deploy"
"""The ``event_type`` of our messages' metadata."""

# Slack's limits, in characters and fields.
_HEADER = HeaderBlock.text_max_length
_FIELD = 2000
_FIELDS = SectionBlock.fields_max_length
_METADATA = 8000


def text(notification: Notification) -> str:
    """The plain form, which phones show and screen readers speak."""
    lines = [_escape(_headline(notification))]
    lines += [f"{_label(name)}: {_value(value)}" for name, value in notification.fields.items()]
    return "\n".join(lines)


def blocks(notification: Notification) -> list[Block]:
    """A header and the fields of the spec's template, in its order."""
    shown = [
        MarkdownTextObject(text=f"*{_label(name)}*\n{_value(value)}")
        for name, value in notification.fields.items()
    ]
    sections = [SectionBlock(fields=list(shown[i : i + _FIELDS])) for i in range(0, len(shown), _FIELDS)]
    header = PlainTextObject(text=_shortened(_headline(notification), _HEADER), emoji=False)
    return [HeaderBlock(text=header), *sections]


def metadata(notification: Notification) -> Metadata:
    """The key, by which a message is found again, and the spec's JSON unless it is too large for Slack."""
    payload: dict[str, Any] = {"key": notification.key}
    body = notification.body()
    if len(json.dumps(body)) <= _METADATA:
        payload["notification"] = body
    return Metadata(event_type=EVENT_TYPE, event_payload=payload)


def _headline(notification: Notification) -> str:
    return f"{notification.title} [{notification.severity.upper()}]"


def _label(name: str) -> str:
    return _escape(name.replace("_", " ").capitalize())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _shortened(_escape(plain), _FIELD - 200)  # leaves room for the label


def _escape(plain: str) -> str:
    """Slack's control characters, so that no value can mention people or disguise a link."""
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shortened(plain: str, limit: int) -> str:
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
