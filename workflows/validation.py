"""ValidationWorkflow: gates held against a commit that is not deployed (spec: PR Validation, Nightly Builds).

It needs no turn in any environment and changes nothing outside but the check at its commit. Of several
commits of one pull request only the newest is worth the work: a validation tells older ones so when it
starts, and asks before its verdict whether there is a newer one, because two that start at the same moment
may not yet see each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.errors import INVALID_INPUT
    from activities.signatures import GitHostSignatures, RivalSignatures, ValidationSignatures
    from domain.checks import CheckReceipt, CheckRun
    from domain.deployment import Built
    from domain.gates import GateResult
    from domain.validation import (
        CLAIM_MEMO,
        Claim,
        Supersession,
        ValidationPlan,
        ValidationRequest,
        ValidationState,
        ValidationStatus,
    )
    from domain.validation_check import check_of
    from workflows import effects, presentation
    from workflows.building import MeasuringSite, Source
    from workflows.failures import ProcessError, reason_of, see_through
    from workflows.gates import AutomatedGates
    from workflows.journal import Journal, show_in_visibility
    from workflows.orders import Orders, Stop, StoppedError

S = ValidationState
EVIDENCE_SHOWN = 5
"""Lines of a step's evidence in the status; the audit trail keeps the log."""
UNSIGNED = Supersession()


def _within(limit: timedelta) -> effects.Options:
    """What a verdict is not held up by for longer."""
    return effects.Options(
        start_to_close_timeout=timedelta(seconds=20),
        schedule_to_close_timeout=limit,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=20)
        ),
    )


PROGRESS_SHOWN = _within(timedelta(minutes=1))
VERDICT_SHOWN = _within(timedelta(minutes=5))
"""A check that stays at "running" blocks a merge, so this is tried for longer; the status tells at once."""
RIVALS = _within(timedelta(seconds=30))


