"""Which lists of the API are merged item by item, and by which keys."""

from __future__ import annotations

from typing import Any, Final

Names = tuple[str, ...]
"""Field names from the root to a value, list positions left out."""

# The parent's and the list's own name decide; "" as parent stands for any.
MERGE_KEYS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("", "containers"): ("name",),
    ("", "initContainers"): ("name",),
    ("", "ephemeralContainers"): ("name",),
    ("", "volumes"): ("name",),
    ("", "imagePullSecrets"): ("name",),
    ("", "hostAliases"): ("ip",),
    ("", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    ("", "ownerReferences"): ("uid",),
    ("", "conditions"): ("type",),
    ("containers", "ports"): ("containerPort", "protocol"),
    ("initContainers", "ports"): ("containerPort", "protocol"),
    ("containers", "env"): ("name",),
    ("initContainers", "env"): ("name",),
    ("containers", "volumeMounts"): ("mountPath",),
    ("initContainers", "volumeMounts"): ("mountPath",),
    ("containers", "volumeDevices"): ("devicePath",),
    ("status", "addresses"): ("type",),
    ("spec", "ports"): ("port", "protocol"),  # of a Service
    ("", "secrets"): ("name",),  # of a ServiceAccount
}
SETS: Final = frozenset({"finalizers"})
KEY_DEFAULTS: Final = {"protocol": "TCP"}


UNKNOWN: Final[Names] = ("*",)
"""The root of what has no schema, such as custom resources: there every list but metadata's is one value."""


def merge_keys(names: Names, items: list[Any]) -> tuple[str, ...] | None:
    """The keys that identify an item of the list at `names`; None when the list is one value."""
    if names[:1] == UNKNOWN and names[1:2] != ("metadata",):
        return None
    parent, own = ("", *names)[-2:] if names else ("", "")
    keys = MERGE_KEYS.get((parent, own)) or MERGE_KEYS.get(("", own))
    if keys is None or not all(isinstance(item, dict) and keys[0] in item for item in items):
        return None
    return keys


def item_key(item: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The identity of an item, defaults filled in."""
    return {key: item.get(key, KEY_DEFAULTS.get(key)) for key in keys}
