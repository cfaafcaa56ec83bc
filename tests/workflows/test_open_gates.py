"""Open gates over three days of skipped time: reminders, escalation, signatures, break glass, evidence."""

import asyncio
import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.testing import TimeSkipper

from domain.approval import (
    ApprovalPolicy,
    ApprovalRequest,
    ApprovalState,
    ApprovalStatus,
    DecisionMessage,
    EarlyDecision,
    Verb,
)
from domain.approval_facts import ApprovalFacts
from domain.audit import AuditEvent
from domain.evidence import ApprovalEvidence, MergedPullRequest, ReviewApproval
from domain.identity import Signer
from domain.notification import Notification, NotificationType
from domain.signing import SigningKey, subject_of
from tests.workflows.conftest import DEVELOPER, Shop

ADA, BOB, EVE, IDA = (f"{name}@example.com" for name in ("ada", "bob", "eve", "ida"))
BOARD = ApprovalPolicy(
    gate="manual_approval",
    roles=("change_board",),
    members={"change_board": (ADA, BOB)},
    excluded=(DEVELOPER,),
    reminders=(timedelta(hours=4), timedelta(hours=24)),
    escalate_before=timedelta(hours=6),
    on_call={"change_board": (IDA,)},
)


class Gate:
    """One approval workflow of its own, in a world where waiting takes no time."""

    def __init__(self, shop: Shop, policy: ApprovalPolicy, *, begun: datetime | None = None) -> None:
        self.shop = shop
        self.request = ApprovalRequest(
            deployment_id=f"deployment:{shop.name}:production:1.0.0",
            application=shop.name,
            environment="production",
            version="1.0.0",
            requester=DEVELOPER,
            policy=policy,
            facts=ApprovalFacts(commit="abc1234"),
            begun=begun,
        )
        self.id = f"approval:{shop.name}:production:1.0.0:manual_approval"

    async def open(self, *, skipping: bool = False) -> WorkflowHandle[Any, ApprovalStatus]:
        client = TimeSkipper(self.shop.client).client if skipping else self.shop.client
        return await client.start_workflow(
            "ApprovalWorkflow",
            self.request,
            id=self.id,
            task_queue="deployments",
            result_type=ApprovalStatus,
        )

    def told(self) -> list[Notification]:
        return [n for n in self.shop.world.notices.sent if n.fields.get("approval_id") == self.id]

    def audit(self, event_type: str) -> list[AuditEvent]:
        return [e for e in self.shop.audit(self.request.deployment_id) if e.event_type == event_type]


async def status(handle: WorkflowHandle[Any, Any]) -> ApprovalStatus:
    answer: ApprovalStatus = await handle.query("status", result_type=ApprovalStatus)
    return answer


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def test_people_are_reminded_then_it_is_escalated_then_it_expires(shop: Shop) -> None:
    # Given a gate that nobody looks at
    gate = Gate(shop, BOARD)
    handle = await gate.open(skipping=True)
    # When 72 hours have gone by
    ended = await asyncio.wait_for(handle.result(), 60)
    # Then people were reminded more and more seldom, and at last that time is running out
    told = gate.told()
    assert [n.type for n in told] == [
        NotificationType.APPROVAL_REMINDER,
        NotificationType.APPROVAL_REMINDER,
        NotificationType.APPROVAL_ESCALATED,
    ]
    assert [n.fields["time_left"] for n in told] == ["68h", "48h", "6h"]
    assert set(told[0].people) == {ADA, BOB}
    assert set(told[2].people) == {ADA, BOB, IDA}
    # And it expired
    assert ended.state is ApprovalState.EXPIRED
    assert [e.status for e in gate.audit("approval.closed")] == ["expired"]


