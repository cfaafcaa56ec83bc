"""GitHub's REST API over HTTP: one token, and errors that tell "not now" from "not at all"."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx

from activities.addresses import Address, AddressError
from activities.errors import UNAVAILABLE, fail
from activities.metrics.fetching import Answer, FetchError, fetch
from activities.redaction import Redactor
from domain.projects import is_loopback

TOKEN = "GITHUB_TOKEN"  # noqa: S105 - the variable's name
_VERSION = "2022-11-28"
_TIMEOUT = timedelta(seconds=20)
_LONGEST_BODY = 16 * 1024 * 1024
_PAGE = 100
_MOST_PAGES = 10
_LONGEST_WAIT = timedelta(hours=1)
_SECONDARY_LIMIT_WAIT = timedelta(minutes=1)
"""GitHub asks for at least so much where it names no time."""


class RefusedError(Exception):
    """The host will not do it, however often it is asked; the text says why, without the token.

    Attributes:
        status: of the answer; none if nobody was asked.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class GitHubApi:
    """Requests below one base address. Redirects are not followed: token and trust are this host's."""

    def __init__(self, http: httpx.AsyncClient, address: Address, token: str) -> None:
        self._http = http
        self._address = address
        self._redactor = Redactor([token])
        self._headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "User-Agent": "erlmcp-deploy",
            "X-GitHub-Api-Version": _VERSION,
        }

    @classmethod
    def connect(cls, http: httpx.AsyncClient, api_url: str, environment: Mapping[str, str]) -> GitHubApi:
        """The API at `api_url`, with the worker's token.

        Raises:
            RefusedError: there is no token, or it must not be sent there.
        """
        token = environment.get(TOKEN, "").strip()
        if not token:
            raise RefusedError(f"{TOKEN} is not set on the worker")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise RefusedError(f"{TOKEN} on the worker is no token: it has characters that none has")
        try:
            address = Address.parse(api_url)
        except AddressError as error:
            raise RefusedError(f"git_hosts.github.api_url: {error}") from None
        if address.url.scheme != "https" and not is_loopback(address.url.host):
            raise RefusedError("git_hosts.github.api_url: the token is sent by https only")
        return cls(http, address, token)

    async def get(self, path: str, **parameters: str | int) -> Any:
        """The document at a path.

        Raises:
            RefusedError: not to be had.
            ApplicationError: Unavailable; worth another try.
        """
        return self._document(await self._ask("GET", path, parameters))

    async def listed(
        self, path: str, key: str | None = None, **parameters: str | int
    ) -> list[dict[str, Any]]:
        """All entries of a list, page by page; `key` names the list where it stands in an object.

        Raises:
            RefusedError: not to be had, or longer than anybody reads.
            ApplicationError: Unavailable.
        """
        entries: list[dict[str, Any]] = []
        for page in range(1, _MOST_PAGES + 1):
            answer = await self._ask("GET", path, {**parameters, "per_page": _PAGE, "page": page})
            document = self._document(answer)
            found = document.get(key) if key is not None and isinstance(document, dict) else document
            if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
                raise self._unreadable(answer)
            entries += found
            # The next page is counted, not followed: a link could lead the token elsewhere.
            if 'rel="next"' not in answer.headers.get("Link", ""):
                return entries
        raise RefusedError(f"{self._address} lists more than {_MOST_PAGES * _PAGE} entries")

    async def send(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create or change something.

        Raises:
            RefusedError: it was not accepted.
            ApplicationError: Unavailable.
        """
        answer = await self._ask(method, path, {}, json=body)
        document = self._document(answer)
        if not isinstance(document, dict):
            raise self._unreadable(answer)
        return document

    async def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Do something whose answer is not needed.

        Raises:
            RefusedError: it was not accepted.
            ApplicationError: Unavailable.
        """
        await self._ask("POST", path, {}, json=body)

    async def _ask(
        self, method: str, path: str, parameters: Mapping[str, str | int], **request: Any
    ) -> Answer:
        url = self._address.at(path).copy_merge_params(dict(parameters))
        try:
            answer = await fetch(
                self._http,
                method,
                url,
                timeout=_TIMEOUT,
                limit=_LONGEST_BODY,
                headers=self._headers,
                auth=None,  # neither of the address nor of a .netrc
                **request,
            )
        except FetchError as error:
            fail(UNAVAILABLE, f"GitHub at {self._address}: {error}")
        if not httpx.codes.is_success(answer.status):
            self._explain(answer)
        return answer

    def _explain(self, answer: Answer) -> None:
        message = self._message(answer)
        if (wait := _limited(answer, message)) is not None:
            fail(UNAVAILABLE, f"GitHub at {self._address} limits the rate of {TOKEN}", retry_after=wait)
        if answer.status >= 500 or answer.status == 408:
            fail(
                UNAVAILABLE,
                f"GitHub at {self._address} answered HTTP {answer.status}",
                retry_after=_seconds(answer.headers.get("Retry-After", "")),
            )
        if 300 <= answer.status < 400:
            raise RefusedError(
                f"GitHub at {self._address} says that it has moved: correct the application's `repository` "
                "or `project`, or git_hosts.github.api_url",
                answer.status,
            )
        meaning = {
            401: f"{TOKEN} is not accepted",
            403: f"{TOKEN} may not do this",
            404: f"not there, or hidden from {TOKEN}",
        }.get(answer.status, "refused")
        said = f": {message}" if message else ""
        raise RefusedError(
            f"GitHub at {self._address}: {meaning} (HTTP {answer.status}{said})", answer.status
        )

    def _document(self, answer: Answer) -> Any:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise self._unreadable(answer) from None

    def _unreadable(self, answer: Answer) -> RefusedError:
        return RefusedError(
            f"what answers at {self._address} is not GitHub's REST API; correct git_hosts.github.api_url",
            answer.status,
        )

    def _message(self, answer: Answer) -> str:
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            return ""
        if not isinstance(document, dict):
            return ""
        errors = document.get("errors")
        details = [
            str(e.get("message") or f"{e.get('field')} {e.get('code')}") if isinstance(e, dict) else str(e)
            for e in (errors if isinstance(errors, list) else [])
        ]
        text = self._redactor.text("; ".join([str(document.get("message", "")), *details]))
        return "".join(c if c.isprintable() else " " for c in text)[:300].strip()


def _limited(answer: Answer, message: str) -> timedelta | None:
    """How long to wait, if the answer means that the rate is limited."""
    headers = answer.headers
    if answer.status not in (403, 429):
        return None
    if (wait := _seconds(headers.get("Retry-After", ""))) is not None:
        return wait
    if headers.get("X-RateLimit-Remaining") == "0":
        reset = headers.get("X-RateLimit-Reset", "")
        until = int(reset) - time.time() if reset.isdecimal() else 0.0
        return min(max(timedelta(seconds=until + 1), timedelta(seconds=1)), _LONGEST_WAIT)
    limited = answer.status == 429 or "rate limit" in message.lower()
    return _SECONDARY_LIMIT_WAIT if limited else None


def _seconds(text: str) -> timedelta | None:
    if not text.isdecimal() or len(text) > 9:
        return None
    return min(timedelta(seconds=max(int(text), 1)), _LONGEST_WAIT)
