"""Steps on a workload that deployments, canaries and roll-backs share."""

from __future__ import annotations

from temporalio import workflow

from activities.signatures import KubernetesSignatures
from domain.workload import ReleaseApply, RolloutWatch, Track, WorkloadObservation, WorkloadTarget
from workflows import effects
from workflows.failures import ProcessError


async def observe(target: WorkloadTarget, summary: str) -> WorkloadObservation:
    """What the stable track shows now."""
    return await workflow.execute_activity_method(
        KubernetesSignatures.observe_workload,
        target,
        summary=summary,
        **effects.cluster_write(target.progress_deadline),
    )


async def apply(release: ReleaseApply, summary: str) -> None:
    """Put a version on a track."""
    await workflow.execute_activity_method(
        KubernetesSignatures.apply_release,
        release,
        summary=summary,
        **effects.cluster_write(release.target.progress_deadline),
    )


async def roll_out(
    target: WorkloadTarget, track: Track, version: str, replicas: int, *, summary: str, failure: str
) -> None:
    """Wait until a track is rolled out.

    Raises:
        ProcessError: it failed; `failure` begins the sentence that says so.
    """
    result = await workflow.execute_activity_method(
        KubernetesSignatures.watch_rollout,
        RolloutWatch(target=target, track=track, version=version, replicas=replicas),
        summary=summary,
        **effects.rollout(target.progress_deadline),
    )
    if not result.complete:
        raise ProcessError(f"{failure}: {result.reason}", trigger="rollout")


async def remove_canary(target: WorkloadTarget, limits: effects.Options | None = None) -> None:
    """Delete the canary track, if it is there."""
    await workflow.execute_activity_method(
        KubernetesSignatures.remove_canary,
        target,
        summary="remove the canary",
        **(limits or effects.cluster_write(target.progress_deadline)),
    )
