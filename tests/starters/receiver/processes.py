"""``erlmcp-deploy serve`` as a process."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sandbox.processes import SupervisedProcess
from tests.starters.receiver.senders import SECRETS
from tests.starters.world import ROOT

_LISTENING = re.compile(r"listening on (http://\S+)")


def variables(address: str, configuration: Path, secrets: Mapping[str, str] = SECRETS) -> dict[str, str]:
    """The environment of a receiver, without anything that this process happens to have."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(configuration.parent),
        "PYTHONUNBUFFERED": "1",
        "TEMPORAL_ADDRESS": address,
        "TEMPORAL_CONFIG_FILE": str(configuration.parent / "temporal.toml"),
        "ERLMCP_DEPLOY_CONFIG": str(configuration),
        **secrets,
    }


async def run(environment: Mapping[str, str], *options: str) -> tuple[int | None, str]:
    """Exit code and what was written to stderr, of one that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "starters", "serve", *options),
        cwd=ROOT,
        env=dict(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    return process.returncode, stderr.decode()


@asynccontextmanager
async def serving(
    environment: Mapping[str, str], log: Path, *options: str
) -> AsyncIterator[tuple[SupervisedProcess, str]]:
    """A running one, and its address."""
    process = await SupervisedProcess.start(
        [sys.executable, "-m", "starters", "serve", "--port", "0", *options],
        name="receiver",
        log_file=log,
        env=environment,
        cwd=ROOT,
    )

    async def listens() -> bool:
        return _LISTENING.search(log.read_text()) is not None

    async with process:
        await process.wait_until(listens, timeout=60)
        found = _LISTENING.search(log.read_text())
        assert found is not None
        yield process, found[1]
