"""The operations of the API on objects: what a request does once it has been read.

All of them are synchronous: between two awaits of the server a read-modify-write is atomic.
"""

from __future__ import annotations

import base64
import ipaddress
import secrets
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import uuid4

from sandbox.kubernetes.emulator import errors, field_ownership
from sandbox.kubernetes.emulator.defaults import with_defaults
from sandbox.kubernetes.emulator.definitions import accepted, defined
from sandbox.kubernetes.emulator.errors import Cause
from sandbox.kubernetes.emulator.patching import patched
from sandbox.kubernetes.emulator.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    RESOURCES,
    SECRETS,
    SERVICES,
    Object,
    ResourceType,
)
from sandbox.kubernetes.emulator.schema import decode
from sandbox.kubernetes.emulator.selectors import Predicate, everything, format_selector
from sandbox.kubernetes.emulator.store import Store
from sandbox.kubernetes.emulator.validation import validate

Subresource = Literal["", "status", "scale"]
Propagation = Literal["Background", "Foreground", "Orphan"]

INITIAL_NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")
SERVICE_NETWORK: Final = ipaddress.ip_network("10.0.0.0/16")
FOREGROUND_DELETION: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
SERVER_FIELDS: Final = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
    "selfLink",
)


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 in seconds, as `metav1.Time` is written."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Write:
    """Who writes, and whether only to try."""

    manager: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What a request names: an object or, for scale and status, a part of it."""

    resource: ResourceType
    namespace: str
    name: str
    subresource: Subresource = ""


class Registry:
    """The API over a `Store`: admission, versions, field ownership, deletion."""

    def __init__(self, store: Store) -> None:
        self.store = store
        system = Write("kube-apiserver")
        for name in INITIAL_NAMESPACES:
            self.create(NAMESPACES, "", {"metadata": {"name": name}}, system)

    @property
    def types(self) -> tuple[ResourceType, ...]:
        """All types that are served, in all their versions; definitions of custom ones add theirs."""
        definitions = self.store.objects(CUSTOM_RESOURCE_DEFINITIONS)
        return (*RESOURCES, *(each for definition in definitions for each in defined(definition)))

    @property
    def kinds(self) -> tuple[ResourceType, ...]:
        """The served types, each in one version."""
        return tuple({each.key: each for each in reversed(self.types)}.values())

    # Reading

    def read(self, target: Target) -> Object:
        """The object or its scale; 404 when there is none."""
        live = self._live(target)
        return _scale(target.resource, live) if target.subresource == "scale" else live

    def listed(
        self, resource: ResourceType, namespace: str | None, matches: Predicate = everything
    ) -> list[Object]:
        """The objects of a namespace, or of all with None, that match."""
        return [each for each in self.store.objects(resource, namespace) if matches(each)]

    # Writing

    def create(self, resource: ResourceType, namespace: str, content: Any, write: Write) -> Object:
        """Store a new object; 404 for an unknown namespace, 409 if it exists, 422 if it is invalid."""
        new = decode(resource, content)
        metadata: Object = new.setdefault("metadata", {})
        _check_namespace(resource, metadata, namespace)
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and (prefix := metadata.get("generateName")):
            metadata["name"] = prefix + secrets.token_hex(3)[:5]
        new = self._admitted(resource, namespace, new)
        if self.store.get(resource, namespace, metadata.get("name", "")) is not None:
            raise errors.already_exists(resource, metadata["name"])
        new["metadata"]["managedFields"] = field_ownership.record_update(
            None, new, write.manager, timestamp(), schema=not resource.custom
        )
        return new if write.dry_run else self.store.put(resource, new)

    def replace(self, target: Target, content: Any, write: Write) -> Object:
        """Put an object in the place of the stored one; 409 if it carries a stale resourceVersion."""
        if target.subresource == "scale":
            return self._change(target, lambda _: content, write)

        def replacement(_: Object) -> Object:
            return decode(target.resource, content)

        given = content.get("metadata", {}) if isinstance(content, dict) else {}
        if not given.get("resourceVersion") and not target.resource.unconditional_update:
            self._live(target)
            raise errors.invalid(
                target.resource,
                target.name,
                [Cause.invalid("metadata.resourceVersion", "0x0", "must be specified for an update")],
            )
        return self._change(target, replacement, write)

    def patch(self, target: Target, patch: Any, patch_type: str, write: Write) -> Object:
        """Change an object by one of the three patch types."""
        if target.subresource == "scale":
            return self._change(target, lambda scale: patched(scale, patch, patch_type), write)
        return self._change(
            target, lambda live: decode(target.resource, patched(live, patch, patch_type)), write
        )

    def apply(self, target: Target, content: Any, write: Write, *, force: bool) -> tuple[Object, bool]:
        """Server-side apply; answers the object and whether it was created."""
        resource = target.resource
        applied = decode(resource, content)
        metadata: Object = applied.setdefault("metadata", {})
        _check_namespace(resource, metadata, target.namespace)
        _check_name(metadata, target.name)
        if metadata.get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        live = self.store.get(resource, target.namespace, target.name)
        version = metadata.get("resourceVersion")
        if live is not None and version and version != live["metadata"]["resourceVersion"]:
            raise errors.stale(resource, target.name)
        try:
            new = field_ownership.apply(
                live, applied, write.manager, timestamp(), force=force, schema=not resource.custom
            )
        except field_ownership.FieldConflict as conflict:
            raise errors.apply_conflict(resource, target.name, conflict.causes) from conflict
        if live is None:
            if version:
                raise errors.not_found(resource, target.name)
            managers = new["metadata"]["managedFields"]
            new = self._admitted(resource, target.namespace, new)
            new["metadata"]["managedFields"] = managers
            return (new if write.dry_run else self.store.put(resource, new)), True
        return self._store_change(target, live, new, new["metadata"]["managedFields"], write), False

    def delete(
        self,
        target: Target,
        *,
        propagation: Propagation = "Background",
        preconditions: Object | None = None,
        grace_seconds: int | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Delete an object or, while finalizers or its kubelet hold it, mark it as being deleted."""
        live = self._live(target)
        metadata = live["metadata"]
        for name, wanted in (preconditions or {}).items():
            if wanted and metadata.get(name) != wanted:
                raise errors.conflict(
                    target.resource,
                    target.name,
                    f"Precondition failed: {name} in precondition: {wanted}, "
                    f"{name} in object meta: {metadata.get(name)}",
                )
        if dry_run:
            return live
        finalizers = list(metadata.get("finalizers") or [])
        mark = {"Foreground": FOREGROUND_DELETION, "Orphan": ORPHAN}.get(propagation)
        if mark is not None and mark not in finalizers:
            finalizers.append(mark)
        grace = 0
        if target.resource is PODS:
            own_grace = live["spec"]["terminationGracePeriodSeconds"]
            grace = own_grace if grace_seconds is None else grace_seconds
        held_by_kubelet = grace and live.get("spec", {}).get("nodeName")
        if not finalizers and not held_by_kubelet and target.resource is not NAMESPACES:
            return self.store.remove(target.resource, live)
        if "deletionTimestamp" in metadata:
            return live
        metadata["deletionTimestamp"] = timestamp()
        metadata["deletionGracePeriodSeconds"] = grace
        if finalizers:
            metadata["finalizers"] = finalizers
        if target.resource is NAMESPACES:
            live["status"]["phase"] = "Terminating"
        return self.store.put(target.resource, live)

    def finish_deletion(self, resource: ResourceType, content: Object) -> None:
        """What the kubelet and the controllers do last: remove an object marked as being deleted."""
        live = self.store.get(resource, content["metadata"].get("namespace", ""), content["metadata"]["name"])
        if live is None or live["metadata"]["uid"] != content["metadata"]["uid"]:
            return
        if not live["metadata"].get("finalizers"):
            self.store.remove(resource, live)

    # How a write becomes a stored object

    def _live(self, target: Target) -> Object:
        live = self.store.get(target.resource, target.namespace, target.name)
        if live is None:
            raise errors.not_found(target.resource, target.name)
        return live

    def _admitted(self, resource: ResourceType, namespace: str, new: Object) -> Object:
        """A new object with everything the server adds; checked."""
        if resource.namespaced:
            home = self.store.get(NAMESPACES, "", namespace)
            if home is None:
                raise errors.not_found(NAMESPACES, namespace)
            if "deletionTimestamp" in home["metadata"]:
                raise errors.forbidden(
                    resource,
                    new["metadata"].get("name", ""),
                    f"unable to create new content in namespace {namespace} because it is being terminated",
                )
            new["metadata"]["namespace"] = namespace
        metadata = new["metadata"]
        for name in SERVER_FIELDS:
            metadata.pop(name, None)
        if resource.custom:
            new.pop("status", None)
        elif "status" in resource.subresources:
            new["status"] = {"replicas": 0} if resource is REPLICA_SETS else {}
        metadata["uid"] = str(uuid4())
        metadata["creationTimestamp"] = timestamp()
        if resource.counts_generations:
            metadata["generation"] = 1
        new = with_defaults(resource, _without_string_data(resource, new))
        validate(resource, new, None)
        if resource is SERVICES:
            self._assign_cluster_ip(new)
        if resource is CUSTOM_RESOURCE_DEFINITIONS:
            new["status"] = accepted(new, timestamp())
        if resource is PODS:
            new["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
        return new

    def _assign_cluster_ip(self, service: Object) -> None:
        spec = service["spec"]
        if spec["type"] == "ExternalName":
            return
        if not spec.get("clusterIP"):
            used = {each["spec"].get("clusterIP") for each in self.store.objects(SERVICES)}
            spec["clusterIP"] = next(
                address for address in map(str, SERVICE_NETWORK.hosts()) if address not in used
            )
        spec["clusterIPs"] = [spec["clusterIP"]]

    def _change(self, target: Target, change: Callable[[Object], Any], write: Write) -> Object:
        live = self._live(target)
        if target.subresource == "scale":
            return self._change_scale(target, live, change, write)
        new = change(deepcopy(live))
        metadata: Object = new.setdefault("metadata", {})
        _check_namespace(target.resource, metadata, target.namespace)
        _check_name(metadata, target.name)
        version = metadata.get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            raise errors.stale(target.resource, target.name)
        uid, live_uid = metadata.get("uid"), live["metadata"]["uid"]
        if uid and uid != live_uid:
            raise errors.conflict(
                target.resource,
                target.name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {live_uid}",
            )
        return self._store_change(target, live, new, None, write)

    def _change_scale(
        self, target: Target, live: Object, change: Callable[[Object], Any], write: Write
    ) -> Object:
        scale = change(_scale(target.resource, live))
        if not isinstance(scale, dict):
            raise errors.bad_request("the request body is no Scale")
        version = scale.get("metadata", {}).get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            raise errors.stale(target.resource, target.name)
        replicas = scale.get("spec", {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise errors.bad_request("Scale cannot be handled: spec.replicas is no number")
        new = deepcopy(live)
        new["spec"]["replicas"] = replicas
        # Like the real 1.20, a scale leaves the ownership of `spec.replicas` as it is.
        managers = live["metadata"].get("managedFields")
        whole = Target(target.resource, target.namespace, target.name)
        return _scale(target.resource, self._store_change(whole, live, new, managers, write))

    def _store_change(
        self, target: Target, live: Object, new: Object, managers: list[Object] | None, write: Write
    ) -> Object:
        """Store the change of one object, with the parts it may not change taken from the live one."""
        resource = target.resource
        old_metadata = live["metadata"]
        if target.subresource == "status":
            annotations = new["metadata"].get("annotations")
            new = {**live, "metadata": dict(old_metadata), "status": new.get("status", {})}
            new["metadata"].pop("annotations", None)
            if annotations:
                new["metadata"]["annotations"] = annotations
        else:
            metadata = {key: value for key, value in new["metadata"].items() if key not in SERVER_FIELDS}
            metadata.update({key: old_metadata[key] for key in SERVER_FIELDS if key in old_metadata})
            if resource.namespaced:
                metadata["namespace"] = target.namespace
            new = {**new, "metadata": metadata}
            if "status" in resource.subresources:
                new.pop("status", None)
                if "status" in live:
                    new["status"] = live["status"]
            if resource is SERVICES:
                for name in ("clusterIP", "clusterIPs"):
                    if name in live["spec"]:
                        new.setdefault("spec", {}).setdefault(name, live["spec"][name])
            new = with_defaults(resource, _without_string_data(resource, new))
            validate(resource, new, live)
            _check_immutable(resource, new, live)
            if resource.counts_generations and _is_new_generation(resource, new, live):
                new["metadata"]["generation"] = old_metadata["generation"] + 1
        if managers is None:
            managers = field_ownership.record_update(
                live, new, write.manager, timestamp(), schema=not resource.custom
            )
        new["metadata"]["managedFields"] = managers
        if write.dry_run or new == live:
            return new
        was_held_by_finalizers = "deletionTimestamp" in old_metadata and resource not in (PODS, NAMESPACES)
        if was_held_by_finalizers and not new["metadata"].get("finalizers"):
            return self.store.remove(resource, new)
        return self.store.put(resource, new)


def _is_new_generation(resource: ResourceType, new: Object, live: Object) -> bool:
    if resource.custom:
        unversioned = ("apiVersion", "metadata", "status")
        return any(
            new.get(key) != live.get(key) for key in (new.keys() | live.keys()).difference(unversioned)
        )
    if new.get("spec") != live.get("spec"):
        return True
    # The server counts these too, as the deployment controller copies annotations to replica sets.
    return resource is DEPLOYMENTS and (
        new["metadata"].get("annotations") != live["metadata"].get("annotations")
    )


def _check_namespace(resource: ResourceType, metadata: Object, namespace: str) -> None:
    if resource.namespaced and metadata.setdefault("namespace", namespace) != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def _check_name(metadata: Object, name: str) -> None:
    if metadata.setdefault("name", name) != name:
        raise errors.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        )


def _check_immutable(resource: ResourceType, new: Object, live: Object) -> None:
    if resource in (CONFIG_MAPS, SECRETS) and live.get("immutable"):
        for name in ("data", "binaryData", "immutable"):
            if new.get(name) != live.get(name):
                raise errors.invalid(
                    resource,
                    new["metadata"]["name"],
                    [
                        Cause(
                            name,
                            "FieldValueForbidden",
                            "Forbidden: field is immutable when `immutable` is set",
                        )
                    ],
                )
    if resource is SERVICES and new["spec"].get("clusterIP") != live["spec"].get("clusterIP"):
        address = new["spec"].get("clusterIP")
        raise errors.invalid(
            resource,
            new["metadata"]["name"],
            [Cause.invalid("spec.clusterIP", address, "field is immutable")],
        )


def _without_string_data(resource: ResourceType, content: Object) -> Object:
    """A Secret with its write-only `stringData` moved into `data`."""
    if resource is not SECRETS or "stringData" not in content:
        return content
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in content["stringData"].items()}
    kept = {key: value for key, value in content.items() if key != "stringData"}
    return {**kept, "data": {**kept.get("data", {}), **encoded}}


def _scale(resource: ResourceType, live: Object) -> Object:
    metadata = {
        key: live["metadata"][key]
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if key in live["metadata"]
    }
    replicas = live["spec"]["replicas"]
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": replicas} if replicas else {},  # zero is left out, as Go does
        "status": {
            "replicas": live.get("status", {}).get("replicas", 0),
            "selector": format_selector(live["spec"]["selector"]),
        },
    }
