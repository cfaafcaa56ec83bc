"""Hooks: steps of the service itself around a roll-back (spec: Rollback Strategies)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from temporalio import activity

from activities.file_lock import file_lock
from activities.kubernetes.hooks import KEY_VARIABLE, HookJobs
from activities.ledger import EffectsLedger
from activities.processes import (
    CannotStartError,
    UnknownVariableError,
    process_environment,
    referenced_secrets,
    run_process,
)
from activities.redaction import Redactor
from activities.signatures import HookSignatures
from domain.durations import format_duration
from domain.hooks import HookReport, HookRun

_CHANNEL = "hook"


class HookActivities(HookSignatures):
    """Runs commands on this worker, and Jobs in the cluster.

    A command's report is written to the ledger before it is told, so that a retry on this machine finds it.
    A run that was cut short is done again: hooks must bear that.

    Attributes:
        home: for the logs and locks of commands.
        ledger: remembers what has ended.
        jobs: runs hooks in the cluster; its creator closes it.
        environment: of the worker. Commands get an allow-list of it and what they name, not its secrets.
        directory: where commands run; by default the worker's own.
    """

    def __init__(
        self,
        home: Path,
        ledger: EffectsLedger,
        jobs: HookJobs,
        *,
        environment: Mapping[str, str],
        directory: Path | None = None,
    ) -> None:
        self._home = home
        self._ledger = ledger
        self._jobs = jobs
        self._environment = environment
        self._directory = directory or Path.cwd()

    @activity.defn
    async def run_hook(self, run: HookRun) -> HookReport:
        """Run a hook to its end.

        Raises:
            ApplicationError: for a Job, what the API server's outages and refusals mean; else Unavailable.
        """
        redactor = Redactor.of_environment(
            self._environment, *referenced_secrets(self._environment, run.hook.environment)
        )
        if run.hook.job is not None:
            report = await self._jobs.run(run)
            said = {"reason": redactor.text(report.reason), "log": redactor.text(report.log)}
            return report.model_copy(update=said)
        place = self._home / hashlib.sha256(run.key.encode()).hexdigest()[:32]
        # An attempt that is thought dead may still be ending its processes.
        async with file_lock(place.with_suffix(".lock")):
            known = await self._ledger.intend(run.key, _CHANNEL)
            if known is not None and known.outcome is not None:
                return HookReport.model_validate_json(known.outcome)
            report = await self._command(run, place.with_suffix(".log"), redactor)
            await self._ledger.complete(run.key, _CHANNEL, report.model_dump_json())
        return report

    async def _command(self, run: HookRun, log: Path, redactor: Redactor) -> HookReport:
        hook = run.hook
        try:
            allowed = process_environment(self._environment, hook.environment)
            # Not a step's own settings: ${NAME} in a version or a person's reason reads no variable, and
            # none of them replaces PATH.
            result = await run_process(
                hook.command,
                directory=self._directory,
                environment={**run.variables, **allowed, KEY_VARIABLE: run.key},
                log=log,
                timeout=hook.timeout,
                redactor=redactor,
            )
        except CannotStartError:
            reason = (
                f"{hook.command[0]} is no executable program on this worker: install it on PATH, "
                f"or write its path, absolute or from {self._directory}"
            )
            return HookReport(succeeded=False, reason=f"hook {hook.name}: {reason}")
        except UnknownVariableError as error:
            return HookReport(succeeded=False, reason=f"hook {hook.name}: {error}")
        said = "\n".join(result.tail)
        if result.timed_out:
            reason = (
                f"hook {hook.name} did not end within {format_duration(hook.timeout)}: "
                "make it faster, or raise its timeout"
            )
            return HookReport(succeeded=False, reason=reason, log=said)
        return HookReport(
            succeeded=result.status == 0, reason=f"hook {hook.name} {result.ending()}", log=said
        )
