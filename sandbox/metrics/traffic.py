"""Requests of users: a bounded rate, split between stable and canary as the router would."""

import asyncio
import contextlib
import inspect
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self

import httpx

Share = Callable[[], float | Awaitable[float]]

_REFRESH: Final = 0.25  # seconds between two questions for the share
_MOST_IN_FLIGHT: Final = 32


class TrafficGenerator:
    """Sends ``rate`` requests per second, as long as it is entered.

    ``fronts`` holds the base URL of ``stable`` and, if there is one, of ``canary``; ``canary_share`` answers
    the canary's share of the requests (0 to 1), which is met exactly, not by chance. ``results`` counts the
    answers by track and status; status 0 is no answer. ``rate`` may be changed at any time; 0 pauses.
    """

    def __init__(
        self, fronts: Mapping[str, str], canary_share: Share, rate: float, *, path: str = "/bump"
    ) -> None:
        if "stable" not in fronts:
            raise ValueError(f"fronts name {sorted(fronts)}: add 'stable' with its base URL")
        self.rate = rate
        self.results: Counter[tuple[str, int]] = Counter()
        self._fronts = dict(fronts)
        self._canary_share = canary_share
        self._path = path
        self._owed = 0.0  # what the canary has not got yet
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending

    def errors(self, track: str) -> int:
        """Requests of a track that got no answer or one of 500 and above."""
        return sum(
            n for (t, status), n in self.results.items() if t == track and (status == 0 or status >= 500)
        )

    async def _send(self) -> None:
        refreshed, share = -_REFRESH, 0.0
        in_flight: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(timeout=5) as http:
            try:
                while True:
                    start = time.monotonic()
                    if start - refreshed >= _REFRESH:
                        refreshed, share = start, await self._share()
                    # A service that hangs must not collect requests without end.
                    if self.rate > 0 and len(in_flight) < _MOST_IN_FLIGHT:
                        request = asyncio.create_task(self._request(http, self._choose(share)))
                        in_flight.add(request)
                        request.add_done_callback(in_flight.discard)
                    pause = 1 / self.rate if self.rate > 0 else _REFRESH
                    await asyncio.sleep(max(0.0, start + pause - time.monotonic()))
            finally:
                for request in in_flight:
                    request.cancel()
                await asyncio.gather(*in_flight, return_exceptions=True)

    async def _share(self) -> float:
        answer = self._canary_share()
        share = await answer if inspect.isawaitable(answer) else answer
        return min(1.0, max(0.0, share)) if "canary" in self._fronts else 0.0

    def _choose(self, share: float) -> str:
        self._owed = self._owed + share if share > 0 else 0.0
        if self._owed < 1 - 1e-9:
            return "stable"
        self._owed -= 1
        return "canary"

    async def _request(self, http: httpx.AsyncClient, track: str) -> None:
        status = 0
        with contextlib.suppress(httpx.HTTPError):
            status = (await http.get(self._fronts[track] + self._path)).status_code
        self.results[track, status] += 1
