"""The command line of the demo: its options, its working directory, its exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.text import Text
from temporalio.service import RPCError

from sandbox.demo.parts import ServiceChoice, check_kubernetes, choose_service
from sandbox.demo.stage import open_stage
from sandbox.demo.story import perform
from sandbox.kubernetes.control_plane import ControlPlaneMissingError
from sandbox.processes import ProcessFailedError
from sandbox.sample import SampleRepositoryError
from starters.connection import explain_rpc
from starters.errors import CommandError, ExitCode, usage_error


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        yes: approve without asking.
        keep: leave all running at the end, until Ctrl-C.
        data_dir: where everything is kept; none is a temporary directory.
    """

    yes: bool
    keep: bool
    service: ServiceChoice
    kubernetes: Literal["real", "emulator"]
    data_dir: Path | None


def main(arguments: list[str]) -> int:
    """Show the demo.

    Exit codes: 0 all went as claimed, 1 something did not, 2 usage, 3 rejected at the approval, 130 Ctrl-C.

    Raises:
        CommandError: it cannot begin, or broke off.
    """
    options = _options(arguments)
    return asyncio.run(_run(options))


def _options(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="erlmcp-deploy demo",
        description="Deploy a sample service in an embedded world: a good release, then a bad one.",
        epilog="With make: make demo DEMO_ARGS='--yes --keep'",
    )
    parser.add_argument("--yes", action="store_true", help="approve without asking")
    parser.add_argument("--flavour", choices=["erlang", "python"], help="of the sample service")
    parser.add_argument(
        "--kubernetes",
        choices=["real", "emulator"],
        help="by default the real one if present",
    )
    parser.add_argument("--keep", action="store_true", help="leave it running at the end, until Ctrl-C")
    parser.add_argument("--data-dir", type=Path, help="an empty directory that is kept afterwards")
    given = parser.parse_args(arguments)
    if not given.yes and not sys.stdin.isatty():
        raise usage_error(
            "the approval cannot be asked for: standard input is no terminal",
            remedy="run it in a terminal, or approve with --yes (make demo DEMO_ARGS=--yes)",
        )
    if given.kubernetes == "real":
        try:
            check_kubernetes()
        except ControlPlaneMissingError as missing:
            raise usage_error(
                f"--kubernetes real: {missing}", remedy="leave it out; the demo then uses the emulator"
            ) from None
    return Options(
        yes=given.yes,
        keep=given.keep,
        service=choose_service(given.flavour),
        kubernetes=given.kubernetes or "real",
        data_dir=_checked(given.data_dir),
    )


def _checked(data_dir: Path | None) -> Path | None:
    if data_dir is None:
        return None
    place = data_dir.expanduser().resolve()
    if place.is_dir() and any(place.iterdir()):
        raise usage_error(
            f"--data-dir is {place}, which is not empty", remedy="name another directory, or remove this one"
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise usage_error(f"--data-dir is {place}: {error.strerror}", remedy="name another") from None
    return place


async def _run(options: Options) -> int:
    """The demo; Ctrl-C and SIGTERM stop all that was started."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    stage = open_stage()
    directory = options.data_dir or Path(tempfile.mkdtemp(prefix="erlmcp-deploy-demo-"))
    # All that is written is in this one directory, also by the parts and by what is killed.
    temporary = directory / "tmp"
    temporary.mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    # What the parts have to say must not fall into the picture.
    logging.basicConfig(
        filename=directory / "demo.log", format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.captureWarnings(True)
    keep = True
    try:
        code = await perform(
            stage,
            directory,
            options.service,
            kubernetes=options.kubernetes,
            ask=not options.yes,
            keep=options.keep,
        )
        keep = options.keep or code is ExitCode.FAILED
    except asyncio.CancelledError:
        stage.say(Text("interrupted; everything was stopped", style="yellow"))
        code, keep = ExitCode.INTERRUPTED, options.keep
    except RPCError as error:
        raise explain_rpc(error) from None
    except (ProcessFailedError, SampleRepositoryError, OSError) as error:
        raise CommandError(str(error), remedy=f"look at the logs in {directory}") from error
    finally:
        if keep or options.data_dir is not None:
            stage.say(Text(f"logs, builds and audit trail are kept in {directory}", style="dim"))
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return code
