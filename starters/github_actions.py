"""What a GitHub Actions job is told: annotations, groups, outputs and the step summary.

The formats are those of the runner's workflow commands and environment files
(https://docs.github.com/actions/reference/workflow-commands-for-github-actions).
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from domain.approval import ApprovalState
from domain.deployment import DeploymentState, DeploymentStatus
from domain.gates import GateOutcome
from starters.rendering import brief, clean, gate_facts, stage_times

Level = Literal["error", "warning", "notice"]

_SYMBOLS = {
    DeploymentState.COMPLETED: "✅",
    DeploymentState.FAILED: "❌",
    DeploymentState.REJECTED: "🚫",
}
_GATE_SYMBOLS = {
    GateOutcome.PASSED: "✅",
    GateOutcome.FAILED: "❌",
    GateOutcome.WARNED: "⚠️",
    GateOutcome.SKIPPED: "⏭️",
    GateOutcome.RUNNING: "🔄",
}


def active() -> bool:
    """Whether this is a step of a GitHub Actions job."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotate(level: Level, title: str, message: str) -> None:
    """Show a message on the run's page. The runner reads both streams; stdout may carry JSON."""
    if active():
        _command(level, message, title=title)


def begin_group(title: str) -> None:
    """Fold the lines that follow under a title."""
    if active():
        _command("group", clean(title))


def end_group() -> None:
    if active():
        _command("endgroup", "")


def _command(name: str, message: str, **properties: str) -> None:
    escaped = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    sys.stderr.write(f"::{name}{' ' if escaped else ''}{escaped}::{_data(message)}\n")
    sys.stderr.flush()


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def write_outputs(outputs: Mapping[str, str | None]) -> None:
    """Set the step's outputs. A value cannot end its own block: the delimiter is random."""
    path = os.environ.get("GITHUB_OUTPUT")
    if not active() or not path:
        return
    with Path(path).open("a", encoding="utf-8") as file:
        for name, value in outputs.items():
            if value is not None:
                mark = f"end-{secrets.token_hex(16)}"
                file.write(f"{name}<<{mark}\n{value}\n{mark}\n")


def write_summary(status: DeploymentStatus, url: str | None) -> None:
    """Append the deployment's table to the step summary."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not active() or not path:
        return
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(summary(status, datetime.now(UTC), url))


def summary(status: DeploymentStatus, now: datetime, url: str | None) -> str:
    """The deployment in GitHub's Markdown: outcome, stages, gates, approval, canary, roll-back."""
    symbol = _SYMBOLS.get(status.state, "🔄")
    took = brief((status.finished_at or now) - status.started_at)
    lines = [
        f"### {symbol} {status.application} {status.version} → {status.environment}: {status.state}",
        "",
    ]
    if status.reason:
        lines += [f"> {_cell(status.reason)}", ""]
    facts = [f"asked for by {_cell(status.actor)}", f"took {took}"]
    if status.previous_version:
        facts.append(f"{status.previous_version} before")
    if status.built is not None:
        facts.append(f"commit `{status.built.commit[:10]}`")
    lines += [" · ".join(facts), "", "| Stage | Began (UTC) | Took |", "|---|---|---:|"]
    for entered, duration in stage_times(status, now):
        lasted = "" if duration is None else brief(duration)
        lines.append(f"| {entered.state} | {entered.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} | {lasted} |")
    if status.gates:
        lines += ["", "| Gate | | Found |", "|---|---|---|"]
        lines += [
            f"| {_cell(g.name)} | {_GATE_SYMBOLS[g.outcome]} {g.outcome} | {_cell(gate_facts(g))} |"
            for g in status.gates
        ]
    approval = status.approval
    if approval is not None:
        lines += ["", "| Approval | Who | When (UTC) | Said |", "|---|---|---|---|"]
        for decision in (*approval.received_approvals, *approval.received_rejections):
            at = f"{decision.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
            lines.append(f"| {decision.verb} | {_cell(decision.actor)} | {at} | {_cell(decision.comment)} |")
        if approval.state is not ApprovalState.APPROVED:
            lines.append(f"| {approval.state} | | | {_cell(approval.reason or '')} |")
    if status.canary is not None and status.canary.steps:
        lines += ["", "| Canary | Verdict |", "|---:|---|"]
        for step in status.canary.steps:
            verdict = "" if step.verdict is None else f"{step.verdict.outcome}: {step.verdict.reason}"
            if step.promoted_by is not None:
                verdict = f"promoted by {step.promoted_by}"
            lines.append(f"| {step.weight}% | {_cell(verdict)} |")
    rollback = status.rollback
    if rollback is not None:
        outcome = "rolled back" if rollback.succeeded else "**roll-back failed**"
        lines += ["", f"{outcome} to {rollback.to_version or 'the earlier state'}: {_cell(rollback.reason)}"]
    if url is not None:
        lines += ["", f"[Workflow {status.deployment_id}]({url})"]
    return "\n".join(lines) + "\n\n"


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell or become markup."""
    escaped = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for mark in "|`*_[]":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped


def report_end(status: DeploymentStatus, url: str | None) -> None:
    """Everything a job is told when a deployment has ended."""
    if not active():
        return
    title = f"{status.application} {status.version} → {status.environment}: {status.state}"
    level: Level = "notice" if status.state is DeploymentState.COMPLETED else "error"
    annotate(level, title, clean(status.reason or str(status.state)))
    write_outputs(
        {
            "state": str(status.state),
            "deployment_id": status.deployment_id,
            "workflow_url": url or "",
            "reason": clean(status.reason or ""),
        }
    )
    write_summary(status, url)
