"""How much a decision may say: it ends in the history, in the status and in the audit trail."""

from __future__ import annotations

from typing import Any, Final

from domain.approval.models import DecisionMessage

COMMENT_LENGTH: Final = 1000
"""What is kept of a comment in the status; the audit trail has all of it."""
COMMENTS_LIMIT: Final = 20
"""Anybody may comment, and an approval must stay small enough to be passed around."""
EARLY_LIMIT: Final = 50
"""How many decisions are kept for a gate before it opens."""

_LIMITS: Final = {
    "actor": 254,  # the longest address there is (RFC 5321)
    "comment": 4000,
    "source": 64,
    "gate": 128,
    "id": 200,
    "reply_to": 200,
}
_PROOF_LIMITS: Final = {"signer": 128, "signature": 200}


def oversized(message: DecisionMessage) -> str | None:
    """Which field is too long to be taken, in one sentence that says what to do; none if none is."""
    limits = {**_LIMITS, **{f"proof.{name}": limit for name, limit in _PROOF_LIMITS.items()}}
    for (name, limit), text in zip(limits.items(), _texts(message), strict=True):
        if len(text) > limit:
            return f"{name} has {len(text)} characters, and may have {limit}; shorten it"
    return None


def shortened(message: DecisionMessage) -> DecisionMessage:
    """The message with every field cut to what it may have, to keep one that was refused."""
    changes: dict[str, Any] = {name: _cut(getattr(message, name), limit) for name, limit in _LIMITS.items()}
    if message.proof is not None:
        proof = {name: _cut(getattr(message.proof, name), limit) for name, limit in _PROOF_LIMITS.items()}
        changes["proof"] = message.proof.model_copy(update=proof)
    return message.model_copy(update=changes)


def kept_comment(comment: str) -> str:
    """What the status keeps of a comment."""
    return _cut(comment.strip(), COMMENT_LENGTH) or ""


def _texts(message: DecisionMessage) -> list[str]:
    texts = [getattr(message, name) for name in _LIMITS]
    texts += [getattr(message.proof, name, "") for name in _PROOF_LIMITS]
    return [text or "" for text in texts]


def _cut(text: str | None, limit: int) -> str | None:
    return text if text is None or len(text) <= limit else text[: limit - 1] + "…"
