"""Reading the payloads of Git hosts: every JSON is an event, or ends in one of two errors.

Payloads come from outside. A field is read by its name and type, and what a rule or a workflow will be given
(references, commits, logins) is checked here, once; nothing is walked through that is not asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from domain.deployment import ACTOR_LENGTH
from domain.events import DeploymentEvent, EventSource, EventType
from domain.triggers.host_event import Host

_MISSING: Final = object()
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PROJECT = re.compile(r"[\w.-]+(?:/[\w.-]+)+")
_LINK = re.compile(r"https?://[!-~]{1,1000}")
# Control characters and halves of surrogate pairs: no name has them, and they end badly in logs.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_TEXT = 1024
_LONGEST_METADATA = 512
_LONGEST_TIME = 40
_CLOCKS_APART = timedelta(minutes=5)
_LARGEST_NUMBER = 2**53
BRANCHES, TAGS = "refs/heads/", "refs/tags/"
ZEROS = "0" * 40
"""What hosts write where there is no commit: before a creation, after a deletion."""


class EventIgnoredError(Exception):
    """Nobody can want this event; the reason says which ones can start something."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EventUnusableError(Exception):
    """The event is of a known kind, and lacks what it takes: the reason names field, value and remedy."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Delivery:
    """How a payload came.

    Attributes:
        id: of the delivery at its host; a redelivery has the same.
        metadata: what else is kept with the event, such as ``ip_address`` and ``user_agent``.
    """

    host: Host
    id: str
    received: datetime
    metadata: Mapping[str, str]

    def record(
        self,
        kind: EventType,
        *,
        actor: str,
        ref: str,
        commit: str,
        project: str,
        happened: datetime | None = None,
        **metadata: str | None,
    ) -> DeploymentEvent:
        """The spec's event record.

        `happened` is the host's time of the event. A redelivery keeps it, so that it tells which of two
        events is newer; one that is yet to come is not believed.

        The actor is the login that the host has authenticated. Addresses in commits are not used: whoever
        commits writes there what they like.
        """
        passed = {k: _printable(v)[:_LONGEST_METADATA] for k, v in self.metadata.items()}
        known = {
            "delivery": self.id,
            "host": self.host,
            "project": project,
            "received": self.received.isoformat(),
            **metadata,
        }
        if happened is None or happened - self.received > _CLOCKS_APART:
            happened = self.received
        return DeploymentEvent(
            id=f"{self.host}:{self.id}",
            type=kind,
            source=EventSource.WEBHOOK,
            actor=actor,
            timestamp=happened,
            metadata={**passed, **{k: v for k, v in known.items() if v is not None}},
            git_ref=ref,
            commit_sha=commit,
        )


@dataclass(frozen=True)
class Fields:
    """One object of a payload, which knows its place in it."""

    values: Mapping[str, Any]
    place: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, payload: object) -> Fields:
        if not isinstance(payload, Mapping):
            raise EventUnusableError(
                f"the payload is {_shown(payload)}, not an object; choose the content type application/json"
            )
        return cls(payload)

    def refused(self, name: str, wanted: str) -> EventUnusableError:
        """That a field is not what it must be."""
        where = ".".join((*self.place, name))
        value = _shown(self.values.get(name, _MISSING))
        return EventUnusableError(
            f"{where} is {value}, not {wanted}; send the payload as the host makes it, unshortened"
        )

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def part(self, name: str) -> Fields:
        value = self.values.get(name)
        if not isinstance(value, Mapping):
            raise self.refused(name, "an object")
        return Fields(value, (*self.place, name))

    def parts(self, name: str) -> list[Fields]:
        return [self._element(name, i, v) for i, v in enumerate(self._list(name))]

    def _element(self, name: str, index: int, value: object) -> Fields:
        if not isinstance(value, Mapping):
            raise Fields({str(index): value}, (*self.place, name)).refused(str(index), "an object")
        return Fields(value, (*self.place, name, str(index)))

    def _list(self, name: str) -> Sequence[Any]:
        value = self.values.get(name)
        if not isinstance(value, list | tuple):
            raise self.refused(name, "a list")
        return value

    def text(self, name: str, limit: int = _LONGEST_TEXT) -> str:
        """One printable line without blanks around it."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value.strip() or _UNPRINTABLE.search(value):
            raise self.refused(name, "a line of text")
        if len(value) > limit:
            raise self.refused(name, f"a text of at most {limit} characters")
        return value.strip()

    def time(self, name: str) -> datetime | None:
        """A time in UTC: ``2013-12-03T17:23:34Z``, at GitLab also ``2013-12-03 17:23:34 UTC``; none if there
        is no usable one, as when it was received is good enough."""
        value = self.values.get(name)
        if not isinstance(value, str) or len(value) > _LONGEST_TIME:
            return None
        try:
            time = datetime.fromisoformat(re.sub(r" ?UTC$", "+00:00", value.strip()))
            return time.astimezone(UTC) if time.utcoffset() is not None else None
        except (ValueError, OverflowError):
            return None

    def login(self, name: str) -> str:
        return self.text(name, ACTOR_LENGTH)

    def commit(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not _COMMIT.fullmatch(value):
            raise self.refused(name, "a commit of 40 hexadecimal digits")
        return value

    def project(self, name: str) -> str:
        value = self.text(name)
        if not _PROJECT.fullmatch(value) or {".", ".."} & set(value.split("/")):
            raise self.refused(name, "owner/name of a project")
        return value

    def number(self, name: str) -> int:
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST_NUMBER:
            raise self.refused(name, "a number")
        return value

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if not isinstance(value, bool):
            raise self.refused(name, "true or false")
        return value

    def paths(self, name: str) -> list[str]:
        """File names, which may be any text; what cannot be encoded matches no glob, and is replaced."""
        values = self._list(name)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise Fields({str(index): value}, (*self.place, name)).refused(str(index), "a path")
        return [v if v.isascii() else v.encode("utf-8", "replace").decode() for v in values]

    def link(self, name: str) -> str | None:
        """A web address to show; none if there is no usable one, as nothing depends on it."""
        value = self.values.get(name)
        return value if isinstance(value, str) and _LINK.fullmatch(value) else None

    def inputs(self, name: str) -> dict[str, str | bool]:
        """The inputs of a manual dispatch; numbers become text, null is as good as absent."""
        if not self.has(name):
            return {}
        given = self.part(name)
        found: dict[str, str | bool] = {}
        for key in given.values:
            Fields({"name": key}, given.place).text("name")
            value = given.values[key]
            if isinstance(value, bool):
                found[key] = value
            elif isinstance(value, int | float):
                found[key] = _shown(value)
            elif isinstance(value, str):
                found[key] = _printable(value)
            elif value is not None:
                raise given.refused(key, "a text, a number, true or false")
        return found


def commit_if_told(fields: Fields, *names: str) -> str:
    """The first of the fields that is filled; empty if none is."""
    return next((fields.commit(name) for name in names if fields.has(name)), "")


def pushed(fields: Fields) -> tuple[str | None, str | None]:
    """The branch, or the tag, that a push is about."""
    ref = fields.text("ref")
    for prefix in (BRANCHES, TAGS):
        name = ref.removeprefix(prefix)
        if name and name != ref:
            return (name, None) if prefix == BRANCHES else (None, name)
    raise EventIgnoredError(f"{_shown(ref)} is neither a branch nor a tag")


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)


def _shown(value: object) -> str:
    """A value in a message: never long, never deep."""
    if value is _MISSING:
        return "missing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
        return "a very large number"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:59] + "…").encode("ascii", "replace").decode()
    return "an object" if isinstance(value, Mapping) else "a list"
