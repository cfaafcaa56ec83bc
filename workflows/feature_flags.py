"""Feature flags: opened step by step when the version is out, and switched off when it is not well."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.signatures import FlagSignatures
from domain.delivery import DeliveryKind
from domain.feature_flags import FlagChange, FlagReading, FlagRollout
from domain.plan import DeploymentPlan
from domain.watches import flag_watch
from workflows import effects
from workflows.delivering import Delivering, Steps
from workflows.failures import ProcessError, reason_of, see_through

KILLING = timedelta(minutes=1)
"""How long a kill switch is tried: a roll-back does not wait longer for it."""


class FlagRollouts:
    """Opens the environment's flags one after the other, each in steps that are watched like a canary's.

    Whatever ends it before the last step, the flags it has opened are switched off first, the last one first.
    """

    def __init__(self, course: Delivering) -> None:
        self._course = course
        self._steps = Steps(_kind(course.plan), course.show, course.so_far)
        self._opened: list[FlagRollout] = []

    async def roll_out(self) -> None:
        """Open all flags.

        Raises:
            ProcessError: a flag cannot be opened, or a step was not well. What a stop raises goes up too.
        """
        try:
            for rollout in self._course.plan.settings.feature_flags:
                await self._open(rollout)
        except (Exception, asyncio.CancelledError):
            await see_through(self._close())
            raise

    async def _open(self, rollout: FlagRollout) -> None:
        for percentage in rollout.steps:
            await self._course.unpaused()
            name = f"feature flag {rollout.flag} at {percentage}%"
            await self._steps.take(name, self._step(rollout, percentage), str)

    async def _step(self, rollout: FlagRollout, percentage: int) -> str:
        """Set a share, and watch it. Answers what is worth showing."""
        course = self._course
        if rollout not in self._opened:
            self._opened.append(rollout)  # before it is set: an answer that gets lost has its effect too
        try:
            reading = await course.obey(self._set(rollout, percentage))
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            raise ProcessError(reason_of(error), trigger="feature_flag") from error
        if reading.kept:
            self._opened.remove(rollout)  # an earlier release has opened it, and it is not ours to close
            return reading.note
        if reading.percentage != percentage:
            raise ProcessError(
                f"feature flag {rollout.flag} was set to {percentage}%, but is at {reading.percentage}% now; "
                f"somebody else changes ConfigMap {rollout.config_map}",
                trigger="feature_flag",
            )
        self._note(rollout, reading, "success")
        await course.watch(flag_watch(course.plan, course.request.version, rollout, percentage))
        return reading.note

    async def _set(self, rollout: FlagRollout, percentage: int) -> FlagReading:
        return await workflow.execute_activity_method(
            FlagSignatures.set_flag,
            FlagChange(
                key=f"{workflow.info().run_id}/flag-{rollout.flag}-{percentage}",
                namespace=self._course.plan.target.namespace,
                rollout=rollout,
                percentage=percentage,
                deployment_id=self._course.request.deployment_id,
            ),
            summary=f"feature flag {rollout.flag} to {percentage}%",
            **effects.cluster_write(self._course.plan.target.progress_deadline),
        )

    async def _close(self) -> None:
        course = self._course
        for rollout in reversed(self._opened):
            reading = await _kill(course.plan, rollout, course.request.deployment_id, workflow.info().run_id)
            self._note(rollout, reading, "failed" if reading.error else "success")

    def _note(self, rollout: FlagRollout, reading: FlagReading, status: str) -> None:
        self._course.journal.note(
            "feature_flag.changed",
            "set_feature_flag",
            status,
            reason=reading.error or reading.note,
            flag=rollout.flag,
            percentage=reading.percentage,
        )


async def kill_flags(plan: DeploymentPlan, deployment_id: str, run_key: str) -> list[FlagReading]:
    """Switch off the flags that this deployment has opened (``kill_on_rollback``), all at once; what an
    earlier release has opened stays.

    Before anything is restored: pods of the earlier version must not meet users that are let in to what it
    does not have. A kill switch that fails holds no roll-back up: its reading says so (`FlagReading.error`).

    Args:
        run_key: names the roll-back.
    """
    flags = [rollout for rollout in plan.settings.feature_flags if rollout.kill_on_rollback]
    kills = (_kill(plan, rollout, deployment_id, run_key, own_only=True) for rollout in flags)
    return list(await asyncio.gather(*kills))


async def _kill(
    plan: DeploymentPlan, rollout: FlagRollout, deployment_id: str, run_key: str, *, own_only: bool = False
) -> FlagReading:
    change = FlagChange(
        key=f"{run_key}/flag-{rollout.flag}-off",
        namespace=plan.target.namespace,
        rollout=rollout,
        percentage=0,
        deployment_id=deployment_id,
        own_only=own_only,
    )
    try:
        return await workflow.execute_activity_method(
            FlagSignatures.set_flag,
            change,
            summary=f"switch feature flag {rollout.flag} off",
            **effects.cluster_write(KILLING),
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        why = f"feature flag {rollout.flag} could not be switched off: {reason_of(error)}"
        workflow.logger.error(why)
        return FlagReading(flag=rollout.flag, exists=True, percentage=None, error=why)


def _kind(plan: DeploymentPlan) -> DeliveryKind:
    """How the version itself was delivered."""
    settings = plan.settings
    if settings.hot_upgrade is not None:
        return DeliveryKind.HOT_UPGRADE
    if settings.blue_green is not None:
        return DeliveryKind.BLUE_GREEN
    return DeliveryKind.CANARY if settings.canary is not None else DeliveryKind.ROLLING
