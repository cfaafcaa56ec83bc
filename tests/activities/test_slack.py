"""Slack messages: what people see, exactly once, whatever Slack or the worker does meanwhile."""

import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.models.blocks import MarkdownTextObject, SectionBlock
from temporalio.exceptions import ApplicationError

from activities.errors import UNAVAILABLE
from activities.ledger import EffectsLedger
from activities.slack import SlackChannel
from activities.slack.message import Message
from activities.slack.webhook import Webhook
from domain.configuration import SlackSettings
from domain.notification import Notification, NotificationType, notification
from sandbox.processes import free_port
from sandbox.slack import BOT_TOKEN, SlackServer

CHANNELS = ("deployments", "alerts", "incidents")
STARTED = notification(
    "deployment:erlmcp:staging:3.0.0/1",
    NotificationType.DEPLOYMENT_STARTED,
    environment="staging",
    version="3.0.0",
    commit="abc123",
    actor="user@example.com",
    workflow_url="https://github.com/...",
    estimated_duration="10m",
)
FAILED = notification(
    "deployment:erlmcp:production:3.0.0/2",
    NotificationType.DEPLOYMENT_FAILED,
    environment="production",
    version="3.0.0",
    stage="health_check",
    error_message="Health check timeout",
    rollback_initiated=True,
    incident_url="https://pagerduty.com/...",
)


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer.start(channels=CHANNELS) as server:
        yield server


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[EffectsLedger]:
    async with EffectsLedger.open(tmp_path / "effects.db") as opened:
        yield opened


def settings(slack: SlackServer) -> SlackSettings:
    return SlackSettings(
        webhooks={name: f"${{SLACK_{name.upper()}_WEBHOOK}}" for name in CHANNELS},
        channels={"deployment_updates": "#deployments", "alerts": "#alerts", "critical": "#incidents"},
        api_url=slack.api_url,
    )


def webhooks(slack: SlackServer) -> dict[str, str]:
    return {f"SLACK_{name.upper()}_WEBHOOK": slack.webhook_url(name) for name in CHANNELS}


def by_webhook(slack: SlackServer, ledger: EffectsLedger) -> SlackChannel:
    return SlackChannel(settings(slack), ledger, environment=webhooks(slack))


def by_bot(slack: SlackServer, ledger: EffectsLedger) -> SlackChannel:
    return SlackChannel(settings(slack), ledger, environment={"SLACK_BOT_TOKEN": BOT_TOKEN})


BOTH_WAYS = pytest.mark.parametrize("way", [by_webhook, by_bot])
Way = Callable[[SlackServer, EffectsLedger], SlackChannel]


@BOTH_WAYS
async def test_people_read_the_title_the_severity_and_the_fields_of_the_template_in_its_order(
    slack: SlackServer, ledger: EffectsLedger, way: Way
) -> None:
    [delivery] = await way(slack, ledger).deliver(STARTED)

    [message] = slack.messages
    assert delivery.delivered
    assert message.channel == "deployments"
    header, section = message.blocks
    assert header["text"]["text"] == "Deployment Started [INFO]"
    assert [field["text"] for field in section["fields"]] == [
        "*Environment*\nstaging",
        "*Version*\n3.0.0",
        "*Commit*\nabc123",
        "*Actor*\nuser@example.com",
        "*Workflow url*\n<https://github.com/...>",
        "*Estimated duration*\n10m",
    ]
    assert message.text.splitlines()[:2] == ["Deployment Started [INFO]", "Environment: staging"]


