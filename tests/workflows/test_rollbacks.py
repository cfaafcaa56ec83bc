"""The ways back: immediate, gradual, with hooks and flags (blue/green and hot upgrades need clusters)."""

from __future__ import annotations

from typing import Any

import pytest

from domain.deployment import DeploymentStatus
from domain.rollback import RollbackStatus
from tests.workflows.conftest import Shop

GRADUAL = {"rollback": {"strategy": "gradual", "steps": [50, 100], "step_duration": "1s"}}
BREACH = "error_rate is 9%, limit 5%"


async def failed_in_monitoring(shop: Shop) -> DeploymentStatus:
    """1.0.0 is good; 1.1.0 gets through its canary and fails under observation."""
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.fails("monitoring of 1.1.0", BREACH)
    return await shop.deployed("1.1.0")


async def rolled_back(shop: Shop) -> RollbackStatus:
    status: RollbackStatus = await shop.child("rollback", "1.1.0").query("status", result_type=RollbackStatus)
    return status


async def test_a_gradual_rollback_gives_the_traffic_back_step_by_step(shop: Shop) -> None:
    # Given an environment that rolls back gradually
    shop.configured(**GRADUAL)
    # When 1.1.0 fails
    ended = await failed_in_monitoring(shop)
    # Then 1.0.0 came back as a canary of its own, with the roll-back's weights
    assert ended.rollback is not None
    assert ended.rollback.succeeded
    back = await rolled_back(shop)
    assert back.canary is not None
    assert [step.weight for step in back.canary.steps] == [50, 100]
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"


async def test_where_the_steps_fail_the_earlier_version_is_restored_at_once(shop: Shop) -> None:
    shop.configured(**GRADUAL)
    shop.fails("return of 1.0.0", "3 consecutive health checks failed")
    ended = await failed_in_monitoring(shop)
    # Then the same attempt went on at once
    assert ended.rollback is not None
    assert ended.rollback.succeeded
    assert (await rolled_back(shop)).attempt == 1
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"


@pytest.mark.parametrize(
    ("on_failure", "failures", "succeeds", "runs"),
    [
        ("block", 0, True, ["before", "after"]),
        ("block", 1, True, ["before", "before", "after"]),  # the next attempt runs it again
        ("block", 9, False, ["before", "before"]),
        ("warn", 9, True, ["before", "after"]),
    ],
)
async def test_hooks_run_around_a_rollback(
    shop: Shop, on_failure: str, failures: int, succeeds: bool, runs: list[str]
) -> None:
    # Given migrations before and after a roll-back
    def hook(name: str) -> list[dict[str, Any]]:
        return [{"name": f"{shop.name}-{name}", "command": ["bin/migrate", name], "on_failure": on_failure}]

    shop.configured(rollback={"before": hook("before"), "after": hook("after"), "max_attempts": 2})
    shop.world.hooks.failing[f"{shop.name}-before"] = failures
    # When a version is rolled back
    ended = await failed_in_monitoring(shop)
    # Then they ran in order, were told from where to where, and a failing one that blocks is tried again
    ours = [run for run in shop.world.hooks.runs if run.hook.name.startswith(f"{shop.name}-")]
    assert [run.hook.name.removeprefix(f"{shop.name}-") for run in ours] == runs
    assert {(r.variables["FROM_VERSION"], r.variables["TO_VERSION"]) for r in ours} == {("1.1.0", "1.0.0")}
    assert len({run.key for run in ours}) == len(ours)
    assert ended.rollback is not None
    assert ended.rollback.succeeded is succeeds


async def test_flags_are_opened_step_by_step_and_killed_before_anything_is_restored(shop: Shop) -> None:
    # Given a flag that is rolled out with the version
    flag = {"flag": "new-cart", "steps": [25, 100], "step_duration": "1s", "analysis_interval": "1s"}
    shop.configured(feature_flags=[flag])
    ended = await failed_in_monitoring(shop)
    # Then it was opened in its steps for both versions, and was off after the roll-back
    namespace = f"{shop.name}-production"
    assert [s for ns, _, s in shop.world.flags.history if ns == namespace] == [25, 100, 25, 100, 0]
    assert ended.rollback is not None
    assert ended.rollback.succeeded


async def test_a_hook_that_cannot_be_run_is_a_failed_one(shop: Shop) -> None:
    # Given a hook without which a roll-back may go on, and which cannot even be begun
    name = f"{shop.name}-notify"
    shop.configured(rollback={"before": [{"name": name, "command": ["bin/notify"], "on_failure": "warn"}]})
    shop.world.hooks.broken.add(name)
    ended = await failed_in_monitoring(shop)
    # Then it is noted, and holds nothing up
    assert ended.rollback is not None
    assert ended.rollback.succeeded
    noted = [e for e in shop.audit(ended.deployment_id) if e.event_type == "rollback.hook"]
    assert [(e.status, e.reason) for e in noted] == [
        ("failed", "no access to a Kubernetes cluster is configured")
    ]
