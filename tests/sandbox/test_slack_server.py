"""The Slack stand-in behaves to the official clients as Slack does."""

from collections.abc import AsyncIterator

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from sandbox.slack import BOT_TOKEN, SlackServer, SlackUser

_ANNA = SlackUser(id="U1ANNA", email="anna@example.com", name="Anna Example")


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer.start(channels=["deployments", "approvals"], users=[_ANNA]) as server:
        yield server


def _client(slack: SlackServer, token: str = BOT_TOKEN) -> AsyncWebClient:
    return AsyncWebClient(token=token, base_url=slack.api_url, retry_handlers=[])


async def test_a_webhook_posts_to_its_channel(slack: SlackServer) -> None:
    answer = await AsyncWebhookClient(slack.webhook_url("deployments")).send(
        text="deployed", blocks=[{"type": "divider"}]
    )

    assert (answer.status_code, answer.body) == (200, "ok")
    [message] = slack.messages
    assert (message.channel, message.text, message.via) == ("deployments", "deployed", "webhook")
    assert message.blocks == [{"type": "divider"}]


async def test_a_webhook_refuses_what_slack_refuses(slack: SlackServer) -> None:
    url = slack.webhook_url("deployments")

    empty = await AsyncWebhookClient(url).send_dict({"username": "x"})
    unknown = await AsyncWebhookClient(url.replace("deployments", "nowhere")).send(text="x")

    assert (empty.status_code, empty.body) == (400, "no_text")
    assert (unknown.status_code, unknown.body) == (404, "no_service")
    assert slack.messages == []


async def test_a_message_is_posted_updated_threaded_and_found_again(slack: SlackServer) -> None:
    client = _client(slack)

    # given a message with metadata, a reply and a reaction
    posted = await client.chat_postMessage(
        channel="#approvals",
        text="3.0.0?",
        metadata={"event_type": "approval", "event_payload": {"key": "k1"}},
    )
    await client.chat_postMessage(channel=posted["channel"], thread_ts=posted["ts"], text="a reminder")
    # when it is updated
    await client.chat_update(channel=posted["channel"], ts=posted["ts"], text="3.0.0: approved")
    await client.reactions_add(channel=posted["channel"], timestamp=posted["ts"], name="ship")

    # then history shows it once, as it stands now, and metadata on demand only
    plain = await client.conversations_history(channel=posted["channel"])
    full = await client.conversations_history(channel=posted["channel"], include_all_metadata=True)
    assert [m["text"] for m in plain["messages"]] == ["3.0.0: approved"]
    assert "metadata" not in plain["messages"][0]
    assert full["messages"][0]["metadata"]["event_payload"] == {"key": "k1"}
    # and the thread holds both
    thread = await client.conversations_replies(channel=posted["channel"], ts=posted["ts"])
    assert [m["text"] for m in thread["messages"]] == ["3.0.0: approved", "a reminder"]
    assert slack.messages[0].edits == 1
    assert slack.messages[0].reactions == ("ship",)


async def test_history_is_read_page_by_page_newest_first(slack: SlackServer) -> None:
    client = _client(slack)
    for number in range(5):
        await client.chat_postMessage(channel="deployments", text=str(number))

    pages = [
        [m["text"] for m in page["messages"]]
        async for page in await client.conversations_history(channel="deployments", limit=2)
    ]

    assert pages == [["4", "3"], ["2", "1"], ["0"]]


async def test_people_are_found_by_email_and_by_id(slack: SlackServer) -> None:
    client = _client(slack)

    by_email = await client.users_lookupByEmail(email="Anna@example.com")
    by_id = await client.users_info(user="U1ANNA")

    assert by_email["user"] == by_id["user"]
    assert by_id["user"]["profile"]["email"] == "anna@example.com"


@pytest.mark.parametrize(
    ("token", "channel", "error"),
    [
        ("xoxb-wrong", "deployments", "invalid_auth"),
        ("", "deployments", "not_authed"),
        (BOT_TOKEN, "nowhere", "channel_not_found"),
    ],
)
async def test_refusals_carry_the_code_of_slack(
    slack: SlackServer, token: str, channel: str, error: str
) -> None:
    with pytest.raises(SlackApiError, match=error):
        await _client(slack, token).chat_postMessage(channel=channel, text="x")
    assert slack.messages == []


async def test_throttling_is_honoured_by_the_official_retry_handler(slack: SlackServer) -> None:
    client = AsyncWebClient(
        token=slack.token,
        base_url=slack.api_url,
        retry_handlers=[AsyncRateLimitErrorRetryHandler(max_retry_count=1)],
    )
    slack.fail_next(status=429, retry_after=0)

    await client.chat_postMessage(channel="deployments", text="once")

    assert [m.text for m in slack.messages] == ["once"]
    assert [method for method, _ in slack.calls] == ["chat.postMessage"] * 2


async def test_faults_hit_only_the_method_they_were_meant_for(slack: SlackServer) -> None:
    slack.fail_next(status=500, method="webhook")
    slack.fail_next(error="fatal_error", method="auth.test")

    assert (await _client(slack).chat_postMessage(channel="deployments", text="x"))["ok"]
    assert (await AsyncWebhookClient(slack.webhook_url("deployments")).send(text="x")).status_code == 500
    with pytest.raises(SlackApiError, match="fatal_error"):
        await _client(slack).auth_test()
    assert (await _client(slack).auth_test())["user_id"] == "U0BOT"
