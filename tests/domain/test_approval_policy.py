"""The rules of a gate, resolved from the configuration for one deployment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain.approval import ApprovalPolicy, EmergencyPolicy
from domain.approval_settings import ApprovalRule, Requirement
from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.deployment import DeploymentRequest
from domain.merging import overlay
from domain.plan import resolve_plan

DIRECTORY = {
    "roles": {
        "tech_lead": ["tara@example.com", "tom@example.com"],
        "change_board": ["carla@example.com", "chris@example.com"],
        "incident_commander": ["ida@example.com", "tom@example.com"],
    },
    "delegations": [
        {"person": "Carla@example.com", "delegate": "dora@example.com"},
        {"person": "ida@example.com", "delegate": "dora@example.com"},
    ],
    "on_call": {"change_board": ["olli@example.com"], "incident_commander": ["otto@example.com"]},
}
TWO_RULES = {
    "rules": [{"roles": ["change_board"]}, {"roles": ["tech_lead", "change_board"], "min_approvals": 2}],
    "require": "all",
}


def policy(*changes: dict[str, Any]) -> ApprovalPolicy:
    settings = overlay(DEFAULTS, {"directory": DIRECTORY})
    for change in changes:
        settings = overlay(settings, change)
    request = DeploymentRequest(
        application="erlmcp", environment="production", version="1.2.3", actor="rita@example.com"
    )
    approval = resolve_plan(Configuration.model_validate(settings), request).approval
    assert approval is not None
    return approval


def production(**settings: Any) -> dict[str, Any]:
    return {"environments": {"production": settings}}


def test_by_default_the_board_is_reminded_then_escalated_and_the_requester_excluded() -> None:
    approval = policy()

    assert approval.excluded == ("rita@example.com",)
    assert not approval.exclude_authors
    assert not approval.require_verified
    assert approval.rules == ()
    assert approval.emergency is None
    assert approval.reminders == tuple(timedelta(hours=h) for h in (4, 12, 24, 48))
    assert approval.escalate_before == timedelta(hours=6)


def test_only_the_people_that_concern_the_gate_are_taken_into_it() -> None:
    approval = policy()

    assert list(approval.members) == ["change_board"]
    assert [d.person for d in approval.delegations] == ["Carla@example.com"]
    assert approval.on_call == {"change_board": ("olli@example.com",)}


def test_rules_take_the_place_of_the_environment_s_role() -> None:
    approval = policy(production(approvals=TWO_RULES))

    assert approval.roles == ("change_board", "tech_lead")
    assert set(approval.members) == {"change_board", "tech_lead"}
    assert approval.rules[1] == ApprovalRule(roles=("tech_lead", "change_board"), min_approvals=2)
    assert approval.require is Requirement.ALL


def test_who_is_excluded_and_what_must_be_signed() -> None:
    approval = policy(production(approvals={"exclude": ["author"]}, require_verified_identity=True))

    assert approval.excluded == ()
    assert approval.exclude_authors
    assert approval.require_verified


def test_who_may_break_the_glass() -> None:
    approval = policy(
        production(approvals={"emergency_roles": ["incident_commander"], "emergency_people": 2})
    )

    assert approval.emergency == EmergencyPolicy(
        roles=("incident_commander",),
        members={"incident_commander": ("ida@example.com", "tom@example.com")},
        people=2,
    )


def test_a_gate_of_hours_is_escalated_when_half_of_its_time_is_over() -> None:
    short = {"gates": {"manual_approval": {"timeout": "1h"}}}

    assert policy(short).escalate_before == timedelta(minutes=30)
    assert policy(short, production(approvals={"escalate_before": None})).escalate_before is None
    explicit = production(approvals={"escalate_before": "10m"})
    assert policy(short, explicit).escalate_before == timedelta(minutes=10)
