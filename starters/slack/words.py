"""What we say in Slack: Block Kit within Slack's limits, with everything from outside made harmless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from activities.slack.mrkdwn import TEXT_LIMIT, mrkdwn, one_line

BLOCK_LIMIT = 50
_NOTICE = 300
"""Characters of the plain form, which phones show."""
_WORD = 600
"""Characters of one thing from outside."""


@dataclass(frozen=True)
class Words:
    """Paragraphs in Slack's mrkdwn; whoever writes them escapes what comes from outside."""

    paragraphs: tuple[str, ...]

    def blocks(self) -> list[dict[str, Any]]:
        kept = [p for p in self.paragraphs if p.strip()][:BLOCK_LIMIT]
        return [section(p) for p in kept]

    def message(self) -> dict[str, Any]:
        """For one person alone, as an answer to a command or to a response URL."""
        text = shortened(self.paragraphs[0], _NOTICE)
        return {"response_type": "ephemeral", "text": text, "blocks": self.blocks()}


def words(*paragraphs: str) -> Words:
    return Words(paragraphs)


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": mrkdwn(shortened(text, TEXT_LIMIT)).to_dict()}


def escape(plain: str) -> str:
    """One line in which nothing mentions people or disguises a link."""
    return one_line(plain, _WORD)


def unescape(typed: str) -> str:
    """What was typed: Slack sends its control characters as entities."""
    return typed.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def code(plain: str) -> str:
    """A name, as it is."""
    return f"`{escape(plain).replace('`', chr(39))}`"


def shortened(text: str, limit: int) -> str:
    """Escaped text, cut where it is too long, but through no entity."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    # Half an entity would be shown as such.
    start = cut.rfind("&", limit - 8)
    return (cut[:start] if start >= 0 and ";" not in cut[start:] else cut) + "…"
