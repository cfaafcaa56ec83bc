"""Why a decision may not count, in words that say what to do instead."""

from __future__ import annotations

from datetime import datetime

from domain.approval.electorate import Electorate
from domain.approval.limits import COMMENTS_LIMIT, oversized
from domain.approval.models import (
    ApprovalPolicy,
    ApprovalState,
    ApprovalStatus,
    DecisionMessage,
    EmergencyPolicy,
    Verb,
    identity,
)
from domain.identity import SIGNING_KEY, Identification


def refusal(  # noqa: PLR0917 — the subject, the rules and the decision
    status: ApprovalStatus,
    policy: ApprovalPolicy,
    verb: Verb,
    message: DecisionMessage,
    now: datetime,
    identification: Identification | None = None,
) -> str | None:
    """Why this decision may not count, in one sentence that says what to do; none if it may.

    The clock alone closes no gate: its timer does. What comes before the timer is handled counts, unless it
    says itself, signed, that it was made too late.

    Args:
        identification: what the check of the message's proof came to; none where it has no proof. A proof
            that nobody has checked is refused: see `presumed`.
    """
    if too_long := oversized(message):
        return too_long
    actor = message.actor.strip()
    if not identity(actor):
        return 'the decision names no actor; send {"actor": "you@example.com", …}'
    if identification is None and message.proof is not None:
        return f"the signature of {actor} has not been checked; send the decision again"
    if identification is not None and not identification.verified:
        because = identification.reason or "its signature is wrong"
        return f"the decision is not proven to come from {actor}: {because}"
    if status.state is not ApprovalState.PENDING:
        how = f" ({status.reason})" if status.reason else ""
        return f"the approval is closed: it was {status.state}{how}"
    if message.gate is not None and message.gate != policy.gate:
        return f"it is for gate {message.gate[:80]!r}, and this is {policy.gate!r}"
    if _signed_after(message, status.expires_at):
        return f"the time to decide ran out at {_at(status.expires_at)}; deploy again to ask again"
    if verb is Verb.COMMENT:
        full = len(status.comments) >= COMMENTS_LIMIT
        refused = f"the approval has {COMMENTS_LIMIT} comments, and takes no more" if full else None
    elif verb is Verb.APPROVE and message.emergency:
        refused = _emergency_refusal(status, policy.emergency, message)
    else:
        refused = _seat_refusal(status, policy, verb, actor, now)
    if refused is None and policy.require_verified and identification is None:
        return (
            f"gate {policy.gate!r} counts signed decisions only, and this one is not signed: "
            f"set {SIGNING_KEY} and use erlmcp-deploy {verb}, or decide in Slack"
        )
    return refused


def _signed_after(message: DecisionMessage, moment: datetime) -> bool:
    """Whether the signer says that it was signed after the moment; an unsigned time says nothing."""
    at = message.at if message.proof is not None else None
    return at is not None and at.tzinfo is not None and at > moment


def presumed(message: DecisionMessage) -> Identification | None:
    """What a first look goes by, where a signature cannot be checked yet: it is right if there is one."""
    return Identification(verified=True) if message.proof is not None else None


def _seat_refusal(
    status: ApprovalStatus, policy: ApprovalPolicy, verb: Verb, actor: str, now: datetime
) -> str | None:
    voters = Electorate(status, policy, now)
    seats = voters.seats(actor)
    if not seats:
        return _no_seat(status, policy, actor, now)
    if verb is Verb.REJECT or voters.open_seats(actor):
        return None
    if because := voters.barred(actor):
        return f"{actor} {because}, and may not approve it"
    left = f"{status.approvals_missing} more person(s) needed"
    if voters.has_approved(actor):
        return f"{actor} has approved already; {left}"
    first = seats[0].person
    if because := voters.barred(first):
        return f"{actor} would approve for {first}, who {because} and may not approve it"
    other = voters.taken(seats[0])
    return f"{other.actor if other else 'somebody'} has approved for {first} already; {left}"


def _no_seat(status: ApprovalStatus, policy: ApprovalPolicy, actor: str, now: datetime) -> str:
    roles = ", ".join(policy.deciding_roles)
    person = identity(actor)
    refused = f"{actor} holds none of the roles {roles} of gate {policy.gate!r}"
    on_call = {identity(p) for role in policy.deciding_roles for p in policy.on_call.get(role, ())}
    if person in on_call and status.escalated_at is None:
        return f"{refused} before it is escalated; ask one of their members, or wait"
    for delegation in policy.delegations:
        if person == identity(delegation.delegate) and policy.roles_of(delegation.person):
            if delegation.since is not None and now < delegation.since:
                return f"{refused} before {_at(delegation.since)}; ask {delegation.person}"
            if delegation.until is not None and now >= delegation.until:
                return f"{refused} since {_at(delegation.until)}; ask {delegation.person}"
    return f"{refused}; ask one of their members, or add the person under directory.roles in deployment.yaml"


def _emergency_refusal(
    status: ApprovalStatus, emergency: EmergencyPolicy | None, message: DecisionMessage
) -> str | None:
    actor = message.actor.strip()
    if emergency is None:
        return (
            f"the glass of gate {status.gate_name!r} cannot be broken; approve without emergency, "
            "or name who may under approvals.emergency_roles of the environment"
        )
    if not emergency.roles_of(actor):
        return (
            f"{actor} holds none of the roles {', '.join(emergency.roles)} that may break the glass; "
            "ask one of their members"
        )
    if not message.comment.strip():
        return "breaking the glass needs a reason; send it as the comment"
    if identity(actor) in {identity(d.actor) for d in status.emergency_approvals}:
        left = emergency.people - len(status.emergency_approvals)
        return f"{actor} has broken the glass already; {left} more person(s) needed"
    return None


def _at(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M %Z}"
