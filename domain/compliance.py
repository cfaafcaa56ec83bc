"""Compliance checklists, item by item, each with its evidence (spec: Compliance Checks)."""

from __future__ import annotations

from enum import StrEnum

from domain.conditions import Expectation, Scalar, evaluate_condition
from domain.gates import StepReport
from domain.model import Model

Checklist = dict[str, tuple[dict[str, Expectation], ...]]
"""Section → items, as the spec's YAML lists them: ``code_quality: [{dialyzer_clean: true}, …]``."""


class ComplianceMode(StrEnum):
    """What a failed checklist means in an environment."""

    ENFORCE = "enforce"
    REPORT = "report"
    OFF = "off"


class ComplianceItem(Model):
    """One item of the checklist with its verdict and what proves it."""

    section: str
    item: str
    expected: str
    measured: str | None
    passed: bool
    reason: str | None = None
    evidence: tuple[str, ...] = ()


class ComplianceReport(Model):
    """The whole checklist."""

    mode: ComplianceMode
    items: tuple[ComplianceItem, ...]

    @property
    def gaps(self) -> tuple[ComplianceItem, ...]:
        return tuple(i for i in self.items if not i.passed)

    @property
    def blocking(self) -> bool:
        return self.mode is ComplianceMode.ENFORCE and bool(self.gaps)


def evaluate_checklist(
    checklist: Checklist,
    reports: list[StepReport],
    mode: ComplianceMode,
    sections: tuple[str, ...] | None = None,
) -> ComplianceReport:
    """Hold the checklist (or only some sections of it) against what the steps measured."""
    facts: dict[str, Scalar] = {}
    origin: dict[str, StepReport] = {}
    for report in reports:
        for name, value in report.measurements.items():
            facts[name] = value
            origin[name] = report
    items = []
    for section, entries in checklist.items():
        if sections is not None and section not in sections:
            continue
        for entry in entries:
            for name, expected in entry.items():
                check = evaluate_condition(name, expected, facts)
                source = origin.get(name)
                evidence = () if source is None else (f"step {source.step}", *source.evidence)
                items.append(
                    ComplianceItem(
                        section=section,
                        item=name,
                        expected=check.expected,
                        measured=check.measured,
                        passed=check.passed,
                        reason=check.reason,
                        evidence=evidence,
                    )
                )
    return ComplianceReport(mode=mode, items=tuple(items))
