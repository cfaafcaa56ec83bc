"""Notifications: the spec's templates as typed values (spec: Notification Templates)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from domain.model import Model


class NotificationType(StrEnum):
    DEPLOYMENT_STARTED = "deployment.started"
    DEPLOYMENT_COMPLETED = "deployment.completed"
    DEPLOYMENT_FAILED = "deployment.failed"
    DEPLOYMENT_REJECTED = "deployment.rejected"
    DEPLOYMENT_PROGRESS = "deployment.progress"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_REMINDER = "approval.reminder"
    APPROVAL_ESCALATED = "approval.escalated"
    APPROVAL_BREAK_GLASS = "approval.break_glass"
    ROLLBACK_STARTED = "rollback.started"
    ROLLBACK_COMPLETED = "rollback.completed"
    ROLLBACK_FAILED = "rollback.failed"


class Severity(StrEnum):
    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Notification(Model):
    """What is told to people: the JSON of the spec's templates.

    Attributes:
        key: names the effect (workflow id, run and step); the same key is told once.
        thread: names the conversation it belongs to, where a channel has conversations.
        people: who is meant, by their addresses; a channel that can mention people does.
    """

    key: str
    type: NotificationType
    severity: Severity
    title: str
    fields: dict[str, Any]
    thread: str | None = None
    people: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """The spec's JSON, without what only serves its delivery."""
        return self.model_dump(mode="json", exclude={"key", "thread", "people"})


class Delivery(Model):
    """What became of a notification on one channel."""

    channel: str
    delivered: bool
    reason: str = ""
    reference: str | None = None


class NotificationReceipt(Model):
    deliveries: tuple[Delivery, ...] = ()


_TITLES: dict[NotificationType, tuple[str, Severity]] = {
    NotificationType.DEPLOYMENT_STARTED: ("Deployment Started", Severity.INFO),
    NotificationType.DEPLOYMENT_COMPLETED: ("Deployment Completed", Severity.INFO),
    NotificationType.DEPLOYMENT_FAILED: ("Deployment Failed", Severity.CRITICAL),
    NotificationType.DEPLOYMENT_REJECTED: ("Deployment Rejected", Severity.MEDIUM),
    NotificationType.DEPLOYMENT_PROGRESS: ("Deployment Progress", Severity.INFO),
    NotificationType.APPROVAL_REQUESTED: ("Approval Requested", Severity.INFO),
    NotificationType.APPROVAL_REMINDER: ("Approval Still Needed", Severity.LOW),
    NotificationType.APPROVAL_ESCALATED: ("Approval About To Expire", Severity.HIGH),
    NotificationType.APPROVAL_BREAK_GLASS: ("Approved By Breaking The Glass", Severity.CRITICAL),
    NotificationType.ROLLBACK_STARTED: ("Automatic Rollback Initiated", Severity.CRITICAL),
    NotificationType.ROLLBACK_COMPLETED: ("Rollback Completed", Severity.HIGH),
    NotificationType.ROLLBACK_FAILED: ("Rollback Failed", Severity.CRITICAL),
}


def notification(
    key: str,
    kind: NotificationType,
    *,
    title: str | None = None,
    thread: str | None = None,
    people: tuple[str, ...] = (),
    **fields: Any,
) -> Notification:
    """A notification from the spec's template of its type; fields without a value are left out."""
    default, severity = _TITLES[kind]
    present = {name: value for name, value in fields.items() if value is not None}
    return Notification(
        key=key,
        type=kind,
        severity=severity,
        title=title or default,
        fields=present,
        thread=thread,
        people=people,
    )
