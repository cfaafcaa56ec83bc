"""Threads and mentions: a deployment is one conversation per channel, and nothing of it is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.ledger import EffectsLedger
from activities.slack import SlackChannel
from domain.configuration import Accounts, Directory, SlackSettings
from domain.notification import Notification, NotificationType, notification
from sandbox.slack import BOT_TOKEN, SlackMessage, SlackServer, SlackUser

T = NotificationType
THREAD = "deployment:erlmcp:production:3.0.0/run-1"
CARLA = SlackUser(id="U0CARLA", email="Carla@Example.com", name="Carla")
DIRECTORY = Directory(
    accounts={
        "sam@example.com": Accounts(slack="U0SAM"),
        "eve@example.com": Accounts(slack="!channel"),
    }
)


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    channels = ("deployments", "alerts", "incidents")
    async with SlackServer.start(channels=channels, users=[CARLA]) as server:
        yield server


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[EffectsLedger]:
    async with EffectsLedger.open(tmp_path / "effects.db") as opened:
        yield opened


def channel(slack: SlackServer, ledger: EffectsLedger, **environment: str) -> SlackChannel:
    settings = SlackSettings(
        channels={"deployment_updates": "#deployments", "alerts": "#alerts", "critical": "#incidents"},
        api_url=slack.api_url,
    )
    return SlackChannel(
        settings, ledger, environment=environment or {"SLACK_BOT_TOKEN": BOT_TOKEN}, directory=DIRECTORY
    )


def told(kind: NotificationType, *, thread: str | None = THREAD, **fields: Any) -> Notification:
    return notification(f"{THREAD}/{kind}", kind, thread=thread, environment="production", **fields)


STARTED = told(T.DEPLOYMENT_STARTED, version="3.0.0")
PROGRESS = told(
    T.DEPLOYMENT_PROGRESS, title="Canary at 50 %", version="3.0.0", error_rate="0.1 %", step="2 of 3"
)
COMPLETED = told(T.DEPLOYMENT_COMPLETED, version="3.0.0")
FAILED = told(T.DEPLOYMENT_FAILED, version="3.0.0")
ROLLED_BACK = told(T.ROLLBACK_COMPLETED, version="2.9.1")


def threads(slack: SlackServer) -> list[tuple[str, str, str | None]]:
    """Of each message its channel, its headline, and that of the message it replies to."""
    headlines = {m.ts: _headline(m) for m in slack.messages}
    return [(m.channel, _headline(m), headlines.get(m.thread_ts or "", m.thread_ts)) for m in slack.messages]


def _headline(message: SlackMessage) -> str:
    return message.text.splitlines()[0]


async def test_the_first_message_is_the_parent_of_the_later_ones_in_its_channel(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    for notice in (STARTED, PROGRESS, FAILED, ROLLED_BACK):
        await channel(slack, ledger).deliver(notice)

    started, failed = "Deployment Started [INFO]", "Deployment Failed [CRITICAL]"
    assert threads(slack) == [
        ("deployments", started, None),
        ("deployments", "Canary at 50 % [INFO]", started),
        ("alerts", failed, None),
        ("incidents", failed, None),
        ("alerts", "Rollback Completed [HIGH]", failed),
    ]


async def test_grave_replies_are_shown_in_the_channel_too(slack: SlackServer, ledger: EffectsLedger) -> None:
    for notice in (STARTED, PROGRESS, FAILED, ROLLED_BACK):
        await channel(slack, ledger).deliver(notice)

    posts = [arguments for method, arguments in slack.calls if method == "chat.postMessage"]
    assert [bool(post.get("reply_broadcast")) for post in posts] == [False, False, False, False, True]


async def test_another_thread_and_none_stand_by_themselves(slack: SlackServer, ledger: EffectsLedger) -> None:
    await channel(slack, ledger).deliver(STARTED)
    other = told(T.DEPLOYMENT_COMPLETED, thread="another").model_copy(update={"key": "a"})
    alone = told(T.DEPLOYMENT_COMPLETED, thread=None).model_copy(update={"key": "b"})
    for notice in (other, alone):
        await channel(slack, ledger).deliver(notice)

    assert [m.thread_ts for m in slack.messages] == [None, None, None]


async def test_the_first_message_of_a_deployment_reads_no_channel(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    await channel(slack, ledger).deliver(STARTED)

    assert [method for method, _ in slack.calls] == ["chat.postMessage"]


async def test_messages_that_begin_a_thread_at_once_begin_one(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    sender = channel(slack, ledger)
    slack.latency = 0.02

    await asyncio.gather(*(sender.deliver(notice) for notice in (STARTED, COMPLETED, PROGRESS)))

    parents = [m for m in slack.messages if m.thread_ts is None]
    assert len(parents) == 1
    assert {m.thread_ts for m in slack.messages} == {None, parents[0].ts}


# Crashes


async def test_a_worker_on_another_machine_finds_the_parent(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    async with EffectsLedger.open(tmp_path / "elsewhere.db") as elsewhere:
        await channel(slack, elsewhere).deliver(STARTED)
        for number in range(250):
            slack._add("deployments", {"text": str(number)}, via="api")

    await channel(slack, ledger).deliver(PROGRESS)
    slack.calls.clear()
    await channel(slack, ledger).deliver(COMPLETED)

    assert [m.thread_ts for m in slack.messages if m.thread_ts] == [slack.messages[0].ts] * 2
    # and remembers it
    assert [method for method, _ in slack.calls] == ["chat.postMessage"]


async def test_a_parent_whose_worker_died_before_it_could_note_it_stays_the_parent(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    async with EffectsLedger.open(tmp_path / "lost.db") as lost:
        [sent] = await channel(slack, lost).deliver(STARTED)
    await ledger.intend(STARTED.key, "slack:deployments")

    assert await channel(slack, ledger).deliver(STARTED) == (sent,)
    await channel(slack, ledger).deliver(COMPLETED)

    first, second = slack.messages
    assert (first.thread_ts, second.thread_ts) == (None, first.ts)


@pytest.mark.parametrize("knows", ["the intent", "the time of the first attempt"])
async def test_a_reply_whose_worker_died_is_found_in_its_thread(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path, knows: str
) -> None:
    async with EffectsLedger.open(tmp_path / "lost.db") as lost:
        await channel(slack, lost).deliver(STARTED)
        [sent] = await channel(slack, lost).deliver(COMPLETED)
    earlier = None
    if knows == "the intent":
        await ledger.intend(COMPLETED.key, "slack:deployments")
    else:
        earlier = datetime.now(UTC) - timedelta(minutes=1)

    assert await channel(slack, ledger).deliver(COMPLETED, earlier_attempt=earlier) == (sent,)
    assert len(slack.messages) == 2


async def test_a_message_that_was_posted_by_itself_is_found_though_its_thread_is_known_now(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    # Given a message that stands by itself, as its parent could not be looked up
    await channel(slack, ledger).deliver(STARTED)
    async with EffectsLedger.open(tmp_path / "elsewhere.db") as elsewhere:
        slack.fail_next(error="missing_scope", method="conversations.history")
        [sent] = await channel(slack, elsewhere).deliver(COMPLETED)
    # When another worker tries it again, in whose ledger there is a parent
    await ledger.intend(COMPLETED.key, "slack:deployments")
    # Then it is found all the same
    assert await channel(slack, ledger).deliver(COMPLETED) == (sent,)
    assert [m.thread_ts for m in slack.messages] == [None, None]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "method": "conversations.history"},
        {"status": 503, "method": "conversations.list"},
        {"error": "missing_scope", "method": "conversations.history"},
    ],
)
async def test_a_parent_that_cannot_be_looked_up_holds_nothing_up(
    slack: SlackServer, ledger: EffectsLedger, fault: dict[str, Any]
) -> None:
    slack.fail_next(**fault)

    [alert, incident] = await channel(slack, ledger).deliver(FAILED)

    assert (alert.delivered, incident.delivered) == (True, True)
    assert [m.thread_ts for m in slack.messages] == [None, None]


async def test_a_parent_that_takes_no_replies_any_more_is_followed_by_another(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    await channel(slack, ledger).deliver(STARTED)
    slack.fail_next(error="thread_not_found", method="chat.postMessage")

    await channel(slack, ledger).deliver(PROGRESS)
    await channel(slack, ledger).deliver(COMPLETED)

    _, second, third = slack.messages
    assert (second.thread_ts, third.thread_ts) == (None, second.ts)


# Progress


async def test_progress_takes_one_line_in_the_thread(slack: SlackServer, ledger: EffectsLedger) -> None:
    await channel(slack, ledger).deliver(STARTED)
    await channel(slack, ledger).deliver(PROGRESS)

    [block] = slack.messages[1].blocks
    assert block["type"] == "context"
    assert block["elements"][0]["text"] == "*Canary at 50 %* · Error rate: 0.1 % · Step: 2 of 3"


@pytest.mark.parametrize("configured", [True, False])
async def test_progress_is_told_only_where_there_are_threads(
    slack: SlackServer, ledger: EffectsLedger, *, configured: bool
) -> None:
    webhook = slack.webhook_url("deployments") if configured else ""

    assert await channel(slack, ledger, SLACK_WEBHOOK=webhook).deliver(PROGRESS) == ()
    assert slack.messages == []


# People


def meaning(*people: str, key: str = "k") -> Notification:
    return notification(key, T.APPROVAL_REQUESTED, people=people, environment="production")


def _last_line(message: SlackMessage) -> str:
    return str(message.blocks[-1]["text"]["text"])


async def test_people_are_mentioned_by_the_directory_or_by_their_address(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    await channel(slack, ledger).deliver(meaning("Sam@example.com", "carla@example.com", "carla@example.com"))

    [message] = slack.messages
    assert _last_line(message) == "<@U0SAM> <@U0CARLA>"
    assert message.text.splitlines()[1] == "<@U0SAM> <@U0CARLA>"
    asked = [arguments["email"] for method, arguments in slack.calls if method == "users.lookupByEmail"]
    assert asked == ["carla@example.com"]


async def test_addresses_are_looked_up_once(slack: SlackServer, ledger: EffectsLedger) -> None:
    sender = channel(slack, ledger)
    for key in ("1", "2", "3"):
        await sender.deliver(meaning("carla@example.com", "nobody@example.com", key=key))

    assert [method for method, _ in slack.calls].count("users.lookupByEmail") == 2
    assert {_last_line(m) for m in slack.messages} == {"<@U0CARLA> nobody@example.com"}


async def test_who_cannot_be_looked_up_now_is_named_and_looked_up_the_next_time(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    sender = channel(slack, ledger)
    slack.fail_next(status=429, method="users.lookupByEmail")
    slack.fail_next(status=500, method="users.lookupByEmail")
    for key in ("1", "2", "3"):
        await sender.deliver(meaning("carla@example.com", key=key))

    assert [_last_line(m) for m in slack.messages] == ["carla@example.com"] * 2 + ["<@U0CARLA>"]


async def test_nobody_is_mentioned_by_a_trick(slack: SlackServer, ledger: EffectsLedger) -> None:
    await channel(slack, ledger).deliver(meaning("eve@example.com", "<!channel>", "on-call"))

    assert _last_line(slack.messages[0]) == "eve@example.com &lt;!channel&gt; on-call"


async def test_of_very_many_people_the_first_are_mentioned(slack: SlackServer, ledger: EffectsLedger) -> None:
    people = tuple(f"{number}-{'x' * 300}@example.com" for number in range(200))

    await channel(slack, ledger).deliver(meaning(*people))

    assert [method for method, _ in slack.calls].count("users.lookupByEmail") == 30
    assert _last_line(slack.messages[0]).endswith(" more")


async def test_by_webhook_people_are_named(slack: SlackServer, ledger: EffectsLedger) -> None:
    sender = channel(slack, ledger, SLACK_WEBHOOK=slack.webhook_url("deployments"))

    await sender.deliver(meaning("sam@example.com", "carla@example.com"))

    [message] = slack.messages
    assert _last_line(message) == "sam@example.com carla@example.com"
    assert message.thread_ts is None
