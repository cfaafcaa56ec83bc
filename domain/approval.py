"""Approval gates: who may decide, and what their decisions come to (spec: Approval Workflow).

`ApprovalBook` is the one reducer for decisions, however they arrive (signal, update, early or late).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from domain.approval_facts import ApprovalFacts
from domain.approval_settings import ApprovalRule, Delegation, Requirement
from domain.durations import Duration
from domain.identity import Proof
from domain.model import Message, Model


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Verb(StrEnum):
    """The spec's ``approval_decision``."""

    APPROVE = "approve"
    REJECT = "reject"
    COMMENT = "comment"


class OnTimeout(StrEnum):
    REJECT = "reject"
    APPROVE = "approve"


class DecisionMessage(Message):
    """What a person sends: the payload of the signals approve, reject and comment.

    Attributes:
        source: ``temporal``, ``cli``, ``slack``, ``github`` …
        id: a second decision with the same id is the same decision.
        emergency: break glass: counts towards the gate's emergency approval instead of its rules.
        at: when it was signed.
        proof: the signature; see `domain.identity`.
        reply_to: where a refusal is told to the person, as ``slack:CHANNEL:USER``.
    """

    actor: str = ""
    comment: str = ""
    source: str = "temporal"
    gate: str | None = None
    id: str | None = None
    emergency: bool = False
    at: datetime | None = None
    proof: Proof | None = None
    reply_to: str | None = None


UNSIGNED = DecisionMessage()
"""A signal that came without any input, as the UI can send it: it counts for nothing, and is audited."""


class DecisionRequest(DecisionMessage):
    """The input of the update ``decide``: a decision message with its verb."""

    decision: Verb


class EmergencyPolicy(Model):
    """Break glass: who may approve without the gate's rules, and how many of them it takes."""

    roles: tuple[str, ...]
    members: dict[str, tuple[str, ...]] = {}
    people: int = 2


class ApprovalPolicy(Model):
    """The rules of one gate, resolved: which roles, who holds them, how many, how long.

    Attributes:
        roles: any one of them entitles to decide.
        members: the people who hold each role, from ``directory``.
        min_approvals: distinct people needed, where `rules` says nothing.
        rules: all or any of them (`require`) must be satisfied; one person counts for one of them.
        excluded: people who may not approve: the requester.
        authors: people who may not approve: who wrote the commit.
        delegations: who decides for whom, and when.
        on_call: role → people who stand in for it once the gate is escalated.
        reminders: after how long people are reminded.
        escalate_before: how long before it expires the gate is escalated.
        require_verified: unsigned decisions are refused.
        emergency: break glass; none where it is not provided for.
    """

    gate: str
    roles: tuple[str, ...]
    members: dict[str, tuple[str, ...]] = {}
    min_approvals: int = 1
    timeout: Duration = timedelta(hours=72)
    on_timeout: OnTimeout = OnTimeout.REJECT
    excluded: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    rules: tuple[ApprovalRule, ...] = ()
    require: Requirement = Requirement.ALL
    delegations: tuple[Delegation, ...] = ()
    on_call: dict[str, tuple[str, ...]] = {}
    reminders: tuple[Duration, ...] = ()
    escalate_before: Duration | None = None
    require_verified: bool = False
    emergency: EmergencyPolicy | None = None

    def roles_of(self, person: str) -> tuple[str, ...]:
        key = identity(person)
        return tuple(r for r in self.roles if key in {identity(m) for m in self.members.get(r, ())})


class ApprovalRequest(Model):
    """The input of ApprovalWorkflow."""

    deployment_id: str
    application: str
    environment: str
    version: str
    requester: str
    policy: ApprovalPolicy
    early: tuple[EarlyDecision, ...] = ()
    facts: ApprovalFacts | None = None
    begun: datetime | None = None
    """When the deployment began: an older signature belongs to an earlier run of it."""


class EarlyDecision(Model):
    """A decision that came before its gate opened; kept for it.

    Attributes:
        evidence: it was read from the Git host, and needs no signature.
    """

    verb: Verb
    message: DecisionMessage
    at: datetime
    evidence: bool = False


class Decision(Model):
    """One decision that counted: who, in which role, when, from where, and why.

    Attributes:
        verified: its signature was checked; none where identities were not looked at.
        on_behalf_of: who delegated the decision to `actor`.
        emergency: it breaks the glass.
    """

    verb: Verb
    actor: str
    roles: tuple[str, ...] = ()
    comment: str = ""
    source: str = "temporal"
    at: datetime
    verified: bool | None = None
    on_behalf_of: str | None = None
    emergency: bool = False


