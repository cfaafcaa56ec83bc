"""The counter: what the service is for. Each bump takes a lease.

Passes every gate, and yet goes bad in service: leases are never given back.
"""

from __future__ import annotations

import threading

VERSION = "1.2.0"


class CounterError(Exception):
    """A bump that was refused; the message is the reason."""


class Counter:
    """Counts up, from any thread."""

    def __init__(self) -> None:
        self.healthy = True
        self._lock = threading.Lock()
        self._state = {"count": 0, "leases": 20}

    def bump(self) -> int:
        """Count one up."""
        with self._lock:
            if self._state["leases"] == 0:
                self.healthy = False
                raise CounterError("no_lease")
            self._state["leases"] -= 1
            self._state["count"] += 1
            return self._state["count"]

    def value(self) -> int:
        """The count so far."""
        with self._lock:
            return self._state["count"]
