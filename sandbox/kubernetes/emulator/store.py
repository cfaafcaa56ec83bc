"""The objects in memory, their versions, and the history that watches follow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Final, Literal

from sandbox.kubernetes.emulator.resources import Object, ResourceType

HISTORY_LENGTH: Final = 10_000

Key = tuple[str, str]
"""Namespace ("" for cluster-wide types) and name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write: `current` is the object after it, for a deletion its last state."""

    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    resource: ResourceType
    current: Object
    previous: Object | None


class Expired(Exception):  # noqa: N818 - the caller turns it into the API's 410
    """The history does not reach back to the revision asked for."""


class Store:
    """All objects of the cluster. Reads and writes hand out and take copies."""

    def __init__(self) -> None:
        self.revision = 1
        self._objects: dict[tuple[str, str], dict[Key, Object]] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY_LENGTH)
        self._followers: set[asyncio.Queue[Change]] = set()

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        found = self._objects.get(resource.key, {}).get((namespace, name))
        return None if found is None else in_version(resource, deepcopy(found))

    def objects(self, resource: ResourceType, namespace: str | None = None) -> list[Object]:
        """Objects of one namespace or, with None, of all, in the order of their keys."""
        return [
            in_version(resource, deepcopy(content))
            for key, content in sorted(self._objects.get(resource.key, {}).items())
            if namespace is None or key[0] == namespace
        ]

    def put(self, resource: ResourceType, content: Object) -> Object:
        """Store a new or changed object under the next revision and return it as stored."""
        objects = self._objects.setdefault(resource.key, {})
        key = _key(content)
        previous = objects.get(key)
        self.revision += 1
        stored = deepcopy(content)
        stored["metadata"]["resourceVersion"] = str(self.revision)
        objects[key] = stored
        self._publish("MODIFIED" if previous else "ADDED", resource, stored, previous)
        return deepcopy(stored)

    def remove(self, resource: ResourceType, content: Object) -> Object:
        """Forget an object; watches see its last state under the revision of the removal."""
        previous = self._objects[resource.key].pop(_key(content))
        self.revision += 1
        last = deepcopy(content)
        last["metadata"]["resourceVersion"] = str(self.revision)
        self._publish("DELETED", resource, last, previous)
        return deepcopy(last)

    def since(self, resource: ResourceType, revision: int) -> list[Change]:
        """The changes of a type after a revision; raises `Expired` when they are no longer kept."""
        if (
            self._history
            and len(self._history) == HISTORY_LENGTH
            and revision < self._history[0].revision - 1
        ):
            raise Expired(f"too old resource version: {revision} ({self._history[0].revision})")
        return [
            each for each in self._history if each.resource.key == resource.key and each.revision > revision
        ]

    @contextmanager
    def follow(self) -> Iterator[asyncio.Queue[Change]]:
        """A queue of all changes from now on."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._followers.add(queue)
        try:
            yield queue
        finally:
            self._followers.discard(queue)

    def _publish(
        self,
        kind: Literal["ADDED", "MODIFIED", "DELETED"],
        resource: ResourceType,
        current: Object,
        previous: Object | None,
    ) -> None:
        change = Change(self.revision, kind, resource, current, previous)
        self._history.append(change)
        for queue in self._followers:
            queue.put_nowait(change)


def in_version(resource: ResourceType, content: Object) -> Object:
    """The object as this version of its type shows it: without conversion only the name differs."""
    return {**content, "apiVersion": resource.api_version}


def _key(content: Object) -> Key:
    metadata = content["metadata"]
    return (metadata.get("namespace", ""), metadata["name"])
