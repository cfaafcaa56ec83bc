"""What Slack's answers mean: sent, not sent but may be later, not sent and never will be, not known."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, NoReturn

import aiohttp
from slack_sdk.errors import SlackApiError

from activities.errors import FORBIDDEN, REFUSED, UNAVAILABLE, fail
from activities.slack.sending import NotSentError

TIMEOUT_SECONDS: Final = 10
SILENT: Final = logging.getLogger("activities.slack.sdk")
"""slack-sdk writes whole addresses and bodies into its debug log."""
SILENT.disabled = True

_FORBIDDEN_ANSWERS = frozenset(
    {
        *("account_inactive", "invalid_auth", "invalid_token", "missing_scope", "no_permission"),
        *("not_authed", "not_in_channel", "restricted_action", "token_expired", "token_revoked"),
    }
)
_PASSING_ANSWERS = frozenset({"fatal_error", "internal_error", "request_timeout", "service_unavailable"})
_ERROR_CODE = re.compile(r"[a-z_]{1,60}")


@contextmanager
def understood(where: str, api_url: str) -> Iterator[None]:
    """Turns the errors of a call of the Web API into what they mean.

    Raises:
        NotSentError: Slack certainly did not do it.
        ApplicationError: Unavailable; nobody knows whether it did.
    """
    try:
        yield
    except SlackApiError as error:
        explain(_status(error), _code(error), where, _headers(error))
    except aiohttp.ClientConnectorError as error:
        raise NotSentError(UNAVAILABLE, f"Slack cannot be reached at {api_url}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        fail(UNAVAILABLE, f"Slack broke off at {api_url}: {type(error).__name__}")


def explain(status: int, code: str, where: str, headers: Mapping[str, str]) -> NoReturn:
    """Raise what an answer other than "ok" means."""
    # The words of an answer are repeated only if they are one of Slack's error codes.
    answer = code if _ERROR_CODE.fullmatch(code) else f"HTTP {status}"
    if status == 429 or code in ("ratelimited", "rate_limited"):
        seconds = headers.get("Retry-After", "")
        retry_after = timedelta(seconds=int(seconds)) if seconds.isdecimal() else None
        raise NotSentError(UNAVAILABLE, f"Slack limits the rate of {where}", retry_after=retry_after)
    if status >= 500 or code in _PASSING_ANSWERS:
        fail(UNAVAILABLE, f"Slack answered {answer} to {where}")
    kind = FORBIDDEN if code in _FORBIDDEN_ANSWERS or status in {401, 403} else REFUSED
    raise NotSentError(kind, f"Slack answered {answer} to {where}", code=code)


def _status(error: SlackApiError) -> int:
    # After an unreadable answer this is aiohttp's response instead of slack-sdk's.
    status = getattr(error.response, "status_code", getattr(error.response, "status", None))
    return status if isinstance(status, int) else 500


def _code(error: SlackApiError) -> str:
    data = getattr(error.response, "data", None)
    return str(data.get("error", "")) if isinstance(data, dict) else ""


def _headers(error: SlackApiError) -> Mapping[str, str]:
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    return headers
