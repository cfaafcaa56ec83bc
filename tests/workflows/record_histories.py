"""Records the histories that `test_replay` replays: ``python -m tests.workflows.record_histories SHOP``.

Each shop is what workflows could do at one time. Record one anew only together with a change that may break
running deployments, and keep the old ones as long as such deployments may still run: a new shop is better.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from domain.validation import ValidationStatus
from sandbox.temporal import TemporalServer
from tests.starters.world import connect, workers
from tests.workflows.conftest import Shop

HISTORIES = Path(__file__).parent / "histories"
BOARD = {"actor": "ada@example.com", "reason": "on purpose"}


async def _stories(shop: Shop) -> None:
    """One deployment of each kind, so that every workflow type takes each of its ways."""
    await shop.deployed("1.0.0")
    held = shop.hold("canary 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.weight == 10)
    await handle.signal("pause", BOARD)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.paused)
    await handle.signal("resume", BOARD)
    await handle.signal("promote", BOARD)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.weight == 50)
    shop.world.monitoring.held.discard(held)
    await shop.ended(handle)
    shop.fails("canary 1.2.0", "error_rate is 20%, limit 5%")
    await shop.deployed("1.2.0")
    shop.hold("monitoring of 1.3.0")
    handle = await shop.start("1.3.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.state == "Monitoring")
    waiting = await shop.start("1.4.0")
    await shop.until(waiting, lambda s: s.queue_position == 1)
    await handle.signal("abort", BOARD)
    await shop.ended(handle)
    await shop.until(waiting, lambda s: s.approval is not None)
    await waiting.signal("reject", {"actor": "stranger@example.com"})
    await waiting.signal("reject", {"actor": "bob@example.com", "comment": "no"})
    await shop.ended(waiting)
    cancelled = await shop.start("1.5.0")
    await shop.until(cancelled, lambda s: s.approval is not None)
    await cancelled.cancel()
    await shop.ended(cancelled)
    await shop.client.execute_workflow(
        "RollbackWorkflow",
        {
            "application": shop.name,
            "environment": "production",
            "from_version": "1.1.0",
            **BOARD,
        },
        id=f"rollback:{shop.name}:production:1.1.0",
        task_queue="deployments",
    )


async def _progressive(shop: Shop) -> None:
    """Guarded pauses, alerts, flags, hooks, a gradual roll-back."""
    flag = {"flag": "new-cart", "steps": [25, 100], "step_duration": "1s", "analysis_interval": "1s"}
    hook = {"name": "migrate", "command": ["bin/migrate"]}
    gradual = {
        "strategy": "gradual",
        "steps": [50, 100],
        "step_duration": "1s",
        "before": [hook],
        "after": [hook],
    }
    shop.configured(feature_flags=[flag], rollback=gradual)
    await shop.deployed("1.0.0")
    held = shop.hold("canary 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.weight == 10)
    await handle.signal("pause", BOARD)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.paused)
    await handle.signal("resume", BOARD)
    await shop.until(handle, lambda s: s.canary is not None and not s.canary.paused)
    shop.world.monitoring.held.discard(held)
    shop.fails("monitoring of 1.1.0", "error_rate is 20%, limit 5%")
    await shop.ended(handle)
    shop.hold("canary 1.2.0")
    handle = await shop.start("1.2.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.weight == 10)
    await handle.signal("alert", {"name": "HighErrorRate", "severity": "critical"})
    await shop.ended(handle)


async def _validations(shop: Shop) -> None:
    """One that passes, one that fails, one that a newer commit ends, one that is cancelled."""

    async def start(
        commit: str, kind: str = "pull_request", **request: Any
    ) -> WorkflowHandle[object, object]:
        body = {"application": shop.name, "commit": commit * 40, "kind": kind, "actor": "dev@example.com"}
        return await shop.client.start_workflow(
            "ValidationWorkflow",
            {**body, **request},
            id=f"validation:{shop.name}:{commit * 40}:{kind}",
            task_queue="deployments",
        )

    async def tested(handle: WorkflowHandle[object, object]) -> None:
        while not (await handle.query("status", result_type=ValidationStatus)).gates:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    await (await start("a", "ci")).result()
    shop.world.builds.measured[shop.name] = {"coverage": 71.5}
    await (await start("b", "nightly", project="acme/shop")).result()
    shop.world.builds.held.add(shop.name)
    about: dict[str, Any] = {"project": "acme/shop", "pull_request": 7, "ref": "feature/cart"}
    older = await start("c", **about)
    await tested(older)
    newer = await start("d", **about)
    await older.result()
    await tested(newer)
    await newer.cancel()
    await newer.result()
    shop.world.builds.held.clear()


async def _updates(shop: Shop) -> None:
    """A night; updates that are proposed, fail, are cancelled and find nothing to update."""
    updates = {"command": ["make", "update"], "paths": ["rebar.lock"]}
    shop.world.plans.changes[shop.name] = {"applications": {shop.name: {"dependencies": updates}}}

    async def fire(rule: str, cron: str, night: int) -> WorkflowHandle[object, object]:
        return await shop.client.start_workflow(
            "ScheduledEventWorkflow",
            {"application": shop.name, "rule": rule, "cron": cron},
            id=f"schedule:{shop.name}:{rule}-{night}",
            task_queue="deployments",
        )

    async def update() -> WorkflowHandle[object, object]:
        return await shop.client.start_workflow(
            "DependencyUpdateWorkflow",
            {"application": shop.name, "actor": "dev@example.com"},
            id=f"dependency-update:{shop.name}",
            task_queue="deployments",
        )

    await (await fire("nightly_builds", "0 2 * * *", 1)).result()
    await (await fire("nightly_builds", "0 3 * * *", 2)).result()
    await (await fire("dependency_updates", "0 6 * * 1", 1)).result()
    shop.world.updates.broken.add(shop.name)
    await (await update()).result()
    shop.world.updates.broken.clear()
    shop.world.updates.held.add(shop.name)
    cancelled = await fire("dependency_updates", "0 6 * * 1", 2)
    held = shop.client.get_workflow_handle(f"dependency-update:{shop.name}")
    while (await held.query("status"))["state"] != "Building":  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await cancelled.cancel()
    await cancelled.result()
    await held.result()
    shop.world.updates.held.clear()
    shop.world.updates.current.add(shop.name)
    await (await update()).result()


SHOPS: dict[str, Callable[[Shop], Awaitable[None]]] = {
    "shop": _stories,
    "store": _progressive,
    "checks": _validations,
    "updates": _updates,
}


async def record(name: str) -> int:
    """Run the stories of one shop and write one file for each workflow; answers how many."""
    HISTORIES.mkdir(exist_ok=True)
    runs: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        async with TemporalServer.start(home / "temporal", ui=False) as server:
            client = await connect(server.address)
            async with workers(client, home) as world:
                await SHOPS[name](Shop(name, client, world, home))
            async for execution in client.list_workflows():
                handle: WorkflowHandle[object, object] = client.get_workflow_handle(
                    execution.id, run_id=execution.run_id
                )
                runs[execution.id] += 1
                run = f"_run_{runs[execution.id]}" if runs[execution.id] > 1 else ""
                file = execution.id.replace(":", "_") + run
                content = (await handle.fetch_history()).to_json().encode()
                (HISTORIES / f"{file}.json.gz").write_bytes(gzip.compress(content, mtime=0))
    return runs.total()


if __name__ == "__main__":
    for shop_name in sys.argv[1:]:
        print(f"{shop_name}: {asyncio.run(record(shop_name))} histories in {HISTORIES}", file=sys.stderr)
