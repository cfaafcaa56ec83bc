"""The counter: what the service is for. The state is a number."""

from __future__ import annotations

import threading

VERSION = "1.0.0"


class CounterError(Exception):
    """A bump that was refused; the message is the reason."""


class Counter:
    """Counts up, from any thread."""

    def __init__(self) -> None:
        self.healthy = True
        self._lock = threading.Lock()
        self._count = 0

    def bump(self) -> int:
        """Count one up."""
        with self._lock:
            self._count += 1
            return self._count

    def value(self) -> int:
        """The count so far."""
        with self._lock:
            return self._count
