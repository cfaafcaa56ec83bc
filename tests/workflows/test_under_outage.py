"""Outages, pauses and terminations in the middle of a canary or a roll-back: what fails is still left."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle

from domain.deployment import DeploymentStatus
from domain.rollback import RollbackStatus
from domain.workload import (
    RolloutResult,
    RolloutWatch,
    Track,
    WeightChange,
    WeightReading,
    WorkloadObservation,
    WorkloadTarget,
)
from tests.starters import world as outside
from tests.starters.world import World
from tests.workflows.conftest import Shop

ONCALL = {"actor": "oncall@example.com", "reason": "let me look"}
SLOW = "p95 is 900 ms, limit 500 ms"


class SlowCluster(outside.Cluster):
    """What is in `held` takes until it is let go; `begun` says what has got there."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[tuple[str, str]] = set()
        self.begun: set[tuple[str, str]] = set()

    async def _take_time(self, namespace: str, what: str) -> None:
        self.begun.add((namespace, what))
        while (namespace, what) in self.held:
            activity.heartbeat()
            await asyncio.sleep(0.05)

    @activity.defn
    async def observe_workload(self, target: WorkloadTarget) -> WorkloadObservation:
        await self._take_time(target.namespace, "observe")
        return await super().observe_workload(target)

    @activity.defn
    async def watch_rollout(self, watch: RolloutWatch) -> RolloutResult:
        await self._take_time(watch.target.namespace, f"roll out {watch.track}")
        return await super().watch_rollout(watch)

    @activity.defn
    async def set_weight(self, change: WeightChange) -> WeightReading:
        await self._take_time(change.target.namespace, f"weight {change.weight}")
        return await super().set_weight(change)


@pytest.fixture(scope="module")
async def world(client: Client, home: Path) -> AsyncIterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outside, "Cluster", SlowCluster)
        async with outside.workers(client, home) as running:
            yield running


def slow(shop: Shop) -> SlowCluster:
    return cast("SlowCluster", shop.world.cluster)


def namespace(shop: Shop) -> str:
    return f"{shop.name}-production"


def live(shop: Shop, track: Track = Track.STABLE) -> str | None:
    return shop.world.cluster.version(namespace(shop), track)


async def lives(shop: Shop, version: str) -> None:
    async with asyncio.timeout(30):
        while live(shop) != version:  # noqa: ASYNC110 - the cluster tells nobody
            await asyncio.sleep(0.02)


async def upgrading(shop: Shop) -> WorkflowHandle[Any, DeploymentStatus]:
    """1.0.0 is in production; 1.1.0 is approved."""
    assert (await shop.deployed("1.0.0")).state == "Completed"
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    return handle


async def monitored(shop: Shop) -> tuple[WorkflowHandle[Any, DeploymentStatus], str]:
    """1.1.0 serves after 1.0.0, and is watched until it is let go."""
    held = shop.hold("monitoring of 1.1.0")
    handle = await upgrading(shop)
    await shop.until(handle, lambda s: "of stable running" in (s.waiting_for or ""))
    return handle, held


async def upgrading_until(shop: Shop, moment: str) -> WorkflowHandle[Any, DeploymentStatus]:
    """1.1.0 comes after 1.0.0, and is held by the cluster at this moment of it."""
    assert (await shop.deployed("1.0.0")).state == "Completed"
    handle = await shop.start("1.1.0")
    await shop.until(handle, lambda s: s.approval is not None)
    here, cluster = (namespace(shop), moment), slow(shop)
    cluster.begun.clear()
    cluster.held.add(here)
    await shop.approve(handle)
    await shop.until(handle, lambda _: here in cluster.begun)
    return handle


async def roll_back(shop: Shop, version: str, **more: str) -> RollbackStatus:
    """As a person does, by the workflow itself."""
    wanted = {"application": shop.name, "environment": "production", "from_version": version}
    status: RollbackStatus = await shop.client.execute_workflow(
        "RollbackWorkflow",
        {**wanted, **ONCALL, **more},
        id=f"rollback:{shop.name}:production:{version}",
        task_queue="deployments",
        result_type=RollbackStatus,
    )
    return status


async def activities_in(handle: WorkflowHandle[Any, Any]) -> list[str]:
    history = (await handle.fetch_history()).events
    return [event.activity_task_scheduled_event_attributes.activity_type.name for event in history]


