"""Bodies of requests: bounded in size, time and number; JSON or a form, or a clear refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from starters.receiver.answer import RefusedError, refused
from starters.receiver.signatures import only
from starters.receiver.temporal import unavailable

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
_FORM_FIELDS = 200


class Bodies:
    """Reads the bodies of one endpoint: those who flood another one take nothing away from its senders.

    Args:
        limit: bytes of one.
        timeout: seconds that a sender has for one.
        together: bytes of all that are held at a time: hardly anybody is verified while a body is read.
    """

    def __init__(self, limit: int, timeout: float, together: int) -> None:
        self._limit = limit
        self._timeout = timeout
        self._together = together
        self._held = 0

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """The body, which counts as held until the end.

        Raises:
            RefusedError: 413 too large, 400 too slow or cut short, 503 too many at a time.
        """
        announced = only(request.headers, "content-length") or "0"
        if announced.isdecimal() and int(announced) > self._limit:
            raise self._too_large()
        body = bytearray()
        try:
            await self._read(request, body)
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                async for chunk in request.stream():
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > self._limit:
                        raise self._too_large()
                    if self._held > self._together:
                        raise unavailable("too many large requests at a time; send it again")
        except TimeoutError:
            reason = f"the body was not complete after {self._timeout:g} s"
            raise refused(400, reason, closing=True) from None
        except ClientDisconnect:
            raise refused(400, "the connection was closed before the body was complete") from None

    def _too_large(self) -> RefusedError:
        return refused(413, f"the body is larger than {self._limit} bytes")


def media_type(headers: Headers) -> str:
    """The type of the body, without its parameters.

    Raises:
        RefusedError: 400, it is missing, or the text is not UTF-8.
    """
    value = only(headers, "content-type")
    if not value:
        raise refused(400, f"the header Content-Type is missing; send {JSON}")
    message = Message()
    message["content-type"] = value
    charset = message.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise refused(400, f"the body is in {charset[:40]!r}; send UTF-8")
    return message.get_content_type()


def read_json(body: bytes | str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RefusedError: 400, it is none, or one that is nested too deeply.
    """
    try:
        document = from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise refused(400, f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise refused(400, "the body is JSON, but no object")
    return document


def read_form(body: bytes) -> dict[str, str]:
    """The fields of a form.

    Raises:
        RefusedError: 400, it is no form, or a field is there twice.
    """
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_FORM_FIELDS,
        )
    except ValueError as error:
        detail = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)[:200]
        raise refused(400, f"the body is no form: {detail}") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise refused(400, "the form names a field more than once")
    return fields


def require_json(headers: Headers, body: bytes) -> dict[str, Any]:
    """The JSON object of a request that must be one.

    Raises:
        RefusedError: 400.
    """
    kind = media_type(headers)
    if kind != JSON:
        raise refused(400, f"Content-Type is {kind!r}; send {JSON}")
    return read_json(body)
