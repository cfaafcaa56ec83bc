"""Webhooks of PagerDuty (version 3)."""

from __future__ import annotations

from pydantic import ValidationError

from domain.model import Message
from starters.receiver.answer import Answer, refused
from starters.receiver.body import require_json
from starters.receiver.webhook import Received


class PagerDutyEvent(Message):
    """What is looked at of an event."""

    id: str
    event_type: str


class PagerDutyWebhook(Message):
    event: PagerDutyEvent


class PagerDutyEndpoint:
    """Verifies and answers; an incident starts nothing in this version."""

    name = "pagerduty"

    async def take(self, received: Received) -> Answer:
        payload = require_json(received.headers, received.body)
        try:
            event = PagerDutyWebhook.model_validate(payload).event
        except ValidationError:
            raise refused(422, "it has no event with id and event_type; use version 3 webhooks") from None
        if event.event_type == "pagey.ping":
            return Answer(200, "ignored", "the webhook works")
        if event.event_type.startswith("incident."):
            return Answer(
                200, "ignored", "incidents start nothing: disaster recovery is not served by this version"
            )
        return Answer(200, "ignored", "only incidents are of interest here")
