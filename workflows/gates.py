"""Automated gates, and the compliance checklist of a deployment (spec: Approval Gates, Compliance)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from domain.build import BuildDefinition, Checkout
from domain.compliance import ComplianceMode, ComplianceReport, evaluate_checklist
from domain.deployment import DeploymentRequest
from domain.durations import format_duration
from domain.gates import (
    GateDefinition,
    GateOutcome,
    GateResult,
    StepReport,
    evaluate_gate,
    skipped_gate,
)
from domain.plan import DeploymentPlan
from workflows.building import BuildSite, MeasuringSite
from workflows.failures import ProcessError
from workflows.journal import Journal
from workflows.orders import Orders

COMPILE_GATE = "compile"
"""Building proves this gate; Testing proves the others."""
PRECONDITIONS = ("documentation", "operational")
"""Sections of the compliance checklist that need no build."""


class AutomatedGates:
    """What is measured of one checkout, and what the gates say to it.

    Args:
        gates: name → gate, all of them automated.
        show_gate: replaces what is shown of one gate.
    """

    def __init__(
        self,
        gates: Mapping[str, GateDefinition],
        build: BuildDefinition,
        site: MeasuringSite,
        journal: Journal,
        orders: Orders,
        *,
        show_gate: Callable[[GateResult], None],
    ) -> None:
        self._gates = gates
        self._build = build
        self._site = site
        self._journal = journal
        self._obey = orders.obey
        self._show_gate = show_gate
        self._reports: list[StepReport] = []

    async def check_out(self) -> Checkout:
        """The commit that everything is measured on."""
        return await self._obey(self._site.check_out())

    async def compile(self) -> None:
        """The compile gate, if it is one of them.

        Raises:
            ProcessError: it blocks.
        """
        if COMPILE_GATE not in self._gates:
            return
        outcome = await self._obey(self._run(COMPILE_GATE))
        if outcome.blocking:
            raise ProcessError(f"gate compile: {outcome.reason}", trigger=COMPILE_GATE)

    async def test_all(self, *beside: Coroutine[Any, Any, None]) -> None:
        """All other gates, in parallel, and what is to be done beside them.

        Raises:
            ProcessError: gates block; it names them all.
        """
        work: list[Coroutine[Any, Any, GateResult | None]] = [self._run(gate) for gate in self._tests]
        results = [r for r in await self._obey(_all([*work, *beside])) if r is not None]
        failed = [r for r in results if r.blocking]
        if failed:
            raise ProcessError(
                "; ".join(f"gate {r.name}: {r.reason}" for r in failed),
                trigger=",".join(r.name for r in failed),
            )

    @property
    def _tests(self) -> list[str]:
        return [gate for gate in self._gates if gate != COMPILE_GATE]

    async def _run(self, name: str) -> GateResult:
        self._show_gate(GateResult(name=name, outcome=GateOutcome.RUNNING))
        try:
            reports = await self._measure(self._gates[name])
        except (asyncio.CancelledError, ActivityError):
            self._show_gate(skipped_gate(name, "not finished"))
            raise
        self._reports.extend(r for r in reports if r not in self._reports)
        outcome = evaluate_gate(name, self._gates[name], reports)
        self._show_gate(outcome)
        await self._journal.record(
            "gate.evaluated",
            f"gate_{name}",
            {GateOutcome.PASSED: "success", GateOutcome.WARNED: "warning"}.get(outcome.outcome, "failed"),
            reason=outcome.reason,
            gate=name,
            checks=[c.model_dump(mode="json") for c in outcome.checks],
            logs=[r.log for r in reports if r.log],
        )
        return outcome

    async def _measure(self, definition: GateDefinition) -> list[StepReport]:
        """The reports of the gate's steps, one after the other, within its time."""
        deadline = workflow.now() + definition.timeout
        reports = []
        for step in definition.steps:
            if step not in self._build.steps:
                reason = "the application has no such step"
                reports.append(StepReport(step=step, measured=False, reason=reason))
                continue
            left = deadline - workflow.now()
            if left.total_seconds() <= 0:
                reason = f"the gate's {format_duration(definition.timeout)} are spent"
                reports.append(StepReport(step=step, measured=False, reason=reason))
                continue
            reports.append(await self._site.run_step(step, left))
        return reports


class Gates(AutomatedGates):
    """The gates of a deployment, and the compliance checklist.

    Args:
        show_compliance: replaces what is shown of the checklist.
    """

    def __init__(
        self,
        plan: DeploymentPlan,
        site: BuildSite,
        journal: Journal,
        orders: Orders,
        *,
        show_gate: Callable[[GateResult], None],
        show_compliance: Callable[[ComplianceReport], None],
    ) -> None:
        gates = {name: plan.gates[name] for name in plan.automated_gates}
        super().__init__(gates, plan.build, site, journal, orders, show_gate=show_gate)
        self._plan = plan
        self._show_compliance = show_compliance

    async def check_preconditions(self) -> None:
        """The sections of the checklist that only need the documents.

        Raises:
            ProcessError: a gap blocks.
        """
        mode = self._plan.settings.compliance
        if mode is ComplianceMode.OFF:
            return
        steps = self._build.steps
        for name in [n for n, step in steps.items() if step.tool == "repository.documents"]:
            self._reports.append(await self._obey(self._site.run_step(name, steps[name].timeout)))
        await self._hold_to_checklist(mode, PRECONDITIONS)

    async def test(self, request: DeploymentRequest) -> None:
        """All gates but that of compiling, in parallel; then the whole compliance checklist.

        Raises:
            ProcessError: a gate or a gap blocks.
        """
        mode = self._plan.settings.compliance
        if request.skip_tests:
            await self._skip(self._tests, f"skip_tests by {request.actor}: {request.reason}")
            return
        if mode is ComplianceMode.OFF:
            await self.test_all()
            return
        await self.test_all(self._run_remaining_steps())
        await self._hold_to_checklist(mode, None)

    async def _skip(self, gates: list[str], why: str) -> None:
        for gate in gates:
            self._show_gate(skipped_gate(gate, why))
        for gate in gates:
            await self._journal.record("gate.skipped", f"gate_{gate}", "skipped", reason=why, gate=gate)

    async def _hold_to_checklist(self, mode: ComplianceMode, sections: tuple[str, ...] | None) -> None:
        report = evaluate_checklist(self._plan.checklist, self._reports, mode, sections)
        self._show_compliance(report)
        await self._journal.record(
            "compliance.evaluated",
            "evaluate_compliance",
            "failed" if report.gaps else "success",
            reason="; ".join(g.reason or g.item for g in report.gaps),
            mode=str(mode),
            items=[i.model_dump(mode="json") for i in report.items],
        )
        if report.blocking:
            raise ProcessError(_gaps(report), trigger="compliance")

    async def _run_remaining_steps(self) -> None:
        """Steps that no gate asks for, but the compliance checklist does."""
        asked = {step for gate in self._gates.values() for step in gate.steps}
        known = {r.step for r in self._reports}
        for name in [n for n in self._build.steps if n not in asked and n not in known]:
            self._reports.append(await self._site.run_step(name, self._build.steps[name].timeout))


async def _all(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """All of them in parallel; if one is cancelled or fails, so are the others."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _gaps(report: ComplianceReport) -> str:
    return f"compliance: {len(report.gaps)} item(s) do not hold: " + "; ".join(
        g.reason or g.item for g in report.gaps
    )
