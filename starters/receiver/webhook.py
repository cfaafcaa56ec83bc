"""One webhook, from the request to the answer: verify, read, take, answer. Nobody waits longer than 3 s."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from temporalio.service import RPCError, RPCStatusCode

from starters.receiver.answer import Answer, RefusedError, Reply, refused
from starters.receiver.body import Bodies
from starters.receiver.settings import SECRETS
from starters.receiver.signatures import Check, Scheme, Secrets
from starters.receiver.temporal import unavailable
from starters.rendering import clean

logger = logging.getLogger(__name__)

HANDLING_LIMIT = 2.9
"""Seconds from the last byte of a request to its answer; more than Temporal has, less than senders wait."""
ANSWER = "receiver.answer"
"""In the ASGI scope: what was answered, for the log and the metrics around us."""
_USER_AGENT = 200


@dataclass(frozen=True)
class Received:
    """A request whose sender is verified.

    Attributes:
        at: when its last byte came.
    """

    headers: Headers
    body: bytes
    ip_address: str | None
    user_agent: str | None
    at: datetime

    @property
    def metadata(self) -> dict[str, Any]:
        """What the audit trail keeps of the sender."""
        found = {"ip_address": self.ip_address, "user_agent": self.user_agent}
        return {name: value for name, value in found.items() if value is not None}


class Endpoint(Protocol):
    """What becomes of verified requests."""

    name: str

    async def take(self, received: Received) -> Answer | Reply:
        """Raises `RefusedError` with any other answer."""


class Webhook:
    """The ASGI endpoint of one sender.

    Args:
        secrets: any of which the sender may have; none refuses everything.
    """

    def __init__(self, endpoint: Endpoint, scheme: Scheme, secrets: Secrets, bodies: Bodies) -> None:
        self._endpoint = endpoint
        self._scheme = scheme
        self._secrets = secrets
        self._bodies = bodies

    async def __call__(self, request: Request) -> Response:
        try:
            answer = await self._handle(request)
        except RefusedError as error:
            answer = error.answer
        if isinstance(answer, Reply):
            request.scope[ANSWER] = answer.answer
            if answer.body is not None:
                return JSONResponse(answer.body, status_code=answer.status, headers=answer.answer.headers)
            if answer.status < 400:
                return Response(status_code=answer.status)
            answer = answer.answer
        return respond(request, answer)

    async def _handle(self, request: Request) -> Answer | Reply:
        check = self._check(request.headers)
        async with self._bodies.of(request) as body:
            check(body)
            received = Received(
                headers=request.headers,
                body=body,
                ip_address=remote_address(request),
                user_agent=clean(request.headers.get("user-agent", ""))[:_USER_AGENT] or None,
                at=datetime.now(UTC),
            )
            try:
                async with asyncio.timeout(HANDLING_LIMIT):
                    return await self._endpoint.take(received)
            except TimeoutError:
                raise unavailable("it took too long; send it again") from None
            except RPCError as error:
                raise _refused_by_temporal(error) from None
            except ValidationError as error:
                # Where, but not what: values of a payload belong neither in answers nor in logs.
                places = sorted({".".join(str(part) for part in e["loc"]) for e in error.errors()})
                raise refused(422, f"the event cannot be used: {error.title}: {', '.join(places)}") from None

    def _check(self, headers: Headers) -> Check:
        if not self._secrets:
            variable = SECRETS[self._endpoint.name]
            raise refused(401, f"nothing of {self._endpoint.name} is accepted: {variable} is not set here")
        return self._scheme(headers, self._secrets)


def _refused_by_temporal(error: RPCError) -> RefusedError:
    """What is too large or too long for Temporal stays so; anything else may be different another time."""
    logger.warning("Temporal answers %s: %s", error.status.name, error.message)
    if error.status is RPCStatusCode.INVALID_ARGUMENT:
        return refused(422, f"Temporal does not take it: {clean(error.message)[:200]}")
    return unavailable(f"Temporal answers {error.status.name}; send it again")


def respond(request: Request, answer: Answer) -> Response:
    """The response of an answer, which is left in the scope for those around us."""
    request.scope[ANSWER] = answer
    return JSONResponse(answer.body(), status_code=answer.status, headers=answer.headers)


def remote_address(request: Request) -> str | None:
    """Who sends: the connection's other end, or what a trusted proxy says; none if that is no address."""
    if request.client is None:
        return None
    try:
        return str(ipaddress.ip_address(request.client.host))
    except ValueError:
        return None
