"""A hot upgrade beside a restart: how long users wait for an answer."""

from __future__ import annotations

from pathlib import Path

from sandbox.bench.measurement import Measurement
from sandbox.otp import Workshop, measure_outages


async def measure_hot_upgrade(data_dir: Path) -> list[Measurement]:
    """The longest time without a good answer while a node under load goes from 1.0.0 to 1.1.0."""
    outages = await measure_outages(data_dir, await Workshop(data_dir).build_all())
    hot, restart = outages["hot upgrade"], outages["restart"]
    return [
        Measurement(
            f"hot upgrade: longest gap ({hot.failed} failed requests)",
            hot.gap,
            f"restart: longest gap ({restart.failed} failed requests)",
            restart.gap,
        )
    ]
