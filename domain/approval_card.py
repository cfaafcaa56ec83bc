"""What people see of an approval: all that one needs to decide, and how it stands."""

from __future__ import annotations

from domain.approval import ApprovalPolicy, ApprovalStatus
from domain.approval_facts import ApprovalFacts
from domain.model import Model


class ApprovalCard(Model):
    """One approval as one message, which is updated in place.

    Attributes:
        key: names the card: approval id and run.
        revision: rises with every change; an older one never overwrites a newer one.
        headline: what happened last, e.g. ``approved by alice@example.com, 1 more needed``.
    """

    key: str
    revision: int
    application: str
    environment: str
    version: str
    requester: str
    approval: ApprovalStatus
    policy: ApprovalPolicy
    facts: ApprovalFacts = ApprovalFacts()
    headline: str = ""


class PersonalAnswer(Model):
    """Words for one person alone, where they spoke to us.

    Attributes:
        key: names the effect.
        reply_to: ``slack:CHANNEL:USER``, as a decision's ``reply_to`` says it.
    """

    key: str
    reply_to: str
    text: str
