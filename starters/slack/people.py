"""Who a Slack user is: the directory of deployment.yaml first, then the address Slack knows (users.info).

Needs the scopes ``users:read`` and ``users:read.email`` for people whom the directory does not name.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from activities.slack.answers import SILENT
from activities.slack.web_api import BOT_TOKEN
from domain.configuration import Configuration
from starters.receiver.temporal import unavailable
from starters.slack.payloads import Posted, Who
from starters.slack.words import Words, code, words

REMEMBERED_FOR = 300.0
"""Seconds that a person's profile counts; what could not be asked is asked again at once."""
_TIMEOUT_SECONDS = 5
_PASSING = frozenset(
    {
        "fatal_error",
        "internal_error",
        "ratelimited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
_ERROR_CODE = re.compile(r"[a-z_]{1,60}")


class StrangerError(Exception):
    """We do not know, or do not serve, this person; says what to do."""

    def __init__(self, said: Words) -> None:
        super().__init__(said.paragraphs[0])
        self.said = said


class SlackRefusedError(Exception):
    """Slack's answer was no, and will be again.

    Attributes:
        code: Slack's error code.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Home:
    """Where and as whom the bot token speaks.

    Attributes:
        team: the workspace's id.
        user, bot: ids of our bot, as messages it posted name it.
    """

    team: str
    enterprise: str | None
    user: str | None
    bot: str | None

    def posted(self, message: Posted | None) -> bool:
        """Whether our bot posted the message, and not an incoming webhook of the app, or somebody else."""
        if message is None or message.subtype == "bot_message" or self.user is None:
            return False
        return message.user == self.user and self.bot in (None, message.bot_id)


@dataclass(frozen=True)
class _Profile:
    email: str | None
    team: str | None
    enterprise: str | None
    deleted: bool
    bot: bool


class SlackApi:
    """The Web API as the receiver uses it; settings and token are read for each call."""

    def __init__(self, configuration: Callable[[], Configuration], environment: Mapping[str, str]) -> None:
        self._configuration = configuration
        self._environment = environment
        self._home: tuple[str, Home] | None = None  # by token

    @property
    def token(self) -> str | None:
        return self._environment.get(BOT_TOKEN) or None

    async def call(self, method: Callable[[AsyncWebClient], Awaitable[AsyncSlackResponse]]) -> dict[str, Any]:
        """Call a method of the Web API once.

        Raises:
            RefusedError: 503; Slack is away or throttles.
            SlackRefusedError: it says no.
        """
        client = AsyncWebClient(
            token=self.token,
            base_url=self._configuration().notification_channels.slack.api_url,
            timeout=_TIMEOUT_SECONDS,
            retry_handlers=[],
            logger=SILENT,
        )
        try:
            answer = await method(client)
        except SlackApiError as error:
            data = getattr(error.response, "data", None)
            status = getattr(error.response, "status_code", getattr(error.response, "status", 500))
            code = str(data.get("error", "")) if isinstance(data, dict) else ""
            if status == 429 or status >= 500 or code in _PASSING:
                raise unavailable("Slack itself does not answer; try again") from None
            # The words of an answer are repeated only if they are one of Slack's error codes.
            raise SlackRefusedError(code if _ERROR_CODE.fullmatch(code) else f"HTTP {status}") from None
        except (aiohttp.ClientError, TimeoutError):
            raise unavailable("Slack itself cannot be reached; try again") from None
        return answer.data if isinstance(answer.data, dict) else {}

    async def home(self) -> Home:
        """Asked once for each token; raises as `call` does."""
        token = self.token or ""
        if self._home is None or self._home[0] != token:
            answer = await self.call(lambda slack: slack.auth_test())
            home = Home(
                team=str(answer.get("team_id", "")),
                enterprise=answer.get("enterprise_id") or None,
                user=answer.get("user_id") or None,
                bot=answer.get("bot_id") or None,
            )
            self._home = (token, home)
        return self._home[1]


class People:
    """Remembers whom it asked for, for a while.

    Args:
        now: a clock in seconds that only goes forward.
        places: how many people are remembered.
    """

    def __init__(
        self,
        api: SlackApi,
        configuration: Callable[[], Configuration],
        *,
        now: Callable[[], float] = time.monotonic,
        places: int = 2000,
    ) -> None:
        self._places = places
        self._api = api
        self._configuration = configuration
        self._now = now
        self._known: dict[str, tuple[float, _Profile]] = {}
        self._asking: dict[str, asyncio.Task[_Profile]] = {}

    async def address_of(self, who: Who, here: str | None = None) -> str:
        """The address by which decisions and roles name the person.

        Args:
            here: the workspace that the payload is of; without a bot token nothing else says which is ours.

        Raises:
            StrangerError: nobody we know, or somebody of another workspace.
            RefusedError: 503; Slack could not be asked.
        """
        accounts = self._configuration().directory.accounts
        listed = next((person for person, account in accounts.items() if account.slack == who.id), None)
        if self._api.token is None:
            if listed is None:
                raise _unknown(who, f"this receiver has no {BOT_TOKEN} to ask Slack with")
            if who.team_id != here:
                raise _foreigner()
            return listed
        try:
            ours = await self._api.home()
            if listed is not None and who.team_id == ours.team:
                return listed
            profile = await self._profile(who.id)
        except SlackRefusedError as error:
            if error.code in ("user_not_found", "user_not_visible", "users_not_found"):
                raise _unknown(who, "Slack does not know you here") from None
            raise _unknown(who, f"Slack does not say who you are ({error.code})") from None
        if profile.deleted or profile.bot:
            what = "a deactivated account" if profile.deleted else "a bot"
            raise StrangerError(words(f":no_entry: Nothing was done: {code(who.id)} is {what}."))
        foreign = who.team_id not in (None, ours.team) or profile.team != ours.team
        if foreign and (ours.enterprise is None or profile.enterprise != ours.enterprise):
            raise _foreigner()
        if listed is not None:
            return listed
        if profile.email is None:
            raise _unknown(
                who, "Slack does not tell your address (the app needs the scope `users:read.email`)"
            )
        return profile.email

    async def close(self) -> None:
        asking = [*self._asking.values()]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _profile(self, user_id: str) -> _Profile:
        """From memory, or by asking once for all who wait for the same person."""
        found = self._known.get(user_id)
        if found is not None and self._now() - found[0] < REMEMBERED_FOR:
            return found[1]
        task = self._asking.get(user_id)
        if task is None:
            task = self._asking[user_id] = asyncio.create_task(self._ask(user_id))
            task.add_done_callback(lambda done: self._asked(user_id, done))
        # Whoever stops waiting leaves the question open: the next attempt finds its answer.
        return await asyncio.shield(task)

    def _asked(self, user_id: str, done: asyncio.Task[_Profile]) -> None:
        del self._asking[user_id]
        if not done.cancelled():
            done.exception()  # told to whoever still waits

    async def _ask(self, user_id: str) -> _Profile:
        answer = await self._api.call(lambda slack: slack.users_info(user=user_id))
        user = answer.get("user") or {}
        email = (user.get("profile") or {}).get("email")
        profile = _Profile(
            email=email if email and user.get("is_email_confirmed") is not False else None,
            team=user.get("team_id"),
            enterprise=(user.get("enterprise_user") or {}).get("enterprise_id"),
            deleted=bool(user.get("deleted")),
            bot=bool(user.get("is_bot")) or user_id == "USLACKBOT",
        )
        self._known.pop(user_id, None)
        while len(self._known) >= self._places:
            del self._known[next(iter(self._known))]
        self._known[user_id] = (self._now(), profile)
        return profile


def _foreigner() -> StrangerError:
    return StrangerError(words(":no_entry: Nothing was done: you belong to another workspace than this app."))


def _unknown(who: Who, reason: str) -> StrangerError:
    return StrangerError(
        words(
            f":grey_question: Nothing was done: I do not know who you are. {reason}.",
            f"Add yourself to `deployment.yaml`, under `directory.accounts`:\n"
            f"```you@example.com: {{slack: {who.id}}}```",
        )
    )
