"""The users of the service as numbers: what they get now, and what they got altogether."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass

from sandbox.metrics import TrafficGenerator

_WINDOW_SECONDS = 4.0
TRACKS = ("stable", "canary")


@dataclass(frozen=True)
class Counted:
    """Requests of one track, and how many of them got no answer or one of 500 and above."""

    requests: int = 0
    failed: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.requests + other.requests, self.failed + other.failed)

    def __sub__(self, earlier: Counted) -> Counted:
        return Counted(self.requests - earlier.requests, self.failed - earlier.failed)

    @property
    def error_rate(self) -> float | None:
        """In percent; none without a request."""
        return 100 * self.failed / self.requests if self.requests else None

    def __str__(self) -> str:
        return f"{self.requests} requests, {self.failed} failed" if self.requests else "no request"


@dataclass(frozen=True)
class Rate:
    """One track over the last seconds."""

    per_second: float
    error_rate: float | None


class TrafficMeter:
    """Reads the counters of a traffic generator. `sample` it about twice a second."""

    def __init__(self, traffic: TrafficGenerator) -> None:
        self._traffic = traffic
        self._samples: deque[tuple[float, dict[str, Counted]]] = deque()

    def totals(self) -> dict[str, Counted]:
        """Each track since the beginning."""
        requests: Counter[str] = Counter()
        for (track, _), number in self._traffic.results.items():
            requests[track] += number
        return {track: Counted(requests[track], self._traffic.errors(track)) for track in TRACKS}

    def sample(self) -> None:
        """Note the counters as they are now."""
        now = time.monotonic()
        self._samples.append((now, self.totals()))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW_SECONDS:
            self._samples.popleft()

    def rate(self, track: str) -> Rate:
        """One track over the last seconds that were sampled."""
        if len(self._samples) < 2:
            return Rate(0.0, None)
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        counted = after[track] - before[track]
        return Rate(counted.requests / (end - begin), counted.error_rate)