async def test_who_is_on_call_may_decide_once_it_is_escalated(shop: Shop) -> None:
    # Given a gate that has an hour, and escalates at once
    gate = Gate(
        shop, BOARD.model_copy(update={"escalate_before": timedelta(hours=71, minutes=59, seconds=59)})
    )
    handle = await gate.open()
    # When somebody on call approves before, it does not count
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update("decide", {"decision": "approve", "actor": IDA})
    assert "before it is escalated" in str(refused.value.cause)
    # But after it was escalated it does
    await eventually(lambda: [n for n in gate.told() if n.type is NotificationType.APPROVAL_ESCALATED])
    await handle.signal("approve", {"actor": IDA})
    ended = await asyncio.wait_for(handle.result(), 30)
    assert ended.reason == f"approved by {IDA}"


async def test_two_people_break_the_glass_and_everybody_hears_of_it(shop: Shop) -> None:
    # Given a deployment that waits for its gate
    shop.configured(approvals={"emergency_roles": ["change_board"]})
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    # When one breaks the glass twice, and another without a reason
    await handle.signal("approve", {"actor": ADA, "emergency": True, "comment": "payments are down"})
    await handle.signal("approve", {"actor": ADA, "emergency": True, "comment": "still down"})
    await handle.signal("approve", {"actor": EVE, "emergency": True})
    # And then with one
    await handle.signal("approve", {"actor": EVE, "emergency": True, "comment": "I agree"})
    ended = await shop.ended(handle)
    # Then it goes on, and stands out wherever one looks
    reason = f"BREAK GLASS by {ADA}, {EVE}: payments are down; I agree"
    assert (ended.state, ended.approval and ended.approval.reason) == ("Completed", reason)
    trail = shop.audit(handle.id)
    assert [e.details["people"] for e in trail if e.event_type == "approval.break_glass"] == [[ADA, EVE]]
    assert [e.status for e in trail if e.event_type == "approval.approve"] == [
        "success",
        "refused",
        "refused",
        "success",
    ]
    loud = [n for n in shop.world.notices.sent if n.type is NotificationType.APPROVAL_BREAK_GLASS]
    assert [n.fields["reason"] for n in loud] == ["payments are down; I agree"]


async def test_only_signed_decisions_count_where_identities_are_verified(shop: Shop) -> None:
    # Given a gate that wants signatures, and the keys of Ada and of a chat that may speak for everybody
    adas, chat = SigningKey("ada", bytes(range(32))), SigningKey("chat", bytes(range(1, 33)))
    shop.world.identities.signers |= {
        "ada": Signer(public_key=adas.public_key, speaks_for=(ADA,)),
        "chat": Signer(public_key=chat.public_key, speaks_for=("*",)),
    }
    now = datetime.now(UTC)
    policy = BOARD.model_copy(update={"require_verified": True, "min_approvals": 2})
    gate = Gate(shop, policy, begun=now)
    handle = await gate.open()
    subject = subject_of(shop.client.namespace, gate.request.deployment_id)
    # When Ada approves unsigned, and somebody with her key in Bob's name, and she by a signature of last week
    await handle.signal("approve", {"actor": ADA})
    await handle.signal("approve", adas.sign(subject, Verb.APPROVE, DecisionMessage(actor=BOB), now))
    old = adas.sign(subject, Verb.APPROVE, DecisionMessage(actor=ADA), now - timedelta(days=7))
    await handle.signal("approve", old)
    # And a comment of hers is sent as an approval
    word = adas.sign(subject, Verb.COMMENT, DecisionMessage(actor=ADA, comment="hm"), now)
    await handle.signal("approve", word)
    # Then nothing has counted, and each refusal says why
    await eventually(lambda: len(gate.audit("approval.approve")) == 4)
    refused = gate.audit("approval.approve")
    assert {e.status for e in refused} == {"refused"}
    assert "not signed" in refused[0].reason
    assert not (await status(handle)).received_approvals
    # When she signs, and Bob clicks in the chat
    await handle.signal("approve", adas.sign(subject, Verb.APPROVE, DecisionMessage(actor=ADA), now))
    bobs = DecisionMessage(actor=BOB, source="slack")
    answer = await handle.execute_update(
        "decide",
        {"decision": "approve", **chat.sign(subject, Verb.APPROVE, bobs, now).model_dump(mode="json")},
        result_type=ApprovalStatus,
    )
    # Then both count as verified
    assert answer.state is ApprovalState.APPROVED
    assert [d.verified for d in answer.received_approvals] == [True, True]
    await asyncio.wait_for(handle.result(), 30)
    assert [e.details["signer"] for e in gate.audit("approval.approve")[-2:]] == ["ada", "chat"]