async def test_a_bots_message_carries_the_json_of_the_specification(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    [delivery] = await by_bot(slack, ledger).deliver(STARTED)

    [message] = slack.messages
    assert delivery.reference == f"C00000001:{message.ts}"
    assert message.metadata == {
        "event_type": "erlmcp_deploy",
        "event_payload": {
            "key": STARTED.key,
            "notification": {
                "type": "deployment.started",
                "severity": "info",
                "title": "Deployment Started",
                "fields": {
                    "environment": "staging",
                    "version": "3.0.0",
                    "commit": "abc123",
                    "actor": "user@example.com",
                    "workflow_url": "https://github.com/...",
                    "estimated_duration": "10m",
                },
            },
        },
    }


T = NotificationType


@pytest.mark.parametrize(
    ("kind", "environment", "topics"),
    [
        (T.DEPLOYMENT_STARTED, "production", ["deployments"]),
        (T.DEPLOYMENT_COMPLETED, "production", ["deployments"]),
        (T.DEPLOYMENT_REJECTED, "production", ["deployments"]),
        (T.APPROVAL_REQUESTED, "production", ["approvals"]),
        (T.APPROVAL_REMINDER, "production", ["approvals"]),
        (T.APPROVAL_ESCALATED, "staging", ["approvals"]),
        (T.APPROVAL_ESCALATED, "production", ["approvals", "incidents"]),
        (T.APPROVAL_BREAK_GLASS, "production", ["approvals", "incidents"]),
        (T.DEPLOYMENT_FAILED, "staging", ["alerts"]),
        (T.DEPLOYMENT_FAILED, "production", ["alerts", "incidents"]),
        (T.ROLLBACK_STARTED, "production", ["alerts", "incidents"]),
        (T.ROLLBACK_COMPLETED, "production", ["alerts"]),
        (T.ROLLBACK_FAILED, "qa", ["alerts"]),
    ],
)
@BOTH_WAYS
async def test_each_type_goes_to_its_channel(
    slack: SlackServer,
    ledger: EffectsLedger,
    *,
    way: Way,
    kind: NotificationType,
    environment: str,
    topics: list[str],
) -> None:
    deliveries = await way(slack, ledger).deliver(notification("k", kind, environment=environment))

    assert [delivery.channel for delivery in deliveries] == [f"slack:{name}" for name in topics]
    # where approvals have no channel of their own, they are told among the deployments
    channels = ["deployments" if name == "approvals" else name for name in topics]
    assert [message.channel for message in slack.messages] == channels


async def test_one_webhook_serves_every_channel_and_is_told_once(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    channel = SlackChannel(
        settings(slack), ledger, environment={"SLACK_WEBHOOK": slack.webhook_url("deployments")}
    )

    await channel.deliver(STARTED)
    await channel.deliver(FAILED)

    assert [message.text.splitlines()[0] for message in slack.messages] == [
        "Deployment Started [INFO]",
        "Deployment Failed [CRITICAL]",
    ]


async def test_webhooks_are_read_when_a_message_is_sent(slack: SlackServer, ledger: EffectsLedger) -> None:
    # given a worker that started without
    environment: dict[str, str] = {}
    channel = SlackChannel(settings(slack), ledger, environment=environment)
    await channel.deliver(STARTED)
    # when it is set
    environment |= webhooks(slack)
    # then the same message goes out
    [delivery] = await channel.deliver(STARTED)
    assert delivery.delivered
    assert len(slack.messages) == 1


async def test_without_a_destination_the_deployment_goes_on_and_one_warning_names_the_variables(
    slack: SlackServer, ledger: EffectsLedger, caplog: pytest.LogCaptureFixture
) -> None:
    channel = SlackChannel(settings(slack), ledger, environment={"SLACK_DEPLOYMENTS_WEBHOOK": ""})

    [delivery] = await channel.deliver(STARTED)
    await channel.deliver(STARTED.model_copy(update={"key": "another"}))

    assert not delivery.delivered
    assert delivery.reason == (
        "Slack is not configured for deployments:"
        " set SLACK_DEPLOYMENTS_WEBHOOK, SLACK_WEBHOOK or SLACK_BOT_TOKEN"
    )
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@BOTH_WAYS
async def test_the_same_key_is_told_once_also_by_the_next_worker(
    slack: SlackServer, tmp_path: Path, way: Way
) -> None:
    deliveries = []
    for _ in range(2):
        async with EffectsLedger.open(tmp_path / "shared.db") as ledger:
            deliveries += [await way(slack, ledger).deliver(FAILED) for _ in range(2)]

    assert [message.channel for message in slack.messages] == ["alerts", "incidents"]
    assert deliveries == [deliveries[0]] * 4


async def test_a_bot_finds_the_message_of_a_worker_that_died_before_it_could_note_it(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    # given a message that was sent, under many later ones
    async with EffectsLedger.open(tmp_path / "lost.db") as lost:
        [sent] = await by_bot(slack, lost).deliver(STARTED)
        for number in range(250):
            slack._add("deployments", {"text": str(number)}, via="api")
    # and a ledger that only knows that it was meant to be
    await ledger.intend(STARTED.key, "slack:deployments")
    # when the activity is tried again
    [found] = await by_bot(slack, ledger).deliver(STARTED)
    # then it is found, not sent
    assert found == sent
    assert len([m for m in slack.messages if m.metadata]) == 1
    # and nobody asks Slack a third time
    slack.calls.clear()
    assert await by_bot(slack, ledger).deliver(STARTED) == (sent,)
    assert slack.calls == []


async def test_a_bot_finds_the_message_of_a_worker_on_another_machine(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    async with EffectsLedger.open(tmp_path / "elsewhere.db") as elsewhere:
        [sent] = await by_bot(slack, elsewhere).deliver(STARTED)

    earlier = datetime.now(UTC) - timedelta(minutes=1)
    assert await by_bot(slack, ledger).deliver(STARTED, earlier_attempt=earlier) == (sent,)
    assert len(slack.messages) == 1


@BOTH_WAYS
async def test_a_message_that_was_meant_but_not_sent_is_sent(
    slack: SlackServer, ledger: EffectsLedger, way: Way
) -> None:
    await ledger.intend(STARTED.key, "slack:deployments")

    [delivery] = await way(slack, ledger).deliver(STARTED)

    assert delivery.delivered
    assert len(slack.messages) == 1


async def test_a_bot_that_may_not_read_the_channel_sends_rather_than_loses(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    await ledger.intend(STARTED.key, "slack:deployments")
    slack.fail_next(error="missing_scope", method="conversations.history")

    [delivery] = await by_bot(slack, ledger).deliver(STARTED)

    assert delivery.delivered
    assert len(slack.messages) == 1


async def test_a_history_that_cannot_be_read_now_is_asked_again_before_anything_is_sent(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    async with EffectsLedger.open(tmp_path / "lost.db") as lost:
        await by_bot(slack, lost).deliver(STARTED)
    await ledger.intend(STARTED.key, "slack:deployments")
    slack.fail_next(status=429, retry_after=30, method="conversations.history")
    slack.fail_next(status=503, method="conversations.list")

    for _ in range(2):
        with pytest.raises(ApplicationError) as raised:
            await by_bot(slack, ledger).deliver(STARTED)
        assert raised.value.type == UNAVAILABLE
    [delivery] = await by_bot(slack, ledger).deliver(STARTED)

    assert delivery.delivered
    assert len(slack.messages) == 1


@pytest.mark.parametrize(
    ("fault", "retry_after"),
    [
        ({"status": 429, "retry_after": 7}, timedelta(seconds=7)),
        ({"status": 500}, None),
        ({"status": 503}, None),
        ({"status": 200, "error": "internal_error"}, None),
    ],
)
@BOTH_WAYS
async def test_passing_trouble_is_tried_again_and_told_once(
    slack: SlackServer,
    ledger: EffectsLedger,
    way: Way,
    fault: dict[str, Any],
    retry_after: timedelta | None,
) -> None:
    channel = way(slack, ledger)
    slack.fail_next(**fault)

    with pytest.raises(ApplicationError) as raised:
        await channel.deliver(FAILED)
    assert (raised.value.type, raised.value.non_retryable) == (UNAVAILABLE, False)
    assert raised.value.next_retry_delay == retry_after
    # the other channel was told all the same
    assert [message.channel for message in slack.messages] == ["incidents"]

    deliveries = await channel.deliver(FAILED)
    assert [delivery.delivered for delivery in deliveries] == [True, True]
    assert [message.channel for message in slack.messages] == ["incidents", "alerts"]


@pytest.mark.parametrize(
    ("way", "environment", "reason"),
    [
        (
            "webhook",
            {"SLACK_DEPLOYMENTS_WEBHOOK": "{webhook}-wrong"},
            "Refused: Slack answered no_service to SLACK_DEPLOYMENTS_WEBHOOK",
        ),
        (
            "webhook",
            {"SLACK_DEPLOYMENTS_WEBHOOK": "see the wiki: s3cret"},
            "Refused: SLACK_DEPLOYMENTS_WEBHOOK is not an http or https address",
        ),
        (
            "bot",
            {"SLACK_BOT_TOKEN": "xoxb-s3cret"},
            "Forbidden: Slack answered invalid_auth to SLACK_BOT_TOKEN for #deployments",
        ),
        (
            "unknown channel",
            {"SLACK_BOT_TOKEN": BOT_TOKEN},
            "Refused: Slack answered channel_not_found to SLACK_BOT_TOKEN for #nowhere",
        ),
    ],
)
async def test_a_refusal_is_recorded_and_keeps_no_deployment_up(
    slack: SlackServer, ledger: EffectsLedger, way: str, environment: dict[str, str], reason: str
) -> None:
    configured = settings(slack)
    if way == "unknown channel":
        configured = configured.model_copy(update={"channels": {"deployment_updates": "#nowhere"}})
    resolved = {
        name: value.format(webhook=slack.webhook_url("deployments")) for name, value in environment.items()
    }

    [delivery] = await SlackChannel(configured, ledger, environment=resolved).deliver(STARTED)

    assert (delivery.delivered, delivery.reason) == (False, reason)
    # and once it is put right, the message can go
    [delivery] = await by_webhook(slack, ledger).deliver(STARTED)
    assert delivery.delivered


@pytest.mark.parametrize("trouble", ["closed", "refused", "throttled", "broken", "no address", "taken"])
async def test_webhook_addresses_appear_nowhere(
    slack: SlackServer, ledger: EffectsLedger, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    address = {
        "closed": f"http://127.0.0.1:{free_port()}/services/s3cret",
        "refused": slack.webhook_url("deployments") + "-s3cret",
        "no address": "https://[s3cret",
    }.get(trouble, slack.webhook_url("deployments"))
    if trouble in {"throttled", "broken"}:
        slack.fail_next(status={"throttled": 429, "broken": 502}[trouble])
    channel = SlackChannel(settings(slack), ledger, environment={"SLACK_WEBHOOK": address})
    caplog.set_level(logging.DEBUG)

    said = ""
    try:
        said = repr(await channel.deliver(STARTED))
    except ApplicationError as error:
        assert error.__cause__ is None
        said = repr(error)

    said += "".join(r.getMessage() for r in caplog.records if not r.name.startswith("uvicorn"))
    assert "services" not in said
    assert "s3cret" not in said
    assert ("SLACK_WEBHOOK" in said) == (trouble != "taken")


async def test_an_unreachable_web_api_is_tried_again(slack: SlackServer, ledger: EffectsLedger) -> None:
    nowhere = SlackSettings(
        channels={"deployment_updates": "C1"}, api_url=f"http://127.0.0.1:{free_port()}/api/"
    )

    with pytest.raises(ApplicationError, match="cannot be reached at http") as raised:
        await SlackChannel(nowhere, ledger, environment={"SLACK_BOT_TOKEN": BOT_TOKEN}).deliver(STARTED)

    assert raised.value.type == UNAVAILABLE
    assert BOT_TOKEN not in repr(raised.value)


async def test_values_can_neither_mention_people_nor_disguise_links_nor_burst_the_message(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    hostile = Notification(
        key="k",
        type=NotificationType.DEPLOYMENT_FAILED,
        severity=FAILED.severity,
        title="T" * 400,
        fields={f"field_{number}": "<!channel> & " + "x" * 9000 for number in range(12)},
    )

    await by_bot(slack, ledger).deliver(hostile)

    [message] = slack.messages
    header, first, second = message.blocks
    assert len(header["text"]["text"]) == 150
    assert (len(first["fields"]), len(second["fields"])) == (10, 2)
    assert all(len(field["text"]) <= 2000 for field in first["fields"])
    assert first["fields"][0]["text"].startswith("*Field 0*\n&lt;!channel&gt; &amp; xxx")
    assert "<!channel>" not in message.text
    assert message.metadata == {"event_type": "erlmcp_deploy", "event_payload": {"key": "k"}}


async def test_a_value_stays_one_field(slack: SlackServer, ledger: EffectsLedger) -> None:
    # given words of people that look like fields of ours
    forged = "latency\n*Approved by*\u2028\u061cbob@example.com,\u200b\U000e0041\u3164verified"
    told = notification("k", NotificationType.DEPLOYMENT_FAILED, environment="staging", error_message=forged)

    await by_bot(slack, ledger).deliver(told)

    [message] = slack.messages
    _, section = message.blocks
    assert section["fields"][1]["text"] == "*Error message*\nlatency *Approved by* bob@example.com, verified"
    assert message.text.splitlines()[1:] == [
        "Environment: staging",
        "Error message: latency *Approved by* bob@example.com, verified",
    ]


@pytest.mark.parametrize("ampersands", [100, 190, 960])
async def test_an_address_bursts_no_field_however_it_is_written(
    slack: SlackServer, ledger: EffectsLedger, ampersands: int
) -> None:
    address = "https://x.example.com/?" + "&" * ampersands
    told = notification(
        "k", NotificationType.DEPLOYMENT_FAILED, environment="production", incident_url=address
    )

    deliveries = await by_bot(slack, ledger).deliver(told)

    assert [d.delivered for d in deliveries] == [True, True]
    assert (
        slack.messages[0]
        .blocks[1]["fields"][1]["text"]
        .startswith(f"*Incident url*\n{'<' if ampersands < 960 / 5 else ''}https://x.example.com/?&amp;")
    )
    assert [name for name, _ in slack.calls] == ["chat.postMessage", "chat.postMessage"]


async def test_blocks_that_slack_refuses_cost_the_looks_and_not_the_message(
    slack: SlackServer, ledger: EffectsLedger
) -> None:
    slack.fail_next(error="invalid_blocks", method="chat.postMessage")

    [delivery] = await by_bot(slack, ledger).deliver(STARTED)

    [message] = slack.messages
    assert delivery.delivered
    assert message.blocks == []
    assert message.text.splitlines()[:2] == ["Deployment Started [INFO]", "Environment: staging"]


@pytest.mark.parametrize("length", [2500, 3500])  # too long for Slack; too long for its library
async def test_by_webhook_too(slack: SlackServer, length: int) -> None:
    too_long = SectionBlock(fields=[MarkdownTextObject(text="x" * length)])

    await Webhook(slack.webhook_url("alerts"), "SLACK_WEBHOOK").send(
        Message(text="in words", blocks=[too_long])
    )

    [message] = slack.messages
    assert (message.text, message.blocks) == ("in words", [])


async def test_without_the_scope_for_private_channels_the_public_ones_are_looked_up(
    slack: SlackServer, ledger: EffectsLedger, tmp_path: Path
) -> None:
    # given a message that a worker on another machine sent
    async with EffectsLedger.open(tmp_path / "other.db") as other:
        [sent] = await by_bot(slack, other).deliver(STARTED)
    await ledger.intend(STARTED.key, "slack:deployments")
    # when the bot has channels:read only
    slack.fail_next(error="missing_scope", method="conversations.list")

    [delivery] = await by_bot(slack, ledger).deliver(STARTED)

    # then it is found all the same
    assert delivery.reference == sent.reference
    assert len(slack.messages) == 1
    asked = [arguments["types"] for name, arguments in slack.calls if name == "conversations.list"]
    assert asked == ["public_channel,private_channel", "public_channel"]
