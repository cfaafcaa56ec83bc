"""One step at work: where it runs, what it may use, and what it found."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from activities.processes import ProcessResult, run_process
from activities.redaction import Redactor
from domain.conditions import Scalar
from domain.model import Model

_EVIDENCE_LINES = 24
_EVIDENCE_WIDTH = 300


class Finding(Model):
    """What a tool measured, or why it could not measure."""

    measured: bool
    reason: str
    measurements: dict[str, Scalar] = {}
    evidence: tuple[str, ...] = ()


def measured(reason: str, measurements: Mapping[str, Scalar], evidence: Sequence[str] = ()) -> Finding:
    """A measurement, with as much evidence as a report can hold."""
    return Finding(measured=True, reason=reason, measurements=dict(measurements), evidence=_cut(evidence))


def unmeasured(reason: str, evidence: Sequence[str] = ()) -> Finding:
    """No measurement, and why; the gate fails with this reason."""
    return Finding(measured=False, reason=reason, evidence=_cut(evidence))


def _cut(evidence: Sequence[str]) -> tuple[str, ...]:
    lines = [line if len(line) <= _EVIDENCE_WIDTH else f"{line[: _EVIDENCE_WIDTH - 1]}…" for line in evidence]
    if len(lines) > _EVIDENCE_LINES:
        lines = [*lines[: _EVIDENCE_LINES - 1], f"… and {len(lines) - _EVIDENCE_LINES + 1} more, see the log"]
    return tuple(lines)


@dataclass(frozen=True)
class Workbench:
    """A checkout with all that a step needs.

    Attributes:
        tree: the work tree.
        reports: a directory outside the tree, for reports that are not part of the sources.
        locks: the directory of the checkout's lock files.
        environment: of every process of the step.
        log: receives the output of every process of the step.
        timeout: for the processes of the step together.
    """

    tree: Path
    reports: Path
    locks: Path
    environment: Mapping[str, str]
    redactor: Redactor
    log: Path
    timeout: timedelta
    _used: list[timedelta] = field(default_factory=list)

    async def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        output_limit: int | None = None,
    ) -> ProcessResult:
        """Run a process of the step in its work tree, in the time that is left; waiting for locks is free."""
        started = time.monotonic()
        left = self.timeout - sum(self._used, timedelta())
        try:
            return await run_process(
                arguments,
                directory=self.tree,
                environment={**self.environment, **(environment or {})},
                log=self.log,
                timeout=max(left, timedelta()),
                redactor=self.redactor,
                output_limit=output_limit,
            )
        finally:
            self._used.append(timedelta(seconds=time.monotonic() - started))
