"""The environment: freezes, holds, manual roll-backs, and the turn that goes round."""

from domain.rollback import RollbackStatus
from tests.workflows.conftest import Shop


async def test_a_freeze_keeps_what_waits_waiting_and_says_why(shop: Shop) -> None:
    # Given an environment that was frozen by a person with a reason
    assert (await shop.deployed("1.0.0")).state == "Completed"
    await shop.place().signal("freeze", {"actor": "ops@example.com", "reason": "year end"})
    # When a version is to be deployed
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    status = await shop.until(handle, lambda s: "year end" in (s.waiting_for or ""))
    # Then it is Pending, and says what it waits for
    assert status.state == "Pending"
    assert status.queue_position == 1
    # And it goes on when the freeze is lifted
    await shop.place().signal("unfreeze", {"actor": "ops@example.com"})
    assert (await shop.ended(handle)).state == "Completed"


async def test_a_freeze_without_actor_or_reason_is_refused(shop: Shop) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    await shop.place().signal("freeze", {"actor": "ops@example.com"})
    assert (await shop.deployed("1.1.0")).state == "Completed"
    refused = [e for e in shop.audit(shop.place().id) if e.status == "refused"]
    assert [e.action for e in refused] == ["freeze"]


async def test_a_person_rolls_back_what_is_live_even_in_a_freeze(shop: Shop) -> None:
    # Given 1.0.0 and then 1.1.0 in production, which is frozen
    assert (await shop.deployed("1.0.0")).state == "Completed"
    assert (await shop.deployed("1.1.0")).state == "Completed"
    await shop.place().signal("freeze", {"actor": "ops@example.com", "reason": "year end"})
    # When somebody rolls back
    status = await shop.client.execute_workflow(
        "RollbackWorkflow",
        {
            "application": shop.name,
            "environment": "production",
            "from_version": "1.1.0",
            "actor": "oncall@example.com",
            "reason": "customers complain",
        },
        id=f"rollback:{shop.name}:production:1.1.0",
        task_queue="deployments",
        result_type=RollbackStatus,
    )
    # Then the last good version is live again, and the bad one is held back
    assert (status.state, status.to_version) == ("Completed", "1.0.0")
    record = await shop.environment()
    assert record.current_version == "1.0.0"
    assert list(record.held_versions) == ["1.1.0"]


async def test_automation_does_not_ship_again_what_was_rolled_back(shop: Shop) -> None:
    # Given a version that was rolled back
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.fails("monitoring of 1.1.0", "it is slow")
    assert (await shop.deployed("1.1.0")).state == "Failed"
    shop.world.monitoring.failing.clear()
    # When a webhook asks for it again
    event = {
        "id": "delivery-1",
        "type": "tag",
        "source": "webhook",
        "actor": "developer@example.com",
        "timestamp": "2026-02-02T12:00:00Z",
        "git_ref": "refs/tags/v1.1.0",
        "commit_sha": "1a2b3c4d5e6f708192a3b4c5d6e7f80910111213",
    }
    ended = await shop.ended(await shop.start("1.1.0", event=event))
    # Then it is turned away; a person may deploy it
    assert ended.state == "Rejected"
    assert "was rolled back" in (ended.reason or "")
    assert (await shop.deployed("1.1.0")).state == "Completed"


async def test_without_an_earlier_version_a_failed_first_deployment_leaves_nothing(shop: Shop) -> None:
    shop.fails("monitoring of 1.0.0", "it crashes")
    ended = await shop.deployed("1.0.0")
    assert ended.state == "Failed"
    assert ended.rollback is not None
    assert ended.rollback.to_version is None