async def test_a_forged_decision_by_update_is_refused_with_the_reason(shop: Shop) -> None:
    adas = SigningKey("ada", bytes(range(32)))
    shop.world.identities.signers |= {"ada": Signer(public_key=adas.public_key, speaks_for=(ADA,))}
    gate = Gate(shop, BOARD)
    handle = await gate.open()
    signed = adas.sign(
        gate.request.deployment_id, Verb.APPROVE, DecisionMessage(actor=ADA), datetime.now(UTC)
    )
    forged = {**signed.model_dump(mode="json"), "decision": "approve"}
    forged["proof"]["signature"] = base64.b64encode(bytes(64)).decode()
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update("decide", forged)
    assert "not proven to come from" in str(refused.value.cause)
    assert (await status(handle)).state is ApprovalState.PENDING
    await handle.signal("reject", {"actor": ADA})
    assert (await asyncio.wait_for(handle.result(), 30)).state is ApprovalState.REJECTED


async def test_who_is_refused_is_told_where_they_spoke(shop: Shop) -> None:
    gate = Gate(shop, BOARD)
    handle = await gate.open()
    await handle.signal(
        "approve", {"actor": EVE, "source": "slack", "reply_to": "slack:C1:U7", "id": "click-1"}
    )
    await handle.signal(
        "approve", {"actor": EVE, "source": "slack", "reply_to": "slack:C1:U7", "id": "click-1"}
    )
    await handle.signal("approve", {"actor": ADA, "source": "slack", "reply_to": "slack:C1:U8"})
    await asyncio.wait_for(handle.result(), 30)
    answers = [a for a in shop.world.notices.answers if gate.id in a.key]
    assert [a.reply_to for a in answers] == ["slack:C1:U7"]
    assert "holds none of the roles" in answers[0].text


async def test_a_reviewed_pull_request_is_an_approval(shop: Shop) -> None:
    # Given a commit that came by a pull request which two of the board have approved
    reviews = tuple(
        ReviewApproval(
            login=person.partition("@")[0],
            person=person,
            submitted_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
            url=f"https://github.example.com/shop/pull/7#{person}",
        )
        for person in (ADA, BOB)
    )
    found = MergedPullRequest(
        number=7, url="https://github.example.com/shop/pull/7", title="Faster", authors=(), approvals=reviews
    )
    shop.world.git_host.evidence[shop.name] = ApprovalEvidence(pull_request=found, reason="2 approvals")
    shop.configured(approvals={"evidence": True})
    # When it is deployed by the event of its merge
    ended = await shop.ended(await shop.start("1.0.0", approval="automatic"))
    # Then nobody is asked again, and the trail says whose word it was
    assert ended.state == "Completed"
    assert ended.approval is not None
    assert [(d.actor, d.source, d.verified) for d in ended.approval.received_approvals] == [
        (ADA, "github", True),
        (BOB, "github", True),
    ]
    trail = shop.audit(f"deployment:{shop.name}:production:1.0.0")
    assert [e.details["pull_request"]["number"] for e in trail if e.event_type == "approval.evidence"] == [7]


async def test_a_reviewer_may_merge_too(shop: Shop) -> None:
    # Given a pull request that the tech lead has reviewed and merged, which asks for its deployment
    review = ReviewApproval(
        login="bob",
        person=BOB,
        submitted_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
        url="https://github.example.com/shop/pull/8#review",
    )
    found = MergedPullRequest(
        number=8, url="https://github.example.com/shop/pull/8", title="Safer", authors=(), approvals=(review,)
    )
    shop.world.git_host.evidence[shop.name] = ApprovalEvidence(pull_request=found, reason="1 approval")
    handle = await shop.start("1.0.0", environment="staging", approval="automatic", actor=BOB)
    # Then the review counts, although the same person may not approve by hand what they ask for
    waiting = await shop.until(handle, lambda s: s.approval is not None and s.approval.state != "pending")
    assert waiting.approval is not None
    assert waiting.approval.reason == f"approved by {BOB}"
    await handle.terminate()


async def test_without_a_review_people_are_asked(shop: Shop) -> None:
    handle = await shop.start("1.0.0", approval="automatic")
    waiting = await shop.until(handle, lambda s: s.approval is not None)
    assert waiting.approval is not None
    assert waiting.approval.state is ApprovalState.PENDING
    await shop.approve(handle)
    assert (await shop.ended(handle)).state == "Completed"


async def test_the_card_follows_the_approval(shop: Shop) -> None:
    # Given a deployment that waits for two people
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    # When they approve
    await shop.approve(handle)
    await shop.ended(handle)
    # Then the card showed what one needs to decide, never an older state after a newer one, and the end
    cards = shop.world.notices.cards[f"approval:{shop.name}:production:1.0.0:manual_approval"]
    revisions = [card.revision for card in cards]
    assert revisions == sorted(set(revisions))
    assert cards[0].facts.commit is not None
    assert [g.name for g in cards[0].facts.gates] == ["compile", "test", "security", "performance"]
    assert cards[-1].approval.state is ApprovalState.APPROVED


async def test_who_starts_a_deployment_does_not_choose_what_approves_it(shop: Shop) -> None:
    # Given production, which takes no reviews for approvals
    handle = await shop.start("1.0.0", approval="automatic")
    await shop.until(handle, lambda s: s.approval is not None)
    await shop.approve(handle)
    await shop.ended(handle)
    # Then nobody has even looked for them
    assert not [e for e in shop.audit(handle.id) if e.event_type == "approval.evidence"]


async def test_only_the_gate_itself_ends_it(shop: Shop) -> None:
    # Given a deployment at its gate
    handle = await shop.start("1.0.0")
    waiting = await shop.until(handle, lambda s: s.approval is not None)
    assert waiting.approval is not None
    # When somebody signals that it was approved
    forged = waiting.approval.model_copy(update={"state": ApprovalState.APPROVED, "revision": 9})
    await handle.signal("approval_changed", forged)
    await handle.signal("reject", {"actor": ADA, "comment": "not today"})
    # Then the gate's own end counts
    ended = await shop.ended(handle)
    assert (ended.state, ended.reason) == ("Rejected", f"rejected by {ADA}: not today")


async def test_an_abort_does_not_wait_for_slack(shop: Shop) -> None:
    # Given a deployment at its gate, and Slack that takes nothing
    shop.world.notices.down.add(shop.name)
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    # When it is aborted
    await handle.signal("abort", {"actor": ADA})
    # Then it has failed while Slack is still down
    failed = await shop.until(handle, lambda s: s.state == "Failed")
    assert failed.approval is not None
    assert failed.approval.reason == "cancelled with its deployment"
    shop.world.notices.down.discard(shop.name)
    await shop.ended(handle)


async def test_an_approval_does_not_wait_for_slack(shop: Shop) -> None:
    shop.world.notices.down.add(shop.name)
    handle = await shop.start("1.0.0")
    await shop.until(handle, lambda s: s.approval is not None)
    await shop.approve(handle)
    await shop.until(handle, lambda s: s.state == "Completed")
    # And when Slack is back, it shows how the gate ended
    shop.world.notices.down.discard(shop.name)
    await shop.ended(handle)
    cards = shop.world.notices.cards[f"approval:{shop.name}:production:1.0.0:manual_approval"]
    assert cards[-1].approval.state is ApprovalState.APPROVED


async def test_words_too_long_are_refused_and_wedge_nothing(shop: Shop) -> None:
    handle = await shop.start("1.0.0")
    for _ in range(3):
        await handle.signal("approve", {"actor": ADA, "comment": "x" * 800_000})
    await shop.until(handle, lambda s: s.approval is not None)
    gate = shop.child("approval", "1.0.0", "manual_approval")
    await gate.signal("comment", {"actor": "stranger@example.com", "comment": "y" * 1_900_000})
    await gate.signal("reject", {"actor": BOB, "comment": "no"})
    ended = await shop.ended(handle)
    assert ended.reason == f"rejected by {BOB}: no"
    refused = [e for e in shop.audit(handle.id) if e.status == "refused"]
    assert len(refused) == 4
    assert all("shorten it" in e.reason for e in refused)


async def test_an_id_cannot_be_used_up_by_somebody_else(shop: Shop) -> None:
    # Given a stranger who knows the id that Ada's decision will have
    gate = Gate(shop, BOARD)
    handle = await gate.open()
    await handle.signal("reject", {"actor": EVE, "id": "ada-1"})
    # When she sends it, it counts
    await handle.signal("reject", {"actor": ADA, "id": "ada-1", "comment": "broken"})
    ended = await asyncio.wait_for(handle.result(), 30)
    assert ended.reason == f"rejected by {ADA}: broken"


async def test_a_refusal_sent_again_is_refused_again(shop: Shop) -> None:
    gate = Gate(shop, BOARD)
    handle = await gate.open()
    for _ in range(2):
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update("decide", {"decision": "approve", "actor": EVE, "id": "once"})
        assert "holds none of the roles" in str(refused.value.cause)
    await handle.signal("reject", {"actor": ADA})
    await asyncio.wait_for(handle.result(), 30)
    # Judged once: the trail has it once
    assert len(gate.audit("approval.approve")) == 1


async def test_early_words_come_first_and_none_is_lost(shop: Shop) -> None:
    # Given an early rejection, and an approval that reaches the gate as it opens
    gate = Gate(shop, BOARD)
    early = EarlyDecision(verb=Verb.REJECT, message=DecisionMessage(actor=BOB, comment="no"))
    gate.request = gate.request.model_copy(update={"early": (early,)})
    handle = await shop.client.start_workflow(
        "ApprovalWorkflow",
        gate.request,
        id=gate.id,
        task_queue="deployments",
        result_type=ApprovalStatus,
        start_signal="approve",
        start_signal_args=[{"actor": ADA}],
    )
    # Then the rejection counts
    ended = await asyncio.wait_for(handle.result(), 30)
    assert ended.reason == f"rejected by {BOB}: no"


async def test_a_word_for_a_gate_that_never_opens_is_in_the_trail(shop: Shop) -> None:
    handle = await shop.start("1.0.0", environment="dev")
    await handle.signal("reject", {"actor": ADA, "comment": "wait"})
    await shop.ended(handle)
    refused = [e for e in shop.audit(handle.id) if e.event_type == "approval.reject"]
    assert [e.reason for e in refused] == ["no gate has asked for it"]


async def test_an_abort_is_obeyed_while_a_signature_is_checked(shop: Shop) -> None:
    # Given an early decision whose signature takes long to check, and another that comes meanwhile
    shop.world.identities.held.add(shop.name)
    adas = SigningKey("ada", bytes(range(32)))
    handle = await shop.start("1.0.0")
    subject = subject_of(shop.client.namespace, handle.id)
    signed = adas.sign(subject, Verb.APPROVE, DecisionMessage(actor=ADA), datetime.now(UTC))
    await handle.signal("approve", signed)
    await shop.until(handle, lambda s: s.approval is not None)
    await shop.child("approval", "1.0.0", "manual_approval").signal("approve", {"actor": BOB})
    # When the deployment is aborted
    await handle.signal("abort", {"actor": EVE})
    # Then it ends, and the late word is in the trail
    assert (await shop.ended(handle)).state == "Failed"
    refused = [e for e in shop.audit(handle.id) if e.event_type == "approval.approve"]
    assert [(e.actor, e.status) for e in refused] == [(BOB, "refused")]
    shop.world.identities.held.discard(shop.name)
