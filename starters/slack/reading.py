"""How things stand, in Slack's words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel
from temporalio.client import Client

from activities.slack.mrkdwn import link
from domain.approval import ApprovalState, ApprovalStatus
from domain.deployment import DeploymentState, DeploymentStatus
from domain.environment import EnvironmentRecord
from starters.connection import workflow_url
from starters.errors import CommandError
from starters.finding import Found, describe, listed, read_status
from starters.following import NoAnswerError
from starters.rendering.text import brief
from starters.slack.words import Words, code, escape, words
from starters.target import Place, Target, target_of

M = TypeVar("M", bound=BaseModel)

PATIENCE = 1.0
"""Seconds that a worker has to say how a process stands; Slack waits three for everything."""
_LISTED = 20
_STATES = {
    DeploymentState.COMPLETED: ":white_check_mark:",
    DeploymentState.FAILED: ":x:",
    DeploymentState.REJECTED: ":no_entry:",
    DeploymentState.APPROVAL: ":raised_hand:",
    DeploymentState.ROLLING_BACK: ":leftwards_arrow_with_hook:",
}


async def ask(client: Client, workflow_id: str, model: type[M]) -> M | None:
    """How a process stands; none if it never was.

    Raises:
        NoAnswerError: nobody can say in the time there is.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await read_status(client, workflow_id, model)
    except TimeoutError:
        raise NoAnswerError("no worker answers") from None
    except CommandError as error:  # it broke
        raise NoAnswerError(error.message) from None


async def deployment(client: Client, target: Target, now: datetime) -> Words:
    """One deployment: from its worker, else what the server itself knows."""
    workflow_id = target.id_of("deployment")
    try:
        status = await ask(client, workflow_id, DeploymentStatus)
    except NoAnswerError as silence:
        return words(await _last_known(client, target), f"_{escape(str(silence))}_")
    if status is None:
        return words(f"There is no deployment of {_title(target)}.")
    return words(*_deployment(client, status, now))


async def environment(client: Client, place: Place, now: datetime) -> Words:
    """An environment: what is live, who has the turn, who waits, what stops deployments."""
    try:
        record = await ask(client, place.workflow_id, EnvironmentRecord)
    except NoAnswerError as silence:
        found = await listed(client, f"deployment:{place.application}:{place.environment}:", limit=_LISTED)
        return words(
            f"*{code(place.application)} in {code(place.environment)}*: {escape(str(silence))}; "
            "what the server knows:",
            *([_known(f) for f in found if f.running] or ["nothing runs"]),
        )
    if record is None:
        return words(f"Nothing was ever deployed to {code(place.environment)} of {code(place.application)}.")
    return words(*await _environment(client, record, now))


async def everything(client: Client, applications: Iterable[str], now: datetime) -> Words:
    """All environments that were ever used."""
    found: list[Found] = []
    for application in applications:
        found += await listed(client, f"environment:{application}:", limit=_LISTED)
    if not found:
        return words("Nothing was deployed yet.")

    async def one(workflow_id: str) -> str:
        try:
            record = await ask(client, workflow_id, EnvironmentRecord)
        except NoAnswerError as silence:
            return f"{code(workflow_id)}: _{escape(str(silence))}_"
        return "" if record is None else "\n".join(await _environment(client, record, now))

    return words(
        *await asyncio.gather(*(one(f.workflow_id) for f in sorted(found, key=lambda f: f.workflow_id)))
    )


