"""EnvironmentWorkflow: the one owner of an environment: whose turn it is, what is live.

All decisions are `domain.environment`'s; here they only meet signals, timers and the outside.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from activities.signatures import TurnSignatures
    from domain import environment
    from domain.audit import AuditCategory
    from domain.environment import (
        UNSIGNED_HOLD,
        EnvironmentRecord,
        Hold,
        HoldMessage,
        TurnDecision,
        TurnRelease,
        TurnRequest,
    )
    from domain.liveness import LivenessQuery, RunReference
    from workflows import effects, presentation
    from workflows.journal import APPLICATION, ENVIRONMENT, Journal

LIVENESS_INTERVAL = timedelta(minutes=5)
"""How often a holder that others wait for is asked whether it still runs."""


@workflow.defn(name="EnvironmentWorkflow")
class EnvironmentWorkflow:
    """Runs for ever (continued as new before its history grows large); ends only by termination."""

    @workflow.init
    def __init__(self, record: EnvironmentRecord) -> None:
        self._record = record
        self._work: list[Callable[[datetime], list[TurnDecision]]] = []
        self._outbox: list[TurnDecision] = []
        self._audits: list[tuple[str, str, HoldMessage]] = []
        self._look_at_holder = False
        self._journal = Journal(
            deployment_id=f"environment:{record.application}:{record.environment}",
            application=record.application,
            environment=record.environment,
            version=record.current_version or "",
            actor="environment",
        )

    @workflow.run
    async def run(self, record: EnvironmentRecord) -> None:
        workflow.upsert_search_attributes(
            [APPLICATION.value_set(record.application), ENVIRONMENT.value_set(record.environment)]
        )
        while True:
            await self._settle()
            if workflow.info().is_continue_as_new_suggested() and not self._pending():
                workflow.continue_as_new(self._record)
            try:
                await workflow.wait_condition(
                    self._pending, timeout=self._next_look(), timeout_summary="look after holder and holds"
                )
            except TimeoutError:
                await self._check_holder()

    def _pending(self) -> bool:
        return bool(self._work or self._outbox or self._audits)

    async def _settle(self) -> None:
        """Apply what came in, give the turn on, and tell everybody concerned."""
        while self._work:
            change = self._work.pop(0)
            self._outbox.extend(change(workflow.now()))
        if self._look_at_holder:
            self._look_at_holder = False
            await self._check_holder()
        while True:
            self._record, decision = environment.grant(self._record, workflow.now())
            if decision is None:
                break
            self._outbox.append(decision)
        workflow.set_current_details(presentation.environment(self._record))
        while self._outbox:
            await self._tell(self._outbox.pop(0))
        while self._audits:
            event, status, message = self._audits.pop(0)
            await self._journal.record(
                f"environment.{event}",
                event,
                status,
                category=AuditCategory.CONFIGURATION,
                actor=message.actor or "unknown",
                reason=message.reason,
            )

    async def _tell(self, decision: TurnDecision) -> None:
        handle = workflow.get_external_workflow_handle(decision.holder, run_id=decision.run)
        try:
            await handle.signal("turn_decided", decision)
        except FailureError:
            # It ended before its turn came.
            ended = TurnRelease(
                holder=decision.holder, run=decision.run, version="", outcome=environment.Outcome.UNCHANGED
            )
            self._work.append(lambda now: self._released(ended, now))

    def _next_look(self) -> timedelta | None:
        """Until the holder must be looked after or a hold ends; none = sleep until a signal comes."""
        looks = []
        if self._record.holder is not None and self._record.queue:
            looks.append(LIVENESS_INTERVAL)
        stop = environment.blocked(self._record, workflow.now())
        if self._record.queue and stop is not None and stop.until is not None:
            looks.append(max(stop.until - workflow.now(), timedelta(seconds=1)))
        return min(looks) if looks else None

    async def _check_holder(self) -> None:
        """Take the turn from a holder that was terminated, and forget those in the queue that were."""
        holders = [h for h in (self._record.holder, *self._record.queue) if h is not None]
        if not holders:
            return
        report = await workflow.execute_activity_method(
            TurnSignatures.report_liveness,
            LivenessQuery(runs=tuple(RunReference(workflow_id=h.holder, run_id=h.run) for h in holders)),
            summary="do holder and queue still run?",
            **effects.SHORT,
        )
        holder = self._record.holder
        if holder is not None and holder.run in report.ended:
            reason = f"{holder.holder} ended ({report.ended[holder.run]}) without giving its turn back"
            self._record = environment.drop_dead_holder(self._record, reason, workflow.now())
        alive = tuple(w for w in self._record.queue if w.run not in report.ended)
        if alive != self._record.queue:
            self._record = self._record.model_copy(update={"queue": alive})

    # Turns

    @workflow.signal
    def request_turn(self, request: TurnRequest) -> None:
        self._work.append(lambda now: self._asked(request.model_copy(update={"at": request.at or now})))

    def _asked(self, request: TurnRequest) -> list[TurnDecision]:
        self._record, decisions = environment.ask(self._record, request)
        place = environment.position(self._record, request.holder, request.run)
        if place is None:
            return decisions
        self._look_at_holder = self._record.holder is not None
        return [*decisions, environment.waiting(self._record, request, workflow.now())]

    @workflow.signal
    def release_turn(self, turn: TurnRelease) -> None:
        self._work.append(lambda now: self._released(turn, now))

    def _released(self, turn: TurnRelease, now: datetime) -> list[TurnDecision]:
        self._record = environment.release(self._record, turn, now)
        return []

    # Holds and freezes

    @workflow.signal
    def freeze(self, message: HoldMessage = UNSIGNED_HOLD) -> None:
        self._stop("freeze", message)

    @workflow.signal
    def unfreeze(self, message: HoldMessage = UNSIGNED_HOLD) -> None:
        self._go("freeze", "unfreeze", message)

    @workflow.signal
    def hold(self, message: HoldMessage = UNSIGNED_HOLD) -> None:
        self._stop("hold", message)

    @workflow.signal
    def release_hold(self, message: HoldMessage = UNSIGNED_HOLD) -> None:
        self._go("hold", "release_hold", message)

    def _stop(self, kind: str, message: HoldMessage) -> None:
        if not message.actor or not message.reason:
            self._audits.append((kind, "refused", message))
            return
        stop = Hold(actor=message.actor, reason=message.reason, since=workflow.now(), until=message.until)
        self._record = self._record.model_copy(update={kind: stop})
        self._audits.append((kind, "success", message))
        self._explain_wait()

    def _go(self, kind: str, action: str, message: HoldMessage) -> None:
        if not message.actor:
            self._audits.append((action, "refused", message))
            return
        self._record = self._record.model_copy(update={kind: None})
        self._audits.append((action, "success", message))
        self._explain_wait()

    def _explain_wait(self) -> None:
        """Tell the one that is next what it waits for now."""
        if self._record.queue:
            self._outbox.append(environment.waiting(self._record, self._record.queue[0], workflow.now()))

    @workflow.query
    def status(self) -> EnvironmentRecord:
        """What is live, whose turn it is, who waits, and what stops them."""
        return self._record
