"""Events of Git hosts: read, routed by the rules, started (spec: Event Triggers)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from starlette.datastructures import Headers

from domain.triggers import HostEvent, Route, RouteOutcome
from domain.triggers.github import read_github
from domain.triggers.gitlab import read_gitlab
from domain.triggers.reading import EventIgnoredError, EventUnusableError
from domain.triggers.routing import routes
from starters.receiver.answer import Answer, StartedRun, refused
from starters.receiver.body import FORM, JSON, media_type, read_form, read_json
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.recent import Recent
from starters.receiver.signatures import only
from starters.receiver.starting import Delivery, Run, start_all
from starters.receiver.temporal import Temporal
from starters.receiver.webhook import Received

_DELIVERY = re.compile(r"[\x21-\x7e]{1,200}")
_REASONS = 5


class Read(Protocol):
    """Makes an event of a payload."""

    def __call__(
        self,
        header: str,
        payload: dict[str, Any],
        *,
        delivery: str,
        received: datetime,
        metadata: dict[str, Any],
    ) -> HostEvent: ...


@dataclass(frozen=True)
class GitHost:
    """How a host speaks.

    Attributes:
        event_header: names the event.
        delivery_headers: name the delivery, the same when it is sent again; the first that is there counts.
        read: what the payload says.
        signs: whether the body is signed, so that the same bytes are the same event. They are not where a
            token is shown instead: a tag that is pushed anew to GitLab sends the same bytes again.
    """

    name: str
    event_header: str
    delivery_headers: tuple[str, ...]
    read: Read
    signs: bool

    def delivery(self, headers: Headers) -> str | None:
        return next((value for name in self.delivery_headers if (value := only(headers, name))), None)


GITHUB = GitHost("github", "X-GitHub-Event", ("X-GitHub-Delivery",), read_github, signs=True)
# The event's UUID is shared by hooks that follow from each other; the key is one delivery's alone.
GITLAB = GitHost(
    "gitlab", "X-Gitlab-Event", ("Idempotency-Key", "X-Gitlab-Event-UUID"), read_gitlab, signs=False
)


class GitHostEndpoint:
    """Takes the events of one host.

    Args:
        started: is told how many runs were started.
    """

    def __init__(
        self,
        host: GitHost,
        temporal: Temporal,
        configuration: ConfigurationFile,
        started: Callable[[int], None],
    ) -> None:
        self.name = host.name
        self._host = host
        self._temporal = temporal
        self._configuration = configuration
        self._started = started
        self._taken: Recent[Answer] = Recent()

    async def take(self, received: Received) -> Answer:
        host, headers = self._host, received.headers
        header = only(headers, host.event_header)
        if not header:
            raise refused(400, f"the header {host.event_header} is missing")
        digest = hashlib.sha256(received.body).hexdigest()
        # Hosts that name no deliveries (GitLab before 14.8) send the same bytes again.
        delivery = host.delivery(headers) or f"sha256:{digest}"
        if not _DELIVERY.fullmatch(delivery):
            names = " or ".join(host.delivery_headers)
            raise refused(400, f"the header {names} is no delivery id")
        key = f"{delivery}:{digest}"
        if (before := self._taken.get(key)) is not None:
            return _again(before)
        payload = _payload(headers, received.body)
        try:
            event = host.read(
                header, payload, delivery=delivery, received=received.at, metadata=received.metadata
            )
        except EventIgnoredError as error:
            return Answer(200, "ignored", str(error))
        except EventUnusableError as error:
            raise refused(422, str(error)) from None
        found = routes(event, await self._configuration.refresh())
        wanted = tuple(r for r in found if r.outcome is RouteOutcome.START)
        if not wanted:
            return _nothing_to_start(event, found)
        identity = Delivery(f"{host.name}:{delivery}", digest if host.signs else None)
        runs = await self._temporal.ask(lambda client: start_all(client, wanted, identity))
        self._started(sum(run.fresh for run in runs))
        answer = _answer(runs, found)
        # Only what Temporal took: one that was lost must be let through when it is sent again.
        self._taken.put(key, answer)
        return answer


def _payload(headers: Headers, body: bytes) -> dict[str, Any]:
    """The event, as JSON or as the field ``payload`` of a form: GitHub lets people choose."""
    kind = media_type(headers)
    if kind == JSON:
        return read_json(body)
    if kind != FORM:
        raise refused(400, f"Content-Type is {kind!r}; send {JSON}")
    fields = read_form(body)
    if "payload" not in fields:
        raise refused(
            400, "the form has no field payload; set the webhook's content type to application/json"
        )
    return read_json(fields["payload"])


def _again(before: Answer) -> Answer:
    reason = f"this delivery was taken already: {before.workflow_id}"
    return replace(before, status=200, outcome="duplicate", reason=reason, started=())


def _nothing_to_start(event: HostEvent, found: tuple[Route, ...]) -> Answer:
    unusable = [r for r in found if r.outcome is RouteOutcome.REFUSE]
    if unusable:
        return Answer(422, "refused", _reasons(unusable), rule=unusable[0].rule)
    if not found:
        return Answer(200, "ignored", f"no application is built from {event.project or 'there'}")
    rule = next((route.rule for route in found if route.rule is not None), None)
    return Answer(200, "ignored", _reasons(found), rule=rule)


def _answer(runs: list[Run], found: tuple[Route, ...]) -> Answer:
    fresh = [run for run in runs if run.fresh]
    if not fresh:
        ids = ", ".join(run.workflow_id for run in runs)
        reason = f"runs already, or is done: {ids}"
        return Answer(200, "duplicate", reason, workflow_id=runs[0].workflow_id, rule=runs[0].rule)
    return Answer(
        202,
        "started",
        _reasons([route for route in found if route.outcome is not RouteOutcome.IGNORE]),
        workflow_id=fresh[0].workflow_id,
        rule=fresh[0].rule,
        started=tuple(StartedRun(run.workflow_id, run.rule) for run in fresh),
    )


def _reasons(found: list[Route] | tuple[Route, ...]) -> str:
    """What the routes say, each once, with the application where there are several."""
    named = len({route.application for route in found}) > 1
    said = (f"{r.application}: {r.reason}" if named and r.application else r.reason for r in found)
    distinct = list(dict.fromkeys(said))
    more = len(distinct) - _REASONS
    return "; ".join(distinct[:_REASONS]) + (f"; and {more} more" if more > 0 else "")
