"""What the receiver answers: ``{"outcome","workflow_id","rule","reason"}`` (design, section 4: HTTP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An answer in the form of the contract.

    Attributes:
        status: 202 started, 200 known but nothing to do, 400, 401, 413, 422, 503.
        retry_after: seconds, with 503.
    """

    status: int
    outcome: str
    reason: str
    workflow_id: str | None = None
    rule: str | None = None
    retry_after: int | None = None

    def body(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "workflow_id": self.workflow_id,
            "rule": self.rule,
            "reason": self.reason,
        }


class RefusedError(Exception):
    """The request ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer
