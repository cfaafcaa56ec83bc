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
    EmergencyPolicy,
    Verb,
)
from domain.approval_facts import ApprovalFacts
from domain.audit import AuditEvent
from domain.evidence import ApprovalEvidence, MergedPullRequest, ReviewApproval
from domain.identity import Signer
from domain.notification import Notification, NotificationType
from domain.signing import SigningKey
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
    # And it expired, which its card says too
    assert ended.state is ApprovalState.EXPIRED
    assert shop.world.notices.cards[gate.id][-1].approval.state is ApprovalState.EXPIRED
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
    # Given a gate whose people are away, and two who may break the glass
    emergency = EmergencyPolicy(roles=("sre",), members={"sre": (IDA, EVE)})
    gate = Gate(shop, BOARD.model_copy(update={"emergency": emergency}))
    handle = await gate.open()
    # When one of them does so twice, and without a reason
    await handle.signal("approve", {"actor": IDA, "emergency": True, "comment": "payments are down"})
    await handle.signal("approve", {"actor": IDA, "emergency": True, "comment": "still down"})
    await handle.signal("approve", {"actor": EVE, "emergency": True})
    assert (await status(handle)).state is ApprovalState.PENDING
    # And the other with a reason
    await handle.signal("approve", {"actor": EVE, "emergency": True, "comment": "I agree"})
    ended = await asyncio.wait_for(handle.result(), 30)
    # Then it is approved, and stands out wherever one looks
    assert ended.reason == f"BREAK GLASS by {IDA}, {EVE}: payments are down; I agree"
    assert [e.details["people"] for e in gate.audit("approval.break_glass")] == [[IDA, EVE]]
    loud = [n for n in shop.world.notices.sent if n.type is NotificationType.APPROVAL_BREAK_GLASS]
    assert [n.fields["reason"] for n in loud] == ["payments are down; I agree"]
    assert [e.status for e in gate.audit("approval.approve")] == ["success", "refused", "refused", "success"]


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
    subject = gate.request.deployment_id
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