@asynccontextmanager
async def audit_outage(shop: Shop) -> AsyncIterator[None]:
    """Nothing can be stored meanwhile."""
    database = sqlite3.connect(
        shop.home / "audit.db", isolation_level=None, timeout=60, check_same_thread=False
    )
    try:
        # Not in this thread: the worker, which may be in the middle of a write, needs it to finish that.
        await asyncio.to_thread(database.execute, "BEGIN EXCLUSIVE")
        yield
    finally:
        database.close()


# Pauses


async def test_who_promotes_a_paused_deployment_lets_it_go_on_to_the_end(shop: Shop) -> None:
    # Given a deployment that was paused in the first step of its canary
    canary, monitoring = shop.hold("canary 1.1.0"), shop.hold("monitoring of 1.1.0")
    handle = await upgrading(shop)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.weight == 10)
    await handle.signal("pause", ONCALL)
    await shop.until(handle, lambda s: s.paused and s.canary is not None and s.canary.paused)
    # When somebody promotes it
    await handle.signal("promote", ONCALL)
    shop.world.monitoring.held.discard(canary)
    # Then the pause is over for all of it
    status = await shop.until(handle, lambda s: s.state == "Monitoring")
    assert not status.paused
    assert status.canary is not None
    assert not status.canary.paused
    shop.world.monitoring.held.discard(monitoring)
    ended = await shop.ended(handle)
    assert ended.state == "Completed"
    assert live(shop) == "1.1.0"


@pytest.mark.parametrize(
    ("moment", "watched", "reason"),
    [
        ("observe", "canary 1.1.0", f"canary at 0%, paused: {SLOW}"),
        ("roll out canary", "canary 1.1.0", f"canary at 0%, paused: {SLOW}"),
        ("weight 50", "canary 1.1.0", f"canary at 50%, paused: {SLOW}"),
        ("roll out stable", "monitoring of 1.1.0", f"paused: {SLOW}"),
    ],
)
async def test_what_serves_is_guarded_wherever_a_pause_meets_it(
    shop: Shop, moment: str, watched: str, reason: str
) -> None:
    # Given a pause just before the canary starts, while it starts, between its steps, or in its promotion
    handle = await upgrading_until(shop, moment)
    await handle.signal("pause", ONCALL)
    await shop.until(handle, lambda s: s.paused)
    slow(shop).held.clear()
    # When what serves is not well
    shop.fails(watched, SLOW)
    ended = await shop.ended(handle)
    # Then it is left, although nobody has resumed it
    assert (ended.state, ended.reason) == ("Failed", reason)
    assert (live(shop), live(shop, Track.CANARY)) == ("1.0.0", None)


# The audit trail is down


@pytest.mark.parametrize(
    ("cause", "reason"), [("degraded", SLOW), ("abort", "aborted by oncall@example.com")]
)
async def test_an_audit_outage_does_not_delay_a_rollback(shop: Shop, cause: str, reason: str) -> None:
    # Given 1.1.0, which is watched, and an audit trail that takes nothing
    handle, _ = await monitored(shop)
    async with audit_outage(shop):
        # When it degrades, or somebody aborts it
        if cause == "degraded":
            shop.fails("monitoring of 1.1.0", SLOW)
        else:
            await handle.signal("abort", ONCALL)
        # Then 1.0.0 is live while the outage lasts
        await lives(shop, "1.0.0")
    # And the end says why, and nothing of the trail is missing
    ended = await shop.ended(handle)
    assert ended.rollback is not None
    assert ended.rollback.succeeded
    assert (ended.reason or "").startswith(reason)
    assert "could not be stored" not in (ended.reason or "")
    states = [e.details.get("to_state") for e in shop.audit(handle.id) if "to_state" in e.details]
    assert states[-3:] == ["Monitoring", "RollingBack", "Failed"]


async def test_an_abort_is_obeyed_although_the_audit_trail_refuses_it_for_good(shop: Shop) -> None:
    handle, _ = await monitored(shop)
    await shop.tamper_with_audit(handle.id)
    await handle.signal("abort", ONCALL)
    ended = await shop.ended(handle)
    assert live(shop) == "1.0.0"
    assert (ended.reason or "").startswith("aborted by oncall@example.com")
    assert "could not be stored" in (ended.reason or "")


