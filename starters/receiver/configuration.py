"""deployment.yaml as the receiver has it: read again when it changes, and never replaced by a broken one."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from activities.configuration import ConfigurationError, load_configuration
from domain.configuration import Configuration

logger = logging.getLogger(__name__)

LOOK_INTERVAL = 5.0
"""Seconds between two looks at the file while no request looks at it."""


class ConfigurationFile:
    """The last configuration that could be used. Called, it is that configuration.

    An edit with a mistake in it must not take the receiver away from those who call it: it is told in the
    log, the metrics and ``/readyz``, and the configuration before it goes on to count.

    Raises:
        ConfigurationError: the file cannot be used now; nothing came before it.

    Attributes:
        problem: why the file, as it is now, is not the one that counts; none if it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._fingerprint()
        self._last = load_configuration(path)
        self._reading = asyncio.Lock()
        self.problem: str | None = None

    def __call__(self) -> Configuration:
        return self._last

    async def refresh(self) -> Configuration:
        """Read the file if it changed."""
        async with self._reading:
            found = self._fingerprint()
            if found == self._seen:
                return self._last
            self._seen = found
            try:
                self._last = await asyncio.to_thread(load_configuration, self._path)
            except ConfigurationError as error:
                self.problem = f"{self._path.name} has {len(error.problems)} mistake(s)"
                logger.error("%s\nthe configuration from before goes on to count", error)
            else:
                self.problem = None
                logger.info("%s was read again", self._path)
            return self._last

    async def follow(self) -> None:
        """Refresh from time to time, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            await self.refresh()

    def _fingerprint(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
