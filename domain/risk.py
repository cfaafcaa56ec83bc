"""How risky a deployment is, for the people who approve it: what speaks against it, by plain rules."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from domain.deployment import DeploymentRequest, DeploymentStatus
from domain.gates import GateOutcome
from domain.model import Model
from domain.plan import DeploymentPlan
from domain.version import commit_prefix, is_breaking, is_newer


class RiskLevel(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


_WEIGHTS = {RiskLevel.LOW: 0, RiskLevel.MEDIUM: 1, RiskLevel.HIGH: 2}


class Risk(Model):
    """A level, and why.

    Attributes:
        level: that of the gravest reason.
        reasons: the gravest first; none if nothing speaks against it.
    """

    level: RiskLevel
    reasons: tuple[str, ...] = ()


_Finding = tuple[RiskLevel, str]


def assess(*, plan: DeploymentPlan, request: DeploymentRequest, status: DeploymentStatus) -> Risk:
    """Assess a deployment as it stands before its approval: what was measured, and how it would be delivered.

    In production a breaking version and a version nobody can roll back from weigh more than elsewhere.
    """
    findings = [
        *_tests(request),
        *_gates(request, status),
        *_compliance(status),
        *_version(plan, request.version, status.previous_version),
        *_delivery(plan),
    ]
    findings.sort(key=lambda finding: -_WEIGHTS[finding[0]])
    level = findings[0][0] if findings else RiskLevel.LOW
    return Risk(level=level, reasons=tuple(reason for _, reason in findings))


def _tests(request: DeploymentRequest) -> Iterator[_Finding]:
    if request.skip_tests:
        yield RiskLevel.HIGH, f"the tests are skipped: {request.reason or 'no reason is given'}"


def _gates(request: DeploymentRequest, status: DeploymentStatus) -> Iterator[_Finding]:
    for gate in status.gates:
        if gate.outcome is GateOutcome.WARNED:
            yield RiskLevel.MEDIUM, f"gate {gate.name} warns: {gate.reason}"
        elif gate.outcome is GateOutcome.SKIPPED and not request.skip_tests:
            yield RiskLevel.MEDIUM, f"gate {gate.name} is skipped: {gate.reason}"


def _compliance(status: DeploymentStatus) -> Iterator[_Finding]:
    gaps = status.compliance.gaps if status.compliance is not None else ()
    if gaps:
        items = ", ".join(gap.item for gap in gaps)
        yield RiskLevel.MEDIUM, f"{len(gaps)} compliance gap{'s' if len(gaps) > 1 else ''}: {items}"


def _version(plan: DeploymentPlan, version: str, previous: str | None) -> Iterator[_Finding]:
    grave = RiskLevel.HIGH if plan.settings.production else RiskLevel.MEDIUM
    if previous is None:
        backup = plan.settings.rollback.backup_version
        if backup is None:
            yield RiskLevel.MEDIUM, "first deployment here: there is no version to roll back to"
        else:
            yield RiskLevel.LOW, f"first deployment here: a roll-back would bring {backup}"
        return
    try:
        breaking, back = is_breaking(version, previous), is_newer(previous, version)
    except ValueError:
        yield RiskLevel.MEDIUM, f"{previous!r}, which runs now, is no semantic version to compare with"
        return
    if breaking:
        yield grave, f"{previous} → {version} may break clients"
    elif back and commit_prefix(version) is None:
        yield RiskLevel.MEDIUM, f"{previous} → {version} goes back to an earlier version"


def _delivery(plan: DeploymentPlan) -> Iterator[_Finding]:
    settings = plan.settings
    if settings.production and settings.canary is None and settings.blue_green is None:
        way = "a hot upgrade" if settings.hot_upgrade is not None else "a rolling update"
        yield (
            RiskLevel.MEDIUM,
            f"production takes it all at once by {way}, without a canary or blue/green",
        )