async def test_an_audit_outage_does_not_delay_the_rollback_of_a_canary_being_promoted(shop: Shop) -> None:
    # Given a canary that is just becoming the stable version, and an audit trail that takes nothing
    handle = await upgrading_until(shop, "roll out stable")
    assert live(shop) == "1.1.0"
    async with audit_outage(shop):
        # When it is aborted
        await handle.signal("abort", ONCALL)
        # Then 1.0.0 is stable again while the outage lasts
        await lives(shop, "1.0.0")
        slow(shop).held.clear()
    ended = await shop.ended(handle)
    assert (ended.state, ended.reason) == ("Failed", "aborted by oncall@example.com: let me look")
    assert ended.canary is not None
    assert (ended.canary.phase, ended.canary.weight) == ("Aborted", 0)
    assert ended.rollback is not None
    assert ended.rollback.succeeded


# Roll-backs


async def test_a_failing_hook_after_a_rollback_restores_nothing_again(shop: Shop) -> None:
    # Given a hook after roll-backs that never succeeds
    hook = {"name": f"{shop.name}-warm", "command": ["bin/warm"]}
    shop.configured(rollback={"after": [hook], "max_attempts": 2})
    shop.world.hooks.failing[f"{shop.name}-warm"] = 9
    assert (await shop.deployed("1.0.0")).state == "Completed"
    # When 1.1.0 is rolled back
    shop.fails("monitoring of 1.1.0", SLOW)
    ended = await shop.deployed("1.1.0")
    # Then 1.0.0 was restored once, and only the hook was run again
    done = await activities_in(shop.child("rollback", "1.1.0"))
    assert (done.count("restore_workload"), done.count("run_hook")) == (1, 2)
    # And the end says what is wrong, while everybody knows what is live
    assert ended.rollback is not None
    assert f"hook {shop.name}-warm failed: exit status 1" in ended.rollback.reason
    assert live(shop) == "1.0.0"
    record = await shop.environment()
    assert record.current_version == record.last_good_version == "1.0.0"
    assert list(record.held_versions) == ["1.1.0"]


@pytest.mark.parametrize("comes", ["1.2.0", "1.1.0"])
async def test_a_rollback_that_outlives_its_deployment_keeps_the_environment(shop: Shop, comes: str) -> None:
    # Given a deployment that was terminated while it was rolled back
    handle, _ = await monitored(shop)
    held, back = shop.hold("verification of 1.0.0"), shop.child("rollback", "1.1.0")
    await handle.signal("abort", ONCALL)
    await lives(shop, "1.0.0")
    await handle.terminate("somebody pulled the plug")
    # When another one comes, or the same again
    status = await shop.until(await shop.start(comes), lambda s: s.queue_position == 1)
    # Then it waits, until the roll-back has ended and the environment looks after it
    assert status.waiting_for == "its turn in production, after 1.1.0"
    shop.world.monitoring.held.discard(held)
    await back.result()
    ended = await shop.deployed("1.3.0")
    assert (ended.state, ended.previous_version) == ("Completed", "1.0.0")


async def test_a_person_rolls_back_what_a_terminated_deployment_left(shop: Shop) -> None:
    # Given 1.1.0, whose deployment is gone without a word
    handle, _ = await monitored(shop)
    await handle.terminate("somebody pulled the plug")
    # When a person rolls it back, then nobody is waited for
    assert (await roll_back(shop, "1.1.0")).outcome == "1.0.0 is live again"
    assert live(shop) == "1.0.0"


async def test_a_version_still_being_deployed_goes_back_to_what_it_found_only(shop: Shop) -> None:
    # Given 1.1.0, which is watched after 0.9.0 and 1.0.0
    assert (await shop.deployed("0.9.0")).state == "Completed"
    handle, held = await monitored(shop)
    # When somebody wants it rolled back to 0.9.0
    refused = await roll_back(shop, "1.1.0", to_version="0.9.0")
    # Then that is refused and says what to do instead
    assert refused.state == "Failed"
    assert "1.1.0 is still being deployed" in (refused.outcome or "")
    assert f"abort {handle.id}" in (refused.outcome or "")
    # And the deployment goes on, with nobody in the queue
    assert (await shop.status(handle)).state == "Monitoring"
    shop.world.monitoring.held.discard(held)
    assert (await shop.ended(handle)).state == "Completed"
    record = await shop.environment()
    assert (record.current_version, record.holder, record.queue) == ("1.1.0", None, ())
