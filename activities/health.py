"""Health endpoints of a service: what counts as healthy (spec: Automatic Rollback Conditions)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx

from activities.addresses import Address, AddressError
from activities.errors import INVALID_CONFIGURATION, fail
from activities.metrics.fetching import Answer, FetchError, fetch
from domain.analysis import HealthProbe, HealthReport

_LONGEST_BODY = 256 * 1024


class HealthChecks:
    """Asks over one shared HTTP client, which its creator closes."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def check(self, probe: HealthProbe) -> HealthReport:
        """One request to each path; all must say that they are well.

        Raises:
            ApplicationError: InvalidConfiguration; the address is none, and no round of measuring mends it.
        """
        try:
            address = Address.parse(probe.base_url)
        except AddressError as error:
            fail(
                INVALID_CONFIGURATION,
                f"health.url: {error}; write for example http://erlmcp.erlmcp-prod.svc:8080",
            )
        outcomes = await asyncio.gather(*(self._ask(probe, address, path) for path in probe.paths))
        checks = {path: text for path, (_, text) in zip(probe.paths, outcomes, strict=True)}
        reasons = [
            f"{path}: {text}" for path, (good, text) in zip(probe.paths, outcomes, strict=True) if not good
        ]
        return HealthReport(healthy=not reasons, reason="; ".join(reasons), checks=checks)

    async def _ask(self, probe: HealthProbe, address: Address, path: str) -> tuple[bool, str]:
        """Whether an endpoint says that all is well, and what it said."""
        try:
            answer = await fetch(
                self._http,
                "GET",
                address.at(path),
                timeout=probe.timeout,
                limit=_LONGEST_BODY,
                auth=address.auth or httpx.USE_CLIENT_DEFAULT,
            )
        except FetchError as error:
            return False, str(error)
        if answer.status != httpx.codes.OK:
            return False, f"HTTP {answer.status}"
        return _judge(probe, answer)


def _judge(probe: HealthProbe, answer: Answer) -> tuple[bool, str]:
    if answer.content_type == "text/html":
        return False, "an HTML page, not an answer of a health endpoint"
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        if answer.content_type.endswith("json"):
            return False, "the answer is called JSON, but cannot be read as such"
        return True, "HTTP 200"
    if not isinstance(document, dict):
        return True, "HTTP 200"
    faults = list(_faults(probe, document))
    return (False, ", ".join(faults)) if faults else (True, str(document.get("status", "HTTP 200")))


def _faults(probe: HealthProbe, document: dict[str, Any]) -> Iterator[str]:
    status = document.get("status")
    if "status" in document and str(status).lower() not in {word.lower() for word in probe.healthy_words}:
        yield f"status is {_shown(status)}, not one of {', '.join(probe.healthy_words)}"
    for field in ("ready", "alive"):
        value = document.get(field, True)
        if value is not True and str(value).lower() != "true":
            yield f"{field} is {_shown(value)}"
    version = document.get("version")
    if probe.version is not None and version is not None and str(version) != probe.version:
        yield f"version is {_shown(version)}, not {probe.version}"


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]
