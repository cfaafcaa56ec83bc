"""Hooks: steps of the service itself around a roll-back, such as migrations (spec: Rollback Strategies)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator, model_validator

from domain.durations import Interval
from domain.model import Model
from domain.workload import WorkloadTarget

# fmt: off
_JOB_FIELDS = frozenset({
    "activeDeadlineSeconds", "backoffLimit", "backoffLimitPerIndex", "completionMode", "completions",
    "manualSelector", "maxFailedIndexes", "parallelism", "podFailurePolicy", "podReplacementPolicy",
    "selector", "successPolicy", "suspend", "template", "ttlSecondsAfterFinished",
})
# fmt: on
"""Of ``batch/v1`` JobSpec. Older API servers drop what they do not know without a word: the Job would run
something else than what is written."""


class HookFailure(StrEnum):
    BLOCK = "block"
    WARN = "warn"


class Hook(Model):
    """One step before or after a roll-back; it must bear being run again.

    Attributes:
        command: run by the worker as it is, never through a shell; or
        job: a Kubernetes Job's spec, or the part of it that differs from one container of the version's
            image; run in the workload's namespace.
        environment: of the command; ``${NAME}`` is read from the worker's environment when it runs. A Job
            takes its secrets from a Secret instead.
        timeout: for each attempt.
        on_failure: ``block`` fails the attempt, ``warn`` goes on.
    """

    name: str = Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    command: tuple[str, ...] = ()
    job: dict[str, Any] | None = None
    environment: dict[str, str] = {}
    timeout: Interval = timedelta(minutes=5)
    on_failure: HookFailure = HookFailure.BLOCK

    @field_validator("job")
    @classmethod
    def _a_job_spec(cls, job: dict[str, Any] | None) -> dict[str, Any] | None:
        unknown = sorted(set(job or {}) - _JOB_FIELDS)
        if unknown:
            raise ValueError(
                f"job has no field {unknown[0]!r}; it is a Job's spec, so write for example "
                "{template: {spec: {containers: [{command: [bin/migrate, down]}]}}}"
            )
        return job

    @model_validator(mode="after")
    def _one_way_to_run(self) -> Hook:
        if bool(self.command) == (self.job is not None):
            raise ValueError("write either command (for example [bin/migrate, down]) or job, and not both")
        if self.job is not None and self.environment:
            raise ValueError(
                "environment is for a command; give a Job its variables in "
                "job.template.spec.containers[].env, and secrets by secretKeyRef"
            )
        return self


class HookRun(Model):
    """The input of a hook.

    Attributes:
        key: names the run; told to the command as ``ERLMCP_DEPLOY_KEY`` and in the Job's name, so that a
            second run with the same key finds the first.
        image: of the version that is gone to, for a Job.
        variables: told to it in its environment, such as ``FROM_VERSION`` and ``TO_VERSION``.
    """

    key: str
    hook: Hook
    target: WorkloadTarget
    image: str | None = None
    deployment_id: str
    variables: dict[str, str] = {}


class HookReport(Model):
    """How a hook ended.

    A hook that cannot run as it is written (a program that is not there, a Job the API server does not
    accept) has failed, and `on_failure` says what follows; an outage is an error, and worth a retry.

    Attributes:
        reason: one line for people; why it failed, if it did.
        log: the last lines of its output, without secrets.
    """

    succeeded: bool
    reason: str = ""
    log: str = ""
