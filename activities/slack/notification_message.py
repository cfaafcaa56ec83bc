"""A notification as a Slack message: the spec's template, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from slack_sdk.models.blocks import Block, ContextBlock, HeaderBlock, PlainTextObject, SectionBlock

from activities.slack.message import Message
from activities.slack.mrkdwn import (
    FIELD_LIMIT,
    TEXT_LIMIT,
    in_a_row,
    is_url,
    link,
    listed,
    mrkdwn,
    one_line,
    seen,
)
from domain.notification import Notification, NotificationType

# Slack's limits, in characters and fields.
_HEADER = HeaderBlock.text_max_length
_FIELDS = SectionBlock.fields_max_length
_METADATA = 7000
_SECTIONS = 20
_ABOUT_THE_THREAD = frozenset({"environment", "version"})


def notification_message(notification: Notification, mentions: Sequence[str]) -> Message:
    """The message; `mentions` are the people who are meant, in mrkdwn."""
    return Message(
        text=_text(notification, mentions),
        blocks=_blocks(notification, mentions),
        payload=_payload(notification),
    )


def _text(notification: Notification, mentions: Sequence[str]) -> str:
    """The plain form, which phones show and screen readers speak."""
    lines = [
        f"{_label(name)}: {one_line(_plain(value), 1000)}" for name, value in notification.fields.items()
    ]
    if mentions:
        lines.insert(0, in_a_row(mentions, TEXT_LIMIT, separator=" "))
    return listed(lines, 12_000, heading=one_line(_headline(notification), 300))


def _blocks(notification: Notification, mentions: Sequence[str]) -> list[Block]:
    """A header and the fields in the template's order; in a thread, progress takes one line."""
    if notification.type is NotificationType.DEPLOYMENT_PROGRESS:
        return [ContextBlock(elements=[mrkdwn(_progress(notification))])]
    shown = [
        mrkdwn(f"*{_label(name)}*\n{_linked(value)}")
        for name, value in list(notification.fields.items())[: _SECTIONS * _FIELDS]
    ]
    sections = [SectionBlock(fields=list(shown[i : i + _FIELDS])) for i in range(0, len(shown), _FIELDS)]
    header = PlainTextObject(text=_shortened(seen(_headline(notification)), _HEADER), emoji=False)
    blocks: list[Block] = [HeaderBlock(text=header), *sections]
    if mentions:
        blocks.append(SectionBlock(text=mrkdwn(in_a_row(mentions, TEXT_LIMIT, separator=" "))))
    return blocks


def _progress(notification: Notification) -> str:
    about = [
        f"{_label(name)}: {one_line(_plain(value), 300)}"
        for name, value in notification.fields.items()
        if name not in _ABOUT_THE_THREAD
    ]
    return in_a_row([f"*{one_line(notification.title, 150)}*", *about], TEXT_LIMIT // 2, separator=" · ")


def _payload(notification: Notification) -> dict[str, Any]:
    """The key and thread, to find it again by, and the spec's JSON unless it is too large for Slack."""
    payload: dict[str, Any] = {"key": notification.key}
    if notification.thread is not None:
        payload["thread"] = notification.thread
    body = notification.body()
    if len(json.dumps(body)) <= _METADATA:
        payload["notification"] = body
    return payload


def _headline(notification: Notification) -> str:
    return f"{notification.title} [{notification.severity.upper()}]"


def _label(name: str) -> str:
    return one_line(name.replace("_", " ").capitalize(), 150)


def _linked(value: Any) -> str:
    return link(value) if isinstance(value, str) and is_url(value) else _value(value)


def _value(value: Any) -> str:
    return one_line(_plain(value), FIELD_LIMIT - 200)  # leaves room for the label


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shortened(plain: str, limit: int) -> str:
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
