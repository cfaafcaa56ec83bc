"""People and alerts are obeyed at once, in every state."""

import pytest

from tests.workflows.conftest import Shop

STOP = {"actor": "oncall@example.com", "reason": "something is wrong"}


@pytest.mark.parametrize("stop", ["abort", "cancel"])
async def test_before_the_cluster_is_touched_a_stop_ends_the_deployment(shop: Shop, stop: str) -> None:
    # Given a deployment that waits for its approval
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    # When it is stopped
    await (handle.cancel() if stop == "cancel" else handle.signal(stop, STOP))
    ended = await shop.ended(handle)
    # Then it has failed, its gate is closed, and nothing was deployed or rolled back
    assert [str(t.state) for t in ended.history][-2:] == ["Approval", "Failed"]
    assert ended.approval is not None
    assert ended.approval.state == "rejected"
    assert shop.world.cluster.version(f"{shop.name}-production") is None
    # And the turn is free again
    assert (await shop.environment()).holder is None


@pytest.mark.parametrize("stop", ["abort", "rollback", "cancel"])
@pytest.mark.parametrize("weight", [10, 50, 100])
async def test_a_stop_in_any_step_of_the_canary_rolls_back(shop: Shop, stop: str, weight: int) -> None:
    # Given 1.0.0 in production, and the canary of 1.1.0 at some weight
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.hold("canary 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    for passed in (10, 50, 100):
        await shop.until(handle, lambda s, w=passed: s.canary is not None and s.canary.weight == w)  # type: ignore[misc]
        if passed == weight:
            break
        await handle.signal("promote", {"actor": "ada@example.com"})
    # When somebody stops it
    await (handle.cancel() if stop == "cancel" else handle.signal(stop, STOP))
    ended = await shop.ended(handle)
    # Then the canary's weight went to 0 first, and 1.0.0 was restored
    assert [str(t.state) for t in ended.history][-3:] == ["Deploying", "RollingBack", "Failed"]
    assert ended.canary is not None
    assert (ended.canary.phase, ended.canary.weight) == ("Aborted", 0)
    assert ended.rollback is not None
    assert (ended.rollback.succeeded, ended.rollback.to_version) == (True, "1.0.0")
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"


@pytest.mark.parametrize("stop", ["abort", "rollback", "cancel"])
@pytest.mark.parametrize("watch", ["verification of 1.1.0", "monitoring of 1.1.0"])
async def test_a_stop_while_verifying_or_monitoring_rolls_back(shop: Shop, stop: str, watch: str) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.hold(watch)
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    state = "Verifying" if watch.startswith("verification") else "Monitoring"
    await shop.until(handle, lambda s: s.state == state)
    await (handle.cancel() if stop == "cancel" else handle.signal(stop, STOP))
    ended = await shop.ended(handle)
    assert [str(t.state) for t in ended.history][-3:] == [state, "RollingBack", "Failed"]
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"
    # And the environment holds 1.1.0 back from automation
    assert list((await shop.environment()).held_versions) == ["1.1.0"]


async def test_an_alert_aborts_the_canary(shop: Shop) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.hold("canary 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.weight == 10)
    await shop.child("canary", "1.1.0").signal("alert", {"name": "HighErrorRate", "severity": "critical"})
    ended = await shop.ended(handle)
    assert ended.state == "Failed"
    assert ended.reason == "canary aborted: alert HighErrorRate (critical)"
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"


async def test_a_pause_holds_the_canary_until_somebody_resumes_it(shop: Shop) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    held = shop.hold("canary 1.1.0")
    handle = await shop.start("1.1.0")
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.canary is not None and s.canary.weight == 10)
    # Given a pause in the first step
    await handle.signal("pause", {"actor": "oncall@example.com", "reason": "let me look"})
    await shop.until(handle, lambda s: s.paused and s.canary is not None and s.canary.paused)
    # When what is watched would pass now
    shop.world.monitoring.held.discard(held)
    status = await shop.until(handle, lambda s: s.canary is not None and s.canary.phase == "Paused")
    # Then it stays where it is until it is resumed
    assert status.canary is not None
    assert status.canary.weight == 10
    await handle.signal("resume", {"actor": "oncall@example.com"})
    assert (await shop.ended(handle)).state == "Completed"


async def test_degradation_in_monitoring_rolls_back(shop: Shop) -> None:
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.fails("monitoring of 1.1.0", "error_rate is 7%, limit 5%")
    ended = await shop.deployed("1.1.0")
    assert [str(t.state) for t in ended.history][-3:] == ["Monitoring", "RollingBack", "Failed"]
    assert ended.reason == "error_rate is 7%, limit 5%"
    assert shop.world.cluster.version(f"{shop.name}-production") == "1.0.0"


async def test_a_rollback_that_cannot_be_verified_says_so(shop: Shop) -> None:
    # Given a 1.0.0 that is no longer well, and a 1.1.0 that fails
    assert (await shop.deployed("1.0.0")).state == "Completed"
    shop.fails("monitoring of 1.1.0", "it is slow")
    shop.fails("verification of 1.0.0", "so is this one")
    # When 1.1.0 is rolled back
    ended = await shop.deployed("1.1.0")
    # Then it was tried as often as allowed, and the end names both reasons
    assert ended.state == "Failed"
    assert ended.rollback is not None
    assert not ended.rollback.succeeded
    assert ended.reason is not None
    assert "it is slow" in ended.reason
    assert "so is this one" in ended.reason
    attempts = [e for e in shop.audit(handle_id(shop, "1.1.0")) if e.event_type == "rollback.attempt"]
    assert len(attempts) == 3
    # And automation does not ship the version that could not be left
    assert list((await shop.environment()).held_versions) == ["1.1.0"]


def handle_id(shop: Shop, version: str) -> str:
    return f"deployment:{shop.name}:production:{version}"


async def test_a_signal_without_input_is_obeyed_or_refused_but_never_wedges_the_workflow(shop: Shop) -> None:
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    # Given signals sent from the UI with nothing in them
    await handle.signal("approve")
    await handle.signal("pause")
    await handle.signal("resume")
    await shop.child("approval", "1.0.0", "manual_approval").signal("reject")
    # Then the approvals count for nothing, and the abort is obeyed
    await shop.until(handle, lambda _: len(_refused(shop, "1.0.0")) == 2)
    await handle.signal("abort")
    ended = await shop.ended(handle)
    assert ended.reason == "aborted by unknown"


def _refused(shop: Shop, version: str) -> list[str]:
    return [e.action for e in shop.audit(handle_id(shop, version)) if e.status == "refused"]
