"""Requests of Slack: clicks, dialogs and slash commands, as HTTP (Socket Mode needs no receiver)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from starters.receiver.answer import Answer, Reply, refused
from starters.receiver.body import FORM, JSON, media_type, read_form, read_json
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.webhook import Received
from starters.slack.desk import SlackReply
from starters.slack.once import Once


class Desk(Protocol):
    """Acts on what a person did in Slack."""

    async def handle(self, form: Mapping[str, str]) -> SlackReply: ...


class SlackEndpoint:
    """Takes requests of Slack; one with a signature that was seen already is a replay.

    A replay that comes while the first is being worked on waits for it, and fails as it does.
    """

    name = "slack"

    def __init__(self, desk: Desk, configuration: ConfigurationFile) -> None:
        self._desk = desk
        self._configuration = configuration
        self._once: Once[SlackReply] = Once(lambda reply: reply.answer.status < 500, capacity=10_000)

    async def take(self, received: Received) -> Answer | Reply:
        kind = media_type(received.headers)
        if kind == JSON:
            return _event(read_json(received.body))
        if kind != FORM:
            raise refused(400, f"Content-Type is {kind!r}; send {FORM}")
        form = read_form(received.body)
        if "payload" in form:
            read_json(form["payload"])
        signature = received.headers["x-slack-signature"].strip()
        reply, again = await self._once.do(signature, lambda: self._handle(form))
        if again and reply.status == 200:
            return Answer(200, "duplicate", "this very request was taken already")
        return Reply(reply.status, reply.body, reply.answer)

    async def _handle(self, form: Mapping[str, str]) -> SlackReply:
        await self._configuration.refresh()
        return await self._desk.handle(form)


def _event(payload: dict[str, object]) -> Answer | Reply:
    """The Events API: its address is verified once, and nothing of it is needed."""
    challenge = payload.get("challenge")
    if payload.get("type") == "url_verification" and isinstance(challenge, str):
        return Reply(200, {"challenge": challenge}, Answer(200, "ignored", "the address is verified"))
    return Answer(200, "ignored", "nothing is done with Slack's events")
