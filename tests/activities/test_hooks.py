"""Hooks as commands of the worker: real processes, with what they may know and how they end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from temporalio.testing import ActivityEnvironment

from activities.hooks import HookActivities
from activities.kubernetes import ClusterConnection
from activities.kubernetes.hooks import HookJobs
from activities.ledger import EffectsLedger
from domain.hooks import Hook, HookReport, HookRun
from domain.workload import WorkloadTarget

SECRET = "postgres-s3cret-0123456789"
WORKER = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "SLACK_WEBHOOK": "https://hooks.example.com/T000/B000",
    "DATABASE_PASSWORD": SECRET,
}
TARGET = WorkloadTarget(
    application="shop", environment="test", namespace="shop-test", deployment="shop", container="shop"
)


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[HookActivities]:
    directory = tmp_path / "work"
    directory.mkdir()
    async with EffectsLedger.open(tmp_path / "effects.db") as ledger:
        jobs = HookJobs(ClusterConnection())
        yield HookActivities(tmp_path / "hooks", ledger, jobs, environment=WORKER, directory=directory)
        await jobs.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "work"


def shell(script: str, key: str = "rollback:shop:test:1.1.0/before-1", **fields: Any) -> HookRun:
    variables = fields.pop("variables", {"FROM_VERSION": "1.1.0", "TO_VERSION": "1.0.0"})
    hook = Hook.model_validate({"name": "migrate-down", "command": ("sh", "-c", script), **fields})
    return HookRun(
        key=key, hook=hook, target=TARGET, deployment_id="deployment:shop:test:1.1.0", variables=variables
    )


def container(changes: dict[str, Any]) -> dict[str, Any]:
    """A Job with a container that is written like this."""
    return {"job": {"template": {"spec": {"containers": [changes]}}}}


async def run(hooks: HookActivities, hook: HookRun) -> HookReport:
    return await ActivityEnvironment().run(hooks.run_hook, hook)


async def test_a_command_is_told_what_it_is_for(hooks: HookActivities) -> None:
    report = await run(hooks, shell("echo $ERLMCP_DEPLOY_KEY: $FROM_VERSION to $TO_VERSION"))

    assert report.succeeded
    assert report.log == "rollback:shop:test:1.1.0/before-1: 1.1.0 to 1.0.0"


async def test_a_command_that_fails_says_why(hooks: HookActivities) -> None:
    report = await run(hooks, shell("echo table users is locked >&2; exit 3"))

    assert not report.succeeded
    assert report.reason == "hook migrate-down ended with status 3: table users is locked"


async def test_no_secret_reaches_a_command_that_does_not_name_it(hooks: HookActivities) -> None:
    # given a version and a person's reason that look like references to the worker's variables
    variables = {"REASON": "${DATABASE_PASSWORD}", "PATH": "/tmp/evil"}

    report = await run(hooks, shell('env; echo "reason=$REASON"', variables=variables))

    assert "SLACK_WEBHOOK" not in report.log
    assert SECRET not in report.log
    assert "reason=${DATABASE_PASSWORD}" in report.log
    assert "PATH=/usr/local/bin:/usr/bin:/bin" in report.log.splitlines()


async def test_a_secret_that_is_named_is_known_to_the_command_and_to_nobody_else(
    hooks: HookActivities, directory: Path, tmp_path: Path
) -> None:
    hook = shell(
        "echo password $PGPASSWORD | tee seen; exit 1", environment={"PGPASSWORD": "${DATABASE_PASSWORD}"}
    )

    report = await run(hooks, hook)

    assert (directory / "seen").read_text() == f"password {SECRET}\n"
    assert report.log == "password ***"
    assert SECRET not in report.reason
    assert not [f for f in (tmp_path / "hooks").iterdir() if SECRET in f.read_text()]


async def test_a_retry_finds_the_run_before_it(hooks: HookActivities, directory: Path) -> None:
    # given a hook that ran, and whose report got lost on its way to the server
    script = "echo once >> runs; exit 1"
    first = await run(hooks, shell(script))

    # when the activity is tried again, then it finds what came of it
    assert await run(hooks, shell(script)) == first
    assert (directory / "runs").read_text() == "once\n"

    # and the next attempt of the roll-back runs the hook anew
    await run(hooks, shell(script, key="rollback:shop:test:1.1.0/before-2"))
    assert (directory / "runs").read_text() == "once\nonce\n"


async def test_two_attempts_at_once_run_one_after_the_other(hooks: HookActivities, directory: Path) -> None:
    script = "echo begin >> runs; sleep 0.2; echo end >> runs"

    reports = await asyncio.gather(run(hooks, shell(script)), run(hooks, shell(script)))

    assert reports[0] == reports[1]
    assert (directory / "runs").read_text() == "begin\nend\n"


STUBBORN = "sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 0.1; done' & wait"
"""A hook whose child ignores SIGTERM and writes down its pid."""


async def test_a_command_that_takes_too_long_is_ended_with_its_children(
    hooks: HookActivities, directory: Path
) -> None:
    report = await run(hooks, shell(STUBBORN, timeout=timedelta(seconds=2)))

    assert not report.succeeded
    assert report.reason.startswith("hook migrate-down did not end within 2s")
    assert not alive(int((directory / "child").read_text()))


async def test_a_cancelled_command_leaves_nothing_behind_and_is_not_done(
    hooks: HookActivities, directory: Path
) -> None:
    # given a hook that runs
    attempt = ActivityEnvironment()
    beats: list[Any] = []
    attempt.on_heartbeat = lambda *details: beats.append(details)
    running = asyncio.create_task(attempt.run(hooks.run_hook, shell(STUBBORN)))
    child = await pid_in(directory / "child")

    # when it is cancelled
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    # then its processes are gone, it was alive until then, and a later attempt would run it again
    assert not alive(child)
    assert beats
    assert (await run(hooks, shell("echo again"))).log == "again"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"command": ("bin/migrate", "down")}, "bin/migrate is no executable program on this worker"),
        ({"command": ("no-such-program",)}, "no-such-program is no executable program on this worker"),
        ({"environment": {"URL": "${DATABASE_URL}"}}, "${DATABASE_URL}, which is not set"),
    ],
)
async def test_what_cannot_run_as_it_is_written_has_failed(
    hooks: HookActivities, fields: dict[str, Any], reason: str
) -> None:
    report = await run(hooks, shell("true", **fields))

    assert not report.succeeded
    assert report.reason.startswith("hook migrate-down: ")
    assert reason in report.reason


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({}, "write either command"),
        ({"command": ["true"], "job": {}}, "write either command"),
        ({"job": {}, "environment": {"A": "b"}}, "secretKeyRef"),
        ({"job": {"spec": {}}}, "job has no field 'spec'"),
        ({"job": {"command": ["bin/migrate"]}}, "job has no field 'command'"),
        ({"command": ["true"], "log": True}, "log is for a job"),
        ({"job": {"template": "bin/migrate"}}, "job.template must be a mapping, and is a text; write"),
        (container({"env": {"A": "b"}}), r"containers\[0\].env must be a list, and is a mapping; write"),
        (container({"env": None}), r"containers\[0\].env must be a list, and is null; write"),
        (container({"env": ["A=b"]}), r"containers\[0\].env\[0\] must be a mapping, and is a text; write"),
        (container({"env": [{"A": "b"}]}), r"containers\[0\].env\[0\].name is null; write"),
        (container({"image": None}), r"containers\[0\].image is null; write a text, or leave it out"),
    ],
)
def test_a_hook_that_would_do_something_else_than_is_written_is_refused(
    fields: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(ValidationError, match=refusal):
        Hook.model_validate({"name": "migrate", **fields})


async def pid_in(file: Path) -> int:
    async with asyncio.timeout(20):
        while not (file.exists() and file.read_text().strip()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    return int(file.read_text())


def alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
