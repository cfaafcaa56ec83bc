"""The counter: what the service is for. The state carries the number of its schema."""

from __future__ import annotations

import threading

VERSION = "1.3.0"


class CounterError(Exception):
    """A bump that was refused; the message is the reason."""


class Counter:
    """Counts up, from any thread."""

    def __init__(self) -> None:
        self.healthy = True
        self._lock = threading.Lock()
        self._state = {"count": 0, "schema": 2}

    def bump(self) -> int:
        """Count one up."""
        with self._lock:
            self._state["count"] += 1
            return self._state["count"]

    def value(self) -> int:
        """The count so far."""
        with self._lock:
            return self._state["count"]
