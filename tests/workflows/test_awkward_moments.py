"""When things meet: stops at the very end, two roll-backs, dead holders, a broken audit trail."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from domain.rollback import RollbackStatus
from domain.workload import Track, WorkloadObservation
from tests.workflows.conftest import Shop

ONCALL = {"actor": "oncall@example.com", "reason": "customers complain"}


def _rollback_input(shop: Shop, version: str, **more: Any) -> dict[str, Any]:
    return {
        "application": shop.name,
        "environment": "production",
        "from_version": version,
        **ONCALL,
        **more,
    }


async def _roll_back(shop: Shop, version: str, **more: Any) -> RollbackStatus:
    status: RollbackStatus = await shop.client.execute_workflow(
        "RollbackWorkflow",
        _rollback_input(shop, version, **more),
        id=f"rollback:{shop.name}:production:{version}",
        task_queue="deployments",
        result_type=RollbackStatus,
    )
    return status


async def test_what_ran_before_us_may_have_any_tag(shop: Shop) -> None:
    # Given a workload that somebody else put there, under a tag that is no version
    shop.world.cluster.live[f"{shop.name}-production", Track.STABLE] = WorkloadObservation(
        exists=True, name=shop.name, version="latest", image="shop:latest", replicas=3, ready=3
    )
    # When our first deployment fails
    shop.fails("monitoring of 1.0.0", "it is slow")
    ended = await shop.deployed("1.0.0")
    # Then what was there is back
    assert ended.rollback is not None
    assert (ended.rollback.succeeded, ended.rollback.to_version) == (True, "latest")


async def test_a_person_and_a_trigger_roll_back_the_same_version(shop: Shop) -> None:
    # Given 1.1.0, which is still being watched
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.hold("monitoring of 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.state == "Monitoring")
    # When a person starts the roll-back workflow of that version
    status = await _roll_back(shop, "1.1.0")
    # Then it hands over to the deployment, which rolls back itself, once
    assert status.state == "HandedOver"
    ended = await shop.ended(handle)
    assert ended.reason == "rolled back by oncall@example.com: customers complain"
    assert ended.rollback is not None
    assert ended.rollback.to_version == "1.0.0"


async def test_what_a_deployment_tells_its_rollback_is_taken_from_nobody_else(shop: Shop) -> None:
    with pytest.raises(WorkflowFailureError) as refused:
        await _roll_back(shop, "1.1.0", turn_held=True)
    assert isinstance(refused.value.cause, ApplicationError)
    assert "turn_held" in refused.value.cause.message


async def test_a_rollback_of_what_does_not_run_is_refused(shop: Shop) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    assert (await shop.deployed("1.1.0")).state == "Completed"
    # Given 1.1.0 live, when somebody rolls 1.0.0 back, or the version that a roll-back brought
    status = await _roll_back(shop, "1.0.0")
    assert (status.state, status.outcome) == ("Failed", "production runs 1.1.0, not 1.0.0")
    assert (await _roll_back(shop, "1.1.0")).state == "Completed"
    status = await _roll_back(shop, "1.0.0")
    # Then there is nothing good to go to, and nothing is touched
    assert status.state == "Failed"
    assert "no earlier version" in (status.outcome or "")
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"


async def test_a_freeze_until_a_time_without_zone_wedges_nothing(shop: Shop) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    await shop.place().signal("freeze", {**ONCALL, "until": "2020-01-01T00:00:00"})
    assert (await shop.deployed("1.1.0")).state == "Completed"


async def test_a_terminated_holder_leaves_no_false_memory(shop: Shop) -> None:
    # Given 1.0.0, and 1.1.0 terminated while it was watched
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.hold("monitoring of 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.state == "Monitoring")
    await handle.terminate("somebody pulled the plug")
    # When 1.0.0 is deployed again
    ended = await shop.deployed("1.0.0")
    # Then it really is, for nobody knows what is live
    assert ended.reason == "stable"
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"


async def test_after_an_unverified_version_a_rollback_goes_to_the_last_good_one(shop: Shop) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.hold("monitoring of 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.state == "Monitoring")
    await handle.terminate("somebody pulled the plug")
    # Given 1.1.0 in the cluster, never verified, when 1.2.0 fails
    shop.fails("monitoring of 1.2.0", "it is slow")
    ended = await shop.deployed("1.2.0")
    # Then 1.0.0 is restored
    assert ended.rollback is not None
    assert ended.rollback.to_version == "1.0.0"


async def test_a_pause_before_the_canary_holds_it(shop: Shop) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    handle = await shop.start("1.1.0")
    await shop.until(handle, lambda s: s.approval is not None)
    # Given a pause while the approval is open
    await handle.signal("pause", ONCALL)
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.approval is not None and s.approval.state == "approved")
    # Then it does not go on, until it is resumed
    await asyncio.sleep(0.5)
    assert (await shop.status(handle)).state == "Approval"
    await handle.signal("resume", ONCALL)
    assert (await shop.ended(handle)).state == "Completed"


async def test_a_broken_audit_trail_does_not_stop_a_rollback(shop: Shop) -> None:
    # Given 1.1.0, which is watched, and an audit trail that refuses its chain from now on
    assert (await shop.deployed("1.0.0")).state == "Completed"
    held = shop.hold("monitoring of 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.state == "Monitoring")
    await shop.tamper_with_audit(handle.id)
    # When it degrades
    shop.fails("monitoring of 1.1.0", "it is slow")
    shop.world.monitoring.held.discard(held)
    ended = await shop.ended(handle)
    # Then it is rolled back all the same, and says that its trail is incomplete
    assert ended.rollback is not None
    assert ended.rollback.succeeded
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"
    assert "could not be stored" in (ended.reason or "")
    # And the turn is free for the next
    assert (await shop.environment()).holder is None


@pytest.mark.parametrize("state", ["Completed", "Failed", "Rejected"])
async def test_a_cancellation_at_the_very_end_changes_nothing(shop: Shop, state: str) -> None:
    # Given a deployment that is about to end
    if state == "Failed":
        shop.world.builds.measured[shop.name] = {"errors": 1}
    handle = await shop.start("1.0.0")
    if state == "Rejected":
        await handle.signal("reject", {"actor": "ada@example.com"})
    else:
        await shop.approve(handle)
    # When it is cancelled in the moment of its end
    while (await shop.status(handle)).state != state:  # noqa: ASYNC110 - the moment is short
        await asyncio.sleep(0)
    await handle.cancel()
    # Then it ends as it was about to, and gives its turn back
    assert (await shop.ended(handle)).state == state
    assert (await shop.environment()).holder is None
