"""CanaryWorkflow: a version takes over step by step (spec: Stage Configuration, ``canary``)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.signatures import KubernetesSignatures, WatchSignatures
    from domain.analysis import Watch, WatchOutcome, WatchPolicy, WatchVerdict
    from domain.canary import UNNAMED_ALERT, Alert, CanaryPhase, CanaryRequest, CanaryStatus, StepVerdict
    from domain.deployment import UNSIGNED_COMMAND, Command
    from domain.workload import ReleaseApply, Track, WeightChange, WeightReading
    from workflows import effects, presentation, workload
    from workflows.failures import ProcessError, reason_of, see_through
    from workflows.journal import Journal
    from workflows.parent import tell_parent

T = TypeVar("T")


class _AbortedError(Exception):
    """A person or an alert ended the canary."""


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
        self._abort: str | None = None
        self._trigger: str | None = None
        self._paused = request.paused
        self._paused_phase = CanaryPhase.STARTING
        self._promoted_by: str | None = None
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
            await self._start()
            for weight in request.settings.weights:
                await self._step(weight)
            await self._promote()
        except _AbortedError:
            await see_through(self._withdraw(CanaryPhase.ABORTED, self._abort or "aborted"))
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
        await self._until_unpaused()
        step = StepVerdict(weight=weight, started_at=workflow.now())
        reading = await self._obey(self._set_weight(weight))
        if reading.weight != weight:
            raise ProcessError(
                f"canary at {weight}%: {reading.canary} canary and {reading.stable} stable pod(s) are ready, "
                f"which is {reading.observed:.0f}%",
                trigger="weight",
            )
        step = step.model_copy(update={"observed_weight": reading.observed})
        self._update(CanaryPhase.ANALYSING, weight=weight, steps=(*self._status.steps, step))
        await self._obey(
            self._journal.record(
                "canary.weight", "set_canary_weight", "success", weight=weight, observed=reading.observed
            )
        )
        await self._report()
        verdict, promoted_by = await self._analyse()
        step = step.model_copy(
            update={"finished_at": workflow.now(), "verdict": verdict, "promoted_by": promoted_by}
        )
        self._update(CanaryPhase.ANALYSING, steps=(*self._status.steps[:-1], step))
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

    async def _until_unpaused(self) -> None:
        await self._obey(workflow.wait_condition(lambda: not self._paused or self._promoted_by is not None))

    async def _analyse(self) -> tuple[WatchVerdict | None, str | None]:
        """Watch one step. A pause stops its clock: the rounds done so far count when it goes on."""
        policy = self._request.watch
        judged = max((m.warm_up for m in policy.metrics), default=0) + 1
        while True:
            await self._until_unpaused()
            if self._promoted_by is not None:
                promoted_by, self._promoted_by = self._promoted_by, None
                return None, promoted_by
            started = workflow.now()
            watch = asyncio.create_task(self._watch(policy))
            await self._obey(
                workflow.wait_condition(
                    lambda: watch.done() or self._paused or self._promoted_by is not None  # noqa: B023
                ),
                watch,
            )
            if watch.done() and not self._paused:
                return watch.result(), None
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            done = int((workflow.now() - started) / policy.interval)
            policy = policy.model_copy(update={"rounds": max(judged, policy.rounds - done)})

    async def _watch(self, policy: WatchPolicy) -> WatchVerdict:
        return await workflow.execute_activity_method(
            WatchSignatures.watch_release,
            Watch(policy=policy, prometheus_url=self._request.prometheus_url),
            summary=f"analyse {self._status.weight}%",
            **effects.watch(policy.interval),
        )

    async def _promote(self) -> None:
        """All traffic is on the canary and stayed well: make its version the stable one."""
        await self._until_unpaused()
        request = self._request
        self._update(CanaryPhase.PROMOTING)
        await self._apply(Track.STABLE, request.replicas)
        await self._roll_out(Track.STABLE, request.replicas)
        await self._obey(workload.remove_canary(request.target))

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
        )
        await self._obey(workload.apply(apply, f"{request.version} on the {track} track"))

    async def _roll_out(self, track: Track, replicas: int) -> None:
        request = self._request
        await self._obey(
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

    async def _obey(self, work: Coroutine[Any, Any, T], also: asyncio.Task[Any] | None = None) -> T:
        """Do the work, unless an abort comes first; an abort that is known already is obeyed before it."""
        task = asyncio.ensure_future(work)
        try:
            await workflow.wait_condition(lambda: task.done() or self._abort is not None)
        finally:
            if not task.done():
                task.cancel()
                if also is not None:
                    also.cancel()
                await asyncio.gather(task, *([also] if also is not None else []), return_exceptions=True)
        if self._abort is not None:
            if also is not None and not also.done():
                also.cancel()
            raise _AbortedError
        return task.result()

    # What people and alerts say

    @workflow.signal
    async def pause(self, command: Command = UNSIGNED_COMMAND) -> None:
        await self._set_pause(True, command)

    @workflow.signal
    async def resume(self, command: Command = UNSIGNED_COMMAND) -> None:
        await self._set_pause(False, command)

    async def _set_pause(self, paused: bool, command: Command) -> None:
        if self._paused != paused and not self._status.ended:
            self._paused = paused
            if paused:
                self._paused_phase = self._status.phase
            self._update(CanaryPhase.PAUSED if paused else self._paused_phase, paused=paused)
        await self._commanded("pause" if paused else "resume", command)

    @workflow.signal
    async def promote(self, command: Command = UNSIGNED_COMMAND) -> None:
        if self._paused:
            await self._set_pause(False, command)
        self._promoted_by = command.actor or "unknown"
        await self._commanded("promote", command)

    @workflow.signal
    async def abort(self, command: Command = UNSIGNED_COMMAND) -> None:
        if self._abort is None:
            why = f": {command.reason}" if command.reason else ""
            self._abort = f"aborted by {command.actor or 'unknown'}{why}"
        await self._commanded("abort", command)

    @workflow.signal
    async def alert(self, alert: Alert = UNNAMED_ALERT) -> None:
        if self._abort is None:
            self._trigger = "alert"
            self._abort = f"alert {alert.name} ({alert.severity or 'no severity'})"
        await self._commanded("alert", Command(actor="alertmanager", reason=f"{alert.name} {alert.severity}"))

    async def _commanded(self, action: str, command: Command) -> None:
        """Audit a command; one that comes after the end was not obeyed."""
        self._journal.note(
            f"canary.{action}",
            action,
            "refused" if self._status.ended else "success",
            actor=command.actor or "unknown",
            reason=command.reason,
        )
        await self._report()

    # What it shows

    def _update(self, phase: CanaryPhase, **changes: Any) -> None:
        self._status = self._status.model_copy(update={"phase": phase, **changes})
        workflow.set_current_details(presentation.canary(self._status, self._request))

    async def _report(self) -> None:
        await tell_parent("canary_changed", self._status)

    @workflow.query
    def status(self) -> CanaryStatus:
        """Weights, verdicts and phase as they stand."""
        return self._status
