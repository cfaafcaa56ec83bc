"""Checklists are held item by item, each with what proves it."""

from __future__ import annotations

import pytest

from domain.compliance import ComplianceMode, evaluate_checklist
from domain.conditions import Scalar
from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.gates import StepReport

CHECKLIST = Configuration.model_validate(DEFAULTS).pre_deployment_compliance

EVERYTHING: dict[str, Scalar] = {
    "dialyzer_clean": True,
    "xref_undefined": 0,
    "format_violations": 0,
    "warnings_as_errors": True,
    "line_coverage": 80.0,
    "branch_coverage": 75.0,
    "function_coverage": 90.0,
    "dependency_scan": "pass",
    "sast_scan": "pass",
    "secrets_scan": "pass",
    "license_compliance": "pass",
    "all_public_docs": True,
    "changelog_updated": True,
    "migration_guide": "exists_if_breaking",
    "health_checks_defined": True,
    "metrics_configured": True,
    "alert_rules_updated": True,
    "runbook_exists": True,
}


def measured(**changes: Scalar | None) -> list[StepReport]:
    facts = {k: v for k, v in {**EVERYTHING, **changes}.items() if v is not None}
    return [StepReport(step="all", measured=True, measurements=facts, evidence=("report.xml",))]


def test_the_specification_s_checklist_can_be_met() -> None:
    report = evaluate_checklist(CHECKLIST, measured(), ComplianceMode.ENFORCE)

    assert len(report.items) == len(EVERYTHING)
    assert report.gaps == ()
    assert not report.blocking
    assert report.items[0].evidence == ("step all", "report.xml")


@pytest.mark.parametrize("item", EVERYTHING)
def test_each_item_that_is_not_measured_is_a_gap(item: str) -> None:
    report = evaluate_checklist(CHECKLIST, measured(**{item: None}), ComplianceMode.ENFORCE)

    assert [g.item for g in report.gaps] == [item]
    assert report.blocking
    assert report.gaps[0].evidence == ()


@pytest.mark.parametrize(
    ("mode", "blocking"),
    [(ComplianceMode.ENFORCE, True), (ComplianceMode.REPORT, False), (ComplianceMode.OFF, False)],
)
def test_only_enforcing_environments_are_stopped(mode: ComplianceMode, blocking: bool) -> None:
    report = evaluate_checklist(CHECKLIST, measured(line_coverage=79.9), mode)

    assert [g.item for g in report.gaps] == ["line_coverage"]
    assert report.blocking is blocking


def test_some_sections_can_be_held_alone() -> None:
    report = evaluate_checklist(CHECKLIST, [], ComplianceMode.ENFORCE, sections=("documentation",))

    assert {i.section for i in report.items} == {"documentation"}
    assert len(report.gaps) == 3
