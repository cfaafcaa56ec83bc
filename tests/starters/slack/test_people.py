"""Who a Slack user is."""

from __future__ import annotations

import asyncio

import pytest

from domain.configuration import Configuration
from sandbox.slack import BOT_TOKEN, TEAM, SlackServer, SlackUser
from starters.receiver.answer import RefusedError
from starters.slack.payloads import Who
from starters.slack.people import REMEMBERED_FOR, People, SlackApi, StrangerError
from tests.starters.slack.conftest import ANNA, CLAIMED, GONE, GUEST, LISTED, PEOPLE, ROBOT
from tests.starters.world import ADA


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _people(
    slack: SlackServer, clock: Clock | None = None, *, token: str | None = BOT_TOKEN, places: int = 10
) -> People:
    settings = Configuration.model_validate(
        {
            "notification_channels": {"slack": {"api_url": slack.api_url}},
            "directory": {"accounts": {"eve@example.com": {"slack": LISTED.id}}},
        }
    )
    api = SlackApi(lambda: settings, {} if token is None else {"SLACK_BOT_TOKEN": token})
    return People(api, lambda: settings, now=clock or Clock(), places=places)


def _who(user: SlackUser) -> Who:
    return Who(id=user.id, team_id=user.team)


async def test_the_directory_comes_first_then_the_address_slack_knows() -> None:
    async with SlackServer.start(users=PEOPLE) as slack:
        people = _people(slack)

        assert await people.address_of(_who(LISTED)) == "eve@example.com"
        assert "users.info" not in [method for method, _ in slack.calls]
        assert await people.address_of(_who(ANNA)) == ADA


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (GONE, "deactivated"),
        (ROBOT, "bot"),
        (GUEST, "another workspace"),
        (CLAIMED, "does not tell your address"),
        (SlackUser(id="U9NEW", email=None, name="New"), "does not know you"),
    ],
)
async def test_strangers_are_refused_with_what_to_do(user: SlackUser, reason: str) -> None:
    async with SlackServer.start(users=PEOPLE) as slack:
        with pytest.raises(StrangerError, match=reason):
            await _people(slack).address_of(_who(user))


async def test_a_listed_account_does_not_open_the_door_to_another_workspace() -> None:
    visiting = SlackUser(id=LISTED.id, email=None, name="Eve", team="T9OTHER")
    async with SlackServer.start(users=[visiting]) as slack:
        with pytest.raises(StrangerError, match="another workspace"):
            await _people(slack).address_of(_who(visiting))


async def test_without_a_token_only_the_directory_counts() -> None:
    async with SlackServer.start(users=PEOPLE) as slack:
        people = _people(slack, token=None)

        assert await people.address_of(_who(LISTED), here=TEAM) == "eve@example.com"
        for elsewhere in ("T9OTHER", None):
            with pytest.raises(StrangerError, match="another workspace"):
                await people.address_of(_who(LISTED), here=elsewhere)
        with pytest.raises(StrangerError, match="SLACK_BOT_TOKEN"):
            await people.address_of(_who(ANNA), here=TEAM)


async def test_people_are_remembered_for_a_while_and_troubles_are_not() -> None:
    async with SlackServer.start(users=PEOPLE) as slack:
        clock = Clock()
        people = _people(slack, clock)

        def asked() -> int:
            return [method for method, _ in slack.calls].count("users.info")

        slack.fail_next(status=429, method="users.info")
        with pytest.raises(RefusedError) as throttled:
            await people.address_of(_who(ANNA))
        assert throttled.value.answer.status == 503
        slack.fail_next(error="invalid_auth", method="users.info")
        with pytest.raises(StrangerError, match="invalid_auth"):
            await people.address_of(_who(ANNA))
        assert asked() == 2

        # when many ask at once, Slack is asked once
        await asyncio.gather(*(people.address_of(_who(ANNA)) for _ in range(5)))
        assert asked() == 3
        assert REMEMBERED_FOR <= 300
        clock.now += REMEMBERED_FOR - 1
        await people.address_of(_who(ANNA))
        assert asked() == 3
        clock.now += 1
        await people.address_of(_who(ANNA))
        assert asked() == 4


async def test_the_longest_known_is_forgotten_first_when_there_is_no_more_place() -> None:
    crowd = [SlackUser(id=f"U{n}CROWD", email=f"{n}@example.com", name="x") for n in range(3)]
    async with SlackServer.start(users=crowd) as slack:
        people = _people(slack, places=2)
        for user in (crowd[0], crowd[1], crowd[2], crowd[1], crowd[2], crowd[0]):
            await people.address_of(_who(user))

    asked = [arguments["user"] for method, arguments in slack.calls if method == "users.info"]
    assert asked == ["U0CROWD", "U1CROWD", "U2CROWD", "U0CROWD"]
