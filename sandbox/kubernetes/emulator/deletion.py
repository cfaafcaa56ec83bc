"""Deletion beyond one object: dependents of a deleted owner, and the content of a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from sandbox.kubernetes.emulator.controller import CONTROLLER_MANAGER, Controller, object_key
from sandbox.kubernetes.emulator.errors import StatusError
from sandbox.kubernetes.emulator.patching import MERGE
from sandbox.kubernetes.emulator.registry import FOREGROUND_DELETION, ORPHAN, Target
from sandbox.kubernetes.emulator.resources import NAMESPACES, Object, ResourceType
from sandbox.kubernetes.emulator.store import Change, Key


class GarbageCollector(Controller):
    """Deletes what belongs to a deleted owner. Its keys carry the owner's uid as name."""

    def keys(self, change: Change) -> Iterable[Key]:
        metadata = change.current["metadata"]
        uids = _owner_uids(change.current) if change.type != "MODIFIED" else []
        if change.type == "DELETED" or "deletionTimestamp" in metadata:
            uids.append(metadata["uid"])
        return [("", uid) for uid in uids]

    def reconcile(self, key: Key) -> float | None:
        uid = key[1]
        owner = next((each for each in self._everything() if each[1]["metadata"]["uid"] == uid), None)
        dependents = [each for each in self._everything() if uid in _owner_uids(each[1])]
        if owner is None:
            for resource, dependent in dependents:
                self._delete_dependent(resource, dependent, uid)
            return None
        resource, content = owner
        finalizers = content["metadata"].get("finalizers") or []
        if "deletionTimestamp" not in content["metadata"]:
            return None
        if ORPHAN in finalizers:
            for each, dependent in dependents:
                self._disown(each, dependent, uid)
            self._finalize(resource, content, ORPHAN)
        elif FOREGROUND_DELETION in finalizers:
            for each, dependent in dependents:
                if "deletionTimestamp" not in dependent["metadata"]:
                    self.registry.delete(Target(each, *object_key(dependent)), propagation="Foreground")
            if not dependents:
                self._finalize(resource, content, FOREGROUND_DELETION)
        return None

    def _everything(self) -> Iterator[tuple[ResourceType, Object]]:
        for resource in self.registry.kinds:
            for content in self.store.objects(resource):
                yield resource, content

    def _delete_dependent(self, resource: ResourceType, dependent: Object, uid: str) -> None:
        living = {each["metadata"]["uid"] for _, each in self._everything()}
        if any(other in living for other in _owner_uids(dependent) if other != uid):
            self._disown(resource, dependent, uid)
        elif "deletionTimestamp" not in dependent["metadata"]:
            self.registry.delete(Target(resource, *object_key(dependent)))

    def _disown(self, resource: ResourceType, dependent: Object, uid: str) -> None:
        kept = [each for each in dependent["metadata"]["ownerReferences"] if each["uid"] != uid]
        patch = {"metadata": {"ownerReferences": kept}}
        self.registry.patch(Target(resource, *object_key(dependent)), patch, MERGE, CONTROLLER_MANAGER)

    def _finalize(self, resource: ResourceType, content: Object, finalizer: str) -> None:
        kept = [each for each in content["metadata"]["finalizers"] if each != finalizer]
        patch = {"metadata": {"finalizers": kept}}
        self.registry.patch(Target(resource, *object_key(content)), patch, MERGE, CONTROLLER_MANAGER)


def _owner_uids(content: Object) -> list[str]:
    return [each["uid"] for each in content["metadata"].get("ownerReferences") or []]


class NamespaceController(Controller):
    """Empties a namespace that is being deleted, then removes it."""

    def keys(self, change: Change) -> Iterable[Key]:
        if change.resource is NAMESPACES:
            return [("", change.current["metadata"]["name"])]
        if change.type == "DELETED" and change.resource.namespaced:
            return [("", change.current["metadata"]["namespace"])]
        return ()

    def reconcile(self, key: Key) -> float | None:
        namespace = self.store.get(NAMESPACES, *key)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return None
        name = namespace["metadata"]["name"]
        contained = [each for each in self.registry.kinds if each.namespaced]
        for resource in contained:
            for content in self.store.objects(resource, name):
                if "deletionTimestamp" not in content["metadata"]:
                    with suppress(StatusError):  # gone meanwhile, with its owner
                        self.registry.delete(Target(resource, *object_key(content)))
        if not any(self.store.objects(each, name) for each in contained):
            self.registry.finish_deletion(NAMESPACES, namespace)
        return None
