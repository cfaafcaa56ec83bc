"""The automated gates and the compliance checklist of a deployment (spec: Approval Gates, Compliance)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from temporalio import workflow

from domain.build import Checkout
from domain.compliance import ComplianceMode, ComplianceReport, evaluate_checklist
from domain.deployment import DeploymentRequest
from domain.durations import format_duration
from domain.gates import GateOutcome, GateResult, StepReport, evaluate_gate, skipped_gate
from domain.plan import DeploymentPlan
from workflows.building import BuildSite
from workflows.failures import ProcessError
from workflows.journal import Journal
from workflows.orders import Orders

COMPILE_GATE = "compile"
"""Building proves this gate; Testing proves the others."""
PRECONDITIONS = ("documentation", "operational")
"""Sections of the compliance checklist that need no build."""


class Gates:
    """What is measured of one checkout, and what the gates and the checklist say to it.

    Args:
        show_gate: replaces what is shown of one gate; `show_compliance` the same for the checklist.
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
        self._plan = plan
        self._site = site
        self._journal = journal
        self._obey = orders.obey
        self._show_gate = show_gate
        self._show_compliance = show_compliance
        self._reports: list[StepReport] = []

    async def check_out(self) -> Checkout:
        """The commit that everything is measured on."""
        return await self._obey(self._site.check_out())

    async def check_preconditions(self) -> None:
        """The sections of the checklist that only need the documents.

        Raises:
            ProcessError: a gap blocks.
        """
        mode = self._plan.settings.compliance
        if mode is ComplianceMode.OFF:
            return
        steps = self._plan.build.steps
        for name in [n for n, step in steps.items() if step.tool == "repository.documents"]:
            self._reports.append(await self._obey(self._site.run_step(name, steps[name].timeout)))
        await self._hold_to_checklist(mode, PRECONDITIONS)

    async def compile(self) -> None:
        """The compile gate, where the stage has it.

        Raises:
            ProcessError: it blocks.
        """
        if COMPILE_GATE not in self._plan.automated_gates:
            return
        outcome = await self._obey(self._run(COMPILE_GATE))
        if outcome.blocking:
            raise ProcessError(f"gate compile: {outcome.reason}", trigger=COMPILE_GATE)

    async def test(self, request: DeploymentRequest) -> None:
        """All other automated gates, in parallel; then the whole compliance checklist.

        Raises:
            ProcessError: a gate or a gap blocks.
        """
        gates = [g for g in self._plan.automated_gates if g != COMPILE_GATE]
        mode = self._plan.settings.compliance
        if request.skip_tests:
            await self._skip(gates, f"skip_tests by {request.actor}: {request.reason}")
            return
        work: list[Coroutine[Any, Any, GateResult | None]] = [self._run(gate) for gate in gates]
        if mode is not ComplianceMode.OFF:
            work.append(self._run_remaining_steps(gates))
        results = [r for r in await self._obey(_all(work)) if r is not None]
        failed = [r for r in results if r.blocking]
        if failed:
            raise ProcessError(
                "; ".join(f"gate {r.name}: {r.reason}" for r in failed),
                trigger=",".join(r.name for r in failed),
            )
        if mode is not ComplianceMode.OFF:
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

    async def _run(self, name: str) -> GateResult:
        definition = self._plan.gates[name]
        self._show_gate(GateResult(name=name, outcome=GateOutcome.RUNNING))
        deadline = workflow.now() + definition.timeout
        reports = []
        for step in definition.steps:
            if step not in self._plan.build.steps:
                reports.append(
                    StepReport(step=step, measured=False, reason="the application has no such step")
                )
                continue
            left = deadline - workflow.now()
            if left.total_seconds() <= 0:
                spent = format_duration(definition.timeout)
                reports.append(StepReport(step=step, measured=False, reason=f"the gate's {spent} are spent"))
                continue
            reports.append(await self._site.run_step(step, left))
        self._reports.extend(r for r in reports if r not in self._reports)
        outcome = evaluate_gate(name, definition, reports)
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

    async def _run_remaining_steps(self, gates: list[str]) -> GateResult | None:
        """Steps that no gate asks for, but the compliance checklist does."""
        asked = {
            s for g in (*gates, COMPILE_GATE) if g in self._plan.gates for s in self._plan.gates[g].steps
        }
        known = {r.step for r in self._reports}
        remaining = [n for n in self._plan.build.steps if n not in asked and n not in known]
        for name in remaining:
            self._reports.append(await self._site.run_step(name, self._plan.build.steps[name].timeout))
        return None


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
