"""Custom resource definitions: the types they add to those that are built in."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.kubernetes.emulator.resources import Object, ResourceType

SUBRESOURCES = frozenset({"status"})


def defined(definition: Object) -> Iterator[ResourceType]:
    """The type of a definition in each version that is served."""
    spec = definition["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if version.get("served"):
            yield ResourceType(
                spec["group"],
                version["name"],
                names["plural"],
                names["kind"],
                None,
                tuple(names.get("shortNames") or ()),
                tuple(names.get("categories") or ()),
                namespaced=spec["scope"] == "Namespaced",
                subresources=SUBRESOURCES.intersection(version.get("subresources") or ()),
                counts_generations=True,
                unconditional_update=False,
            )


def accepted(definition: Object, now: str) -> Object:
    """The status of a definition: here it is served at once."""
    spec = definition["spec"]
    return {
        "acceptedNames": spec["names"],
        "storedVersions": [each["name"] for each in spec["versions"] if each.get("storage")],
        "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now}
            for kind, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
        ],
    }
