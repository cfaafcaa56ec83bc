"""Build processes end when they must, with all they started, and never learn the worker's secrets."""

import asyncio
import os
import signal
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.processes import (
    CannotStartError,
    ProcessResult,
    UnknownVariableError,
    process_environment,
    run_process,
)
from activities.redaction import Redactor

PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
SECRET = "ghp_0123456789abcdefghij"


async def run(command: str, directory: Path, **arguments: Any) -> ProcessResult:
    settings: dict[str, Any] = {
        "directory": directory,
        "environment": PATH,
        "log": directory / "step.log",
        "timeout": timedelta(seconds=60),
        "redactor": Redactor([SECRET]),
        **arguments,
    }
    return await run_process(["sh", "-c", command], **settings)


async def pid_in(file: Path) -> int:
    for _ in range(1000):
        if file.exists() and (text := file.read_text().strip()):
            return int(text)
        await asyncio.sleep(0.02)
    raise AssertionError(f"nothing was written to {file}")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def gone(pid: int) -> bool:
    for _ in range(500):
        if not alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


STUBBORN = "sh -c 'trap \"\" TERM; echo $$ > grandchild; while :; do sleep 1; done' & wait"
"""A build whose grandchild ignores SIGTERM and writes down its pid."""


async def test_both_outputs_go_to_the_log_and_the_status_is_reported(tmp_path: Path) -> None:
    result = await run("echo compiling; echo careful >&2; exit 3", tmp_path)

    assert result.status == 3
    assert (tmp_path / "step.log").read_text() == "compiling\ncareful\n"
    assert result.log_bytes == 18
    assert result.ending() == "ended with status 3: compiling | careful"
    assert result.output is None


async def test_standard_output_is_kept_apart_where_it_is_the_result(tmp_path: Path) -> None:
    result = await run("echo noise >&2; echo '{}'", tmp_path, output_limit=100)

    assert result.output == b"{}\n"
    assert sorted((tmp_path / "step.log").read_text().split()) == ["noise", "{}"]


async def test_more_output_than_asked_for_is_no_result(tmp_path: Path) -> None:
    result = await run("head -c 200000 /dev/zero | tr '\\0' x", tmp_path, output_limit=1000)

    assert result.status == 0
    assert result.output is None
    assert result.log_bytes == 200_000


async def test_a_timeout_ends_the_grandchildren_too(tmp_path: Path) -> None:
    # given a build with a grandchild that ignores SIGTERM
    grandchild = tmp_path / "grandchild"
    for seconds in (1, 5, 25):  # a busy machine may not come to start it
        if not grandchild.exists():
            # when it is out of time
            result = await run(
                STUBBORN, tmp_path, timeout=timedelta(seconds=seconds), grace=timedelta(seconds=0.1)
            )
    # then nothing of it goes on
    assert result.timed_out
    assert await gone(await pid_in(grandchild))


async def test_a_cancelled_activity_leaves_nothing_running(tmp_path: Path) -> None:
    environment = ActivityEnvironment()
    running = asyncio.ensure_future(environment.run(run, STUBBORN, tmp_path))
    grandchild = await pid_in(tmp_path / "grandchild")

    environment.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert await gone(grandchild)


async def test_a_build_may_clean_up_before_it_is_killed(tmp_path: Path) -> None:
    command = "trap 'echo removed > cleaned; exit 0' TERM; echo 1 > ready; while :; do sleep 0.05; done"
    running = asyncio.create_task(run(command, tmp_path))
    await pid_in(tmp_path / "ready")

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert (tmp_path / "cleaned").read_text() == "removed\n"


async def test_what_a_finished_build_left_running_ends_with_it(tmp_path: Path) -> None:
    result = await run("sleep 600 & echo $! > child; exit 0", tmp_path)

    assert result.status == 0
    assert await gone(await pid_in(tmp_path / "child"))


