"""Types of errors that activities raise on purpose; the type tells whether trying again can help."""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

from temporalio.exceptions import ApplicationError

INVALID_INPUT = "InvalidInput"
"""The request cannot be carried out as it is written; nobody but its author can help."""
INVALID_CONFIGURATION = "InvalidConfiguration"
"""deployment.yaml is wrong, or a setting of the worker is missing."""
NOT_FOUND = "NotFound"
"""A commit, tag or object that must exist does not."""
FORBIDDEN = "Forbidden"
"""Credentials are missing, wrong or not sufficient."""
REFUSED = "Refused"
"""The other side understood, and will never accept this (HTTP 400, 422 …)."""
CONFLICT = "Conflict"
"""Somebody else changed or owns the object; worth another try."""
UNAVAILABLE = "Unavailable"
"""The other side does not answer, or says it cannot now; worth another try."""
WORKSPACE_LOST = "WorkspaceLost"
"""The build worker no longer has the checkout; start again from checkout."""

NON_RETRYABLE = (INVALID_INPUT, INVALID_CONFIGURATION, NOT_FOUND, FORBIDDEN, REFUSED, WORKSPACE_LOST)


def fail(
    kind: str, message: str, *, retry_after: timedelta | None = None, cause: BaseException | None = None
) -> NoReturn:
    """Raise a typed error; retryable unless its type says that a retry cannot help."""
    raise ApplicationError(
        message, type=kind, non_retryable=kind in NON_RETRYABLE, next_retry_delay=retry_after
    ) from cause
