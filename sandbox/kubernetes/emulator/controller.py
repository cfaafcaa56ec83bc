"""What all controllers are: loops that bring objects nearer to their specification, one key at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from sandbox.kubernetes.emulator.errors import StatusError
from sandbox.kubernetes.emulator.patching import MERGE
from sandbox.kubernetes.emulator.registry import Registry, Target, Write, timestamp
from sandbox.kubernetes.emulator.resources import EVENTS, Object, ResourceType
from sandbox.kubernetes.emulator.store import Change, Key, Store

RETRY_SECONDS: Final = 1.0
CONTROLLER_MANAGER: Final = Write("kube-controller-manager")

logger = logging.getLogger(__name__)


class Controller(ABC):
    """A level-triggered loop: a change names the keys to look at, and each look starts from the store."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._due: dict[Key, float] = {}

    @property
    def store(self) -> Store:
        return self.registry.store

    @abstractmethod
    def keys(self, change: Change) -> Iterable[Key]:
        """The keys that a change concerns."""

    @abstractmethod
    def reconcile(self, key: Key) -> float | None:
        """Take the next steps for one key; answers in how many seconds to look again, None for not at all."""

    async def run(self) -> None:
        """Work until cancelled."""
        with self.store.follow() as changes:
            while True:
                try:
                    async with asyncio.timeout(self._pause()):
                        self._note(await changes.get())
                except TimeoutError:
                    pass
                while not changes.empty():
                    self._note(changes.get_nowait())
                for key in [key for key, due in self._due.items() if due <= time.monotonic()]:
                    del self._due[key]
                    self._reconcile(key)

    def _pause(self) -> float | None:
        if not self._due:
            return None
        return max(0.0, min(self._due.values()) - time.monotonic())

    def _note(self, change: Change) -> None:
        for key in self.keys(change):
            self._due[key] = 0.0

    def _reconcile(self, key: Key) -> None:
        again: float | None
        try:
            again = self.reconcile(key)
        except StatusError as error:
            logger.info("%s: %s: %s", type(self).__name__, "/".join(key), error)
            again = RETRY_SECONDS
        if again is not None:
            self._due.setdefault(key, time.monotonic() + again)


def seconds_since(moment: str) -> float:
    """Seconds since an RFC 3339 time of the API."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def controller_reference(owner: Object) -> Object:
    """The owner reference by which a controller's children belong to it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(content: Object) -> Object | None:
    """The owner reference of the controller of an object."""
    references = content["metadata"].get("ownerReferences") or []
    return next((each for each in references if each.get("controller")), None)


def children(store: Store, resource: ResourceType, owner: Object) -> list[Object]:
    """The objects of a type that the owner controls."""
    uid = owner["metadata"]["uid"]
    return [
        each
        for each in store.objects(resource, owner["metadata"]["namespace"])
        if (reference := controller_of(each)) is not None and reference["uid"] == uid
    ]


def owner_keys(change: Change, kind: str) -> Iterator[Key]:
    """The key of the controlling owner of the changed object, when it is of that kind."""
    reference = controller_of(change.current)
    if reference is not None and reference["kind"] == kind:
        yield (change.current["metadata"]["namespace"], reference["name"])


def object_key(content: Object) -> Key:
    return (content["metadata"].get("namespace", ""), content["metadata"]["name"])


def with_condition(conditions: list[Object], condition: Object) -> list[Object]:
    """Conditions with one set: unchanged status keeps its transition time, unchanged reason all of it."""
    now = timestamp()
    current = next((each for each in conditions if each["type"] == condition["type"]), None)
    if current is not None and all(current.get(key) == condition[key] for key in ("status", "reason")):
        return conditions
    same_status = current is not None and current["status"] == condition["status"]
    moved = current["lastTransitionTime"] if current is not None and same_status else now
    others = [each for each in conditions if each["type"] != condition["type"]]
    return [*others, {**condition, "lastUpdateTime": now, "lastTransitionTime": moved}]


def record_event(
    registry: Registry, about: Object, *, kind: str, reason: str, message: str, component: str
) -> None:
    """Record an Event; one that repeats is counted."""
    metadata = about["metadata"]
    identity = sha256(f"{metadata['uid']}/{reason}/{message}".encode()).hexdigest()[:16]
    target = Target(EVENTS, metadata.get("namespace", "default"), f"{metadata['name']}.{identity}")
    now = timestamp()
    write = Write(component)
    try:
        earlier = registry.store.get(EVENTS, target.namespace, target.name)
        if earlier is not None:
            registry.patch(target, {"count": earlier["count"] + 1, "lastTimestamp": now}, MERGE, write)
            return
        registry.create(
            EVENTS,
            target.namespace,
            {
                "metadata": {"name": target.name},
                "involvedObject": {
                    "apiVersion": about["apiVersion"],
                    "kind": about["kind"],
                    "name": metadata["name"],
                    "namespace": target.namespace,
                    "uid": metadata["uid"],
                },
                "type": kind,
                "reason": reason,
                "message": message,
                "source": {"component": component},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            },
            write,
        )
    except StatusError as error:
        logger.info("event not recorded: %s", error)  # its namespace is going
