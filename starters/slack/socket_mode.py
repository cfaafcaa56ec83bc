"""Socket Mode: the desk behind a connection that we open, for receivers that Slack cannot reach.

Needs an app-level token with the scope ``connections:write`` in ``SLACK_APP_TOKEN``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from activities.slack.answers import SILENT
from domain.configuration import Configuration
from starters.errors import CommandError, usage_error
from starters.slack.desk import ACKNOWLEDGE_LIMIT, SlackDesk

APP_TOKEN = "SLACK_APP_TOKEN"  # noqa: S105 - the name of a variable
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LOOKS_EVERY = 5.0
_FINAL_REFUSALS = frozenset(
    {
        *("account_inactive", "app_missing_action_url", "forbidden_team", "invalid_auth", "missing_scope"),
        *("no_permission", "not_allowed_token_type", "not_authed", "token_expired", "token_revoked"),
    }
)

_log = logging.getLogger(__name__)


async def run_socket_mode(
    desk: SlackDesk,
    environment: Mapping[str, str],
    configuration: Callable[[], Configuration],
    stopping: asyncio.Event,
) -> None:
    """Serve until `stopping` is set; then finish what has begun.

    An envelope is acknowledged when the desk took it. Lost connections are made again by slack-sdk.

    Raises:
        CommandError: ``SLACK_APP_TOKEN`` is missing, or Slack does not accept it.
    """
    token = environment.get(APP_TOKEN)
    if not token:
        raise usage_error(
            f"{APP_TOKEN} is not set, so Socket Mode cannot connect",
            remedy="make an app-level token with the scope connections:write (it begins with xapp-)",
        )
    web = AsyncWebClient(
        base_url=configuration().notification_channels.slack.api_url, retry_handlers=[], logger=SILENT
    )
    counter = _Counter(desk)
    client = SocketModeClient(app_token=token, web_client=web, logger=SILENT)
    client.socket_mode_request_listeners.append(counter.take)
    connecting = asyncio.create_task(_connect(client))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            await connecting
            await _watch(client, stopped)
            await counter.drained()
    finally:
        connecting.cancel()
        stopped.cancel()
        await client.close()  # type: ignore[no-untyped-call]


class _Counter:
    """Takes envelopes, and knows which are still being worked on."""

    def __init__(self, desk: SlackDesk) -> None:
        self._desk = desk
        self._working: set[asyncio.Task[None]] = set()
        self._closed = False

    async def take(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        if self._closed:
            return  # another receiver gets it, or the person is told that it failed
        task = asyncio.create_task(self._take(client, request))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        await task

    async def _take(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        try:
            reply = await self._desk.take(request.type, request.payload)
        except Exception:
            _log.exception("Slack: an envelope of type %s could not be taken", request.type)
            return
        if reply.status != 200:
            _log.warning("Slack: not acknowledged: %s", reply.answer.reason)
            return
        payload = reply.body if request.accepts_response_payload else None
        try:
            await client.send_socket_mode_response(SocketModeResponse(request.envelope_id, payload))
        except (aiohttp.ClientError, OSError) as error:
            # Slack sends it again, or the person does; the same decision never counts twice.
            _log.warning("Slack: the acknowledgement was lost: %s", type(error).__name__)

    async def drained(self) -> None:
        self._closed = True
        if self._working:
            await asyncio.wait(self._working, timeout=ACKNOWLEDGE_LIMIT)


async def _connect(client: SocketModeClient) -> None:
    """Connect, however long Slack is away."""
    pause = _FIRST_PAUSE
    while True:
        try:
            await client.connect_to_new_endpoint(force=True)
            return
        except SlackApiError as error:
            data = getattr(error.response, "data", None)
            code = str(data.get("error", "")) if isinstance(data, dict) else ""
            if code in _FINAL_REFUSALS:
                raise CommandError(
                    f"Slack does not accept {APP_TOKEN}: {code}",
                    remedy="give an app-level token (xapp-…) with the scope connections:write",
                ) from None
            _log.warning("Slack: no connection (%s); trying again", code or "no readable answer")
        # slack-sdk stumbles over an answer that is not JSON, as gateways give it.
        except (aiohttp.ClientError, OSError, TimeoutError, AttributeError, ValueError) as error:
            _log.warning("Slack: no connection (%s); trying again", type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def _watch(client: SocketModeClient, stopped: asyncio.Task[bool]) -> None:
    """Say when the connection is lost and when it is back; slack-sdk makes it again."""
    connected: bool | None = None
    while not stopped.done():
        before, connected = connected, await client.is_connected()
        if connected and not before:
            _log.info("Slack: connected by Socket Mode")
        elif before and not connected:
            _log.warning("Slack: the connection is lost; connecting again")
        await asyncio.wait({stopped}, timeout=_LOOKS_EVERY)
