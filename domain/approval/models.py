"""What an approval is made of: rules, decisions, and how it stands (spec: Approval Workflow)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

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


_UNSEEN = frozenset({"Cc", "Cf"})
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties, which Python does not know, and U+2800."""


def identity(person: str) -> str:
    """The form in which people are compared.

    Case, surrounding blanks, characters that show nothing (Unicode's control, format and default ignorable
    ones, and the empty Braille pattern) and other ways of writing the same letters (NFKC) do not make another
    person. Letters of other alphabets that only look alike do.
    """
    visible = _INVISIBLE.sub("", "".join(c for c in person if unicodedata.category(c) not in _UNSEEN))
    # Twice, as folding can undo what normalising did and the other way round (Unicode, D147).
    for _ in range(2):
        visible = unicodedata.normalize("NFKC", visible.casefold())
    return visible.strip()


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

    def roles_of(self, person: str) -> tuple[str, ...]:
        """The roles in which this person may break the glass."""
        return _held(person, self.roles, self.members)


class ApprovalPolicy(Model):
    """The rules of one gate, resolved: which roles, who holds them, how many, how long.

    Attributes:
        roles: any one of them entitles to decide, where `rules` says nothing.
        members: the people who hold each role, from ``directory``.
        min_approvals: distinct people needed, where `rules` says nothing.
        rules: all or any of them (`require`) must be satisfied; one person counts for one of them.
        excluded: people who may not approve: the requester.
        authors: people who may not approve: who wrote the commit.
        exclude_authors: `with_authors` puts them there.
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
    exclude_authors: bool = False
    rules: tuple[ApprovalRule, ...] = ()
    require: Requirement = Requirement.ALL
    delegations: tuple[Delegation, ...] = ()
    on_call: dict[str, tuple[str, ...]] = {}
    reminders: tuple[Duration, ...] = ()
    escalate_before: Duration | None = None
    require_verified: bool = False
    emergency: EmergencyPolicy | None = None

    @property
    def deciding_roles(self) -> tuple[str, ...]:
        """The roles of the gate: who holds one may reject, and approve by a rule that names it."""
        return tuple(dict.fromkeys(r for rule in self.rules for r in rule.roles)) or self.roles

    def roles_of(self, person: str) -> tuple[str, ...]:
        """The roles of the gate that the directory gives this person."""
        return _held(person, self.deciding_roles, self.members)


def _held(person: str, roles: tuple[str, ...], members: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    key = identity(person)
    return tuple(r for r in roles if key and key in {identity(m) for m in members.get(r, ())})


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


class EarlyDecision(Message):
    """A decision that came before its gate opened; kept for it. Earlier versions kept its time too.

    Attributes:
        evidence: it was read from the Git host, and needs no signature.
    """

    verb: Verb
    message: DecisionMessage
    evidence: bool = False


class Decision(Model):
    """One decision that counted: who, in which role, when, from where, and why.

    Attributes:
        roles: the roles it counts in.
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

    @property
    def seat(self) -> str:
        """Whose vote it is."""
        return self.on_behalf_of or self.actor


class RuleProgress(Model):
    """How far one rule of a gate is.

    Attributes:
        roles: any one of them entitles.
        needed: distinct people.
        counted: the people whose approval counts for this rule.
        open_to: the people who can still approve for it, as things stand.
    """

    roles: tuple[str, ...]
    needed: int
    counted: tuple[str, ...] = ()
    open_to: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        return max(0, self.needed - len(self.counted))


class ApprovalStatus(Model):
    """The spec's ``approval`` record, as it stands.

    Attributes:
        min_approvals: the fewest people that can decide it.
        received_approvals: also those that break the glass, which are marked so and counted apart.
        progress: of each rule, without who can still approve (`missing` tells that too).
        require: all of the rules, or any one of them.
        escalated_at: since then on-call people may decide too.
        reminders: how many were sent, the last one at `reminded_at`.
        revision: rises with every change.
        how_to_decide: where not every way of deciding counts, those that do.
    """

    id: str
    deployment_id: str
    gate_name: str
    state: ApprovalState
    required_approvers: tuple[str, ...]
    min_approvals: int = 1
    received_approvals: tuple[Decision, ...] = ()
    received_rejections: tuple[Decision, ...] = ()
    comments: tuple[Decision, ...] = ()
    progress: tuple[RuleProgress, ...] = ()
    require: Requirement = Requirement.ALL
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None = None
    reason: str | None = None
    time_left: Duration | None = None
    escalated_at: datetime | None = None
    reminders: int = 0
    reminded_at: datetime | None = None
    revision: int = 0
    how_to_decide: str | None = None

    @property
    def approvals(self) -> tuple[Decision, ...]:
        """The approvals by the rules."""
        return tuple(d for d in self.received_approvals if not d.emergency)

    @property
    def emergency_approvals(self) -> tuple[Decision, ...]:
        """The approvals that break the glass."""
        return tuple(d for d in self.received_approvals if d.emergency)

    @property
    def approvals_given(self) -> str:
        """How far it is, as ``1 of 2``."""
        needed = self.min_approvals
        return f"{max(0, needed - self.approvals_missing)} of {needed}"

    @property
    def approvals_missing(self) -> int:
        """The fewest further people that can complete it by its rules."""
        if not self.progress:  # recorded before gates had rules
            return max(0, self.min_approvals - len(self.approvals))
        return shortfall(self.progress, self.require)


def shortfall(progress: Iterable[RuleProgress], require: Requirement) -> int:
    """The fewest further people that can satisfy the rules; none where they are satisfied."""
    missing = [rule.missing for rule in progress]
    return sum(missing) if require is Requirement.ALL else min(missing)


def with_authors(policy: ApprovalPolicy, authors: Iterable[str]) -> ApprovalPolicy:
    """The policy once it is known who wrote what is deployed: they may not approve it, if it says so."""
    if not policy.exclude_authors:
        return policy
    people = {identity(p): p.strip() for p in (*policy.authors, *authors)}
    people.pop("", None)
    return policy.model_copy(update={"authors": tuple(people.values())})


def for_reviewer(policy: ApprovalPolicy, reviewer: str) -> ApprovalPolicy:
    """The policy for the review of a merged pull request: its author is no reviewer, and who merges what they
    have reviewed may do so.
    """
    others = tuple(p for p in policy.excluded if identity(p) != identity(reviewer))
    return policy.model_copy(update={"excluded": others})


def changed(status: ApprovalStatus, **changes: Any) -> ApprovalStatus:
    """The only way to another status."""
    return status.model_copy(update={**changes, "revision": status.revision + 1})


def ended(
    status: ApprovalStatus, state: ApprovalState, reason: str, now: datetime, **changes: Any
) -> ApprovalStatus:
    return changed(status, state=state, reason=reason, decided_at=now, **changes)


ApprovalRequest.model_rebuild()
