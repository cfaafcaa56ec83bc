"""CanaryWorkflow: a version takes over step by step (spec: Stage Configuration, ``canary``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.signatures import KubernetesSignatures, WatchSignatures
    from domain.analysis import (
        Watch,
        WatchOutcome,
        WatchPolicy,
        WatchProgress,
        WatchTally,
        WatchVerdict,
        resumed,
    )
    from domain.canary import UNNAMED_ALERT, Alert, CanaryPhase, CanaryRequest, CanaryStatus, StepVerdict
    from domain.deployment import UNSIGNED_COMMAND, Command
    from domain.handover import HandoverPhase, HandoverProgress, HandoverRequest, HandoverVerb
    from domain.workload import ReleaseApply, Track, WeightChange, WeightReading
    from workflows import effects, handover, presentation, workload
    from workflows.failures import ProcessError, reason_of, see_through
    from workflows.journal import Journal
    from workflows.orders import ALERTING, Orders, Stop, StoppedError
    from workflows.parent import tell_parent

GUARDED_PAUSE = "guarded-pause"
"""Patch: while a canary is paused, it is still watched for failures."""
PROMOTES_OPEN_STEPS = "promotes-open-steps"
"""Patch: a second click between two steps does not skip the next one unwatched."""
WATCHED_AT_ONCE = "watched-at-once"
"""Patch: a weight is watched before it is stored; the next one waits for the store."""
PROMOTION_REPORTED = "promotion-reported"
"""Patch: the deployment is told when the canary is promoted."""


@workflow.defn(name="CanaryWorkflow")
class CanaryWorkflow:
    """Start the canary; for each weight: set, check, watch; then promote, or take all traffic away.

    It ends with the canary's weight at 0 or with the new version as the stable one; bringing a broken
    stable side back is RollbackWorkflow's work.
    """

    @workflow.init
    def __init__(self, request: CanaryRequest) -> None:
        self._request = request
        self._status = CanaryStatus(id=workflow.info().workflow_id, phase=CanaryPhase.STARTING)
        self._orders = Orders(paused_by=request.actor if request.paused else None)
        self._trigger: str | None = None
        self._paused_phase = CanaryPhase.STARTING
        self._reported: WatchTally | None = None
        self._handover = self._handed_over(request)
        self._words = 0
        self._watches = 0
        self._watching = ""
        self._journal = Journal(
            deployment_id=request.deployment_id,
            application=request.target.application,
            environment=request.target.environment,
            version=request.version,
            actor=request.actor,
        )

    @workflow.run
    async def run(self, request: CanaryRequest) -> CanaryStatus:
        try:
            if self._handover is not None:
                await self._hand_over(self._handover)
            else:
                await self._start()
                for weight in request.settings.weights:
                    await self._step(weight)
                await self._promote()
        except StoppedError:
            stop = self._orders.stopped_by("a cancellation request")
            self._trigger = "alert" if stop.action == "alert" else None
            await see_through(self._withdraw(CanaryPhase.ABORTED, str(stop)))
        except ProcessError as error:
            self._trigger = error.trigger
            await see_through(self._withdraw(CanaryPhase.FAILED, str(error)))
        except ActivityError as error:
            if is_cancelled_exception(error):
                await see_through(self._withdraw(CanaryPhase.ABORTED, "cancelled"))
            else:
                await see_through(self._withdraw(CanaryPhase.FAILED, reason_of(error)))
        except asyncio.CancelledError:
            await see_through(self._withdraw(CanaryPhase.ABORTED, "cancelled"))
        else:
            self._update(CanaryPhase.SUCCEEDED, reason=f"{request.version} serves all traffic")
        await see_through(self._end())
        return self._status

    # The process

    async def _start(self) -> None:
        request = self._request
        first = request.settings.weights[0]
        _, pods = request.split(first)
        await self._apply(Track.CANARY, pods)
        await self._roll_out(Track.CANARY, pods)

    async def _step(self, weight: int) -> None:
        await self._hold()
        step = StepVerdict(weight=weight, started_at=workflow.now())
        reading = await self._orders.obey(self._set_weight(weight))
        if reading.weight != weight:
            why = reading.note or (
                f"{reading.canary} canary and {reading.stable} stable pod(s) are ready, "
                f"which is {reading.observed:.0f}%"
            )
            raise ProcessError(f"canary at {weight}%: {why}", trigger="weight")
        step = step.model_copy(update={"observed_weight": reading.observed, "note": reading.note})
        self._update(CanaryPhase.ANALYSING, weight=weight, steps=(*self._status.steps, step))
        told = {"weight": weight, "observed": reading.observed}
        at_once = workflow.patched(WATCHED_AT_ONCE)
        if at_once:
            self._journal.note("canary.weight", "set_canary_weight", "success", **told)
        else:
            await self._orders.obey(
                self._journal.record("canary.weight", "set_canary_weight", "success", **told)
            )
        await self._report()
        verdict, promoted_by = await self._analyse()
        step = step.model_copy(
            update={"finished_at": workflow.now(), "verdict": verdict, "promoted_by": promoted_by}
        )
        self._update(CanaryPhase.ANALYSING, steps=(*self._status.steps[:-1], step), warnings=())
        passed = promoted_by is not None or verdict is None or verdict.outcome is WatchOutcome.PASSED
        self._journal.note(
            "canary.verdict",
            "analyse_canary",
            "success" if passed else "failed",
            actor=promoted_by,
            reason="promoted by hand" if promoted_by else verdict.reason if verdict else "",
            weight=weight,
        )
        if not passed and verdict is not None:
            raise ProcessError(f"canary at {weight}%: {verdict.reason}", trigger=verdict.trigger)
        if at_once:
            await self._orders.obey(self._journal.stored())

    @property
    def _step_is_open(self) -> bool:
        """Whether there is a step to promote: one that is watched, or that a pause holds back."""
        if self._handover is not None or self._orders.paused_by is not None:
            return True
        steps = self._status.steps
        return self._status.phase is CanaryPhase.ANALYSING and bool(steps) and steps[-1].finished_at is None

    async def _until_unpaused(self) -> None:
        orders = self._orders
        await self._orders.obey(
            workflow.wait_condition(lambda: orders.paused_by is None or orders.promoted_by is not None)
        )

    async def _hold(self) -> None:
        """Wait while people pause between two steps; what the canary serves already is watched."""
        if self._orders.paused_by is not None and self._orders.promoted_by is None:
            await self._guard(self._request.watch, None)
        else:
            await self._until_unpaused()

    async def _analyse(self) -> tuple[WatchVerdict | None, str | None]:
        """Watch one step. A pause stops its clock, but not the watch for failures: what was counted counts
        when it goes on.
        """
        policy, orders = self._request.watch, self._orders
        tally: WatchTally | None = None
        watched = timedelta(0)
        while True:
            if orders.paused_by is not None and orders.promoted_by is None:
                await self._guard(policy, tally)
                tally = resumed(policy, self._reported, watched)
            if orders.promoted_by is not None:
                promoted_by, orders.promoted_by = orders.promoted_by, None
                return None, promoted_by
            self._reported, started = tally, workflow.now()
            watch = asyncio.create_task(self._watch(policy, tally))
            await self._while_watching(
                watch, lambda: orders.paused_by is not None or orders.promoted_by is not None
            )
            if watch.done():
                verdict = watch.result()
                if not self._tells_nothing(verdict):
                    return verdict, None
                await self._pause_for_a_person(verdict)
                tally, watched = None, timedelta(0)
                continue
            await self._cancel(watch)
            tally = resumed(policy, self._reported, watched + (workflow.now() - started))
            watched = tally.clock

    async def _guard(self, policy: WatchPolicy, tally: WatchTally | None) -> None:
        """Wait until the step goes on; a failure ends it although it is paused."""
        orders = self._orders
        self._reported = tally
        if not workflow.patched(GUARDED_PAUSE):
            await self._until_unpaused()
            return
        watch = asyncio.create_task(self._watch(policy, tally, guard=True))
        await self._while_watching(watch, lambda: orders.paused_by is None or orders.promoted_by is not None)
        if watch.done() and (verdict := watch.result()).outcome is WatchOutcome.FAILED:
            raise ProcessError(
                f"canary at {self._status.weight}%, paused: {verdict.reason}", trigger=verdict.trigger
            )
        await self._cancel(watch)
        await self._until_unpaused()

    async def _while_watching(
        self, watch: asyncio.Task[WatchVerdict], interrupted: Callable[[], bool]
    ) -> None:
        """Until the watch is over or something comes between; a stop takes the watch with it."""
        try:
            await self._orders.obey(workflow.wait_condition(lambda: watch.done() or interrupted()))
        except BaseException:
            await self._cancel(watch)
            raise

    async def _cancel(self, watch: asyncio.Task[WatchVerdict]) -> None:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    def _tells_nothing(self, verdict: WatchVerdict) -> bool:
        """Whether a person is to say what the analysis could not."""
        inconclusive = verdict.outcome is WatchOutcome.INCONCLUSIVE
        return inconclusive and self._request.settings.on_inconclusive == "pause"

    async def _pause_for_a_person(self, verdict: WatchVerdict) -> None:
        await self._set_pause(
            True, Command(actor="erlmcp-deploy", reason=f"the analysis cannot tell: {verdict.reason}")
        )

    async def _watch(
        self, policy: WatchPolicy, tally: WatchTally | None, *, guard: bool = False
    ) -> WatchVerdict:
        self._watches += 1
        self._watching = f"{self._status.weight}%-{self._watches}"
        watch = Watch(
            policy=policy,
            prometheus_url=self._request.prometheus_url,
            tally=tally,
            guard=guard,
            report=True,
            progress=True,
            key=self._watching,
        )
        return await workflow.execute_activity_method(
            WatchSignatures.watch_release,
            watch,
            summary=f"analyse {self._status.weight}%" + (", paused" if guard else ""),
            **effects.watch(policy.interval),
        )

    # Another controller steers

    @staticmethod
    def _handed_over(request: CanaryRequest) -> HandoverRequest | None:
        settings = request.settings.handover
        if settings is None:
            return None
        return HandoverRequest(
            key=f"{workflow.info().run_id}/handover",
            target=request.target,
            settings=settings,
            version=request.version,
            image=request.image,
            deployment_id=request.deployment_id,
            commit=request.commit,
            artefact=request.artefact,
            digest=request.digest,
            replicas=request.replicas,
        )

    async def _hand_over(self, request: HandoverRequest) -> None:
        await self._until_unpaused()
        self._update(CanaryPhase.ANALYSING)
        reading = await handover.hand_over(request, self._orders.obey)
        self._update(CanaryPhase.PROMOTING, weight=100, handover=reading)

    async def _tell_controller(self, verb: HandoverVerb, command: Command) -> str:
        """Pass a person's word on; answers why the controller cannot obey it, or nothing."""
        if self._handover is None or self._status.ended:
            return ""
        self._words += 1
        key = f"{self._handover.key}/{self._words}-{verb}"
        return await handover.tell(self._handover, verb, key=key, reason=command.reason)

    @workflow.signal
    async def handover_changed(self, progress: HandoverProgress) -> None:
        """The controller has gone on, or waits."""
        if self._status.ended:
            return
        reading = progress.reading
        phase = CanaryPhase.PAUSED if reading.phase is HandoverPhase.PAUSED else CanaryPhase.ANALYSING
        self._update(phase, weight=reading.weight, handover=reading)
        await self._report()

    # The end

    async def _promote(self) -> None:
        """All traffic is on the canary and stayed well: make its version the stable one."""
        await self._hold()
        request = self._request
        self._update(CanaryPhase.PROMOTING)
        if workflow.patched(PROMOTION_REPORTED):
            await self._report()
        await self._apply(Track.STABLE, request.replicas)
        await self._roll_out(Track.STABLE, request.replicas)
        await self._orders.obey(workload.remove_canary(request.target))

    async def _apply(self, track: Track, replicas: int) -> None:
        request = self._request
        apply = ReleaseApply(
            key=f"{workflow.info().run_id}/{track}",
            target=request.target,
            track=track,
            version=request.version,
            image=request.image,
            replicas=replicas,
            deployment_id=request.deployment_id,
            commit=request.commit,
            artefact=request.artefact,
            digest=request.digest,
            template=request.template,
        )
        await self._orders.obey(workload.apply(apply, f"{request.version} on the {track} track"))

    async def _roll_out(self, track: Track, replicas: int) -> None:
        request = self._request
        await self._orders.obey(
            workload.roll_out(
                request.target,
                track,
                request.version,
                replicas,
                summary=f"roll-out of the {track} track",
                failure=f"the {track} track did not roll out",
            )
        )

    async def _withdraw(self, phase: CanaryPhase, reason: str) -> None:
        """Traffic first: weight 0 before anything else, however the canary ended."""
        try:
            if self._handover is not None:
                reading = await handover.withdraw(self._handover, reason)
                self._update(self._status.phase, weight=0, handover=reading)
            else:
                await self._set_weight(0)
                self._update(self._status.phase, weight=0)
                await workload.remove_canary(self._request.target)
        except FailureError as error:
            reason = f"{reason}; withdrawing the canary failed too: {reason_of(error)}"
        self._update(phase, reason=reason, trigger=self._trigger)

    async def _set_weight(self, weight: int) -> WeightReading:
        request = self._request
        return await workflow.execute_activity_method(
            KubernetesSignatures.set_weight,
            WeightChange(
                key=f"{workflow.info().run_id}/weight-{weight}",
                target=request.target,
                weight=weight,
                replicas=request.replicas,
            ),
            summary=f"canary weight {weight}%",
            **effects.cluster_write(request.target.progress_deadline * 2),
        )

    async def _end(self) -> None:
        self._update(self._status.phase, paused=False)
        self._journal.note(
            "canary.ended",
            "end_canary",
            "success" if self._status.succeeded else "failed",
            reason=self._status.reason or "",
            phase=str(self._status.phase),
        )
        await self._report()
        await self._journal.close()

    # What people and alerts say

    @workflow.signal
    async def pause(self, command: Command = UNSIGNED_COMMAND) -> None:
        await self._set_pause(True, command)

    @workflow.signal
    async def resume(self, command: Command = UNSIGNED_COMMAND) -> None:
        await self._set_pause(False, command)

    async def _set_pause(self, paused: bool, command: Command) -> None:
        if (self._orders.paused_by is not None) != paused and not self._status.ended:
            self._orders.paused_by = (command.actor or "unknown") if paused else None
            if paused:
                self._paused_phase = self._status.phase
            self._update(CanaryPhase.PAUSED if paused else self._paused_phase, paused=paused)
        verb = HandoverVerb.PAUSE if paused else HandoverVerb.RESUME
        await self._commanded(str(verb), command, refusal=await self._tell_controller(verb, command))

    @workflow.signal
    async def promote(self, command: Command = UNSIGNED_COMMAND) -> None:
        if not self._step_is_open and workflow.patched(PROMOTES_OPEN_STEPS):
            await self._commanded("promote", command, refusal="no step is being watched")
            return
        if self._orders.paused_by is not None:
            await self._set_pause(False, command)
        self._orders.promoted_by = command.actor or "unknown"
        refusal = await self._tell_controller(HandoverVerb.PROMOTE, command)
        await self._commanded("promote", command, refusal=refusal)

    @workflow.signal
    async def abort(self, command: Command = UNSIGNED_COMMAND) -> None:
        self._orders.halt(Stop("abort", command.actor or "unknown", command.reason))
        await self._commanded("abort", command)

    @workflow.signal
    async def alert(self, alert: Alert = UNNAMED_ALERT) -> None:
        command = Command(actor=alert.actor or ALERTING, reason=str(alert))
        obeyed = alert.counts(self._request.abort_on_alerts)
        if obeyed:
            self._orders.halt(Stop("alert", command.actor, command.reason))
        refusal = "" if obeyed else f"only {', '.join(self._request.abort_on_alerts)} alerts abort here"
        await self._commanded("alert", command, refusal=refusal)

    @workflow.signal
    async def watch_changed(self, progress: WatchProgress) -> None:
        """The running analysis tells of failures and warnings."""
        known, warnings = self._reported, progress.tally.warnings
        late = progress.key != self._watching or (known is not None and progress.tally.clock < known.clock)
        if late or self._status.ended:
            return
        self._reported = progress.tally
        if warnings == self._status.warnings:
            return
        self._update(self._status.phase, warnings=warnings)
        self._journal.note(
            "canary.warning",
            "analyse_canary",
            "warning" if warnings else "stable",
            reason="; ".join(warnings),
            weight=self._status.weight,
        )
        await self._report()

    async def _commanded(self, action: str, command: Command, *, refusal: str = "") -> None:
        """Audit a command; one that comes after the end was not obeyed."""
        self._journal.note(
            f"canary.{action}",
            action,
            "refused" if refusal or self._status.ended else "success",
            actor=command.actor or "unknown",
            reason="; ".join(text for text in (command.reason, refusal) if text),
        )
        await self._report()

    # What it shows

    def _update(self, phase: CanaryPhase, **changes: Any) -> None:
        revision = self._status.revision + 1
        self._status = self._status.model_copy(update={"phase": phase, "revision": revision, **changes})
        workflow.set_current_details(presentation.canary(self._status, self._request))

    async def _report(self) -> None:
        await tell_parent("canary_changed", self._status)

    @workflow.query
    def status(self) -> CanaryStatus:
        """Weights, verdicts and phase as they stand."""
        return self._status