class ApprovalStatus(Model):
    """The spec's ``approval`` record, as it stands."""

    id: str
    deployment_id: str
    gate_name: str
    state: ApprovalState
    required_approvers: tuple[str, ...]
    min_approvals: int = 1
    received_approvals: tuple[Decision, ...] = ()
    received_rejections: tuple[Decision, ...] = ()
    comments: tuple[Decision, ...] = ()
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None = None
    reason: str | None = None
    time_left: Duration | None = None
    escalated_at: datetime | None = None
    reminders: int = 0
    revision: int = 0

    @property
    def approvals_missing(self) -> int:
        return max(0, self.min_approvals - len(self.received_approvals))


def identity(person: str) -> str:
    """The form in which people are compared: case and surrounding blanks do not make another person."""
    return person.strip().casefold()


def open_approval(request: ApprovalRequest, now: datetime) -> ApprovalStatus:
    """A fresh, pending approval that expires after the policy's timeout."""
    gate = request.policy.gate
    return ApprovalStatus(
        id=f"approval:{request.application}:{request.environment}:{request.version}:{gate}",
        deployment_id=request.deployment_id,
        gate_name=gate,
        state=ApprovalState.PENDING,
        required_approvers=request.policy.roles,
        min_approvals=request.policy.min_approvals,
        created_at=now,
        expires_at=now + request.policy.timeout,
    )


def refusal(
    status: ApprovalStatus, policy: ApprovalPolicy, verb: Verb, message: DecisionMessage
) -> str | None:
    """Why this decision may not count, in one sentence that says what to do; none if it may."""
    person = identity(message.actor)
    if not person:
        return 'the decision names no actor; send {"actor": "you@example.com", …}'
    if status.state is not ApprovalState.PENDING:
        return f"the approval is closed: it was {status.state}"
    if message.gate is not None and message.gate != policy.gate:
        return f"it is for gate {message.gate!r}, and this is {policy.gate!r}"
    if verb is Verb.COMMENT:
        return None
    if not policy.roles_of(message.actor):
        return (
            f"{message.actor} holds none of the roles {', '.join(policy.roles)} of gate {policy.gate!r}; "
            "ask one of their members, or add the person under directory.roles in deployment.yaml"
        )
    if verb is Verb.APPROVE:
        if person in {identity(p) for p in policy.excluded}:
            return f"{message.actor} asked for this deployment, and may not approve it"
        if person in {identity(d.actor) for d in status.received_approvals}:
            return f"{message.actor} has approved already; {status.approvals_missing} more person(s) needed"
    return None


def decide(
    status: ApprovalStatus, policy: ApprovalPolicy, verb: Verb, message: DecisionMessage, now: datetime
) -> ApprovalStatus:
    """The approval after one decision. A decision that may not count changes nothing (see `refusal`)."""
    if refusal(status, policy, verb, message) is not None:
        return status
    decision = Decision(
        verb=verb,
        actor=message.actor.strip(),
        roles=policy.roles_of(message.actor),
        comment=message.comment,
        source=message.source,
        at=now,
    )
    if verb is Verb.COMMENT:
        return status.model_copy(update={"comments": (*status.comments, decision)})
    if verb is Verb.REJECT:
        return status.model_copy(
            update={
                "state": ApprovalState.REJECTED,
                "received_rejections": (*status.received_rejections, decision),
                "decided_at": now,
                "reason": f"rejected by {decision.actor}"
                + (f": {decision.comment}" if decision.comment else ""),
            }
        )
    approvals = (*status.received_approvals, decision)
    changes: dict[str, object] = {"received_approvals": approvals}
    if len(approvals) >= policy.min_approvals:
        people = ", ".join(d.actor for d in approvals)
        changes |= {"state": ApprovalState.APPROVED, "decided_at": now, "reason": f"approved by {people}"}
    return status.model_copy(update=changes)


def expire(status: ApprovalStatus, policy: ApprovalPolicy, now: datetime) -> ApprovalStatus:
    """The approval after its time ran out: expired, or approved where the policy says so."""
    if status.state is not ApprovalState.PENDING:
        return status
    if policy.on_timeout is OnTimeout.APPROVE:
        state, reason = ApprovalState.APPROVED, "approved by policy on timeout"
    else:
        state = ApprovalState.EXPIRED
        reason = (
            f"expired: no decision within the time allowed, {status.approvals_missing} approval(s) missing"
        )
    return status.model_copy(update={"state": state, "decided_at": now, "reason": reason})


ApprovalRequest.model_rebuild()
