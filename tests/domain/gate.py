"""One gate for the stories of approvals: who is who, and short ways to say what they do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from domain.approval import (
    ApprovalPolicy,
    ApprovalRequest,
    ApprovalStatus,
    DecisionMessage,
    Verb,
    decide,
    open_approval,
    refusal,
)
from domain.identity import Identification, Proof

OPENED = datetime(2026, 2, 2, 12, tzinfo=UTC)
ALICE, BOB, CAROL = "alice@example.com", "bob@example.com", "carol@example.com"
RITA, DORA, OLLI = "rita@example.com", "dora@example.com", "olli@example.com"
LEA, LEO = "lea@example.com", "leo@example.com"
SIGNED = Identification(verified=True, signer="laptop")
FORGED = Identification(verified=False, signer="laptop", reason="the signature does not fit; sign it again")


def after(hours: float) -> datetime:
    return OPENED + timedelta(hours=hours)


def policy(**changes: Any) -> ApprovalPolicy:
    """Rita asks; the board is Alice, Bob, Carol and she; the leads are Lea, Leo and Alice."""
    return ApprovalPolicy.model_validate(
        {
            "gate": "manual_approval",
            "roles": ("board",),
            "members": {"board": (ALICE, BOB, CAROL, RITA), "lead": (LEA, LEO, ALICE)},
            "excluded": (RITA,),
            **changes,
        }
    )


def opened(rules: ApprovalPolicy) -> ApprovalStatus:
    request = ApprovalRequest(
        deployment_id="deployment:erlmcp:production:3.0.0",
        application="erlmcp",
        environment="production",
        version="3.0.0",
        requester=RITA,
        policy=rules,
    )
    return open_approval(request, OPENED)


class Gate:
    """A gate that is open; everything happens at `hour` after that."""

    def __init__(self, **changes: Any) -> None:
        self.policy = policy(**changes)
        self.status = opened(self.policy)
        self.hour: float = 0

    @property
    def now(self) -> datetime:
        return after(self.hour)

    def approve(self, actor: str, **how: Any) -> str | None:
        return self.say(Verb.APPROVE, actor, **how)

    def reject(self, actor: str, **how: Any) -> str | None:
        return self.say(Verb.REJECT, actor, **how)

    def comment(self, actor: str, **how: Any) -> str | None:
        return self.say(Verb.COMMENT, actor, **how)

    def break_glass(self, actor: str, reason: str = "customers are down", **how: Any) -> str | None:
        return self.say(Verb.APPROVE, actor, comment=reason, emergency=True, **how)

    def say(
        self, verb: Verb, actor: str, *, identification: Identification | None = None, **message: Any
    ) -> str | None:
        """Why it was refused; none if it counted. What is refused has changed nothing."""
        proof = None if identification is None else Proof(signer="laptop", signature="c2ln")
        said = DecisionMessage(actor=actor, proof=proof, **message)
        refused = refusal(self.status, self.policy, verb, said, self.now, identification)
        before, self.status = (
            self.status,
            decide(self.status, self.policy, verb, said, self.now, identification),
        )
        if refused is None:
            assert self.status.revision == before.revision + 1
        else:
            assert self.status == before
        return refused