async def pending(client: Client, now: datetime) -> Words:
    """All approvals that wait for somebody, the most urgent first."""
    query = "WorkflowType = 'ApprovalWorkflow' AND AwaitingApproval = true AND ExecutionStatus = 'Running'"
    ids = [e.id async for e in client.list_workflows(query, limit=_LISTED)]

    async def one(workflow_id: str) -> ApprovalStatus | None:
        try:
            return await ask(client, workflow_id, ApprovalStatus)
        except NoAnswerError:
            return None

    answers = await asyncio.gather(*map(one, ids))
    open_ones = sorted(
        (a for a in answers if a is not None and a.state is ApprovalState.PENDING),
        key=lambda a: a.expires_at,
    )
    silent = [i for i, a in zip(ids, answers, strict=True) if a is None]
    lines = [
        *(f"{_title(target_of(a.deployment_id))}: {_approval(a, now)}" for a in open_ones),
        *(f"{_title(target_of(i))}: _no worker answers_" for i in silent),
    ]
    return words(*lines) if lines else words("Nothing waits for approval.")


async def _last_known(client: Client, target: Target) -> str:
    try:
        described = await describe(client, target.id_of("deployment"))
    except NoAnswerError as silence:
        return f"{_title(target)}: {escape(str(silence))}"
    state = None if described is None else described.search_attributes.get("DeploymentState")
    return f"{_title(target)}: last known state *{escape(str(state[0])) if state else 'running'}*"


def _known(found: Found) -> str:
    state = found.state or ("running" if found.running else "ended")
    return f"{_title(target_of(found.workflow_id))}: last known state *{escape(state)}*"


def _title(target: Target) -> str:
    return f"{code(target.application)} {code(target.version)} → {code(target.environment)}"


def _deployment(client: Client, status: DeploymentStatus, now: datetime) -> list[str]:
    mark = _STATES.get(status.state, ":hourglass_flowing_sand:")
    title = _title(target_of(status.deployment_id))
    for_so_long = "" if status.state.final else f" for {brief(now - status.since)}"
    paused = " · *paused*" if status.paused else ""
    lines = [f"{mark} {title}: *{status.state}*{for_so_long}{paused}"]
    if status.waiting_for:
        lines.append(f"waits for: {escape(status.waiting_for)}")
    if status.reason:
        lines.append(f"> {escape(status.reason)}")
    if status.approval is not None and status.approval.state is ApprovalState.PENDING:
        lines.append(_approval(status.approval, now))
    lines += [f":warning: {escape(warning)}" for warning in status.warnings]
    if status.rollback is not None:
        lines.append(f":leftwards_arrow_with_hook: {escape(status.rollback.reason)}")
    lines.append(f"asked for by {escape(status.actor)}")
    url = workflow_url(client.namespace, status.deployment_id)
    return ["\n".join(lines), *([link(url, "Open in Temporal")] if url is not None else [])]


def _approval(approval: ApprovalStatus, now: datetime) -> str:
    roles = ", ".join(map(escape, approval.required_approvers))
    left = brief(approval.expires_at - now)
    return f"gate {code(approval.gate_name)} waits for {roles}: {approval.approvals_given} given, {left} left"


async def _environment(client: Client, record: EnvironmentRecord, now: datetime) -> list[str]:
    live = code(record.current_version) if record.current_version else "nothing"
    since = "" if record.current_since is None else f" for {brief(now - record.current_since)}"
    lines = [f"*{code(record.application)} in {code(record.environment)}*: {live} is live{since}"]
    holder = record.holder
    if holder is not None:
        state = await _state_of(client, holder.holder)
        lines.append(f"turn: {code(holder.version)}{state}, asked for by {escape(holder.actor)}")
    for number, waiting in enumerate(record.queue, 1):
        lines.append(f"queue {number}: {code(waiting.version)}, asked for by {escape(waiting.actor)}")
    for name, hold in (("frozen", record.freeze), ("held", record.hold)):
        if hold is not None:
            lines.append(f":snowflake: {name} by {escape(hold.actor)}: {escape(hold.reason)}")
    return ["\n".join(lines)]


async def _state_of(client: Client, workflow_id: str) -> str:
    if not workflow_id.startswith("deployment:"):
        return f" ({code(workflow_id)})"
    try:
        status = await ask(client, workflow_id, DeploymentStatus)
    except NoAnswerError:
        return ""
    return "" if status is None else f" *{status.state}*"
