"""Metrics of the sandbox: a Prometheus that scrapes the deployed services, and the traffic they measure.

The real Prometheus is used where it is installed (Debian: ``apt-get install prometheus``), else a stand-in
that scrapes the same targets and answers instant and range queries of a subset of PromQL.
"""

import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox.metrics.embedded import serve_embedded
from sandbox.metrics.prometheus import run_prometheus
from sandbox.metrics.restarts import export_restarts
from sandbox.metrics.target import MetricsTarget
from sandbox.metrics.traffic import TrafficGenerator

__all__ = ["MetricsServer", "MetricsTarget", "TrafficGenerator", "start_metrics"]

Engine = Literal["prometheus", "embedded"]


@dataclass(frozen=True)
class MetricsServer:
    """A running server: the base URL of its HTTP API, without a slash at the end, and what serves it."""

    url: str
    engine: Engine


@contextlib.asynccontextmanager
async def start_metrics(
    targets: Sequence[MetricsTarget],
    data_dir: Path,
    *,
    engine: Engine | None = None,
    kubeconfig: Path | None = None,
) -> AsyncIterator[MetricsServer]:
    """Scrape ``targets`` every second and answer ``/api/v1/query`` and ``/api/v1/query_range``.

    ``engine`` None takes the real Prometheus if it is on PATH. With ``kubeconfig`` the container restarts of
    that cluster are scraped as well. Raises ``ProcessFailedError`` when the server does not start.
    """
    chosen: Engine = engine or ("prometheus" if shutil.which("prometheus") else "embedded")
    async with contextlib.AsyncExitStack() as stack:
        scraped = list(targets)
        if kubeconfig is not None:
            scraped.append(await stack.enter_async_context(export_restarts(kubeconfig)))
        serving = run_prometheus(scraped, data_dir) if chosen == "prometheus" else serve_embedded(scraped)
        yield MetricsServer(await stack.enter_async_context(serving), chosen)
