"""A number in a JSON document that somebody serves over HTTP."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

import httpx
import jsonpath_rfc9535 as jsonpath

from activities.addresses import Address, AddressError
from activities.metrics.fetching import Answer, FetchError, fetch
from domain.analysis import MetricReading, WebSource

_LONGEST_ANSWER = 1024 * 1024
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_AUTHORITY = re.compile(r"(https?://)(?:[^/?#]*@)?([^/?#]+)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class WebSettingError(Exception):
    """The source cannot be used as it is set up; the text names the setting, and no secret."""


class _Request(NamedTuple):
    address: Address
    target: bytes
    headers: list[tuple[str, bytes]]
    path: jsonpath.JSONPathQuery


class WebMetrics:
    """Reads one number per source; `environment` is what ``${NAME}`` is taken from at each measurement."""

    def __init__(self, http: httpx.AsyncClient, environment: Mapping[str, str]) -> None:
        self._http = http
        self._environment = environment

    def check(self, source: WebSource) -> None:
        """Whether it can be asked at all.

        Raises:
            WebSettingError: a variable is missing, or address, header or path cannot be used.
        """
        self._prepare(source)

    async def measure(self, source: WebSource) -> MetricReading:
        """The number at the source's path now.

        Nothing found, and ``null``, is a reading without value. Never raises for what the server does.

        Raises:
            WebSettingError: as `check`.
        """
        request = self._prepare(source)
        try:
            answer = await fetch(
                self._http,
                source.method,
                # The client logs the address; path and query, which may hold a secret, go beside it.
                request.address.at("/"),
                timeout=source.timeout,
                limit=_LONGEST_ANSWER,
                content=source.body,
                headers=request.headers,
                auth=request.address.auth or httpx.USE_CLIENT_DEFAULT,
                extensions={"target": request.target},
            )
            return MetricReading(value=await asyncio.to_thread(_value, answer, request.path))
        except (FetchError, _NoNumberError) as error:
            return MetricReading(error=f"{_place(source.url)}: {error}")

    def _prepare(self, source: WebSource) -> _Request:
        url = self._resolved("web.url", source.url, in_url=True)
        try:
            address = Address.parse(url)
        except AddressError as error:
            raise WebSettingError(f"web.url: {error}") from None
        headers = [("Accept", b"application/json")]
        if source.body is not None and "content-type" not in map(str.lower, source.headers):
            headers.append(("Content-Type", b"application/json"))
        for name, template in source.headers.items():
            value = self._resolved(f"web.headers.{name}", template)
            if _CONTROL.search(value):
                raise WebSettingError(f"web.headers.{name}: a line break or control character is no header")
            headers.append((name, value.encode()))
        try:
            path = jsonpath.compile(source.json_path)
        except jsonpath.JSONPathError as error:
            raise WebSettingError(
                f"web.json_path {source.json_path!r} is no JSONPath (RFC 9535): {error}"
            ) from None
        parsed = httpx.URL(url)
        bare = address.url.copy_with(raw_path=b"/")
        return _Request(Address(bare, address.auth), parsed.raw_path, headers, path)

    def _resolved(self, setting: str, template: str, *, in_url: bool = False) -> str:
        """The setting with its references replaced: percent-encoded in an address, but for its beginning."""

        def value(reference: re.Match[str]) -> str:
            found = self._environment.get(reference[1], "").strip()
            if not found:
                raise WebSettingError(
                    f"{setting}: the variable {reference[1]} is not set in the worker's environment"
                )
            return quote(found, safe="") if in_url and reference.start() > 0 else found

        return _REFERENCE.sub(value, template)


class _NoNumberError(Exception):
    """The answer holds no number at the path."""


def _value(answer: Answer, path: jsonpath.JSONPathQuery) -> float | None:
    if 300 <= answer.status < 400:
        raise _NoNumberError(f"HTTP {answer.status}, a redirect, which is not followed; write where it leads")
    if not 200 <= answer.status < 300:
        raise _NoNumberError(f"HTTP {answer.status}")
    try:
        document = json.loads(answer.body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        kind = f" ({answer.content_type})" if answer.content_type else ""
        raise _NoNumberError(f"HTTP {answer.status} without readable JSON{kind}") from None
    try:
        found = [node.value for node in islice(path.finditer(document), 2)]
    except (jsonpath.JSONPathError, RecursionError):
        raise _NoNumberError("the document is nested too deeply to be searched") from None
    if len(found) > 1:
        raise _NoNumberError(f"{path} finds several values; narrow web.json_path down to one")
    return _number(found[0]) if found else None


def _refuse(constant: str) -> NoReturn:
    raise _NoNumberError(f"the document holds {constant}, which is no JSON number")


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, bool | int | float):
        kind = "a text" if isinstance(value, str) else "an object" if isinstance(value, dict) else "an array"
        raise _NoNumberError(f"the value is {kind}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _NoNumberError("the value is not finite")
    return number


def _place(url: str) -> str:
    """Scheme and host of an address as it is configured, and nothing that may be secret."""
    found = _AUTHORITY.match(url)
    return found[1] + found[2] if found else "web.url"
