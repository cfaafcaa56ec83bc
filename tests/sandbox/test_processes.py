"""Programs of the sandbox are started, watched and ended together with all they started."""

import asyncio
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from sandbox.processes import ProcessFailedError, SupervisedProcess, find_program, free_port


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def _gone(pid: int) -> bool:
    for _ in range(500):
        if not _alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


async def _pid_in(path: Path) -> int:
    for _ in range(500):
        if path.exists() and (text := path.read_text().strip()):
            return int(text)
        await asyncio.sleep(0.02)
    raise AssertionError(f"nothing was written to {path}")


async def test_stop_ends_a_program_and_the_children_it_left_behind(tmp_path: Path) -> None:
    child_pid = tmp_path / "child.pid"
    script = f"sleep 600 & echo $! > {child_pid}; wait"
    process = await SupervisedProcess.start(["sh", "-c", script], name="parent", log_file=tmp_path / "log")
    child = await _pid_in(child_pid)

    await process.stop()
    await process.stop()

    assert not process.running
    assert await _gone(child)


async def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap '' TERM; echo 1 > {ready}; while :; do sleep 1; done"
    process = await SupervisedProcess.start(["sh", "-c", script], name="stubborn", log_file=tmp_path / "log")
    await _pid_in(ready)

    await process.stop(grace=0.1)

    assert process.returncode == -signal.SIGKILL


async def test_an_early_end_is_reported_with_status_and_log_tail(tmp_path: Path) -> None:
    process = await SupervisedProcess.start(
        ["sh", "-c", "echo cannot open the database; exit 3"], name="broken", log_file=tmp_path / "log"
    )

    async def never() -> bool:
        return False

    with pytest.raises(ProcessFailedError, match=r"broken: ended with status 3(?s:.)*cannot open"):
        await process.wait_until(never)


async def test_a_program_that_never_becomes_ready_is_an_error(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    async with await SupervisedProcess.start(
        ["sleep", "600"], name="slow", log_file=tmp_path / "log"
    ) as process:
        with pytest.raises(ProcessFailedError, match=r"slow: not ready after 0\.1 s"):
            await process.wait_until(never, timeout=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are a facility of Linux")
async def test_no_orphan_survives_the_death_of_its_parent(tmp_path: Path) -> None:
    # given a process that supervises a program
    pid_file = tmp_path / "pid"
    parent = textwrap.dedent(f"""
        import asyncio, pathlib
        from sandbox.processes import SupervisedProcess
        async def main():
            child = await SupervisedProcess.start(
                ["sleep", "600"], name="sleep", log_file=pathlib.Path({str(tmp_path / "log")!r}))
            pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))
            await asyncio.sleep(600)
        asyncio.run(main())
    """)
    root = Path(__file__).parents[2]
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, cwd=root)
    try:
        child = await _pid_in(pid_file)
    finally:
        # when it is killed without a chance to clean up
        supervisor.kill()
        await supervisor.wait()
    # then the program is gone too
    assert await _gone(child)


def test_ports_are_never_handed_out_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_a_missing_program_names_the_command_that_installs_it() -> None:
    with pytest.raises(ProcessFailedError, match=r"no-such-program.*apt-get install it"):
        find_program("no-such-program", install="apt-get install it")
