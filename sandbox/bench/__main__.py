"""``python -m sandbox.bench``: runs all benchmarks and prints one table."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sandbox.bench.abort import measure_abort
from sandbox.bench.engine import measure_engine
from sandbox.bench.hot_upgrade import measure_hot_upgrade
from sandbox.bench.measurement import Measurement
from sandbox.world import erlang_is_installed


async def _all() -> list[Measurement]:
    found = list(measure_engine())
    with tempfile.TemporaryDirectory(prefix="erlmcp-deploy-bench-") as directory:
        found += await measure_abort(Path(directory) / "abort")
        if erlang_is_installed():
            found += await measure_hot_upgrade(Path(directory) / "otp")
    return found


def main() -> None:
    table = Table(title="erlmcp-deploy bench (compare the ratios, not the seconds)", title_justify="left")
    for column in ("what", "took", "beside", "took", "ratio"):
        table.add_column(column, justify="right" if column in ("took", "ratio") else "left")
    for found in asyncio.run(_all()):
        table.add_row(
            found.what,
            f"{found.seconds:.3g} s",
            found.beside,
            f"{found.beside_seconds:.3g} s",
            f"{found.seconds / found.beside_seconds:.3g}",
        )
    Console().print(table)


main()
