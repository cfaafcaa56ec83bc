"""The audit trail (spec: Audit Trails)."""

from __future__ import annotations

from typing import Protocol

from temporalio import activity

from activities.errors import INVALID_INPUT, fail
from activities.signatures import AuditSignatures
from domain.audit import AuditEvent, AuditReceipt


class AuditStore(Protocol):
    """Write-once storage of hash chains."""

    async def append(self, event: AuditEvent) -> AuditReceipt:
        """Append to the chain of the event's deployment; durable when it returns.

        The same event a second time gets the receipt of the first.

        Raises:
            ApplicationError: Refused, if another event has this id or the chain was tampered with;
                Unavailable, if the store cannot be written now.
        """
        ...


class AuditActivities(AuditSignatures):
    """Keeps the audit trail in a store."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    @activity.defn
    async def record_audit_event(self, event: AuditEvent) -> AuditReceipt:
        """Append to the deployment's hash chain; the same event id is stored once.

        Raises:
            ApplicationError: InvalidInput for a time without zone; otherwise as `AuditStore.append`.
        """
        if event.timestamp.tzinfo is None:
            fail(
                INVALID_INPUT, f"audit event {event.event_id}: timestamp {event.timestamp} names no time zone"
            )
        return await self._store.append(event)
