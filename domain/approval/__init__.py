"""Approval gates: who may decide, and what their decisions come to (spec: Approval Workflow).

`decide` is the one reducer for decisions, however they arrive (signal, update, early, late, or read from the
Git host); `next_event` says when something happens by itself. Nothing here waits or knows the time.
"""

from domain.approval.decisions import decide, open_approval
from domain.approval.electorate import deciders, missing
from domain.approval.limits import COMMENT_LENGTH, COMMENTS_LIMIT, EARLY_LIMIT, oversized, shortened
from domain.approval.models import (
    UNSIGNED,
    ApprovalPolicy,
    ApprovalRequest,
    ApprovalState,
    ApprovalStatus,
    Decision,
    DecisionMessage,
    DecisionRequest,
    EarlyDecision,
    EmergencyPolicy,
    OnTimeout,
    RuleProgress,
    Verb,
    for_reviewer,
    identity,
    with_authors,
)
from domain.approval.refusals import presumed, refusal
from domain.approval.timers import Timer, cancel, escalate, expire, next_event, remind

__all__ = [
    "COMMENTS_LIMIT",
    "COMMENT_LENGTH",
    "EARLY_LIMIT",
    "UNSIGNED",
    "ApprovalPolicy",
    "ApprovalRequest",
    "ApprovalState",
    "ApprovalStatus",
    "Decision",
    "DecisionMessage",
    "DecisionRequest",
    "EarlyDecision",
    "EmergencyPolicy",
    "OnTimeout",
    "RuleProgress",
    "Timer",
    "Verb",
    "cancel",
    "decide",
    "deciders",
    "escalate",
    "expire",
    "for_reviewer",
    "identity",
    "missing",
    "next_event",
    "open_approval",
    "oversized",
    "presumed",
    "refusal",
    "remind",
    "shortened",
    "with_authors",
]
