"""What is asked of the audit trail, and its compliance report (spec: Audit Query Examples)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import AwareDatetime

from domain.audit import AuditCategory, AuditEvent, ChainFault
from domain.model import Model


class AuditQuery(Model):
    """Which events are wanted; everything given must hold.

    ``version`` alone is the spec's ``audit_by_version``, ``actor`` alone ``audit_by_actor``, and
    ``category=rollback`` with a time range ``audit_rollbacks``.

    Attributes:
        since: the earliest time, itself included.
        until: the latest time, itself excluded.
    """

    version: str | None = None
    actor: str | None = None
    category: AuditCategory | None = None
    environment: str | None = None
    deployment: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class TrailVerification(Model):
    """What a verification of the hash chains found.

    Attributes:
        faults: the first fault of each broken chain.
        unprotected: guards of the store itself that somebody removed or changed.
    """

    chains: int
    events: int
    faults: tuple[ChainFault, ...] = ()
    unprotected: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        return not self.faults and not self.unprotected


class ComplianceReport(Model):
    """The spec's ``audit_compliance_report``: what was done, decided and refused in a time range."""

    since: AwareDatetime | None
    until: AwareDatetime | None
    events: int
    by_action: dict[str, int]
    by_status: dict[str, int]
    by_environment: dict[str, int]
    approvals: tuple[AuditEvent, ...]
    refusals: tuple[AuditEvent, ...]
    rollbacks: tuple[AuditEvent, ...]
    verification: TrailVerification


def compliance_report(
    query: AuditQuery, events: Iterable[AuditEvent], verification: TrailVerification
) -> ComplianceReport:
    """Fold the events of a time range, in their order, into a report."""
    actions: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    environments: Counter[str] = Counter()
    approvals: list[AuditEvent] = []
    refusals: list[AuditEvent] = []
    rollbacks: list[AuditEvent] = []
    for event in events:
        actions[event.action] += 1
        statuses[event.status] += 1
        environments[event.environment] += 1
        if event.category is AuditCategory.APPROVAL:
            approvals.append(event)
        if event.category is AuditCategory.ROLLBACK:
            rollbacks.append(event)
        if event.status == "refused":
            refusals.append(event)
    return ComplianceReport(
        since=query.since,
        until=query.until,
        events=actions.total(),
        by_action=dict(sorted(actions.items())),
        by_status=dict(sorted(statuses.items())),
        by_environment=dict(sorted(environments.items())),
        approvals=tuple(approvals),
        refusals=tuple(refusals),
        rollbacks=tuple(rollbacks),
        verification=verification,
    )
