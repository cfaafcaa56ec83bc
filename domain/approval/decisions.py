"""The one reducer for decisions, however they arrive: signal, update, early, or read from the Git host."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from domain.approval.electorate import Electorate, Seat
from domain.approval.limits import kept_comment
from domain.approval.models import (
    ApprovalPolicy,
    ApprovalRequest,
    ApprovalState,
    ApprovalStatus,
    Decision,
    DecisionMessage,
    EmergencyPolicy,
    Verb,
    changed,
    ended,
    shortfall,
)
from domain.approval.quorum import progress
from domain.approval.refusals import refusal
from domain.identity import SIGNING_KEY, Identification

SIGNED_ONLY = (
    f"only signed decisions count: set {SIGNING_KEY} and use erlmcp-deploy approve or reject, "
    "or decide in Slack"
)


def open_approval(request: ApprovalRequest, now: datetime) -> ApprovalStatus:
    """A fresh, pending approval that expires after the policy's timeout."""
    policy = request.policy
    return ApprovalStatus(
        id=f"approval:{request.application}:{request.environment}:{request.version}:{policy.gate}",
        deployment_id=request.deployment_id,
        gate_name=policy.gate,
        state=ApprovalState.PENDING,
        required_approvers=policy.deciding_roles,
        min_approvals=shortfall(progress(policy, ()), policy.require),
        progress=progress(policy, ()),
        require=policy.require,
        created_at=now,
        expires_at=now + policy.timeout,
        how_to_decide=SIGNED_ONLY if policy.require_verified else None,
    )


def decide(  # noqa: PLR0917 — the subject, the rules and the decision
    status: ApprovalStatus,
    policy: ApprovalPolicy,
    verb: Verb,
    message: DecisionMessage,
    now: datetime,
    identification: Identification | None = None,
) -> ApprovalStatus:
    """The approval after one decision. A decision that may not count changes nothing (see `refusal`)."""
    if refusal(status, policy, verb, message, now, identification) is not None:
        return status
    actor = message.actor.strip()
    decision = Decision(
        verb=verb,
        actor=actor,
        roles=policy.roles_of(actor),
        comment=kept_comment(message.comment),
        source=message.source,
        at=now,
        verified=identification is not None and identification.verified,
    )
    if verb is Verb.COMMENT:
        return changed(status, comments=(*status.comments, decision))
    if verb is Verb.APPROVE and message.emergency and policy.emergency is not None:
        return _break_glass(status, policy.emergency, decision)
    voters = Electorate(status, policy, now)
    if verb is Verb.REJECT:
        seat = voters.seats(actor)[0]
    else:
        seat = _furthest(voters.open_seats(actor), status, policy, decision)
    decision = decision.model_copy(update={"roles": seat.roles, "on_behalf_of": seat.on_behalf_of})
    if verb is Verb.REJECT:
        reason = f"rejected by {_who(decision)}" + (f": {decision.comment}" if decision.comment else "")
        rejections = (*status.received_rejections, decision)
        return ended(status, ApprovalState.REJECTED, reason, now, received_rejections=rejections)
    approvals = (*status.approvals, decision)
    counted: dict[str, Any] = {
        "received_approvals": (*status.received_approvals, decision),
        "progress": progress(policy, approvals),
    }
    if shortfall(counted["progress"], policy.require):
        return changed(status, **counted)
    reason = f"approved by {', '.join(_who(d) for d in approvals)}"
    return ended(status, ApprovalState.APPROVED, reason, now, **counted)


def _break_glass(status: ApprovalStatus, emergency: EmergencyPolicy, decision: Decision) -> ApprovalStatus:
    roles = emergency.roles_of(decision.actor)
    decision = decision.model_copy(update={"emergency": True, "roles": roles})
    counted = {"received_approvals": (*status.received_approvals, decision)}
    broken = (*status.emergency_approvals, decision)
    if len(broken) < emergency.people:
        return changed(status, **counted)
    people, reasons = ", ".join(d.actor for d in broken), "; ".join(d.comment for d in broken)
    reason = f"BREAK GLASS by {people}: {reasons}"
    return ended(status, ApprovalState.APPROVED, reason, decision.at, **counted)


def _furthest(seats: list[Seat], status: ApprovalStatus, policy: ApprovalPolicy, vote: Decision) -> Seat:
    """Of several seats the one that brings the gate furthest; of equal ones the one with which the people who
    are there can still complete it; of these the first."""

    def left(seat: Seat) -> tuple[int, int]:
        approval = vote.model_copy(update={"roles": seat.roles, "on_behalf_of": seat.on_behalf_of})
        given = (*status.approvals, approval)
        voters = Electorate(status.model_copy(update={"received_approvals": given}), policy, vote.at)
        others = (
            vote.model_copy(update={"actor": person, "roles": tuple(r for s in left_to for r in s.roles)})
            for person in voters.people()
            if not voters.absent(person) and (left_to := voters.open_seats(person))
        )
        return (
            shortfall(progress(policy, given), policy.require),
            shortfall(progress(policy, (*given, *others)), policy.require),
        )

    return seats[0] if len(seats) == 1 else min(seats, key=left)


def _who(decision: Decision) -> str:
    return f"{decision.actor} for {decision.on_behalf_of}" if decision.on_behalf_of else decision.actor
