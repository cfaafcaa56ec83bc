"""How risky a deployment is: what speaks against it, and what weighs most."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.compliance import ComplianceItem, ComplianceMode, ComplianceReport
from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.deployment import DeploymentRequest, DeploymentState, DeploymentStatus
from domain.gates import GateOutcome, GateResult
from domain.merging import overlay
from domain.plan import resolve_plan
from domain.risk import Risk, RiskLevel, assess

LOW, MEDIUM, HIGH = RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH
AT = datetime(2026, 2, 2, 12, tzinfo=UTC)
CANARY = {"canary": {"step_duration": "5m"}}


def risk(
    environment: str = "staging",
    *,
    version: str = "3.0.1",
    previous: str | None = "3.0.0",
    settings: dict[str, Any] | None = None,
    gates: tuple[GateResult, ...] = (),
    gaps: tuple[str, ...] = (),
    **asked: Any,
) -> Risk:
    request = DeploymentRequest(
        application="erlmcp", environment=environment, version=version, actor="dev@example.com", **asked
    )
    merged = overlay(DEFAULTS, {"environments": {environment: settings or {}}})
    status = DeploymentStatus(
        deployment_id=request.deployment_id,
        application="erlmcp",
        environment=environment,
        version=version,
        actor=request.actor,
        state=DeploymentState.APPROVAL,
        since=AT,
        started_at=AT,
        history=[],
        previous_version=previous,
        gates=list(gates),
        compliance=ComplianceReport(mode=ComplianceMode.REPORT, items=tuple(map(gap, gaps))),
    )
    return assess(
        plan=resolve_plan(Configuration.model_validate(merged), request), request=request, status=status
    )


def gap(item: str) -> ComplianceItem:
    return ComplianceItem(section="operational", item=item, expected="true", measured=None, passed=False)


def gate(name: str, outcome: GateOutcome, reason: str = "") -> GateResult:
    return GateResult(name=name, outcome=outcome, reason=reason)


PASSED = gate("compile", GateOutcome.PASSED)
WARNED = gate("coverage", GateOutcome.WARNED, "coverage is 78 %")
SKIPPED = gate("security", GateOutcome.SKIPPED, "by policy")


@pytest.mark.parametrize(
    ("story", "level", "reasons"),
    [
        # nothing speaks against it
        ({"gates": (PASSED,)}, LOW, ()),
        ({"environment": "production", "settings": CANARY}, LOW, ()),
        ({"version": "3.1.0"}, LOW, ()),
        # what was measured, and what was not
        ({"gates": (PASSED, WARNED)}, MEDIUM, ("gate coverage warns: coverage is 78 %",)),
        ({"gates": (SKIPPED,)}, MEDIUM, ("gate security is skipped: by policy",)),
        ({"gaps": ("runbook",)}, MEDIUM, ("1 compliance gap: runbook",)),
        ({"gaps": ("runbook", "alerts")}, MEDIUM, ("2 compliance gaps: runbook, alerts",)),
        (
            {"skip_tests": True, "reason": "incident 4711", "gates": (SKIPPED,)},
            HIGH,
            ("the tests are skipped: incident 4711",),
        ),
        # the version, and the one it replaces
        ({"version": "4.0.0"}, MEDIUM, ("3.0.0 → 4.0.0 may break clients",)),
        (
            {"environment": "production", "settings": CANARY, "version": "4.0.0"},
            HIGH,
            ("3.0.0 → 4.0.0 may break clients",),
        ),
        ({"version": "0.3.0", "previous": "0.2.9"}, MEDIUM, ("0.2.9 → 0.3.0 may break clients",)),
        ({"version": "2.9.0"}, MEDIUM, ("3.0.0 → 2.9.0 goes back to an earlier version",)),
        ({"version": "0.0.0-main.g1a2b3c4"}, LOW, ()),
        (
            {"previous": "latest"},
            MEDIUM,
            ("'latest', which runs now, is no semantic version to compare with",),
        ),
        ({"previous": None}, MEDIUM, ("first deployment here: there is no version to roll back to",)),
        (
            {"previous": None, "settings": {"rollback": {"backup_version": "2.9.0"}}},
            LOW,
            ("first deployment here: a roll-back would bring 2.9.0",),
        ),
        # how it gets there
        (
            {"environment": "production", "settings": {"canary": None}},
            MEDIUM,
            ("production takes it all at once by a rolling update, without a canary or blue/green",),
        ),
        ({"settings": {"canary": None}}, LOW, ()),
        # the gravest reason first, and none left out
        (
            {
                "environment": "production",
                "settings": {"canary": None},
                "version": "4.0.0",
                "gates": (WARNED,),
            },
            HIGH,
            (
                "3.0.0 → 4.0.0 may break clients",
                "gate coverage warns: coverage is 78 %",
                "production takes it all at once by a rolling update, without a canary or blue/green",
            ),
        ),
    ],
)
def test_the_gravest_reason_is_the_level(
    story: dict[str, Any], level: RiskLevel, reasons: tuple[str, ...]
) -> None:
    assert risk(**story) == Risk(level=level, reasons=reasons)
