"""One answer over HTTP: bounded in time and size, and never redirected."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from domain.durations import format_duration


class FetchError(Exception):
    """There is no whole answer; the text says why, without path, query and credentials of the address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of whatever status, read to its end.

    Attributes:
        content_type: media type in lower case, without parameters.
    """

    status: int
    content_type: str
    body: bytes
    headers: httpx.Headers


async def fetch(
    http: httpx.AsyncClient, method: str, url: httpx.URL, *, timeout: timedelta, limit: int, **request: Any
) -> Answer:
    """Send one request; `timeout` is for all of it, the body included, and `limit` for its bytes.

    Raises:
        FetchError: nobody answered in time, or not to the end, or too much.
    """
    seconds = timeout.total_seconds()
    try:
        async with (
            asyncio.timeout(seconds),
            http.stream(method, url, timeout=seconds, follow_redirects=False, **request) as answer,
        ):
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > limit:
                    raise FetchError(f"the answer is longer than {limit // 1024} KiB")
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            return Answer(answer.status_code, kind, bytes(body), answer.headers)
    except (TimeoutError, httpx.TimeoutException):
        raise FetchError(f"no answer within {format_duration(timeout)}") from None
    except httpx.ConnectError:
        port = f":{url.port}" if url.port is not None else ""
        raise FetchError(f"no connection to {url.scheme}://{url.host}{port}") from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        # Its own text can hold the address or a header.
        raise FetchError(f"the request failed ({type(error).__name__})") from None
