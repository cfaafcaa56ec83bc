"""Approvals: quorum, roles, and decisions that come early, twice, late or by update."""

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError

from domain.approval import ApprovalStatus
from tests.workflows.conftest import Shop


async def test_production_needs_two_distinct_people(shop: Shop) -> None:
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    # Given one approval, given twice
    await shop.approve(handle, "ada@example.com", "ADA@example.com ")
    status = await shop.until(
        handle, lambda s: s.approval is not None and len(s.approval.received_approvals) == 1
    )
    # Then it still waits
    assert status.state == "Approval"
    # When a second person approves
    await shop.approve(handle, "bob@example.com")
    ended = await shop.ended(handle)
    # Then it goes on, and both are kept
    assert ended.state == "Completed"
    assert ended.approval is not None
    assert [d.actor for d in ended.approval.received_approvals] == ["ada@example.com", "bob@example.com"]


async def test_the_update_answers_at_once_and_refuses_with_the_reason(shop: Shop) -> None:
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    gate = shop.child("approval", "1.0.0", "manual_approval")
    # Given decisions that may not count
    for actor, word in (
        ("developer@example.com", "none of the roles"),
        ("", "no actor"),
    ):
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await gate.execute_update("decide", {"decision": "approve", "actor": actor})
        assert word in str(refused.value.cause)
    # When somebody may decide
    answer = await gate.execute_update(
        "decide",
        {"decision": "approve", "actor": "ada@example.com", "comment": "ok"},
        result_type=ApprovalStatus,
    )
    # Then the answer says where it stands
    assert answer.approvals_missing == 1
    with pytest.raises(WorkflowUpdateFailedError, match="Workflow update failed") as refused:
        await gate.execute_update("decide", {"decision": "approve", "actor": "ada@example.com"})
    assert "has approved already" in str(refused.value.cause)
    await gate.execute_update("decide", {"decision": "reject", "actor": "bob@example.com"})
    assert (await shop.ended(handle)).state == "Rejected"


async def test_comments_never_decide_and_one_reject_ends_it(shop: Shop) -> None:
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    gate = shop.child("approval", "1.0.0", "manual_approval")
    await gate.signal("comment", {"actor": "anybody@example.com", "comment": "looks good"})
    await gate.signal("approve", {"actor": "ada@example.com"})
    await gate.signal("reject", {"actor": "stranger@example.com", "comment": "I have no role"})
    await gate.signal("reject", {"actor": "eve@example.com", "comment": "the migration is missing"})
    ended = await shop.ended(handle)
    assert ended.state == "Rejected"
    assert ended.reason == "rejected by eve@example.com: the migration is missing"
    assert ended.approval is not None
    assert [c.comment for c in ended.approval.comments] == ["looks good"]


async def test_a_signal_with_an_id_counts_once(shop: Shop) -> None:
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    gate = shop.child("approval", "1.0.0", "manual_approval")
    for _ in range(3):
        await gate.signal("comment", {"actor": "ada@example.com", "comment": "hm", "id": "message-1"})
    await shop.approve(handle)
    ended = await shop.ended(handle)
    assert ended.approval is not None
    assert len(ended.approval.comments) == 1


async def test_a_decision_for_another_gate_changes_nothing_and_is_audited(shop: Shop) -> None:
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    await handle.signal("approve", {"actor": "ada@example.com", "gate": "another_gate"})
    await shop.approve(handle)
    ended = await shop.ended(handle)
    # Late decisions change nothing either
    assert ended.approval is not None
    assert len(ended.approval.received_approvals) == 2
    refused = [e for e in shop.audit(handle.id) if e.status == "refused"]
    assert [e.actor for e in refused] == ["ada@example.com"]
    assert "another_gate" in refused[0].reason


async def test_approvals_of_different_versions_do_not_mix(shop: Shop) -> None:
    first, second = await asyncio.gather(shop.start("1.0.0", "staging"), shop.start("1.0.0"))
    await shop.approve(second)
    assert (await shop.ended(second)).state == "Completed"
    assert (await shop.status(first)).state in ("Approval", "Testing", "Building", "Validation", "Pending")
    await shop.approve(first, "bob@example.com")
    assert (await shop.ended(first)).state == "Completed"
