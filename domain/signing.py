"""Signing decisions, and checking who signed them (Ed25519; the models are in `domain.identity`)."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from domain.approval import DecisionMessage, Verb, identity
from domain.identity import SIGNING_KEY, Identification, IdentityQuery, Proof, Signer

SKEW = timedelta(seconds=5)
"""How far the clocks of a signer and a worker may be apart."""
ANYBODY = "*"
"""In `Signer.speaks_for`: signs for everybody."""
PREFIX = b"erlmcp-deploy decision v1\n"
"""Begins every statement, so that a signature made for anything else never passes for a decision."""
_KEY_BYTES = 32


class SigningKey:
    """A signer's name and private key. The key is never shown.

    Args:
        name: the signer's name under ``directory.signers``.
        private: 32 bytes.

    Raises:
        ValueError: name or length are wrong.
    """

    def __init__(self, name: str, private: bytes) -> None:
        if not name or name != name.strip() or ":" in name:
            raise ValueError(f"a signer is named {name!r}: give a name without colon and surrounding blanks")
        if len(private) != _KEY_BYTES:
            raise ValueError(f"a signing key has {_KEY_BYTES} bytes, not {len(private)}")
        self.name = name
        self._private = Ed25519PrivateKey.from_private_bytes(private)

    def __repr__(self) -> str:
        return f"SigningKey({self.name!r}, public_key={self.public_key!r})"

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """A new random key."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> SigningKey | None:
        """The key of the variable ``ERLMCP_DEPLOY_SIGNING_KEY``; none if it is not set.

        Raises:
            ValueError: it is set and unusable; names the variable, never its value.
        """
        value = environment.get(SIGNING_KEY, "").strip()
        if not value:
            return None
        name, _, encoded = value.partition(":")
        try:
            return cls(name, base64.b64decode(encoded, validate=True))
        except ValueError:  # binascii.Error is one
            raise ValueError(
                f"{SIGNING_KEY} is not NAME:KEY with the base64 of {_KEY_BYTES} bytes as KEY; "
                "make one with: erlmcp-deploy keys new signing --name NAME"
            ) from None

    @property
    def public_key(self) -> str:
        """Base64, as ``directory.signers`` wants it."""
        return base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    @property
    def environment_value(self) -> str:
        """The private key as ``ERLMCP_DEPLOY_SIGNING_KEY`` holds it: a secret."""
        return f"{self.name}:{base64.b64encode(self._private.private_bytes_raw()).decode()}"

    def sign(self, subject: str, verb: Verb, message: DecisionMessage, at: datetime) -> DecisionMessage:
        """The message with time, id and proof; a message that has an id keeps it.

        Args:
            subject: the deployment the decision is about: `subject_of` it.
            at: now, with its time zone.

        Raises:
            ValueError: the time has no time zone, or cannot be told in UTC.
        """
        identified = message.model_copy(update={"at": at, "id": message.id or str(uuid.uuid4())})
        signature = self._private.sign(statement(query_of(subject, verb, identified, None)))
        proof = Proof(signer=self.name, signature=base64.b64encode(signature).decode())
        return identified.model_copy(update={"proof": proof})


def subject_of(namespace: str, deployment_id: str) -> str:
    """What a signed decision is about: workflow ids are the same in every namespace, a decision is not."""
    return f"{namespace}/{deployment_id}"


def query_of(
    subject: str, verb: Verb, message: DecisionMessage, not_before: datetime | None
) -> IdentityQuery:
    """What is asked about a decision.

    Args:
        subject: the deployment it is about: `subject_of` it.
        not_before: when the deployment began.
    """
    return IdentityQuery(
        subject=subject,
        verb=str(verb),
        actor=message.actor,
        comment=message.comment,
        source=message.source,
        gate=message.gate,
        id=message.id,
        emergency=message.emergency,
        at=message.at,
        proof=message.proof or Proof(),
        not_before=not_before,
    )


def statement(query: IdentityQuery) -> bytes:
    """The bytes that are signed: the same for everybody, and different for every decision.

    Raises:
        ValueError: the time is missing, has no time zone, or cannot be told in UTC.
    """
    fields = {
        "subject": query.subject,
        "verb": query.verb,
        "actor": query.actor,
        "comment": query.comment,
        "source": query.source,
        "gate": query.gate,
        "id": query.id,
        "emergency": query.emergency,
        "at": _in_utc(query.at).isoformat(timespec="microseconds"),
    }
    return PREFIX + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _in_utc(at: datetime | None) -> datetime:
    if at is None or at.utcoffset() is None:
        raise ValueError("a decision is signed with its time, in a time zone")
    try:
        return at.astimezone(UTC)
    except OverflowError:  # in the first or last hours that there are
        raise ValueError(f"the time {at.isoformat()} cannot be told in UTC") from None


def identify(
    query: IdentityQuery, signers: Mapping[str, Signer], now: datetime | None = None
) -> Identification:
    """Whether a known signer, who may speak for the person, has signed exactly this decision.

    Whatever the query says, this is an answer and no error.

    Args:
        signers: ``directory.signers``.
        now: a signature from the future is refused, as it could be used again in a later run; none
            where the time is not known.
    """
    reason = _objection(query, signers, now)
    name = query.proof.signer or None
    return Identification(verified=reason is None, signer=name, reason=reason or "")


def _objection(query: IdentityQuery, signers: Mapping[str, Signer], now: datetime | None) -> str | None:
    name = query.proof.signer
    if not name:
        return (
            f"the decision of {query.actor} is not signed; decide with erlmcp-deploy and {SIGNING_KEY}, "
            "or in Slack"
        )
    signer = signers.get(name)
    if signer is None:
        return (
            f"the signer {name!r} is not known; add its public key under directory.signers in deployment.yaml"
        )
    try:
        said, at = statement(query), _in_utc(query.at)
    except ValueError:
        return (
            f"the decision signed by {name!r} does not say when; sign it with the time of now, in a time zone"
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signer.public_key))
        key.verify(base64.b64decode(query.proof.signature, validate=True), said)
    except (InvalidSignature, ValueError):  # also a signature that is no base64
        return (
            f"the signature of {name!r} does not belong to this decision: it was changed on its way, made "
            f"for another deployment, or made with a key that is not the one under directory.signers.{name}"
        )
    if ANYBODY not in signer.speaks_for and identity(query.actor) not in map(identity, signer.speaks_for):
        return (
            f"the signer {name!r} does not speak for {query.actor}; "
            f"add the person to directory.signers.{name}.speaks_for in deployment.yaml"
        )
    begun = query.not_before
    if begun is not None and begun.utcoffset() is None:
        begun = begun.replace(tzinfo=UTC)
    # Differences, as sums can leave the years that there are.
    if begun is not None and at - begun < -SKEW:
        return (
            f"it was signed at {at.isoformat()}, before this deployment began "
            f"({begun.isoformat()}): decide anew"
        )
    if now is not None and at - now > SKEW:
        return f"it was signed at {at.isoformat()}, which is yet to come: set the clock of {name!r}"
    return None
