"""Hooks: steps of the service itself around a roll-back, such as migrations (spec: Rollback Strategies)."""

from __future__ import annotations

from collections.abc import Mapping
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
        name: lower case letters, digits and dashes; part of a Job's name.
        command: run by the worker as it is, never through a shell; or
        job: a Kubernetes Job's spec, or the part of it that differs from one container of the version's
            image; run in the workload's namespace.
        environment: of the command; ``${NAME}`` is read from the worker's environment when it runs. A Job
            takes its secrets from a Secret instead.
        log: put the last lines of a Job's output into the report, that is into the history and the audit
            trail. Nobody here knows the secrets that a Job prints: only for one that prints none. A
            command's output is always reported, without the secrets that this worker knows.
        timeout: for each attempt.
        on_failure: ``block`` fails the attempt, ``warn`` goes on.
    """

    name: str = Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    command: tuple[str, ...] = ()
    job: dict[str, Any] | None = None
    environment: dict[str, str] = {}
    log: bool = False
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
        fault = job_fault(job or {})
        if fault is not None:
            raise ValueError(fault)
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
        if self.command and self.log:
            raise ValueError("log is for a job; a command's output is reported anyway, so leave it out")
        return self


def job_fault(job: Mapping[str, Any]) -> str | None:
    """Why a Job's spec cannot be put over the one that is made of a hook: field, value and remedy.

    The values of variables are not repeated: they may be secrets that are in the wrong place.
    """
    template = job.get("template")
    if template is None:
        return None
    if not isinstance(template, Mapping):
        return _not_a("mapping", "job.template", template, "{spec: {containers: [{command: […]}]}}")
    pod = template.get("spec")
    if pod is None:
        return None
    if not isinstance(pod, Mapping):
        return _not_a("mapping", "job.template.spec", pod, "{containers: [{command: […]}]}")
    field, containers = "job.template.spec.containers", pod.get("containers")
    if containers is None:
        return None
    if not isinstance(containers, list):
        return _not_a("list", field, containers, "[{command: […]}]")
    faults = (_container_fault(f"{field}[{place}]", found) for place, found in enumerate(containers))
    return next((fault for fault in faults if fault is not None), None)


def _container_fault(field: str, container: Any) -> str | None:
    if not isinstance(container, Mapping):
        return _not_a("mapping", field, container, "{command: […]}")
    for name in ("name", "image"):
        value = container.get(name, "left out")
        if not isinstance(value, str) or not value:
            return f"{field}.{name} is {_kind(value)}; write a text, or leave it out for the version's own"
    env = container.get("env", [])
    if not isinstance(env, list):
        return _not_a("list", f"{field}.env", env, "[{name: FOO, value: bar}]")
    for place, variable in enumerate(env):
        if not isinstance(variable, Mapping):
            return _not_a("mapping", f"{field}.env[{place}]", variable, "{name: FOO, value: bar}")
        named = variable.get("name")
        if not isinstance(named, str) or not named:
            return f"{field}.env[{place}].name is {_kind(named)}; write for example {{name: FOO, value: bar}}"
    return None


def _not_a(wanted: str, field: str, value: Any, example: str) -> str:
    return f"{field} must be a {wanted}, and is {_kind(value)}; write for example {example}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    for kind, said in ((Mapping, "a mapping"), (list, "a list"), (str, "a text" if value else "empty")):
        if isinstance(value, kind):
            return said
    return repr(value)


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
        log: the last lines of its output, without the secrets that the worker knows; of a Job only if the
            hook asks for it.
    """

    succeeded: bool
    reason: str = ""
    log: str = ""
