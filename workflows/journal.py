"""What a process tells the world of itself: audit events, notifications, search attributes.

Everything is written in the order it happened, and none of it is lost when the process is aborted
in the middle: an event that was begun is finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError

from activities.signatures import AuditSignatures, NotificationSignatures
from domain.audit import AuditCategory, AuditEvent
from domain.notification import Delivery, Notification, NotificationReceipt, NotificationType, notification
from workflows import effects
from workflows.failures import reason_of

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
        info = workflow.info()
        begun_by = info.parent
        self._thread = (
            f"{info.workflow_id}/{info.run_id}"
            if begun_by is None
            else f"{begun_by.workflow_id}/{begun_by.run_id}"
        )
        self.deployment_id = deployment_id
        self.application = application
        self.environment = environment
        self.version = version
        self.actor = actor
        self._audit: asyncio.Task[ActivityError | None] | None = None
        self._notices: asyncio.Task[None] | None = None
        self._told = 0
        self._silent = False
        self._sending: workflow.ActivityHandle[NotificationReceipt] | None = None
        self.lost: list[str] = []
        """Events that the store refused for good."""

    async def record(self, event_type: str, action: str, status: str, **about: Any) -> None:
        """Store one audit event; returns when it is stored. An abort does not interrupt the storing.

        Args:
            about: category, actor, reason, origin (address and client of who asked); everything else becomes
                the event's details.

        Raises:
            ActivityError: the store refuses the event for good.
        """
        self._begin(event_type, action, status, **about)
        await self.stored()

    def note(self, event_type: str, action: str, status: str, **about: Any) -> None:
        """Store one audit event without waiting for it: a stop, a roll-back and the answer to a signal are
        not held up by the audit trail. `settle` waits; what could not be stored is in `lost`.
        """
        self._begin(event_type, action, status, **about)

    async def stored(self) -> None:
        """Wait until the events begun so far are stored.

        Raises:
            ActivityError: the store refuses the latest for good.
        """
        if self._audit is None:
            return
        error = await asyncio.shield(self._audit)
        if error is not None:
            raise error

    def _begin(
        self,
        event_type: str,
        action: str,
        status: str,
        *,
        category: AuditCategory = AuditCategory.DEPLOYMENT,
        actor: str | None = None,
        reason: str = "",
        origin: Mapping[str, Any] | None = None,
        **details: Any,
    ) -> None:
        info = workflow.info()
        origin = origin or {}
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
            ip_address=_text(origin.get("ip_address")),
            user_agent=_text(origin.get("user_agent")),
            details=details,
            metadata={
                "workflow_id": info.workflow_id,
                "run_id": info.run_id,
                "application": self.application,
            },
        )
        self._audit = asyncio.create_task(self._store(self._audit, event))

    async def _store(
        self, before: asyncio.Task[ActivityError | None] | None, event: AuditEvent
    ) -> ActivityError | None:
        if before is not None:
            await before
        try:
            await workflow.execute_activity_method(
                AuditSignatures.record_audit_event,
                event,
                summary=f"audit: {_what(event)}",
                **effects.SHORT,
            )
        except ActivityError as error:
            self.lost.append(f"{_what(event)}: {reason_of(error)}")
            workflow.logger.error("audit event %s is lost: %s", event.event_id, reason_of(error))
            return error
        return None

    def tell(
        self, kind: NotificationType, *, title: str | None = None, thread: str | None = None, **fields: Any
    ) -> None:
        """Notify people without waiting for it; `settle` waits.

        Args:
            thread: the conversation; by default the deployment's.
            fields: of the spec's template, and ``people`` who are meant.
        """
        self._told += 1
        info = workflow.info()
        key = f"{info.workflow_id}/{info.run_id}/{self._told}-{kind}"
        notice = notification(
            key, kind, title=title, thread=thread or self._thread, environment=self.environment, **fields
        )
        self._notices = asyncio.create_task(self._send(self._notices, notice))

    async def _send(self, before: asyncio.Task[None] | None, notice: Notification) -> None:
        if before is not None:
            await before
        if self._silent:
            return
        self._sending = workflow.start_activity_method(
            NotificationSignatures.notify, notice, summary=f"notify: {notice.title}", **effects.NOTICE
        )
        try:
            deliveries = (await self._sending).deliveries
        except ActivityError as error:
            deliveries = (Delivery(channel="all", delivered=False, reason=reason_of(error)),)
        if notice.type is NotificationType.DEPLOYMENT_PROGRESS:
            return  # a convenience, told of in the trail by the transition itself
        undelivered = [d for d in deliveries if not d.delivered]
        self.note(
            "notification.sent",
            "notify",
            "failed" if undelivered else "success",
            reason="; ".join(f"{d.channel}: {d.reason}" for d in undelivered),
            type=notice.type,
            key=notice.key,
            channels=[d.channel for d in deliveries if d.delivered],
        )

    def fall_silent(self) -> None:
        """Give up what has not been told yet: it is not true any more."""
        self._silent = True
        if self._sending is not None:
            self._sending.cancel()

    async def recorded(self) -> None:
        """Wait until all events begun so far are stored, or lost; notices go on."""
        while self._audit is not None and not self._audit.done():
            await asyncio.shield(self._audit)

    async def settle(self) -> None:
        """Wait until all that was begun is stored and sent, or lost."""
        if self._notices is not None:
            await asyncio.shield(self._notices)
        await self.recorded()

    async def close(self) -> None:
        """`settle`, for good: what signal handlers still begin is waited for too."""
        await self.settle()
        await workflow.wait_condition(workflow.all_handlers_finished)
        await self.settle()


def _text(value: object) -> str | None:
    return None if value is None else str(value)


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
