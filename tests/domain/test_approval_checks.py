"""Approvals that nobody could give, or that would be worth nothing, are refused: field, reason, remedy."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from domain.configuration import Configuration
from domain.configuration_checks import problems
from domain.defaults import DEFAULTS
from domain.findings import Finding
from domain.merging import overlay

PEOPLE = {
    "directory": {
        "roles": {
            "tech_lead": ["tara@example.com", "tom@example.com", "carla@example.com"],
            "change_board": ["carla@example.com", "chris@example.com"],
            "incident_commander": ["ida@example.com", "tom@example.com"],
            "vacant": [],
        }
    }
}
KEY = base64.b64encode(bytes(range(32))).decode()


def found(*changes: dict[str, Any]) -> dict[str, Finding]:
    settings = overlay(DEFAULTS, PEOPLE)
    for change in changes:
        settings = overlay(settings, change)
    findings = problems(Configuration.model_validate(settings))
    assert all(f.remedy for f in findings)
    return {".".join(map(str, f.path)): f for f in findings}


def production(**settings: Any) -> dict[str, Any]:
    return {"environments": {"production": settings}}


def approvals(**settings: Any) -> dict[str, Any]:
    return production(approvals=settings)


def directory(**settings: Any) -> dict[str, Any]:
    return {"directory": settings}


def rule(*roles: str, people: int = 1) -> dict[str, Any]:
    return {"roles": list(roles), "min_approvals": people}


def away(person: str, delegate: str, **more: Any) -> dict[str, Any]:
    return {"person": f"{person}@example.com", "delegate": f"{delegate}@example.com", **more}


RULES = "environments.production.approvals.rules"
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # rules
    (
        "an unknown role",
        approvals(rules=[rule("board")]),
        f"{RULES}.0.roles.0",
        "is no role of the directory",
    ),
    (
        "an unknown role beside a known one",
        approvals(rules=[rule("tech_lead"), rule("change_board", "boars")]),
        f"{RULES}.1.roles.1",
        "is no role of the directory",
    ),
    (
        "a role nobody holds",
        approvals(rules=[rule("change_board", "vacant")]),
        "directory.roles.vacant",
        "nobody holds the role that rule 0 of production asks for",
    ),
    (
        "more people than hold the role",
        approvals(rules=[rule("change_board", people=3)]),
        f"{RULES}.0.min_approvals",
        "more than there are people with the role change_board: 2",
    ),
    (
        "a rule that nobody could satisfy beside one that is enough",
        approvals(rules=[rule("change_board", people=3), rule("tech_lead")], require="any"),
        f"{RULES}.0.min_approvals",
        "more than there are people",
    ),
    (
        # Carla cannot be counted for both.
        "rules that share their people",
        approvals(rules=[rule("change_board", people=2), rule("tech_lead", people=3)]),
        RULES,
        "one person counts for one rule, and too few are left for rule 1",
    ),
    (
        "a quorum beside rules",
        production(min_approvals=2, approvals={"rules": [rule("change_board")]}),
        "environments.production.min_approvals",
        "is never looked at",
    ),
    # exclusions
    (
        "production approved by who asks for it",
        approvals(exclude=["author"]),
        "environments.production.approvals.exclude",
        "approve their own deployments to production",
    ),
    # time
    (
        "reminders out of order",
        approvals(reminders=["4h", "12h", "8h"]),
        "environments.production.approvals.reminders.2",
        "not later than the one before it",
    ),
    (
        "a reminder twice",
        approvals(reminders=["4h", "4h"]),
        "environments.production.approvals.reminders.1",
        "not later than the one before it",
    ),
    (
        "a reminder at once",
        approvals(reminders=["0s"]),
        "environments.production.approvals.reminders.0",
        "is no time after the request",
    ),
    (
        "an escalation that leaves no time before it",
        approvals(escalate_before="72h"),
        "environments.production.approvals.escalate_before",
        "is as long as people have",
    ),
    (
        "an escalation that leaves no time after it",
        approvals(escalate_before="0s"),
        "environments.production.approvals.escalate_before",
        "leaves no time to decide",
    ),
    # break glass
    (
        "an unknown emergency role",
        approvals(emergency_roles=["incident_comander"]),
        "environments.production.approvals.emergency_roles.0",
        "is no role of the directory",
    ),
    (
        "more people than may break the glass",
        approvals(emergency_roles=["incident_commander"], emergency_people=3),
        "environments.production.approvals.emergency_people",
        "more than there are people with the role incident_commander: 2",
    ),
    (
        "emergency people where nobody may",
        approvals(emergency_people=3),
        "environments.production.approvals.emergency_people",
        "nobody may break the glass",
    ),
    # where approvals are asked for at all
    (
        "approvals nobody asks for",
        {"environments": {"dev": {"approvals": {"exclude": []}}}},
        "environments.dev.approvals",
        "is never looked at: there is no approval",
    ),
    (
        "silence where every decision must be signed",
        {
            "gates": {"manual_approval": {"on_timeout": "approve"}},
            "environments": {
                "production": {"required_gates": ["compile", "manual"]},
                "staging": {"require_verified_identity": True},
            },
            "directory": {"signers": {"chat": {"public_key": KEY, "speaks_for": ["*"]}}},
        },
        "gates.manual_approval.on_timeout",
        "would approve staging in nobody's name",
    ),
    (
        "an operator without a role",
        production(operators=["change_board", "everybody"]),
        "environments.production.operators.1",
        "is no role of the directory",
    ),
    # delegations
    (
        "a delegation to oneself",
        directory(delegations=[away("carla", "CARLA")]),
        "directory.delegations.0.delegate",
        "would decide for themselves",
    ),
    (
        "a delegation to nobody",
        directory(delegations=[{"person": "carla@example.com", "delegate": " "}]),
        "directory.delegations.0.delegate",
        "is nobody",
    ),
    (
        "a delegation of nothing",
        directory(delegations=[away("zoe", "dora")]),
        "directory.delegations.0.person",
        "holds no role",
    ),
    (
        "a delegation of an unknown role",
        directory(delegations=[away("carla", "dora", roles=["board"])]),
        "directory.delegations.0.roles.0",
        "is no role of the directory",
    ),
    (
        "a delegation of somebody else's role",
        directory(delegations=[away("chris", "dora", roles=["tech_lead"])]),
        "directory.delegations.0.roles.0",
        "is not held by chris@example.com",
    ),
    (
        "a delegation that is never in force",
        directory(
            delegations=[away("carla", "dora", since="2026-02-02T12:00:00Z", until="2026-02-02T12:00:00")]
        ),
        "directory.delegations.0.until",
        "is never in force",
    ),
    (
        "a delegation that is passed on",
        directory(
            delegations=[
                away("carla", "chris", since="2026-02-02T00:00:00Z", until="2026-02-09T00:00:00Z"),
                away("chris", "dora", since="2026-02-08T00:00:00Z"),
            ]
        ),
        "directory.delegations.0.delegate",
        "is away at the same time (for dora@example.com)",
    ),
    # on call
    (
        "people on call for an unknown role",
        directory(on_call={"board": ["olli@example.com"]}),
        "directory.on_call.board",
        "is no role of the directory",
    ),
    (
        "nobody on call",
        directory(on_call={"change_board": [" "]}),
        "directory.on_call.change_board.0",
        "is nobody",
    ),
    # signers
    (
        "a signer that speaks for a stranger",
        directory(signers={"laptop": {"public_key": KEY, "speaks_for": ["carla@example.com", "zoe"]}}),
        "directory.signers.laptop.speaks_for.1",
        "is nobody whom the directory knows",
    ),
    (
        "a signer that speaks for nobody",
        directory(signers={"laptop": {"public_key": KEY, "speaks_for": []}}),
        "directory.signers.laptop.speaks_for",
        "speaks for nobody",
    ),
    # accounts
    (
        "one account of two people",
        directory(
            accounts={"carla@example.com": {"github": "Carla"}, "chris@example.com": {"github": "carla"}}
        ),
        "directory.accounts.chris@example.com.github",
        "belongs to carla@example.com already",
    ),
    (
        "one person twice",
        directory(accounts={"carla@example.com": {"github": "c1"}, "Carla@example.com": {"github": "c2"}}),
        "directory.accounts.Carla@example.com",
        "is the same person as 'carla@example.com'",
    ),
]


@pytest.mark.parametrize(
    ("changes", "path", "message"), [c[1:] for c in CASES], ids=[c[0].replace(" ", "-") for c in CASES]
)
def test_refused(changes: dict[str, Any], path: str, message: str) -> None:
    if "manual" in str(changes.get("environments", {}).get("production", {}).get("required_gates")):
        changes = overlay(
            changes,
            {"gates": {"manual": {"type": "manual", "approvers": {"production": ["change_board"]}}}},
        )

    findings = found(changes)

    assert set(findings) == {path}
    assert message in findings[path].message


@pytest.mark.parametrize(
    "changes",
    [
        approvals(rules=[rule("change_board", people=2), rule("tech_lead", people=2)]),
        approvals(rules=[rule("change_board"), rule("tech_lead")], exclude=["requester", "author"]),
        approvals(rules=[rule("change_board", people=2), rule("tech_lead", people=3)], require="any"),
        approvals(reminders=[], escalate_before=None),
        approvals(reminders=["1h", "100h"], escalate_before="71h"),
        approvals(emergency_roles=["incident_commander"]),
        approvals(emergency_roles=["incident_commander", "tech_lead"], emergency_people=4),
        {"environments": {"staging": {"approvals": {"exclude": []}}}},
        {"gates": {"manual_approval": {"timeout": "1h"}}},  # less than the escalation by default
        {
            **production(operators=["change_board"], require_verified_identity=True),
            "directory": {"signers": {"chat": {"public_key": KEY, "speaks_for": ["*"]}}},
        },
        directory(
            delegations=[
                away("carla", "chris", until="2026-02-08T00:00:00Z"),
                away("chris", "dora", since="2026-02-08T00:00:00Z", roles=["change_board"]),
            ],
            on_call={"change_board": ["olli@example.com"]},
            signers={
                "receiver": {"public_key": KEY, "speaks_for": ["*"]},
                "laptop": {"public_key": KEY, "speaks_for": ["OLLI@example.com", "dora@example.com"]},
            },
            accounts={
                "carla@example.com": {"github": "carla", "gitlab": "carla", "slack": "U1"},
                "guest@example.com": {"github": "guest"},
            },
        ),
    ],
)
def test_accepted(changes: dict[str, Any]) -> None:
    assert found(changes) == {}
