"""What the receiver answers: ``{"outcome","workflow_id","rule","reason"}`` (design, section 4: HTTP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StartedRun:
    """One of several runs that an event started."""

    workflow_id: str
    rule: str | None


@dataclass(frozen=True)
class Answer:
    """An answer in the form of the contract.

    Attributes:
        status: 202 started, 200 known but nothing to do, 400, 401, 413, 422, 503.
        retry_after: seconds, with 503.
        started: every run, where an event started several; `workflow_id` and `rule` are the first's.
        closing: the connection ends with this answer: the rest of the request is not worth waiting for.
    """

    status: int
    outcome: str
    reason: str
    workflow_id: str | None = None
    rule: str | None = None
    retry_after: int | None = None
    started: tuple[StartedRun, ...] = ()
    closing: bool = False

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "outcome": self.outcome,
            "workflow_id": self.workflow_id,
            "rule": self.rule,
            "reason": self.reason,
        }
        if len(self.started) > 1:
            body["started"] = [{"workflow_id": s.workflow_id, "rule": s.rule} for s in self.started]
        return body

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        return {**headers, "Connection": "close"} if self.closing else headers


@dataclass(frozen=True)
class Reply:
    """An answer in words that the sender understands instead: Slack shows bodies to people.

    Attributes:
        status: 2xx, or what tells the person that it did not work.
        body: JSON; with none a success has no body, and a failure the usual one.
        answer: what happened, for the log and the metrics.
    """

    status: int
    body: dict[str, Any] | None
    answer: Answer


class RefusedError(Exception):
    """The request ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


def refused(status: int, reason: str, *, closing: bool = False) -> RefusedError:
    """The request cannot be used as it is: 400 unreadable, 401, 413 too large, 422."""
    return RefusedError(Answer(status, "refused", reason, closing=closing))
