"""The receiver's way to Temporal: it may be down or slow, and nobody who calls us waits for it long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from starters.connection import TRANSIENT, connect
from starters.errors import CommandError
from starters.receiver.answer import Answer, RefusedError

T = TypeVar("T")

ANSWER_LIMIT = 2.5
"""Seconds that Temporal has for one request: Slack and the Git hosts wait three."""
RETRY_AFTER = 5


def unavailable(reason: str) -> RefusedError:
    """Nothing was taken: the sender is to come again."""
    return RefusedError(Answer(503, "unavailable", reason, retry_after=RETRY_AFTER))


class Temporal:
    """A connection that is made when it is first needed, and again when it was lost.

    Args:
        connect: makes a client.
    """

    def __init__(self, connect: Callable[[], Awaitable[Client]] = connect) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def client(self) -> Client:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def ask(self, work: Callable[[Client], Awaitable[T]], *, limit: float = ANSWER_LIMIT) -> T:
        """Do the work within the limit.

        Raises:
            RefusedError: 503, if Temporal is down or slow; the work may have been done nevertheless, so
                it must bear being done again.
            RPCError: what Temporal says otherwise, such as that there is no such workflow.
        """
        try:
            async with asyncio.timeout(limit):
                return await work(await self.client())
        except TimeoutError:
            raise unavailable(f"Temporal did not answer within {limit:g} s; send it again") from None
        except CommandError as error:
            raise unavailable(f"{error}; send it again") from None
        except RPCError as error:
            if error.status in TRANSIENT and error.status is not RPCStatusCode.UNKNOWN:
                raise unavailable("Temporal is not available; send it again") from None
            raise
