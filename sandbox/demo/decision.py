"""The approval of the demo: asked for on the terminal, given by the signal of the stock Temporal CLI."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from temporalio.client import Client

from domain.approval import ApprovalState, Verb
from domain.deployment import DeploymentStatus
from sandbox.configuration import APPROVER
from sandbox.demo.following import Followed
from sandbox.demo.stage import Stage
from sandbox.processes import find_program

_YES, _NO = ("y", "yes"), ("n", "no")


@dataclass(frozen=True)
class Answer:
    """What the person typed: a decision or a comment, and the words with it."""

    verb: Verb
    comment: str


def understand(line: str) -> Answer | None:
    """``y``, ``n``, either with a comment after it, or a comment alone; none for an empty line."""
    word, _, rest = line.strip().partition(" ")
    if word.lower() in _YES:
        return Answer(Verb.APPROVE, rest.strip())
    if word.lower() in _NO:
        return Answer(Verb.REJECT, rest.strip())
    return Answer(Verb.COMMENT, line.strip()) if word else None


async def approve_early(client: Client, deployment_id: str, comment: str) -> None:
    """Approve a deployment whose gate is not open yet; the approval is kept for it."""
    await client.get_workflow_handle(deployment_id).signal("approve", _message(comment))


async def decide(client: Client, address: str, stage: Stage, followed: Followed, *, ask: bool) -> None:
    """See a deployment through its approval gate, when it gets there."""
    if not await followed.until(_is_open):
        return
    status = followed.latest
    command = _command(address, status, "looks good")
    if not ask:
        stage.remark("▶", f"approved as {APPROVER} because of --yes; the same with the stock CLI:", "bold")
        stage.copyable(command)
        await _send(client, status, Answer(Verb.APPROVE, "approved by make demo --yes"))
        return
    with stage.interlude():
        stage.say(
            Text("\nThe same from another terminal, with the stock Temporal CLI:", style="dim"), command
        )
        await _ask(client, stage, followed)


async def _ask(client: Client, stage: Stage, followed: Followed) -> None:
    """Ask until it is decided, here or by somebody else."""
    status = followed.latest
    question = f"\nApprove {status.application} {status.version} for {status.environment} as {APPROVER}?"
    # What was typed before the question is no answer to it.
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    decided = asyncio.create_task(followed.until(lambda status: not _is_open(status)))
    try:
        while not decided.done():
            stage.console.print(Text.assemble((question, "bold"), " [y/n, or a comment] "), end="")
            typed = asyncio.create_task(_read_line())
            await asyncio.wait({typed, decided}, return_when=asyncio.FIRST_COMPLETED)
            if not typed.done():
                typed.cancel()
                stage.say(Text())
                stage.remark("▶", "decided from elsewhere", "bold")
                return
            answer = understand(typed.result())
            if answer is None:
                continue
            await _send(client, status, answer)
            if answer.verb is not Verb.COMMENT:
                return
            stage.remark("▶", "comment sent; a comment never decides", "bold")
    finally:
        decided.cancel()
        termios.tcflush(sys.stdin, termios.TCIFLUSH)


async def _read_line() -> str:
    """A line from the terminal; the event loop goes on meanwhile, and Ctrl-C works.

    Raises:
        CancelledError: Ctrl-D, which means to leave as Ctrl-C does.
    """
    loop = asyncio.get_running_loop()
    read: asyncio.Future[bytes] = loop.create_future()
    terminal = sys.stdin.fileno()

    def receive() -> None:
        if not read.done():
            read.set_result(os.read(terminal, 4096))  # a terminal hands out one whole line at a time

    loop.add_reader(terminal, receive)
    try:
        line = await read
    finally:
        loop.remove_reader(terminal)
    if not line:
        raise asyncio.CancelledError
    return line.decode(errors="replace")


def _is_open(status: DeploymentStatus) -> bool:
    return status.approval is not None and status.approval.state is ApprovalState.PENDING


async def _send(client: Client, status: DeploymentStatus, answer: Answer) -> None:
    """Decisions go to the deployment, which passes them on; a comment goes to the approval itself."""
    target = status.deployment_id
    if answer.verb is Verb.COMMENT and status.approval is not None:
        target = status.approval.id
    await client.get_workflow_handle(target).signal(str(answer.verb), _message(answer.comment))


def _message(comment: str) -> dict[str, str]:
    return {"actor": APPROVER, "comment": comment}


def _command(address: str, status: DeploymentStatus, comment: str) -> Text:
    """The signal for a shell, on lines that can be copied as they are."""
    program = find_program("temporal", install="pip install 'erlmcp-deploy[sandbox]'")
    with suppress(ValueError):
        program = program.relative_to(Path.cwd())
    lines = [
        f"{shlex.quote(str(program))} workflow signal --address {address} --name approve",
        f"  --workflow-id {status.deployment_id}",
        f"  --input {shlex.quote(json.dumps(_message(comment)))}",
    ]
    return Text(" \\\n".join(f"  {line}" for line in lines), style="bold cyan")