@workflow.defn(name="ValidationWorkflow")
class ValidationWorkflow:
    """One commit held against the gates."""

    @workflow.init
    def __init__(self, request: ValidationRequest | None = None) -> None:
        if request is None:
            raise ApplicationError(
                'the workflow has no input; give {"application", "commit", "kind", "actor"}',
                type=INVALID_INPUT,
                non_retryable=True,
            )
        now = workflow.now()
        self._request = request
        self._status = ValidationStatus(
            validation_id=request.validation_id,
            application=request.application,
            commit=request.commit,
            kind=request.kind,
            actor=request.actor,
            state=S.PENDING,
            since=now,
            started_at=now,
            ref=request.ref,
            pull_request=request.pull_request,
        )
        self._journal = Journal(
            deployment_id=request.validation_id,
            application=request.application,
            environment=str(request.kind),
            version=request.version,
            actor=request.actor,
        )
        self._orders = Orders()
        self._plan: ValidationPlan | None = None
        self._published: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    @workflow.run
    async def run(self, request: ValidationRequest | None = None) -> ValidationStatus:
        self._check_id()
        self._show()
        end: Coroutine[Any, Any, None]
        try:
            await self._process()
            end = self._finish(S.COMPLETED, self._status.verdict)
        except (StoppedError, asyncio.CancelledError):
            end = self._give_up(self._orders.stopped_by("a cancellation request"))
        except ProcessError as error:
            end = self._finish(S.FAILED, str(error))
        except FailureError as error:
            if self._plan is None:
                raise
            end = self._finish(S.FAILED, reason_of(error))
        await see_through(end)
        return self._status

    async def _process(self) -> None:
        """From top to bottom."""
        plan = self._plan = await self._read_plan()
        await self._journal.record(
            "validation.requested", "validate", "started", commit=self._request.commit, gates=list(plan.gates)
        )
        self._publish(PROGRESS_SHOWN)
        claim = self._claim()
        if claim is not None:
            self._asking = asyncio.create_task(self._ask_rivals(claim))
        gates = self._gates(plan)
        await self._enter(S.BUILDING)
        self._set(waiting_for="a build worker")
        checkout = await gates.check_out()
        self._set(built=Built(commit=checkout.commit), waiting_for=None)
        await gates.compile()
        await self._enter(S.TESTING)
        await gates.test_all()
        if claim is not None:
            await self._orders.obey(self._ask_rivals(claim))

    # Pending

    def _check_id(self) -> None:
        wanted, given = self._request.validation_id, workflow.info().workflow_id
        if given != wanted:
            raise ApplicationError(
                f"the workflow id is {given!r}; start this validation with --workflow-id {wanted}, "
                "so that it runs only once",
                type=INVALID_INPUT,
                non_retryable=True,
            )

    async def _read_plan(self) -> ValidationPlan:
        try:
            return await self._orders.obey(
                workflow.execute_activity_method(
                    ValidationSignatures.resolve_validation_plan,
                    self._request,
                    summary="read deployment.yaml",
                    **effects.SHORT,
                )
            )
        except ActivityError as error:
            reason = reason_of(error)
            # Whoever waits for the check at the Git host learns why there will be none.
            self._take(S.FAILED, reason)
            self._publish(PROGRESS_SHOWN)
            await see_through(self._close())
            raise ApplicationError(reason, type=INVALID_INPUT, non_retryable=True) from error

    def _gates(self, plan: ValidationPlan) -> AutomatedGates:
        request = self._request
        source = Source(
            holder=request.validation_id,
            application=request.application,
            version=request.version,
            repository=plan.repository,
            reference=request.ref or request.commit,
            commit=request.commit,
            build=plan.build,
        )
        return AutomatedGates(
            plan.gates,
            plan.build,
            MeasuringSite(source),
            self._journal,
            self._orders,
            show_gate=self._set_gate,
        )

    # Newer commits of the same pull request

    def _claim(self) -> Claim | None:
        """Say in the memo what this validates, so that others find it."""
        request, started = self._request, workflow.info().start_time
        if request.pull_request is None or self._plan is None:
            return None
        claim = Claim(
            validation_id=request.validation_id,
            application=request.application,
            project=self._plan.project,
            pull_request=request.pull_request,
            asked_at=request.event.timestamp if request.event is not None else started,
            started_at=started,
        )
        workflow.upsert_memo({CLAIM_MEMO: claim.model_dump(mode="json")})
        return claim

    async def _ask_rivals(self, claim: Claim) -> None:
        """Supersede older validations; give way to a newer one."""
        try:
            rivals = await workflow.execute_activity_method(
                RivalSignatures.supersede_rivals,
                claim,
                summary="other commits of this pull request",
                **RIVALS,
            )
        except ActivityError as error:
            # It only saves work: the verdict is about this commit, whatever other ones there are.
            workflow.logger.warning("other validations were not asked for: %s", reason_of(error))
            return
        for outdated in rivals.superseded:
            self._journal.note("validation.superseded", "supersede", "success", superseded=outdated)
        if rivals.newer is not None:
            self._outdated_by(rivals.newer)

    @workflow.signal
    def supersede(self, message: Supersession = UNSIGNED) -> None:
        """A newer commit of the same pull request is validated."""
        self._outdated_by(message.by or "a newer commit")

    def _outdated_by(self, newer: str) -> None:
        if not self._status.state.final:
            self._orders.halt(Stop("supersede", newer))

    # The ends

    async def _give_up(self, stop: Stop) -> None:
        """End without a verdict."""
        self._set(cancelled=True)
        if stop.action == "supersede":
            await self._finish(S.SUPERSEDED, f"superseded by {stop.actor}")
        else:
            await self._finish(S.FAILED, f"cancelled by {stop.actor}")

    async def _finish(self, state: ValidationState, reason: str) -> None:
        self._take(state, reason)
        self._publish(VERDICT_SHOWN)
        await self._close()
        if self._journal.lost:
            lost = f"{len(self._journal.lost)} audit event(s) could not be stored: {self._journal.lost[0]}"
            self._set(reason=f"{reason}; {lost}")

    async def _close(self) -> None:
        """Wait until all is written and told."""
        if self._asking is not None:
            await self._asking
        if self._published is not None:
            await self._published
        await self._journal.close()

    # The check at the Git host

    def _publish(self, options: effects.Options) -> None:
        """Show how it stands, after what was shown before, without waiting for it."""
        project = self._plan.project if self._plan is not None else self._request.project
        if project is None:
            return
        key = f"{self._request.validation_id}/{workflow.info().run_id}"
        check = check_of(self._status, project, key)
        self._published = asyncio.create_task(self._send(self._published, check, options))

    async def _send(
        self, before: asyncio.Task[None] | None, check: CheckRun, options: effects.Options
    ) -> None:
        if before is not None:
            await before
        try:
            receipt = await workflow.execute_activity_method(
                GitHostSignatures.publish_check,
                check,
                summary=f"check {check.state}: {check.title}",
                **options,
            )
        except ActivityError as error:
            receipt = CheckReceipt(published=False, reason=reason_of(error))
        self._journal.note(
            "check.published",
            "publish_check",
            "success" if receipt.published else "failed",
            reason=receipt.reason,
            check=check.name,
            state=str(check.state),
            reference=receipt.reference,
        )

    # What it shows of itself

    async def _enter(self, state: ValidationState) -> None:
        """Go on to a state; it is audited before it counts."""
        self._take(state, "")
        await self._orders.obey(self._journal.stored())

    def _take(self, state: ValidationState, reason: str) -> None:
        now, previous = workflow.now(), self._status.state
        changes: dict[str, Any] = {"state": state, "since": now, "waiting_for": None}
        if state.final:
            changes |= {"finished_at": now, "reason": reason}
        self._set(**changes)
        self._show()
        self._journal.note(
            "validation.transition",
            "validate",
            "failed" if state is S.FAILED else "success",
            reason=reason,
            commit=self._request.commit,
            from_state=str(previous),
            to_state=str(state),
        )

    def _set(self, **changes: Any) -> None:
        self._status = self._status.model_copy(update=changes)
        workflow.set_current_details(presentation.validation(self._status))

    def _set_gate(self, gate: GateResult) -> None:
        steps = tuple(s.model_copy(update={"evidence": s.evidence[:EVIDENCE_SHOWN]}) for s in gate.steps)
        self._status = self._status.with_gate(gate.model_copy(update={"steps": steps}))
        self._set()

    def _show(self) -> None:
        show_in_visibility(
            application=self._request.application,
            environment=str(self._request.kind),
            version=self._request.version,
            state=str(self._status.state),
            awaiting_approval=False,
        )

    @workflow.query
    def status(self) -> ValidationStatus:
        """State, gates, and the reason when it ended."""
        return self._status
