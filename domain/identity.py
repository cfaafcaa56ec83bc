"""Verified identity: who signed a decision, and whom that signer may speak for (Ed25519)."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator

from domain.model import Message, Model

SIGNING_KEY = "ERLMCP_DEPLOY_SIGNING_KEY"
"""The environment variable that holds a signer's private key: ``name:base64 of its 32 bytes``."""


_WEAK_KEYS = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""The points of small order, but for the sign: signatures under them can be made without any secret."""


def _checked_key(text: str) -> str:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    remedy = "make a key with: erlmcp-deploy keys new signing"
    if len(key) != 32:
        raise ValueError(f"must be the base64 of 32 bytes; {remedy}")
    if key[:-1] + bytes([key[-1] & 0x7F]) in _WEAK_KEYS:
        raise ValueError(f"is a placeholder under which anybody can sign; {remedy}")
    return text


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

    public_key: Annotated[str, AfterValidator(_checked_key)]
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
        subject: the deployment it is about, as ``NAMESPACE/WORKFLOW_ID`` (`domain.signing.subject_of`).
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
