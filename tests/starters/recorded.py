"""Recorded metrics: hours of scrapes as a real Prometheus has them on its disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

_SCRAPE = timedelta(seconds=15)
HOURS = 3

Rate = Callable[[float], float]
"""What happens in each second, by the minutes since the beginning."""


def require_promtool() -> str:
    """The program that writes Prometheus' blocks; the test is skipped where it is missing."""
    found = shutil.which("promtool")
    if found is None:
        reason = "promtool not on PATH: apt-get install --no-install-recommends prometheus"
        if os.environ.get("CI_FORBID_SKIPS") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def beginning() -> datetime:
    """A whole hour that has been over for long enough, and is not yet forgotten."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS + 2)


def broken_canary(minute: float) -> float:
    """Failed requests a second: for a quarter of an hour ever more, up to a sixth of all."""
    return min(1.0, (minute - 140) / 5) if 140 <= minute < 155 else 0.0


def write_blocks(directory: Path, start: datetime) -> None:
    """What was scraped of two tracks of a shop in production."""
    lines: list[str] = []
    traffic = (("stable", _always(50), _always(0.2)), ("canary", _always(5), broken_canary))
    for track, successes, failures in traffic:
        labels = f'namespace="shop-production",track="{track}"'
        lines += _counter("requests", f'{labels},status="200"', start, successes)
        lines += _counter("requests", f'{labels},status="500"', start, failures)
        for edge in ("0.5", "10", "30", "+Inf"):
            lines += _counter("duration_bucket", f'{labels},le="{edge}"', start, _always(5))
    lines += _gauge("queue_depth", 'track="canary"', start, _depth)
    text = directory / "scraped.txt"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    subprocess.run(
        [require_promtool(), "tsdb", "create-blocks-from", "openmetrics", text, directory / "tsdb"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _always(rate: float) -> Rate:
    return lambda minute: rate


def _depth(minute: float) -> str | None:
    """12 at first; nothing from the hour on; NaN for ten minutes; then it would be divided by zero."""
    if minute < 60:
        return "12"
    if minute < 90:
        return None
    return "NaN" if minute < 100 else "+Inf"


def _moments(start: datetime) -> Iterator[tuple[float, float]]:
    for number in range(int(timedelta(hours=HOURS) / _SCRAPE) + 1):
        yield (_SCRAPE * number).total_seconds() / 60, (start + _SCRAPE * number).timestamp()


def _counter(name: str, labels: str, start: datetime, rate: Rate) -> Iterator[str]:
    total = 0.0
    for minute, at in _moments(start):
        yield f"shop_{name}_total{{{labels}}} {total:.3f} {at:.3f}"
        total += rate(minute) * _SCRAPE.total_seconds()


def _gauge(name: str, labels: str, start: datetime, value: Callable[[float], str | None]) -> Iterator[str]:
    for minute, at in _moments(start):
        written = value(minute)
        if written is not None:
            yield f"shop_{name}{{{labels}}} {written} {at:.3f}"
