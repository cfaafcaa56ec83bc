"""Hooks: steps of the service itself around a roll-back, such as migrations (spec: Rollback Strategies)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from domain.durations import Interval
from domain.model import Model
from domain.workload import WorkloadTarget


class HookFailure(StrEnum):
    BLOCK = "block"
    WARN = "warn"


class Hook(Model):
    """One step before or after a roll-back; it must bear being run again.

    Attributes:
        command: run by the worker as it is, never through a shell; or
        job: a Kubernetes Job's spec, or the part of it that differs from one container of the version's
            image; run in the workload's namespace.
        timeout: for each attempt.
        on_failure: ``block`` fails the attempt, ``warn`` goes on.
    """

    name: str = Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    command: tuple[str, ...] = ()
    job: dict[str, Any] | None = None
    timeout: Interval = timedelta(minutes=5)
    on_failure: HookFailure = HookFailure.BLOCK

    @model_validator(mode="after")
    def _one_way_to_run(self) -> Hook:
        if bool(self.command) == (self.job is not None):
            raise ValueError("write either command (for example [bin/migrate, down]) or job, and not both")
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
    """How a hook ended."""

    succeeded: bool
    reason: str = ""
    log: str = ""
