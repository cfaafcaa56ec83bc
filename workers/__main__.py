"""``python -m workers``: runs until SIGTERM or SIGINT, then lets running activities finish for a while."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack

from pydantic import ValidationError

from activities.configuration import ConfigurationError
from workers.composition import compose
from workers.connection import MissingSearchAttributesError, connect, ensure_search_attributes
from workers.settings import Role, WorkerSettings

logger = logging.getLogger("workers")


async def run(role: Role, settings: WorkerSettings) -> None:
    """Connect, compose and work until a signal asks to stop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    client = await connect()
    await ensure_search_attributes(client)
    async with compose(client, settings, role) as workers, AsyncExitStack() as running:
        for worker in workers:
            await running.enter_async_context(worker)
        logger.info(
            "working on %s in namespace %s (role %s, configuration %s, home %s)",
            ", ".join(w.task_queue for w in workers),
            client.namespace,
            role,
            settings.config,
            settings.home,
        )
        await stopping.wait()
        logger.info("stopping; running activities have %s", settings.graceful_shutdown)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; exits 0 after a stop that was asked for, 1 for a failure, 2 for bad settings."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--role", type=Role, choices=list(Role), default=Role.ALL)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(run(options.role, WorkerSettings()))
    except (ConfigurationError, ValidationError) as error:
        print(error, file=sys.stderr)
        return 2
    except (MissingSearchAttributesError, RuntimeError) as error:
        print(f"the worker cannot work: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stderr.flush()
    # Threads of the Temporal client can abort an interpreter that shuts down before Python 3.14
    # (github.com/temporalio/sdk-python/issues/300); the exit status must stay what it is.
    os._exit(status)
