"""Request metrics in Prometheus text format, counted by status and by the version that served."""

from __future__ import annotations

import threading

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, float("inf"))


class Metrics:
    """The series of one process, which runs one version."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._lock = threading.Lock()
        # At zero from the first scrape on: without them the first requests would be lost to rate().
        self._requests = {200: 0, 500: 0}
        self._buckets = dict.fromkeys(_BUCKETS, 0)
        self._seconds = 0.0

    def observe(self, status: int, seconds: float) -> None:
        """Count one answered request."""
        with self._lock:
            self._requests[status] = self._requests.get(status, 0) + 1
            self._seconds += seconds
            for bound in _BUCKETS:
                if seconds <= bound:
                    self._buckets[bound] += 1

    def exposition(self) -> str:
        """All series as text."""
        label = f'version="{self._version}"'
        name = "erlsample_request_duration_seconds"
        with self._lock:
            lines = ["# HELP erlsample_requests_total Requests answered"]
            lines += ["# TYPE erlsample_requests_total counter"]
            lines += [
                f'erlsample_requests_total{{status="{status}",{label}}} {count}'
                for status, count in sorted(self._requests.items())
            ]
            lines += [f"# HELP {name} Time to answer a request", f"# TYPE {name} histogram"]
            lines += [
                f'{name}_bucket{{le="{_bound(bound)}",{label}}} {count}'
                for bound, count in self._buckets.items()
            ]
            lines += [f"{name}_sum{{{label}}} {self._seconds:.6f}"]
            lines += [f"{name}_count{{{label}}} {self._buckets[_BUCKETS[-1]]}"]
        return "\n".join(lines) + "\n"


def _bound(bound: float) -> str:
    return "+Inf" if bound == _BUCKETS[-1] else f"{bound:g}"
