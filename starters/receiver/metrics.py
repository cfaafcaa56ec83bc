"""What the receiver counts, for Prometheus. The registry is its own: nothing of the process leaks into it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 3.0, 5.0, 10.0)


class ReceiverMetrics:
    """Counters and histograms; labels have few values, whatever is sent."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "erlmcp_deploy_receiver_requests",
            "Requests, by endpoint and status.",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "erlmcp_deploy_receiver_request_seconds",
            "From the headers of a request to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._unverified = Counter(
            "erlmcp_deploy_receiver_signatures_refused",
            "Requests whose sender could not be verified.",
            ["endpoint"],
            registry=self._registry,
        )
        self._duplicates = Counter(
            "erlmcp_deploy_receiver_duplicates",
            "Requests that asked for what runs or was done already.",
            ["endpoint"],
            registry=self._registry,
        )
        self._started = Counter(
            "erlmcp_deploy_receiver_started",
            "Workflows that were started.",
            ["endpoint"],
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "erlmcp_deploy_receiver_in_flight", "Requests that are being handled.", registry=self._registry
        )
        self._temporal = Histogram(
            "erlmcp_deploy_receiver_temporal_seconds",
            "How long Temporal took for one request.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._unavailable = Counter(
            "erlmcp_deploy_receiver_temporal_unavailable",
            "Requests for which Temporal was down or too slow.",
            registry=self._registry,
        )
        self._configuration = Gauge(
            "erlmcp_deploy_receiver_configuration_current",
            "1 if deployment.yaml counts as it is now; 0 if it has mistakes and an earlier one counts.",
            registry=self._registry,
        )

    def answered(self, endpoint: str, status: int, outcome: str | None, seconds: float) -> None:
        """One request has its answer."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)
        if status == 401:
            self._unverified.labels(endpoint).inc()
        if outcome == "duplicate":
            self._duplicates.labels(endpoint).inc()

    def started(self, endpoint: str) -> Callable[[int], None]:
        """Counts what an endpoint starts."""
        counter = self._started.labels(endpoint)

        def count(runs: int) -> None:
            counter.inc(runs)

        return count

    def temporal_answered(self, seconds: float, available: bool) -> None:
        """One request was put to Temporal."""
        self._temporal.observe(seconds)
        if not available:
            self._unavailable.inc()

    def watch_configuration(self, current: Callable[[], bool]) -> None:
        """Where to ask whether deployment.yaml counts as it is."""
        self._configuration.set_function(lambda: float(current()))

    def exposition(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
