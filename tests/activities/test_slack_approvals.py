"""Approvals in Slack: one message, which always says how it stands, whatever Slack or the worker does."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.conversations import ConversationActivities
from activities.errors import UNAVAILABLE
from activities.ledger import EffectsLedger
from activities.slack import SlackChannel
from activities.slack.approval_message import approval_message
from domain.approval import (
    ApprovalPolicy,
    ApprovalRequest,
    ApprovalState,
    ApprovalStatus,
    Decision,
    DecisionMessage,
    EmergencyPolicy,
    Verb,
    decide,
    expire,
    open_approval,
)
from domain.approval_card import ApprovalCard, PersonalAnswer
from domain.approval_facts import ApprovalFacts, GateFact
from domain.approval_settings import ApprovalRule
from domain.configuration import SlackSettings
from domain.notification import Delivery, NotificationType, notification
from sandbox.slack import BOT_TOKEN, SlackMessage, SlackServer, SlackUser
from sandbox.slack.blocks import block_mistakes

CARLA = SlackUser(id="U0CARLA", email="carla@example.com", name="Carla")
POLICY = ApprovalPolicy(
    gate="manual_approval",
    roles=(),
    rules=(ApprovalRule(roles=("change_board",), min_approvals=2), ApprovalRule(roles=("security",))),
    members={
        "change_board": ("carla@example.com", "carl@example.com", "dana@example.com"),
        "security": ("sam@example.com",),
    },
    excluded=("dev@example.com",),
    authors=("dana@example.com",),
    emergency=EmergencyPolicy(roles=("incident_commander",)),
)
FACTS = ApprovalFacts(
    commit="abc1234def5678",
    subject="Route faster (#812)",
    previous_version="2.9.1",
    diff_url="https://github.com/banyan/erlmcp/compare/v2.9.1...v3.0.0",
    gates=(
        GateFact(name="compile", outcome="passed"),
        GateFact(name="test", outcome="passed"),
        GateFact(name="coverage", outcome="warned", reason="78.1 % is below 80 %"),
    ),
    compliance_gaps=("runbook: docs/runbook.md is missing",),
    risk="high",
    risks=("2.9.1 → 3.0.0 may break clients",),
    soak="26h in staging",
    reason="fixes incident 4711",
    deployment_url="https://temporal.example.com/deployment",
)


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer.start(channels=("deployments", "approvals", "incidents"), users=[CARLA]) as server:
        yield server


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[EffectsLedger]:
    async with EffectsLedger.open(tmp_path / "effects.db") as opened:
        yield opened


def settings(slack: SlackServer) -> SlackSettings:
    return SlackSettings(
        channels={"deployment_updates": "#deployments", "approvals": "#approvals"}, api_url=slack.api_url
    )


def by_bot(slack: SlackServer, ledger: EffectsLedger) -> SlackChannel:
    return SlackChannel(settings(slack), ledger, environment={"SLACK_BOT_TOKEN": BOT_TOKEN})


def by_webhook(slack: SlackServer, ledger: EffectsLedger) -> SlackChannel:
    return SlackChannel(
        settings(slack), ledger, environment={"SLACK_WEBHOOK": slack.webhook_url("deployments")}
    )


def opened(policy: ApprovalPolicy = POLICY) -> ApprovalStatus:
    request = ApprovalRequest(
        deployment_id="deployment:erlmcp:production:3.0.0",
        application="erlmcp",
        environment="production",
        version="3.0.0",
        requester="dev@example.com",
        policy=policy,
    )
    return open_approval(request, datetime.now(UTC))


def after(status: ApprovalStatus, verb: Verb, actor: str, comment: str = "") -> ApprovalStatus:
    message = DecisionMessage(actor=actor, comment=comment)
    return decide(status, POLICY, verb, message, datetime.now(UTC))


def card(
    revision: int = 0,
    *,
    approval: ApprovalStatus | None = None,
    headline: str = "",
    facts: ApprovalFacts = FACTS,
    policy: ApprovalPolicy = POLICY,
) -> ApprovalCard:
    approval = approval or opened()
    return ApprovalCard(
        key=f"{approval.id}/run-1",
        revision=revision,
        application="erlmcp",
        environment="production",
        version="3.0.0",
        requester="dev@example.com",
        approval=approval,
        policy=policy,
        facts=facts,
        headline=headline or f"revision {revision}",
    )


def words(message: SlackMessage) -> str:
    """All that can be read in the blocks."""
    return "\n".join(_texts(message.blocks))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for part in node:
            yield from _texts(part)
    elif isinstance(node, dict):
        if isinstance(node.get("text"), str):
            yield node["text"]
        for part in node.values():
            yield from _texts(part)


def buttons(message: SlackMessage) -> list[dict[str, Any]]:
    return [e for block in message.blocks if block["type"] == "actions" for e in block["elements"]]


# What people see


async def test_people_see_all_they_need_to_decide(slack: SlackServer, ledger: EffectsLedger) -> None:
    # Given one vote of three, and a comment
    approval = after(opened(), Verb.COMMENT, "dev@example.com", "customers wait")
    approval = after(approval, Verb.APPROVE, "carla@example.com", "read the diff")
    # When the card is shown
    [delivery] = await by_bot(slack, ledger).show_approval(card(2, approval=approval))
    # Then one message asks, and tells everything
    [message] = slack.messages
    assert delivery == Delivery(
        channel="slack:approvals", delivered=True, reference=f"C00000002:{message.ts}"
    )
    assert message.channel == "approvals"
    said = words(message)
    expires = int(approval.expires_at.timestamp())
    for expected in (
        "Approve erlmcp 3.0.0 for production?",
        "*Commit*\n`abc1234def56` Route faster (#812)",
        "*Changes*\n<https://github.com/banyan/erlmcp/compare/v2.9.1...v3.0.0|2.9.1…3.0.0>",
        "*Asked by*\ndev@example.com",
        "*Why*\nfixes incident 4711",
        "*Risk*\n🔴 high",
        "• 2.9.1 → 3.0.0 may break clients",
        "*Soak*\n26h in staging",
        f"*Open until*\n<!date^{expires}^{{date_short_pretty}} at {{time}}|",
        "*Who approves* (all of these)",
        "• 2 of change_board: carla@example.com · *1 missing*, open to carl@example.com",
        "• 1 of security · *1 missing*, open to sam@example.com",
        "Not: dev@example.com asked for it, dana@example.com wrote it",
        "✅ compile, test passed",
        "⚠️ coverage warned: 78.1 % is below 80 %",
        "• runbook: docs/runbook.md is missing",
        "✅ carla@example.com approves as change_board",
        "“read the diff”",
        "“customers wait”",
        "`erlmcp-deploy approve production 3.0.0`",
        "<https://temporal.example.com/deployment|deployment>",
    ):
        assert expected in said
    # And so does the text on a phone
    assert message.text.splitlines()[0] == "Approve erlmcp 3.0.0 for production?"


async def test_buttons_name_the_approval_and_its_gate(slack: SlackServer, ledger: EffectsLedger) -> None:
    shown = card()

    await by_bot(slack, ledger).show_approval(shown)

    pressed = buttons(slack.messages[0])
    assert [(b["action_id"], b.get("style")) for b in pressed] == [
        ("approval_approve", "primary"),
        ("approval_reject", "danger"),
        ("approval_comment", None),
    ]
    assert {b["value"] for b in pressed} == {
        json.dumps({"approval_id": shown.approval.id, "gate": "manual_approval"})
    }


async def test_the_glass_can_be_broken_only_once_the_gate_is_escalated(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel = by_bot(slack, ledger)
    escalated = opened().model_copy(update={"escalated_at": datetime.now(UTC)})

    await channel.show_approval(card(0))
    assert "approval_break_glass" not in {b["action_id"] for b in buttons(slack.messages[0])}

    await channel.show_approval(card(1, approval=escalated))
    assert buttons(slack.messages[0])[-1]["action_id"] == "approval_break_glass"
    assert "or 2 of incident_commander break the glass: 0 so far" in words(slack.messages[0])

    nobody = POLICY.model_copy(update={"emergency": None})
    await channel.show_approval(card(2, approval=escalated, policy=nobody))
    assert "approval_break_glass" not in {b["action_id"] for b in buttons(slack.messages[0])}


@pytest.mark.parametrize(
    ("verified", "said"), [(True, " · verified"), (False, " · not verified"), (None, "UTC>")]
)
def test_a_vote_says_for_whom_it_is_and_whether_it_was_signed(verified: bool | None, said: str) -> None:
    vote = Decision(
        verb=Verb.APPROVE,
        actor="della@example.com",
        roles=("security",),
        on_behalf_of="sam@example.com",
        verified=verified,
        at=datetime(2026, 2, 2, 12, tzinfo=UTC),
    )
    broken = vote.model_copy(update={"emergency": True, "on_behalf_of": None, "comment": "outage"})
    approval = opened().model_copy(update={"received_approvals": (vote, broken)})

    message = approval_message(card(approval=approval), approval.created_at, interactive=True)

    told = "\n".join(_texts([block.to_dict() for block in message.blocks]))
    line = "✅ della@example.com approves as security on behalf of sam@example.com · <!date^1770033600^"
    assert line in told
    assert next(x for x in told.splitlines() if x.startswith(line)).endswith(said)
    assert "🚨 della@example.com breaks the glass as security" in told


@pytest.mark.parametrize("end", ["approved", "rejected", "expired"])
async def test_after_the_end_there_are_no_buttons_but_the_outcome(
    slack: SlackServer, ledger: EffectsLedger, end: str
) -> None:
    channel, approval = by_bot(slack, ledger), opened()
    await channel.show_approval(card(0, approval=approval))

    if end == "rejected":
        approval = after(approval, Verb.REJECT, "sam@example.com", "not on a Friday")
    elif end == "expired":
        approval = expire(approval, POLICY, approval.expires_at)
    else:
        for person in ("carla@example.com", "carl@example.com", "sam@example.com"):
            approval = after(approval, Verb.APPROVE, person)
    assert approval.state == end
    await channel.show_approval(card(1, approval=approval, headline=approval.reason or ""))

    [message] = slack.messages
    assert buttons(message) == []
    assert f"{end.capitalize()}: erlmcp 3.0.0 for production" in words(message)
    assert (approval.reason or "?") in words(message)
    assert "*Decided*" in words(message)
    assert "open to" not in words(message)


# Once, and up to date


async def test_one_message_is_updated_in_place_and_never_back(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel = by_bot(slack, ledger)

    for revision in (0, 1, 3, 2, 3):
        [delivery] = await channel.show_approval(card(revision))
        assert delivery.delivered

    [message] = slack.messages
    assert "*revision 3*" in words(message)
    assert message.edits == 2


async def test_concurrent_revisions_leave_one_message_with_the_newest(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel = by_bot(slack, ledger)
    slack.latency = 0.02

    await asyncio.gather(*(channel.show_approval(card(revision)) for revision in (2, 5, 1, 4, 5, 3)))

    [message] = slack.messages
    assert "*revision 5*" in words(message)


async def test_a_worker_that_died_after_posting_is_followed_by_one_that_finds_the_message(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    # Given a card that was posted, under many later messages, and a ledger that knows only the intent
    shown = card(0)
    async with EffectsLedger.open(tmp_path / "lost.db") as lost:
        [posted] = await by_bot(slack, lost).show_approval(shown)
    for number in range(250):
        slack._add("approvals", {"text": str(number)}, via="api")
    await ledger.intend(shown.key, "slack:approvals")
    # When it is shown again
    [found] = await by_bot(slack, ledger).show_approval(shown)
    # Then it is found, and not changed
    assert found == posted
    assert [m.edits for m in slack.messages if m.metadata] == [0]


async def test_workers_on_two_machines_update_one_message_and_see_each_others_revisions(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    async with EffectsLedger.open(tmp_path / "elsewhere.db") as other:
        here, elsewhere = by_bot(slack, ledger), by_bot(slack, other)
        await here.show_approval(card(0))
        await elsewhere.show_approval(card(1))
        await here.show_approval(card(2))
        # a late one, on the machine that has not seen the newest
        await elsewhere.show_approval(card(2, headline="late"))

    [message] = slack.messages
    assert "*revision 2*" in words(message)


async def test_an_update_whose_end_was_never_noted_is_not_made_twice(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel, shown = by_bot(slack, ledger), card(0)
    await channel.show_approval(shown)
    before = await ledger.find(shown.key, "slack:approvals")
    assert before is not None
    await channel.show_approval(card(1))
    # Given a ledger from before the update
    await ledger.revise(shown.key, "slack:approvals", before.outcome or "")
    # When the update is tried again
    await channel.show_approval(card(1))
    # Then Slack's own copy tells that it was made
    assert slack.messages[0].edits == 1


async def test_a_message_that_somebody_deleted_is_posted_anew_and_found_by_all(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    async with EffectsLedger.open(tmp_path / "elsewhere.db") as other:
        here, elsewhere = by_bot(slack, ledger), by_bot(slack, other)
        await here.show_approval(card(0))
        await elsewhere.show_approval(card(0))
        slack._messages.clear()

        await here.show_approval(card(1))
        await elsewhere.show_approval(card(2))

    [message] = slack.messages
    assert "*revision 2*" in words(message)


async def test_a_bot_that_may_not_read_the_channel_still_keeps_the_message_up_to_date(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    slack.fail_next(3, error="missing_scope", method="conversations.history")
    channel = by_bot(slack, ledger)

    for revision in (0, 1, 0, 2):
        await channel.show_approval(card(revision))

    [message] = slack.messages
    assert "*revision 2*" in words(message)
    assert message.edits == 2


@pytest.mark.parametrize(
    "method", ["conversations.list", "conversations.history", "chat.postMessage", "chat.update"]
)
async def test_a_throttled_call_is_tried_again_when_slack_says_so(
    slack: SlackServer, ledger: EffectsLedger, method: str
) -> None:
    channel = by_bot(slack, ledger)
    slack.fail_next(status=429, retry_after=7, method=method)

    troubles = []
    for revision in (0, 0, 1, 1):
        try:
            await channel.show_approval(card(revision))
        except ApplicationError as error:
            troubles.append(error)

    assert [(e.type, e.next_retry_delay, e.non_retryable) for e in troubles] == [
        (UNAVAILABLE, timedelta(seconds=7), False)
    ]
    [message] = slack.messages
    assert "*revision 1*" in words(message)


async def test_a_revoked_token_is_reported_and_holds_nothing_up(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel = by_bot(slack, ledger)
    await channel.show_approval(card(0))
    slack.fail_next(20, error="token_revoked")

    [update] = await channel.show_approval(card(1))
    [fresh] = await channel.show_approval(card(0).model_copy(update={"key": "another"}))

    assert not update.delivered
    assert update.reason == "Forbidden: Slack answered token_revoked to SLACK_BOT_TOKEN for C00000002"
    assert (fresh.delivered, fresh.reference) == (False, None)
    # and when the bot is let in again, it goes on where it was
    slack._faults.clear()
    assert (await channel.show_approval(card(2)))[0].delivered
    [message] = slack.messages
    assert "*revision 2*" in words(message)


async def test_without_a_channel_of_their_own_approvals_are_shown_among_the_deployments(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    plain = SlackSettings(channels={"deployment_updates": "#deployments"}, api_url=slack.api_url)

    await SlackChannel(plain, ledger, environment={"SLACK_BOT_TOKEN": BOT_TOKEN}).show_approval(card())

    assert [m.channel for m in slack.messages] == ["deployments"]


async def test_reminders_are_replies_to_the_card(slack: SlackServer, ledger: EffectsLedger) -> None:
    channel, shown = by_bot(slack, ledger), card()
    await channel.show_approval(shown)

    await channel.deliver(
        notification(
            "reminder/1",
            NotificationType.APPROVAL_REMINDER,
            thread=shown.key,
            people=("carla@example.com", "carl@example.com"),
            environment="production",
        )
    )

    first, reminder = slack.messages
    assert reminder.thread_ts == first.ts
    assert words(reminder).splitlines()[-1] == "<@U0CARLA> carl@example.com"


# Webhooks


async def test_by_webhook_the_first_and_the_last_word_are_messages_that_say_how_to_decide(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel, approval = by_webhook(slack, ledger), opened()
    ended = after(approval, Verb.REJECT, "sam@example.com", "no")

    outcomes = [
        await channel.show_approval(card(0, approval=approval)),
        await channel.show_approval(card(1, approval=approval)),
        await channel.show_approval(card(2, approval=ended)),
        await channel.show_approval(card(2, approval=ended)),
        await channel.show_approval(card(1, approval=approval)),
    ]

    assert [[d.delivered for d in deliveries] for deliveries in outcomes] == [[True], [], [True], [True], []]
    asking, ending = slack.messages
    assert buttons(asking) == []
    assert "Decide at a terminal: `erlmcp-deploy approve production 3.0.0`" in words(asking)
    assert "Rejected: erlmcp 3.0.0 for production" in words(ending)


async def test_without_token_and_webhook_the_reason_names_the_variables(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    [delivery] = await SlackChannel(settings(slack), ledger, environment={}).show_approval(card())

    assert delivery == Delivery(
        channel="slack:approvals",
        delivered=False,
        reason="Slack is not configured for approvals: set SLACK_WEBHOOK or SLACK_BOT_TOKEN",
    )


# Words for one person


ANSWER = PersonalAnswer(
    key="refusal/1", reply_to="slack:C00000002:U0CARLA", text="you approved already <!here>"
)


async def test_a_person_is_told_alone_where_they_spoke_and_once(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel = by_bot(slack, ledger)

    for _ in range(2):
        receipt = await ActivityEnvironment().run(ConversationActivities([channel]).answer_person, ANSWER)
        assert receipt.deliveries == (Delivery(channel="slack:C00000002:U0CARLA", delivered=True),)

    [told] = slack.ephemerals
    assert (told.channel, told.user) == ("approvals", "U0CARLA")
    assert told.text == "you approved already &lt;!here&gt;"
    assert slack.messages == []


async def test_who_is_not_in_the_channel_gets_a_direct_message(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    slack.fail_next(error="user_not_in_channel", method="chat.postEphemeral")

    [delivery] = await by_bot(slack, ledger).answer_person(ANSWER)

    [message] = slack.messages
    assert message.channel == "@U0CARLA"
    assert delivery == Delivery(channel=ANSWER.reply_to, delivered=True, reference=f"D0CARLA:{message.ts}")


async def test_a_throttled_answer_is_tried_again(slack: SlackServer, ledger: EffectsLedger) -> None:
    slack.fail_next(status=429, retry_after=3, method="chat.postEphemeral")
    channel = by_bot(slack, ledger)

    with pytest.raises(ApplicationError) as raised:
        await channel.answer_person(ANSWER)
    await channel.answer_person(ANSWER)

    assert raised.value.next_retry_delay == timedelta(seconds=3)
    assert len(slack.ephemerals) == 1


@pytest.mark.parametrize(
    ("reply_to", "environment", "reason"),
    [
        (
            "slack:C00000002:U0CARLA",
            {},
            "Slack takes answers to a person from a bot only: set SLACK_BOT_TOKEN",
        ),
        (
            "slack:#approvals:carla",
            {"SLACK_BOT_TOKEN": BOT_TOKEN},
            "reply_to is 'slack:#approvals:carla'; it must be slack:CHANNEL:USER, by their ids",
        ),
        (
            "slack:C00000002:U0NOBODY",
            {"SLACK_BOT_TOKEN": BOT_TOKEN},
            "Refused: Slack answered channel_not_found to SLACK_BOT_TOKEN for U0NOBODY",
        ),
        (
            "teams:19:carla",
            {"SLACK_BOT_TOKEN": BOT_TOKEN},
            "no channel serves reply_to 'teams:19:carla'",
        ),
    ],
)
async def test_who_cannot_be_reached_is_reported(
    slack: SlackServer, ledger: EffectsLedger, reply_to: str, environment: dict[str, str], reason: str
) -> None:
    channel = SlackChannel(settings(slack), ledger, environment=environment)
    answer = ANSWER.model_copy(update={"reply_to": reply_to})

    receipt = await ActivityEnvironment().run(ConversationActivities([channel]).answer_person, answer)

    [delivery] = receipt.deliveries
    assert (delivery.delivered, delivery.reason) == (False, reason)


async def test_a_channel_that_is_down_keeps_the_other_from_nothing(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    async with (
        SlackServer.start(channels=("deployments", "approvals")) as theirs,
        EffectsLedger.open(tmp_path / "theirs.db") as other,
    ):
        activities = ConversationActivities([by_bot(slack, ledger), by_bot(theirs, other)])
        slack.fail_next(status=503)

        with pytest.raises(ApplicationError):
            await ActivityEnvironment().run(activities.show_approval, card())
        receipt = await ActivityEnvironment().run(activities.show_approval, card())

        assert [d.delivered for d in receipt.deliveries] == [True, True]
        assert [len(slack.messages), len(theirs.messages)] == [1, 1]


async def test_a_card_whose_blocks_slack_refuses_says_in_words_how_to_decide(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel = by_bot(slack, ledger)
    slack.fail_next(error="invalid_blocks", method="chat.postMessage")
    await channel.show_approval(card())
    assert slack.messages[0].blocks == []
    assert "erlmcp-deploy approve" in slack.messages[0].text

    # and the next revision has its looks again, unless Slack refuses them once more
    await channel.show_approval(card(revision=2))
    assert slack.messages[0].blocks
    slack.fail_next(error="invalid_blocks", method="chat.update")
    [delivery] = await channel.show_approval(card(revision=3))
    assert delivery.delivered
    assert slack.messages[0].blocks == []


# Whatever is written in it


HOSTILE = (
    "<!channel> <@U0CARLA> <https://evil.example|https://good.example>\n*Approved by carl@example.com*\u202e"
)


async def test_nothing_that_people_wrote_can_mention_disguise_or_forge(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    facts = FACTS.model_copy(
        update={
            "subject": HOSTILE,
            "reason": HOSTILE,
            "risks": (HOSTILE,),
            "diff_url": f"https://a/{HOSTILE}",
        }
    )
    approval = after(opened(), Verb.COMMENT, "dev@example.com", HOSTILE)

    await by_bot(slack, ledger).show_approval(card(approval=approval, facts=facts, headline=HOSTILE))

    [message] = slack.messages
    said = words(message) + message.text
    assert "<!channel>" not in said
    assert "<@U0CARLA>" not in said
    assert "<https://evil" not in said
    assert "\u202e" not in said
    assert not any(line.startswith("*Approved by") for line in said.splitlines())
    assert all(t.get("verbatim") for t in _markdown(message.blocks))


def _markdown(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for part in node:
            yield from _markdown(part)
    elif isinstance(node, dict):
        if node.get("type") == "mrkdwn":
            yield node
        for part in node.values():
            yield from _markdown(part)


ANYTHING = st.text(max_size=20) | st.sampled_from(
    [
        "&" * 4000,
        "<!here>" * 900,
        "x" * 9000,
        "\n" * 50,
        "",
        "🚀" * 3000,
        HOSTILE,
        "https://example.com/?a=<b>|c",
        "https://example.com/?" + "&" * 900,
    ]
)
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@st.composite
def cards(draw: st.DrawFn) -> ApprovalCard:
    """Cards filled with a few texts, each list long or short."""
    texts = itertools.cycle(draw(st.lists(ANYTHING, min_size=1, max_size=6)))
    length, now = draw(st.sampled_from([0, 1, 3, 40])), draw(TIMES)

    def many() -> tuple[str, ...]:
        return tuple(itertools.islice(texts, length))

    def maybe() -> str | None:
        return draw(st.sampled_from([None, next(texts)]))

    def decisions(verb: Verb) -> tuple[Decision, ...]:
        return tuple(
            Decision(verb=verb, actor=a, roles=many()[:4], comment=a, at=now, verified=True, on_behalf_of=a)
            for a in many()
        )

    roles = (next(texts), *many())
    policy = ApprovalPolicy(
        gate=next(texts),
        roles=roles,
        members={role: many() for role in roles[:3]},
        rules=tuple(ApprovalRule(roles=(role,), min_approvals=3) for role in many()),
        excluded=many(),
        authors=many(),
        on_call={role: many() for role in roles[:3]},
        require_verified=draw(st.booleans()),
        emergency=draw(st.sampled_from([None, EmergencyPolicy(roles=roles)])),
    )
    approval = ApprovalStatus(
        id=next(texts),
        deployment_id=next(texts),
        gate_name=next(texts),
        state=draw(st.sampled_from(ApprovalState)),
        required_approvers=roles,
        received_approvals=decisions(Verb.APPROVE),
        received_rejections=decisions(Verb.REJECT),
        comments=decisions(Verb.COMMENT),
        created_at=now,
        expires_at=now,
        decided_at=draw(st.sampled_from([None, now])),
        reason=maybe(),
        escalated_at=draw(st.sampled_from([None, now])),
    )
    facts = ApprovalFacts(
        commit=maybe(),
        subject=maybe(),
        previous_version=maybe(),
        diff_url=maybe(),
        gates=tuple(GateFact(name=n, outcome=n, reason=n) for n in many()),
        compliance_gaps=many(),
        risk=maybe(),
        risks=many(),
        soak=maybe(),
        reason=maybe(),
        deployment_url=f"https://example.com/{next(texts)}",
    )
    return ApprovalCard(
        key="key",
        revision=1,
        application=next(texts),
        environment=next(texts),
        version=next(texts),
        requester=next(texts),
        approval=approval,
        policy=policy,
        facts=facts,
        headline=next(texts),
    )


_OUR_MARKUP = re.compile(
    r"<(?!!date\^\d+\^\{date_short_pretty\} at \{time\}\|[-0-9: ]+UTC>|https?://[^<>|]+(\|[^<>]*)?>)"
)


@given(shown=cards(), now=TIMES, interactive=st.booleans())
@hypothesis_settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_slack_takes_every_card_and_nothing_in_it_is_markup_but_ours(
    shown: ApprovalCard, now: datetime, *, interactive: bool
) -> None:
    message = approval_message(shown, now, interactive=interactive)

    blocks = [block.to_dict() for block in message.blocks]
    assert block_mistakes(blocks) == []
    sizes = [(block["type"], len(json.dumps(block, ensure_ascii=False))) for block in blocks]
    assert sum(size for _, size in sizes) < 13_000, sizes
    assert 0 < len(message.text) < 4000
    for text in (*(node["text"] for node in _markdown(blocks)), message.text):
        assert _OUR_MARKUP.search(text) is None
    offered = [element for block in blocks if block["type"] == "actions" for element in block["elements"]]
    if offered:
        assert interactive
        assert shown.approval.state is ApprovalState.PENDING
        assert json.loads(offered[0]["value"]) == {
            "approval_id": shown.approval.id,
            "gate": shown.policy.gate,
        }
