"""What a process tells the world of itself: audit events, notifications, search attributes.

Everything is written in the order it happened, and none of it is lost when the process is aborted
in the middle: an event that was begun is finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError

from activities.signatures import AuditSignatures, NotificationSignatures
from domain.audit import AuditCategory, AuditEvent
from domain.notification import Notification, NotificationType, notification
from workflows import effects

APPLICATION = SearchAttributeKey.for_keyword("Application")
ENVIRONMENT = SearchAttributeKey.for_keyword("Environment")
VERSION = SearchAttributeKey.for_keyword("Version")
DEPLOYMENT_STATE = SearchAttributeKey.for_keyword("DeploymentState")
AWAITING_APPROVAL = SearchAttributeKey.for_bool("AwaitingApproval")


class Journal:
    """The audit trail and the notifications of one process.

    Args:
        deployment_id: the chain its events belong to.
        actor: who is named where nobody else acts.
    """

    def __init__(
        self, *, deployment_id: str, application: str, environment: str, version: str, actor: str
    ) -> None:
        self.deployment_id = deployment_id
        self.application = application
        self.environment = environment
        self.version = version
        self.actor = actor
        self._audit: asyncio.Task[None] | None = None
        self._notices: asyncio.Task[None] | None = None
        self._told = 0

    async def record(
        self,
        event_type: str,
        action: str,
        status: str,
        *,
        category: AuditCategory = AuditCategory.DEPLOYMENT,
        actor: str | None = None,
        reason: str = "",
        **details: Any,
    ) -> None:
        """Store one audit event; returns when it is stored. An abort does not interrupt the storing."""
        info = workflow.info()
        event = AuditEvent(
            event_id=str(workflow.uuid4()),
            event_type=event_type,
            category=category,
            timestamp=workflow.now(),
            actor=actor or self.actor,
            action=action,
            target=self.environment,
            version=self.version,
            status=status,
            reason=reason,
            deployment_id=self.deployment_id,
            environment=self.environment,
            details=details,
            metadata={
                "workflow_id": info.workflow_id,
                "run_id": info.run_id,
                "application": self.application,
            },
        )
        self._audit = asyncio.create_task(self._store(self._audit, event))
        await asyncio.shield(self._audit)

    async def _store(self, before: asyncio.Task[None] | None, event: AuditEvent) -> None:
        if before is not None:
            await before
        await workflow.execute_activity_method(
            AuditSignatures.record_audit_event,
            event,
            summary=f"audit: {_what(event)}",
            **effects.SHORT,
        )

    def tell(self, kind: NotificationType, *, title: str | None = None, **fields: Any) -> None:
        """Notify people without waiting for it; `settle` waits."""
        self._told += 1
        info = workflow.info()
        key = f"{info.workflow_id}/{info.run_id}/{self._told}-{kind}"
        notice = notification(key, kind, title=title, environment=self.environment, **fields)
        self._notices = asyncio.create_task(self._send(self._notices, notice))

    async def _send(self, before: asyncio.Task[None] | None, notice: Notification) -> None:
        if before is not None:
            await before
        try:
            receipt = await workflow.execute_activity_method(
                NotificationSignatures.notify, notice, summary=f"notify: {notice.title}", **effects.NOTICE
            )
        except ActivityError as error:
            reason = str(error.cause or error)
            await self.record(
                "notification.sent", "notify", "failed", reason=reason, type=notice.type, key=notice.key
            )
            return
        undelivered = [d for d in receipt.deliveries if not d.delivered]
        await self.record(
            "notification.sent",
            "notify",
            "failed" if undelivered else "success",
            reason="; ".join(f"{d.channel}: {d.reason}" for d in undelivered),
            type=notice.type,
            key=notice.key,
            channels=[d.channel for d in receipt.deliveries if d.delivered],
        )

    async def settle(self) -> None:
        """Wait until all that was begun is stored and sent."""
        pending: list[Awaitable[None]] = [t for t in (self._notices, self._audit) if t is not None]
        for task in pending:
            await asyncio.shield(asyncio.ensure_future(task))
        if self._audit is not None:
            await asyncio.shield(self._audit)


def _what(event: AuditEvent) -> str:
    """An audit event in few words, for the timeline."""
    if "to_state" in event.details:
        return f"→ {event.details['to_state']}"
    return f"{event.action} {event.status}"


def show_in_visibility(
    *, application: str, environment: str, version: str, state: str, awaiting_approval: bool
) -> None:
    """Set all search attributes at once: one event per state."""
    workflow.upsert_search_attributes(
        [
            APPLICATION.value_set(application),
            ENVIRONMENT.value_set(environment),
            VERSION.value_set(version),
            DEPLOYMENT_STATE.value_set(state),
            AWAITING_APPROVAL.value_set(awaiting_approval),
        ]
    )
