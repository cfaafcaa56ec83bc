"""Notifications reach every channel; one that is down keeps no other silent."""

import dataclasses
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.channels import resolve, variables
from activities.errors import UNAVAILABLE
from activities.ledger import EffectsLedger
from activities.notifications import NotificationActivities
from activities.slack import SlackChannel
from domain.configuration import SlackSettings
from domain.notification import NotificationType, notification
from sandbox.slack import BOT_TOKEN, SlackServer

COMPLETED = notification(
    "deployment:erlmcp:qa:3.0.0/1", NotificationType.DEPLOYMENT_COMPLETED, environment="qa", version="3.0.0"
)


@pytest.fixture
async def ours() -> AsyncIterator[SlackServer]:
    async with SlackServer.start(channels=["deployments"]) as server:
        yield server


@pytest.fixture
async def theirs() -> AsyncIterator[SlackServer]:
    async with SlackServer.start(channels=["releases"]) as server:
        yield server


async def test_all_channels_are_told_and_the_one_that_was_down_is_told_later(
    ours: SlackServer, theirs: SlackServer, tmp_path: Path
) -> None:
    async with (
        EffectsLedger.open(tmp_path / "a.db") as first,
        EffectsLedger.open(tmp_path / "b.db") as second,
    ):
        activities = NotificationActivities(
            [
                SlackChannel(
                    SlackSettings(), first, environment={"SLACK_WEBHOOK": ours.webhook_url("deployments")}
                ),
                SlackChannel(
                    SlackSettings(), second, environment={"SLACK_WEBHOOK": theirs.webhook_url("releases")}
                ),
            ]
        )
        # given one of two that does not answer
        ours.fail_next(status=503)
        # when they are to be told
        with pytest.raises(ApplicationError) as raised:
            await ActivityEnvironment().run(activities.notify, COMPLETED)
        # then the other was
        assert raised.value.type == UNAVAILABLE
        assert [len(ours.messages), len(theirs.messages)] == [0, 1]
        # and the next attempt tells only the first
        receipt = await ActivityEnvironment().run(activities.notify, COMPLETED)
        assert [delivery.delivered for delivery in receipt.deliveries] == [True, True]
        assert [len(ours.messages), len(theirs.messages)] == [1, 1]


async def test_a_second_attempt_on_a_fresh_machine_looks_before_it_speaks(
    ours: SlackServer, tmp_path: Path
) -> None:
    references = []
    for attempt in (1, 2):
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(
            environment.info, attempt=attempt, scheduled_time=datetime.fromisoformat("2026-02-02T12:00:00Z")
        )
        async with EffectsLedger.open(tmp_path / f"machine-{attempt}.db") as ledger:
            slack = SlackChannel(
                SlackSettings(channels={"deployment_updates": "C00000001"}, api_url=ours.api_url),
                ledger,
                environment={"SLACK_BOT_TOKEN": BOT_TOKEN},
            )
            receipt = await environment.run(NotificationActivities([slack]).notify, COMPLETED)
            references.append(receipt.deliveries[0].reference)

    assert len(ours.messages) == 1
    assert references == [f"C00000001:{ours.messages[0].ts}"] * 2


async def test_a_ledger_that_cannot_be_opened_says_which_file(tmp_path: Path) -> None:
    (tmp_path / "effects.db").write_text("no database, but long enough to be taken for one" * 100)

    with pytest.raises(ApplicationError, match=r"effects\.db: file is not a database") as raised:
        async with EffectsLedger.open(tmp_path / "effects.db"):
            pass

    assert raised.value.type == UNAVAILABLE


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("${A}", "x"),
        ("https://${A}/${B}", None),
        ("https://example.com/$", "https://example.com/$"),
        ("${EMPTY}", None),
        ("", None),
    ],
)
def test_settings_are_read_from_the_environment(setting: str, expected: str | None) -> None:
    assert resolve(setting, {"A": "x", "EMPTY": ""}) == expected


def test_the_variables_of_a_setting_are_known_by_name() -> None:
    assert variables("${A}-${B}-plain") == ("A", "B")