async def test_a_daemon_that_keeps_the_output_open_does_not_hold_the_step_up(tmp_path: Path) -> None:
    daemon = "setsid sh -c 'echo $$ > daemon; exec sleep 600' & while [ ! -s daemon ]; do sleep 0.02; done"

    result = await run(daemon, tmp_path)

    assert result.status == 0
    os.kill(await pid_in(tmp_path / "daemon"), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_killed_worker_leaves_no_build_behind(tmp_path: Path) -> None:
    # given a worker that runs a build
    worker = textwrap.dedent(f"""
        import asyncio, datetime, pathlib
        from activities.processes import run_process
        from activities.redaction import Redactor
        here = pathlib.Path({str(tmp_path)!r})
        asyncio.run(run_process(
            ["sh", "-c", "sleep 600 & echo $! > child; wait"], directory=here, environment={PATH!r},
            log=here / "log", timeout=datetime.timedelta(minutes=9), redactor=Redactor([])))
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", worker, cwd=Path(__file__).parents[3]
    )
    try:
        child = await pid_in(tmp_path / "child")
    finally:
        # when it is killed without a chance to clean up
        process.kill()
        await process.wait()
    # then nothing of the build goes on
    assert await gone(child)


async def test_the_build_shows_its_progress(tmp_path: Path) -> None:
    # given a build that waits for its watcher to have seen its last line
    environment = ActivityEnvironment()
    seen: list[dict[str, Any]] = []

    def heartbeat(details: dict[str, Any]) -> None:
        seen.append(details)
        if f"token *** is on {'x' * 5}" in details["last_lines"]:
            (tmp_path / "seen").touch()

    environment.on_heartbeat = heartbeat
    await environment.run(
        run, f"echo token {SECRET} is on xxxxx; while [ ! -e seen ]; do sleep 0.05; done", tmp_path
    )

    assert seen[-1]["log_bytes"] == len("token *** is on xxxxx\n")


@pytest.mark.parametrize(
    "command",
    [
        f"echo {SECRET}",
        f"printf {SECRET[:9]}; sleep 0.3; echo {SECRET[9:]}",
        f"head -c 65535 /dev/zero | tr '\\0' x; printf {SECRET[:9]}; sleep 0.3; echo {SECRET[9:]}",
        "echo https://someone:pa55word@example.com/",
    ],
    ids=["in a line", "in two writes", "in a very long line", "as the password of a URL"],
)
async def test_secrets_do_not_reach_the_log(tmp_path: Path, command: str) -> None:
    result = await run(command, tmp_path)

    log = (tmp_path / "step.log").read_text()
    assert "***" in log
    assert SECRET not in log
    assert "pa55word" not in log
    assert SECRET not in "".join(result.tail)


def test_keys_of_several_lines_are_known_by_their_lines() -> None:
    body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
    redactor = Redactor.of_environment(
        {"COSIGN_KEY": f"-----BEGIN KEY-----\n{body}\n", "PAGER": "less-is-more"}
    )

    assert redactor.text(f"read {body} with less-is-more") == "read *** with less-is-more"


async def test_a_build_gets_only_what_the_list_allows_and_the_step_names(tmp_path: Path) -> None:
    # given a worker that holds secrets
    worker = {
        **PATH,
        "HOME": str(tmp_path),
        "https_proxy": "http://proxy.example.com:3128",
        "GITHUB_TOKEN": SECRET,
        "SLACK_BOT_TOKEN": "xoxb-1",
        "HEX_API_KEY": "hex-secret",
        "KUBE_CONFIG": "/etc/kube",
        "PYTHONPATH": "/opt/worker",
    }
    # when a step names one of them
    environment = process_environment(worker, {"HEX_API_KEY": "${HEX_API_KEY}", "MIX_ENV": "prod"})
    await run("env -0 | tr '\\0' '\\n' > environment", tmp_path, environment=environment)
    # then its process sees that one, and no other
    names = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    names.pop("PWD", None)
    assert names == {
        **PATH,
        "HOME": str(tmp_path),
        "https_proxy": "http://proxy.example.com:3128",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "HEX_API_KEY": "hex-secret",
        "MIX_ENV": "prod",
    } | {key: names[key] for key in ("SHLVL", "_", "OLDPWD", "LC_CTYPE") if key in names}


def test_a_variable_that_the_worker_does_not_have_is_named() -> None:
    with pytest.raises(
        UnknownVariableError, match=r"\$\{HEX_API_KEY\}, which is not set on the build worker"
    ):
        process_environment(PATH, {"KEY": "${HEX_API_KEY}"})


async def test_programs_that_cannot_be_started_say_why(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "lost").chmod(0o755)
    settings: dict[str, Any] = {
        "directory": tmp_path,
        "environment": PATH,
        "log": tmp_path / "log",
        "timeout": timedelta(seconds=60),
        "redactor": Redactor([]),
    }
    for program, reason in {
        "no-such-program": "is not installed on the build worker",
        "./absent": "does not exist in the checkout",
        "./plain": r"is not executable: chmod \+x",
        "./lost": "interpreter of its first line is missing",
    }.items():
        with pytest.raises(CannotStartError, match=reason):
            await run_process([program], **settings)
