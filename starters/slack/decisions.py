"""Decisions on their way from Slack to Temporal: signed, sent once per click, acknowledged when taken."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.approval import DecisionMessage, Verb
from domain.signing import SigningKey, subject_of
from starters.target import Target


def decision(
    person: str,
    comment: str = "",
    *,
    gate: str | None,
    key: str,
    channel: str,
    user: str,
    emergency: bool = False,
) -> DecisionMessage:
    """What a person decided.

    Args:
        key: made from Slack's ids: the same click is the same decision, however often it is sent.
        channel: where a refusal is told to `user`.
    """
    return DecisionMessage(
        actor=person,
        comment=comment,
        source="slack",
        gate=gate,
        id=f"slack:{key}",
        emergency=emergency,
        reply_to=f"slack:{channel}:{user}",
    )


def signed(
    message: DecisionMessage, key: SigningKey | None, namespace: str, target: Target, verb: Verb
) -> DecisionMessage:
    """The decision with the receiver's signature, if it has a key."""
    if key is None:
        return message
    return key.sign(subject_of(namespace, target.id_of("deployment")), verb, message, datetime.now(UTC))


async def signal(client: Client, workflow_id: str, verb: Verb, message: DecisionMessage) -> bool:
    """Hand a decision to a workflow; whether it runs."""
    try:
        await client.get_workflow_handle(workflow_id).signal(str(verb), message)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower():
            return False
        raise
    return True
