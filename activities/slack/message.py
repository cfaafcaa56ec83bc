"""A message as Slack takes it: blocks for the eye, text for push notices, metadata for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from slack_sdk.models.blocks import Block
from slack_sdk.models.metadata import Metadata

EVENT_TYPE: Final = "erlmcp_deploy"
"""The ``event_type`` of our messages' metadata."""


@dataclass(frozen=True)
class Message:
    """What is posted.

    Attributes:
        text: in mrkdwn, complete enough to stand alone.
        payload: of the metadata: ``key`` by which it is found again, ``thread`` it begins or belongs to.
    """

    text: str
    blocks: Sequence[Block]
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> Message:
        """The same without blocks, for when Slack does not take them."""
        return replace(self, blocks=[])

    @property
    def metadata(self) -> Metadata:
        return Metadata(event_type=EVENT_TYPE, event_payload=dict(self.payload))


def payload_of(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Our metadata of a message that was read back; empty if it is not ours."""
    about = message.get("metadata") or {}
    payload = about.get("event_payload") if about.get("event_type") == EVENT_TYPE else None
    return payload if isinstance(payload, dict) else {}
