"""The receiver's way to Temporal: it may be down or slow, and nobody who calls us waits for it long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from starters.connection import TRANSIENT, connect
from starters.errors import CommandError
from starters.receiver.answer import Answer, RefusedError
from workflows.confidentiality import ENCRYPTION_KEYS, UnreadablePayloadError

T = TypeVar("T")
logger = logging.getLogger(__name__)

ANSWER_LIMIT = 2.5
"""Seconds that Temporal has for one request: Slack and the Git hosts wait three."""
RETRY_AFTER = 5
REMEMBERED = 300.0
"""Seconds for which ``/readyz`` tells of a payload that could not be read."""

NOT_SERVING = TRANSIENT - {RPCStatusCode.UNKNOWN} | {
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.UNIMPLEMENTED,
}
"""What Temporal says when the fault is not in what it was asked: it took nothing, and may another time."""


_UNREADABLE = f"what Temporal holds cannot be decrypted here: set {ENCRYPTION_KEYS} to what the workers have"


def unavailable(reason: str) -> RefusedError:
    """Nothing was taken: the sender is to come again."""
    return RefusedError(Answer(503, "unavailable", reason, retry_after=RETRY_AFTER))


def unreadable(error: BaseException | None) -> UnreadablePayloadError | None:
    """The payload that could not be read, if that is why something failed."""
    while error is not None and not isinstance(error, UnreadablePayloadError):
        error = error.__cause__
    return error


def _not_measured(seconds: float, available: bool) -> None:
    """Nobody wants to know."""


class Temporal:
    """A connection that is made when it is first needed, and again when it could not be made.

    Args:
        connect: makes a client.
        measured: is told after each piece of work how long it took, and whether Temporal was available.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Client]] = connect,
        *,
        measured: Callable[[float, bool], None] = _not_measured,
    ) -> None:
        self._connect = connect
        self._measured = measured
        self._connection: asyncio.Future[Client] | None = None
        self._unreadable: float | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong with payloads that came lately; none if all could be read."""
        if self._unreadable is None or time.monotonic() - self._unreadable > REMEMBERED:
            return None
        return _UNREADABLE

    def could_not_read(self, error: UnreadablePayloadError) -> None:
        """Remember it: the receiver and the workers do not have the same keys."""
        # It names keys by their ids, and shows nothing of the payload.
        logger.error("%s", error)
        self._unreadable = time.monotonic()

    async def client(self) -> Client:
        """The client; whoever asks while it is being made waits for the same one."""
        if self._connection is None or (self._connection.done() and not _made(self._connection)):
            self._connection = asyncio.ensure_future(self._connect())
        # One who stops waiting does not take the connection away from the others.
        return await asyncio.shield(self._connection)

    async def ask(self, work: Callable[[Client], Awaitable[T]], *, limit: float = ANSWER_LIMIT) -> T:
        """Do the work within the limit.

        Raises:
            RefusedError: 503, if Temporal is down or slow, or what it holds cannot be decrypted here; the
                work may have been done nevertheless, so it must bear being done again.
            RPCError: what Temporal says otherwise, such as that there is no such workflow.
        """
        began, available = time.monotonic(), True
        try:
            async with asyncio.timeout(limit):
                return await work(await self.client())
        except TimeoutError:
            available = False
            raise unavailable(f"Temporal did not answer within {limit:g} s; send it again") from None
        except CommandError as error:
            available = False
            # Where it should be is for those who run it, and not for those who call.
            logger.warning("%s", error)
            raise unavailable("Temporal is not available; send it again") from None
        except RPCError as error:
            if error.status in NOT_SERVING or _no_namespace(error):
                available = False
                logger.warning("Temporal answers %s: %s", error.status.name, error.message)
                raise unavailable("Temporal is not available; send it again") from None
            self._tell_unreadable(error)
            raise
        except Exception as error:
            self._tell_unreadable(error)
            raise
        finally:
            self._measured(time.monotonic() - began, available)

    def _tell_unreadable(self, error: Exception) -> None:
        if (payload := unreadable(error)) is not None:
            self.could_not_read(payload)
            raise unavailable(f"{_UNREADABLE}; send it again") from None

    async def close(self) -> None:
        """Give up a connection that is still being made."""
        if self._connection is not None:
            self._connection.cancel()
            await asyncio.gather(self._connection, return_exceptions=True)


def _made(connection: asyncio.Future[Client]) -> bool:
    return not connection.cancelled() and connection.exception() is None


def _no_namespace(error: RPCError) -> bool:
    return error.status is RPCStatusCode.NOT_FOUND and "namespace" in error.message.lower()
