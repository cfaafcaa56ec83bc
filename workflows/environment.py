"""EnvironmentWorkflow: the one owner of an environment: whose turn it is, what is live.

All decisions are `domain.environment`'s; here they only meet signals, timers and the outside.
"""

from __future__ import annotations

from datetime import timedelta

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
    from domain.liveness import LivenessQuery
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
        self._asking: list[TurnRequest] = []
        self._releasing: list[TurnRelease] = []
        self._outbox: list[TurnDecision] = []
        self._rolling_back = False
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
            if workflow.info().is_continue_as_new_suggested():
                await self._journal.settle()
                if self._pending():
                    continue
                workflow.continue_as_new(self._record)
            try:
                await workflow.wait_condition(
                    self._pending, timeout=self._next_look(), timeout_summary="look after holder and holds"
                )
            except TimeoutError:
                await self._check_holder()

    def _pending(self) -> bool:
        return bool(self._asking or self._releasing or self._outbox)

    async def _settle(self) -> None:
        """Apply what came in, give the turn on, and tell everybody concerned."""
        while self._releasing:
            self._record = environment.release(self._record, self._releasing.pop(0), workflow.now())
        if self._asking and (self._record.holder is not None or self._record.queue):
            # Nobody is refused or kept waiting for the sake of a workflow that is dead.
            await self._check_holder()
        while self._asking:
            self._enter_queue(self._asking.pop(0))
        while True:
            self._record, decision = environment.grant(self._record, workflow.now())
            if decision is None:
                break
            self._outbox.append(decision)
        workflow.set_current_details(presentation.environment(self._record))
        while self._outbox:
            await self._tell(self._outbox.pop(0))

    def _enter_queue(self, request: TurnRequest) -> None:
        self._record, decisions = environment.ask(self._record, request, rolling_back=self._rolling_back)
        self._outbox.extend(decisions)
        if environment.position(self._record, request) is not None:
            self._outbox.append(environment.waiting(self._record, request, workflow.now()))

    async def _tell(self, decision: TurnDecision) -> None:
        try:
            await workflow.get_external_workflow_handle(decision.holder).signal("turn_decided", decision)
        except FailureError:
            # It ended before its turn came.
            self._releasing.append(
                TurnRelease(
                    holder=decision.holder,
                    token=decision.token,
                    version="",
                    outcome=environment.Outcome.UNCHANGED,
                )
            )

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
        concerned = [h for h in (self._record.holder, *self._record.queue) if h is not None]
        if not concerned:
            return
        report = await workflow.execute_activity_method(
            TurnSignatures.report_liveness,
            LivenessQuery(workflow_ids=(*(h.holder for h in concerned), *self._rollbacks())),
            summary="do holder and queue still run?",
            **effects.SHORT,
        )
        holder = self._record.holder
        # Who asks for a turn has not begun: only the holder's own roll-back runs without asking.
        asking = {request.holder for request in (holder, *self._record.queue, *self._asking) if request}
        self._rolling_back = any(r not in report.ended and r not in asking for r in self._rollbacks())
        dead = holder is not None and (
            holder.holder in report.ended
            # Its id names a newer run already, which waits for the roll-back of the older.
            or any(environment.started_again(self._record, waiting) for waiting in self._record.queue)
        )
        if holder is not None and dead and not self._rolling_back:
            how = report.ended.get(holder.holder, "started again")
            reason = f"{holder.holder} ended ({how}) without giving its turn back"
            self._record = environment.drop_dead_holder(self._record, reason, workflow.now())
        alive = tuple(w for w in self._record.queue if w.holder not in report.ended)
        self._record = self._record.model_copy(update={"queue": alive})

    def _rollbacks(self) -> tuple[str, ...]:
        """The roll-back that the holder may have begun, which outlives it."""
        record, holder = self._record, self._record.holder
        if holder is None:
            return ()
        return (f"rollback:{record.application}:{record.environment}:{holder.version}",)

    # Turns

    @workflow.signal
    def request_turn(self, request: TurnRequest) -> None:
        self._asking.append(request.model_copy(update={"at": request.at or workflow.now()}))

    @workflow.signal
    def release_turn(self, turn: TurnRelease) -> None:
        self._releasing.append(turn)

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
        """Lift the hold, and let automation ship again what was rolled back."""
        if self._go("hold", "release_hold", message):
            self._record = self._record.model_copy(update={"held_versions": {}})

    def _stop(self, kind: str, message: HoldMessage) -> None:
        if not message.actor or not message.reason:
            self._note(kind, "refused", message)
            return
        stop = Hold(actor=message.actor, reason=message.reason, since=workflow.now(), until=message.until)
        self._record = self._record.model_copy(update={kind: stop})
        self._note(kind, "success", message)

    def _go(self, kind: str, action: str, message: HoldMessage) -> bool:
        if not message.actor:
            self._note(action, "refused", message)
            return False
        self._record = self._record.model_copy(update={kind: None})
        self._note(action, "success", message)
        return True

    def _note(self, action: str, status: str, message: HoldMessage) -> None:
        """Audit a change, and tell the one that is next what it waits for now."""
        self._journal.note(
            f"environment.{action}",
            action,
            status,
            category=AuditCategory.CONFIGURATION,
            actor=message.actor or "unknown",
            reason=message.reason,
        )
        if self._record.queue:
            first = self._record.queue[0]
            self._outbox.append(environment.waiting(self._record, first, workflow.now()))

    @workflow.query
    def status(self) -> EnvironmentRecord:
        """What is live, whose turn it is, who waits, and what stops them."""
        return self._record
