"""What goes where (spec: Notification Flow)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from domain.notification import Notification, NotificationType, Severity


@dataclass(frozen=True)
class Topic:
    """What messages are about.

    Attributes:
        webhook: its name in the configuration's ``webhooks``.
        channels: its names in the configuration's ``channels``; the first that is there counts.
    """

    name: str
    webhook: str
    channels: tuple[str, ...]

    def __str__(self) -> str:
        return f"slack:{self.name}"


DEPLOYMENTS = Topic("deployments", webhook="deployments", channels=("deployment_updates",))
APPROVALS = Topic("approvals", webhook="deployments", channels=("approvals", "deployment_updates"))
ALERTS = Topic("alerts", webhook="alerts", channels=("alerts",))
INCIDENTS = Topic("incidents", webhook="incidents", channels=("critical",))

_T = NotificationType
_ALERTING = frozenset({_T.DEPLOYMENT_FAILED, _T.ROLLBACK_STARTED, _T.ROLLBACK_COMPLETED, _T.ROLLBACK_FAILED})
_APPROVING = frozenset(
    {_T.APPROVAL_REQUESTED, _T.APPROVAL_REMINDER, _T.APPROVAL_ESCALATED, _T.APPROVAL_BREAK_GLASS}
)
_URGENT = frozenset({_T.APPROVAL_ESCALATED, _T.APPROVAL_BREAK_GLASS})


def topics(notification: Notification, production: Collection[str]) -> tuple[Topic, ...]:
    """Where a notification goes; in production, what is critical or urgent is an incident as well."""
    kind = notification.type
    in_production = notification.fields.get("environment") in production
    if kind in _APPROVING:
        return (APPROVALS, INCIDENTS) if in_production and kind in _URGENT else (APPROVALS,)
    if kind in _ALERTING:
        critical = in_production and notification.severity is Severity.CRITICAL
        return (ALERTS, INCIDENTS) if critical else (ALERTS,)
    return (DEPLOYMENTS,)


def only_in_threads(notification: Notification) -> bool:
    """Whether it is worth telling only where it does not stand in the way: as a reply."""
    return notification.type is NotificationType.DEPLOYMENT_PROGRESS
