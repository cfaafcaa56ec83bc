"""Socket Mode: connecting, being dropped, being stopped."""

from __future__ import annotations

import asyncio
import logging

import pytest

from starters.errors import CommandError
from starters.slack.socket_mode import run_socket_mode
from tests.starters.slack.conftest import ANNA, Office, Open


@pytest.mark.parametrize("reason", [None, "warning", "refresh_requested"])
async def test_decisions_go_on_after_the_connection_was_lost(open_office: Open, reason: str | None) -> None:
    office: Office = await open_office("socket")
    approval = await office.approval()
    card = await office.card(approval)

    await office.slack.drop_connections(reason)
    await office.slack.wait_for_connections(1)
    click = await office.slack.click(card, "approval_approve", user=ANNA)

    assert click.acknowledged
    assert len(await approval.decisions()) == 1


async def test_it_waits_for_a_slack_that_is_away(open_office: Open) -> None:
    office: Office = await open_office("http")
    office.slack.request_url = None
    office.slack.fail_next(status=503, method="apps.connections.open")
    stopping = asyncio.Event()

    running = asyncio.create_task(
        run_socket_mode(office.desk, office.environment, lambda: office.settings, stopping)
    )
    await office.slack.wait_for_connections(1)

    assert (await office.slack.command("/deploy", "help", user=ANNA)).acknowledged
    stopping.set()
    await running
    await office.slack.wait_for_connections(0)


async def test_a_stop_lets_what_has_begun_be_acknowledged(open_office: Open) -> None:
    office: Office = await open_office("http")
    office.slack.request_url = None
    stopping = asyncio.Event()
    running = asyncio.create_task(
        run_socket_mode(office.desk, office.environment, lambda: office.settings, stopping)
    )
    await office.slack.wait_for_connections(1)
    approval = await office.approval()
    card = await office.card(approval)

    # given a click that waits for Slack's own answer
    office.slack.latency = 0.5
    clicking = asyncio.create_task(office.slack.click(card, "approval_approve", user=ANNA))
    while not office.calls("auth.test"):  # noqa: ASYNC110 - the desk has begun when it asks
        await asyncio.sleep(0.01)
    # when we are stopped
    stopping.set()
    await running

    # then it counts, and Slack knows
    assert (await clicking).acknowledged
    assert len(await approval.decisions()) == 1


async def test_a_stop_while_slack_is_away_ends_it(open_office: Open) -> None:
    office: Office = await open_office("http")
    office.slack.fail_next(100, status=503, method="apps.connections.open")
    stopping = asyncio.Event()
    running = asyncio.create_task(
        run_socket_mode(office.desk, office.environment, lambda: office.settings, stopping)
    )
    while not office.calls("apps.connections.open"):  # noqa: ASYNC110 - it is being tried
        await asyncio.sleep(0.01)

    stopping.set()

    await asyncio.wait_for(running, 10)


@pytest.mark.parametrize(("token", "words"), [(None, "is not set"), ("xapp-wrong", "invalid_auth")])
async def test_a_token_that_cannot_work_is_said_at_once(
    open_office: Open, token: str | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    office: Office = await open_office("http", SLACK_APP_TOKEN=token)

    with caplog.at_level(logging.DEBUG), pytest.raises(CommandError, match=words):
        await run_socket_mode(office.desk, office.environment, lambda: office.settings, asyncio.Event())

    assert "xapp-wrong" not in caplog.text
