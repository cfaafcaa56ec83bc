"""Who sends: signatures over the bytes as they came, compared in constant time (design, section 4: HTTP).

What the headers alone can tell is refused before the body is read; what they say is believed only after it.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable

from starlette.datastructures import Headers

from starters.receiver.answer import refused

Secrets = tuple[bytes, ...]
Check = Callable[[bytes], None]
"""Looks at the body; raises `RefusedError` (401) unless it is what the sender signed."""
Scheme = Callable[[Headers, Secrets], Check]
"""Reads the headers; raises `RefusedError` (400, 401) where they alone rule the request out."""

SLACK_WINDOW = 300
"""Seconds by which a Slack request may be older or newer than our clock."""
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def only(headers: Headers, name: str) -> str | None:
    """The value of a header that counts once.

    Raises:
        RefusedError: 400, it is there several times, and readers disagree on which one counts.
    """
    values = headers.getlist(name)
    if len(values) > 1:
        raise refused(400, f"the header {name} is there {len(values)} times")
    # Blanks and tabs alone surround values: the bytes of a token may be what Unicode takes for a space.
    return values[0].strip(" \t") if values else None


def _required(headers: Headers, name: str, remedy: str) -> str:
    value = only(headers, name)
    if not value:
        raise refused(401, f"the header {name} is missing; {remedy}")
    return value


def _compare(given: bytes, accepted: Secrets) -> bool:
    return any(hmac.compare_digest(given, secret) for secret in accepted)


def _check_sha256(given: tuple[str, ...], secrets: Secrets, header: str, prefix: bytes = b"") -> Check:
    def check(body: bytes) -> None:
        expected = tuple(hmac.digest(s, prefix + body, "sha256").hex().encode() for s in secrets)
        if not any(_compare(one.encode(), expected) for one in given):
            raise refused(401, f"{header} does not match the body; both sides must have the same secret")

    return check


def github(headers: Headers, secrets: Secrets) -> Check:
    """``X-Hub-Signature-256: sha256=HEX``; the older SHA-1 header is never looked at."""
    header = "X-Hub-Signature-256"
    value = _required(headers, header, "set a secret at the webhook (SHA-1 is not accepted)")
    method, _, digest = value.partition("=")
    if method != "sha256" or not _HEX_SHA256.fullmatch(digest):
        raise refused(401, f"{header} is no sha256=…")
    return _check_sha256((digest,), secrets, header)


def gitlab(headers: Headers, secrets: Secrets) -> Check:
    """``X-Gitlab-Token``: the secret itself."""
    given = _required(headers, "X-Gitlab-Token", "set a secret token at the webhook")
    if not _compare(given.encode("latin-1"), secrets):
        raise refused(401, "X-Gitlab-Token is not the one that is expected")
    return _any_body


def slack(headers: Headers, secrets: Secrets, *, now: Callable[[], float] = time.time) -> Check:
    """``X-Slack-Signature: v0=HEX`` over version, timestamp and body; the time must be about now."""
    stamp = _required(headers, "X-Slack-Request-Timestamp", "only Slack may call this")
    value = _required(headers, "X-Slack-Signature", "only Slack may call this")
    if not _TIMESTAMP.fullmatch(stamp):
        raise refused(401, "X-Slack-Request-Timestamp is no time")
    if abs(now() - int(stamp)) > SLACK_WINDOW:
        raise refused(401, f"the request is not of the last {SLACK_WINDOW} s; is the clock right?")
    version, _, digest = value.partition("=")
    if version != "v0" or not _HEX_SHA256.fullmatch(digest):
        raise refused(401, "X-Slack-Signature is no v0=…")
    return _check_sha256((digest,), secrets, "X-Slack-Signature", prefix=f"v0:{stamp}:".encode())


def pagerduty(headers: Headers, secrets: Secrets) -> Check:
    """``X-PagerDuty-Signature: v1=HEX,v1=HEX``: one of them must match, as PagerDuty rotates secrets so."""
    header = "X-PagerDuty-Signature"
    value = _required(headers, header, "use a webhook subscription of version 3")
    parts = (part.strip().partition("=") for part in value.split(","))
    digests = tuple(d for version, _, d in parts if version == "v1" and _HEX_SHA256.fullmatch(d))
    if not digests:
        raise refused(401, f"{header} holds no v1=…")
    return _check_sha256(digests, secrets, header)


def alertmanager(headers: Headers, secrets: Secrets) -> Check:
    """``Authorization: Bearer TOKEN``."""
    value = _required(headers, "Authorization", "set http_config.authorization.credentials in Alertmanager")
    kind, _, token = value.partition(" ")
    if kind.lower() != "bearer" or not _compare(token.strip(" \t").encode("latin-1"), secrets):
        raise refused(401, "Authorization is not the bearer token that is expected")
    return _any_body


def _any_body(body: bytes) -> None:
    """The header was the proof."""


SCHEMES: dict[str, Scheme] = {
    "github": github,
    "gitlab": gitlab,
    "slack": slack,
    "alertmanager": alertmanager,
    "pagerduty": pagerduty,
}
"""Endpoint → how its senders prove who they are."""
