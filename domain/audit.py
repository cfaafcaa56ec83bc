"""The audit trail: events and the hash chain that makes tampering evident (spec: Audit Trails).

Each deployment has its own chain: every event's hash covers its canonical JSON and the hash before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.model import Model

GENESIS = "0" * 64
"""The "previous hash" of a chain's first event."""


class AuditCategory(StrEnum):
    DEPLOYMENT = "deployment"
    ROLLBACK = "rollback"
    APPROVAL = "approval"
    CONFIGURATION = "configuration"


class AuditEvent(Model):
    """One entry: the spec's ``audit_event`` record with the required audit fields.

    Attributes:
        event_id: UUID v4; a second event with the same id is the same event.
        event_type: what happened, e.g. ``deployment.transition``.
        action: what was done, e.g. ``deploy_production``.
        target: the environment it was done to.
        status: ``success``, ``failed``, ``refused``, ``started`` …
    """

    event_id: str
    event_type: str
    category: AuditCategory
    timestamp: datetime
    actor: str
    action: str
    target: str
    version: str
    status: str
    reason: str = ""
    deployment_id: str
    environment: str
    ip_address: str | None = None
    user_agent: str | None = None
    details: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class AuditReceipt(Model):
    """Where an event stands in its chain."""

    chain: str
    sequence: int
    hash: str


class ChainedEvent(Model):
    """An event as it is stored."""

    chain: str
    sequence: int
    previous_hash: str
    hash: str
    event: AuditEvent


class ChainFault(Model):
    """Where and how a chain is broken."""

    chain: str
    sequence: int
    reason: str


def canonical_json(event: AuditEvent) -> bytes:
    """The one serialisation that is hashed: sorted keys, no blanks, UTF-8.

    Fields that have their default are left out, so that a field added later changes no old hash.
    """
    return json.dumps(
        event.model_dump(mode="json", exclude_defaults=True),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()


def chain_hash(chain: str, sequence: int, previous_hash: str, event: AuditEvent) -> str:
    """The hash of an event at its place in its chain (sha256, hexadecimal)."""
    digest = hashlib.sha256()
    for part in (chain.encode(), str(sequence).encode(), previous_hash.encode(), canonical_json(event)):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def link(chain: str, previous: ChainedEvent | None, event: AuditEvent) -> ChainedEvent:
    """Append an event to a chain."""
    sequence = 1 if previous is None else previous.sequence + 1
    previous_hash = GENESIS if previous is None else previous.hash
    return ChainedEvent(
        chain=chain,
        sequence=sequence,
        previous_hash=previous_hash,
        hash=chain_hash(chain, sequence, previous_hash, event),
        event=event,
    )


def verify_chain(events: Iterable[ChainedEvent]) -> ChainFault | None:
    """The first fault of one chain in stored order, or none."""
    previous_hash = GENESIS
    for sequence, stored in enumerate(events, start=1):
        if stored.sequence != sequence:
            return ChainFault(
                chain=stored.chain, sequence=sequence, reason=f"event {sequence} is missing or moved"
            )
        if stored.previous_hash != previous_hash:
            return ChainFault(
                chain=stored.chain, sequence=sequence, reason="it does not follow the event before it"
            )
        if stored.hash != chain_hash(stored.chain, sequence, previous_hash, stored.event):
            return ChainFault(chain=stored.chain, sequence=sequence, reason="its content was changed")
        previous_hash = stored.hash
    return None
