"""What happens at a gate by itself: reminders, escalation, expiry. When, is asked; nothing here waits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from domain.approval.models import ApprovalPolicy, ApprovalState, ApprovalStatus, OnTimeout, changed, ended

Timer = Literal["reminder", "escalation", "expiry"]


def next_event(status: ApprovalStatus, policy: ApprovalPolicy) -> tuple[Timer, datetime]:
    """The next timer of a pending approval, which may be overdue; `remind` or `escalate` takes it away.

    Reminders that came due while nobody looked (the worker was down) are left out after the one that is sent,
    and so are those after the gate's time. An escalation that leaves no time before it is left out too.
    """
    time_allowed = status.expires_at - status.created_at
    events: list[tuple[datetime, Timer]] = [(status.expires_at, "expiry")]
    last = max(t for t in (status.created_at, status.reminded_at, status.escalated_at) if t is not None)
    due = sorted(status.created_at + after for after in policy.reminders if after < time_allowed)
    events += [(at, "reminder") for at in due[status.reminders :] if at > last][:1]
    before = policy.escalate_before
    if status.escalated_at is None and before is not None and timedelta(0) < before < time_allowed:
        events.append((status.expires_at - before, "escalation"))
    # Of two at one time the escalation goes first: it says more than a reminder.
    at, timer = min(events)
    return timer, at


def remind(status: ApprovalStatus, now: datetime) -> ApprovalStatus:
    """The approval after people were reminded of it."""
    if status.state is not ApprovalState.PENDING:
        return status
    return changed(status, reminders=status.reminders + 1, reminded_at=now)


def escalate(status: ApprovalStatus, policy: ApprovalPolicy, now: datetime) -> ApprovalStatus:
    """The approval after it was escalated: from now on on-call people hold the roles they stand in for."""
    if status.state is not ApprovalState.PENDING or status.escalated_at is not None:
        return status
    return changed(status, escalated_at=now)


def expire(status: ApprovalStatus, policy: ApprovalPolicy, now: datetime) -> ApprovalStatus:
    """The approval after its time ran out: expired, or approved where the policy says so.

    Silence is signed by nobody: it never approves where decisions must be verified.
    """
    if status.state is not ApprovalState.PENDING:
        return status
    if policy.on_timeout is OnTimeout.APPROVE and not policy.require_verified:
        return ended(status, ApprovalState.APPROVED, "approved by policy on timeout", now)
    reason = f"expired: no decision within the time allowed, {status.approvals_missing} approval(s) missing"
    return ended(status, ApprovalState.EXPIRED, reason, now)


def cancel(status: ApprovalStatus, now: datetime) -> ApprovalStatus:
    """The approval after its deployment ended without it."""
    if status.state is not ApprovalState.PENDING:
        return status
    return ended(status, ApprovalState.REJECTED, "cancelled with its deployment", now)
