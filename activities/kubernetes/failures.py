"""What the API server's refusals mean for a retry: the one place where its faults become typed errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

import aiohttp

from activities.errors import (
    CONFLICT,
    FORBIDDEN,
    INVALID_CONFIGURATION,
    NOT_FOUND,
    REFUSED,
    UNAVAILABLE,
    fail,
)

_LONGEST_TEXT = 500
_LONGEST_WAIT = timedelta(minutes=5)


class StatusError(Exception):
    """An answer that is no success: the ``metav1.Status`` of the API server, as far as there is one."""

    def __init__(
        self,
        *,
        status: int,
        message: str,
        reason: str = "",
        kind: str = "",
        name: str = "",
        causes: tuple[tuple[str, str, str], ...] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.kind = kind
        self.name = name
        self.causes = causes
        self.retry_after = retry_after

    @classmethod
    def from_answer(cls, status: int, headers: Mapping[str, str], body: bytes) -> StatusError:
        """Read an answer, which need not come from an API server (proxies, load balancers)."""
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict) or document.get("kind") != "Status":
            text = body.decode(errors="replace").strip()[:_LONGEST_TEXT]
            document = {"message": text or f"HTTP {status}"}
        return cls.from_status(status, document, retry_after=headers.get("Retry-After"))

    @classmethod
    def from_status(
        cls, status: int, document: Mapping[str, Any], *, retry_after: str | None = None
    ) -> StatusError:
        details = document.get("details") or {}
        causes = details.get("causes") or []
        return cls(
            status=status,
            message=str(document.get("message") or f"HTTP {status}"),
            reason=str(document.get("reason") or ""),
            kind=str(details.get("kind") or ""),
            name=str(details.get("name") or ""),
            causes=tuple(
                (str(c.get("reason", "")), str(c.get("field", "")), str(c.get("message", ""))) for c in causes
            ),
            retry_after=_seconds(retry_after or details.get("retryAfterSeconds")),
        )

    @property
    def missing_namespace(self) -> bool:
        return self.status == 404 and self.kind == "namespaces"

    @property
    def field_conflicts(self) -> tuple[tuple[str, str], ...]:
        """(owner, field) of each field that another field manager owns."""
        if self.status != 409:
            return ()
        return tuple((text, field) for reason, field, text in self.causes if reason == "FieldManagerConflict")


def _seconds(value: object) -> timedelta | None:
    """The delay form of Retry-After (RFC 9110, section 10.2.3); its date form is ignored."""
    try:
        return min(timedelta(seconds=max(0, int(str(value)))), _LONGEST_WAIT)
    except ValueError:
        return None


def raise_typed(error: Exception, subject: str) -> NoReturn:
    """Raise the typed error for a fault while working on `subject` (what was done to which object)."""
    if isinstance(error, StatusError):
        _raise_status(error, subject)
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL):
        fail(
            INVALID_CONFIGURATION,
            f"{subject}: the API server cannot be trusted or its address is wrong ({type(error).__name__}); "
            "check server and certificate-authority-data of the kubeconfig",
        )  # no cause: its text can hold the whole address
    if isinstance(error, TimeoutError):
        fail(UNAVAILABLE, f"{subject}: the API server did not answer in time", cause=error)
    if isinstance(error, aiohttp.ClientError | OSError):
        fail(
            UNAVAILABLE, f"{subject}: the API server cannot be reached ({type(error).__name__})", cause=error
        )
    raise error


def _raise_status(error: StatusError, subject: str) -> NoReturn:
    said = f"{subject}: {error.message} (HTTP {error.status})"
    if error.status in (401, 403):
        remedy = (
            "check the credentials in KUBE_CONFIG"
            if error.status == 401
            else "check the role of the worker's account, the quota and the admission rules of the namespace"
        )
        fail(FORBIDDEN, f"{said}; {remedy}", cause=error)
    if error.missing_namespace:
        fail(
            NOT_FOUND,
            f"{subject}: namespace {error.name!r} does not exist; "
            "create it, or set workload.create_namespace",
            cause=error,
        )
    if error.status == 404:
        fail(NOT_FOUND, said, cause=error)
    if error.field_conflicts:
        owned = "; ".join(f"{field}: {owner}" for owner, field in error.field_conflicts)
        fail(
            REFUSED,
            f"{subject}: another field manager owns what the release changes ({owned}); "
            "set workload.force_conflicts to take the fields over, or leave them out of workload.template",
            cause=error,
        )
    if error.status == 409:
        fail(CONFLICT, said, retry_after=error.retry_after, cause=error)
    if error.status == 429 or error.status >= 500:
        fail(UNAVAILABLE, said, retry_after=error.retry_after, cause=error)
    causes = "; ".join(f"{field or reason}: {text}" for reason, field, text in error.causes)
    hint = f" [{causes}]" if causes and not all(text in error.message for _, _, text in error.causes) else ""
    fail(REFUSED, f"{said}{hint}; correct workload in deployment.yaml", cause=error)
