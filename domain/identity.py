"""Verified identity: who signed a decision, and whom that signer may speak for (Ed25519)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import StringConstraints

from domain.model import Message, Model

SIGNING_KEY = "ERLMCP_DEPLOY_SIGNING_KEY"
"""The environment variable that holds a signer's private key: ``name:base64 of its 32 bytes``."""


class Proof(Message):
    """A signature over a decision.

    Attributes:
        signer: a name under ``directory.signers``.
        signature: base64 of the Ed25519 signature over `statement`.
    """

    signer: str = ""
    signature: str = ""


class Signer(Model):
    """Who may sign decisions.

    Attributes:
        public_key: base64 of the 32 bytes of an Ed25519 key (``erlmcp-deploy keys new``).
        speaks_for: the people it signs for; ``*`` for a program that has checked who they are (the webhook
            receiver).
    """

    public_key: Annotated[str, StringConstraints(min_length=1)]
    speaks_for: tuple[str, ...]


class Identification(Model):
    """Whether a decision comes from whom it names.

    Attributes:
        verified: a known signer, who may speak for the person, has signed exactly this decision.
        reason: if not, why: in one sentence that says what to do.
    """

    verified: bool
    signer: str | None = None
    reason: str = ""


class IdentityQuery(Model):
    """A signed decision to verify.

    Attributes:
        subject: the deployment it is about: its workflow id.
        verb: approve, reject or comment.
        actor, comment, source, gate, id, emergency, at: what was signed.
        not_before: the deployment began; an older signature belongs to an earlier run of it.
    """

    subject: str
    verb: str
    actor: str
    comment: str = ""
    source: str = ""
    gate: str | None = None
    id: str | None = None
    emergency: bool = False
    at: datetime | None = None
    proof: Proof
    not_before: datetime | None = None
