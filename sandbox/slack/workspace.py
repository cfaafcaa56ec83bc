"""What there is in a workspace: people, messages, modals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

TEAM: Final = "T0SANDBOX"
DOMAIN: Final = "sandbox"
APP: Final = "A0SANDBOX"
BOT_USER: Final = "U0BOT"
BOT: Final = "B0BOT"
HOOK: Final = "B0HOOK"
BOT_TOKEN: Final = "xoxb-sandbox"
APP_TOKEN: Final = "xapp-sandbox"
SIGNING_SECRET: Final = "sandbox-signing-secret"


@dataclass(frozen=True)
class SlackMessage:
    """One message as it stands now; ``edits`` counts its updates."""

    channel: str  # name without '#'; of a conversation with one person '@' and their id
    ts: str
    text: str
    blocks: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    thread_ts: str | None = None
    via: str = "api"  # or "webhook" or "response_url"
    edits: int = 0
    reactions: tuple[str, ...] = ()

    def public(self, *, with_metadata: bool = True) -> dict[str, Any]:
        """The message in Slack's JSON."""
        public: dict[str, Any] = {"type": "message", "ts": self.ts, "text": self.text, "bot_id": BOT}
        public |= {"team": TEAM, "app_id": APP}
        # An incoming webhook is a bot of its own, and no user.
        public |= {"bot_id": HOOK, "subtype": "bot_message"} if self.via == "webhook" else {"user": BOT_USER}
        if self.blocks:
            public["blocks"] = self.blocks
        if self.attachments:
            public["attachments"] = self.attachments
        if self.thread_ts:
            public["thread_ts"] = self.thread_ts
        if self.metadata and with_metadata:
            public["metadata"] = self.metadata
        if self.edits:
            public["edited"] = {"user": BOT_USER, "ts": self.ts}
        return public


@dataclass(frozen=True)
class Ephemeral:
    """What one person alone was shown in a channel."""

    channel: str
    user: str
    ts: str
    text: str
    blocks: list[dict[str, Any]] = field(default_factory=list)
    thread_ts: str | None = None
    via: str = "api"  # or "response_url", or "answer" to a command

    @property
    def words(self) -> str:
        """All that can be read in it."""
        return "\n".join((self.text, *_texts(self.blocks)))


@dataclass(frozen=True)
class SlackUser:
    """One person.

    Attributes:
        email: none where Slack does not tell it (the app lacks ``users:read.email``).
        team: another workspace's, for somebody who shares a channel with us.
    """

    id: str
    email: str | None
    name: str
    deleted: bool = False
    is_bot: bool = False
    email_confirmed: bool = True
    team: str = TEAM

    @property
    def handle(self) -> str:
        return re.sub(r"@.*", "", self.email or self.name.lower().replace(" ", "."))

    def profile(self) -> dict[str, Any]:
        """The person in Slack's JSON, as users.info answers."""
        profile = {"real_name": self.name, "display_name": self.handle}
        if self.email is not None:
            profile["email"] = self.email
        return {
            "id": self.id,
            "team_id": self.team,
            "name": self.handle,
            "real_name": self.name,
            "deleted": self.deleted,
            "is_bot": self.is_bot,
            "is_email_confirmed": self.email_confirmed,
            "profile": profile,
        }


@dataclass(frozen=True)
class SlackView:
    """A modal in front of one person.

    Attributes:
        definition: as the app described it.
        errors: what the app found wrong with what was filled in, by block.
        open: still on the screen.
    """

    id: str
    user: str
    definition: dict[str, Any]
    hash: str
    errors: dict[str, str] = field(default_factory=dict)
    open: bool = True

    @property
    def callback_id(self) -> str:
        return str(self.definition.get("callback_id", ""))

    @property
    def words(self) -> str:
        """All that can be read in it."""
        return "\n".join(_texts([self.definition]))

    def public(self, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """The view in Slack's JSON."""
        optional = ("callback_id", "private_metadata", "external_id")
        return {
            **self.definition,
            **{name: self.definition.get(name, "") for name in optional},
            "submit": self.definition.get("submit"),
            "close": self.definition.get("close"),
            "id": self.id,
            "team_id": TEAM,
            "state": {"values": values or {}},
            "hash": self.hash,
            "clear_on_close": bool(self.definition.get("clear_on_close")),
            "notify_on_close": bool(self.definition.get("notify_on_close")),
            "previous_view_id": None,
            "root_view_id": self.id,
            "app_id": APP,
            "app_installed_team_id": TEAM,
            "bot_id": BOT,
        }


def _texts(node: Any) -> list[str]:
    """Everything that is text in blocks, in reading order."""
    if isinstance(node, list):
        return [text for part in node for text in _texts(part)]
    if not isinstance(node, dict):
        return []
    own = [node["text"]] if isinstance(node.get("text"), str) else []
    return own + [text for key, part in node.items() if key != "private_metadata" for text in _texts(part)]
