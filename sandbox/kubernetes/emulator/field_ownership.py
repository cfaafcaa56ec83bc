"""Server-side apply: who owns which field (`metadata.managedFields`), conflicts, and pruning.

A field is a path of `f:name`, `k:{item key}` and `v:value` elements, as in `fieldsV1`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from sandbox.kubernetes.emulator.errors import Cause
from sandbox.kubernetes.emulator.list_keys import SETS, UNKNOWN, Names, item_key, merge_keys
from sandbox.kubernetes.emulator.resources import Object

FieldPath = tuple[str, ...]
Operation = Literal["Apply", "Update"]

PRESENT: Final = object()  # the value of a list item as such, beside those of its fields
UNOWNED_METADATA: Final = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generateName",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry of `managedFields`: what this manager owns by this operation."""

    name: str
    operation: Operation
    api_version: str
    time: str
    fields: frozenset[FieldPath] = field(default=frozenset())

    @property
    def identity(self) -> tuple[str, str, str]:
        return (self.name, self.operation, self.api_version)

    def described(self) -> str:
        """As conflicts name it."""
        if self.operation == "Apply":
            return f'"{self.name}"'
        return f'"{self.name}" using {self.api_version} at {self.time}'


class FieldConflict(Exception):  # noqa: N818 - an outcome the caller turns into the API's 409
    """Other managers own fields the applied configuration would change."""

    def __init__(self, causes: list[Cause]) -> None:
        super().__init__(", ".join(cause.field for cause in causes))
        self.causes = causes


def record_update(
    live: Object | None, new: Object, manager: str, now: str, *, schema: bool = True
) -> list[Object]:
    """`managedFields` after a create, update or patch: the manager owns what it changed.

    Without a `schema` every list is one value.
    """
    root: Names = () if schema else UNKNOWN
    before = dict(_leaves(_owned_part(live), names=root)) if live is not None else {}
    after = dict(_leaves(_owned_part(new), names=root))
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    removed = before.keys() - after.keys()
    mine = Manager(manager, "Update", new["apiVersion"], now)
    managers: list[Manager] = []
    for each in read_managers(live or {}):
        if each.identity == mine.identity:
            time = now if changed or removed & each.fields else each.time
            mine = replace(each, time=time, fields=each.fields - removed)
        else:
            managers.append(replace(each, fields=each.fields - removed - changed))
    managers.append(replace(mine, fields=mine.fields | changed))
    return _written(managers)


def apply(
    live: Object | None, applied: Object, manager: str, now: str, *, force: bool, schema: bool = True
) -> Object:
    """The object after server-side apply of a configuration, `managedFields` included.

    Raises `FieldConflict` unless `force`, which takes the fields over. What the manager applied before and
    leaves out now is removed unless another manager owns it.
    """
    configuration = _owned_part(applied)
    root: Names = () if schema else UNKNOWN
    wanted = dict(_leaves(configuration, names=root))
    mine = Manager(manager, "Apply", applied["apiVersion"], now, frozenset(wanted))
    if live is None:
        return _with_managers(deepcopy(applied), [mine])
    current = dict(_leaves(_owned_part(live), names=root))
    managers = read_managers(live)
    previous = next((each for each in managers if each.identity == mine.identity), None)
    others = [each for each in managers if each.identity != mine.identity]
    lost = {path for path, value in wanted.items() if current.get(path) != value}
    conflicts = [
        Cause(_readable(path), "FieldManagerConflict", f"conflict with {other.described()}")
        for other in others
        for path in sorted(other.fields & lost)
    ]
    if conflicts and not force:
        raise FieldConflict(conflicts)
    others = [replace(each, fields=each.fields - lost) for each in others]
    result = _merged(deepcopy(live), configuration, root)
    if previous is not None:
        kept = [path for other in others for path in other.fields]
        _prune(result, previous.fields - mine.fields, kept, root)
        if previous.fields == mine.fields and not lost:
            mine = previous
    return _with_managers(result, [*others, mine])


def read_managers(content: Object) -> list[Manager]:
    """The managers of an object."""
    return [
        Manager(
            entry["manager"],
            entry["operation"],
            entry["apiVersion"],
            entry["time"],
            frozenset(_paths(entry["fieldsV1"])),
        )
        for entry in content.get("metadata", {}).get("managedFields") or []
    ]


def _with_managers(content: Object, managers: list[Manager]) -> Object:
    content["metadata"]["managedFields"] = _written(managers)
    return content


def _written(managers: list[Manager]) -> list[Object]:
    return [
        {
            "manager": each.name,
            "operation": each.operation,
            "apiVersion": each.api_version,
            "time": each.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": _tree(each.fields),
        }
        for each in sorted(managers, key=lambda each: (each.operation, each.time, each.name))
        if each.fields
    ]


def _owned_part(content: Object) -> Object:
    part = {key: value for key, value in content.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {
        key: value for key, value in content.get("metadata", {}).items() if key not in UNOWNED_METADATA
    }
    return {**part, "metadata": metadata} if metadata else part


def _leaves(value: Any, path: FieldPath = (), names: Names = ()) -> Iterator[tuple[FieldPath, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, f"f:{key}"), (*names, key))
    elif isinstance(value, list) and (keys := merge_keys(names, value)):
        for item in value:
            item_path = (*path, _key_element(item, keys))
            yield item_path, PRESENT
            yield from _leaves(item, item_path, names)
    elif isinstance(value, list) and names[-1] in SETS:
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), PRESENT
    elif path:
        yield path, value


def _key_element(item: Object, keys: tuple[str, ...]) -> str:
    return "k:" + json.dumps(item_key(item, keys), sort_keys=True, separators=(",", ":"))


def _merged(live: Any, applied: Any, names: Names) -> Any:
    if isinstance(applied, dict) and isinstance(live, dict):
        for key, value in applied.items():
            live[key] = _merged(live[key], value, (*names, key)) if key in live else deepcopy(value)
        return live
    if isinstance(applied, list) and isinstance(live, list):
        if names[-1] in SETS:
            return [*live, *(item for item in applied if item not in live)]
        if (keys := merge_keys(names, applied)) and merge_keys(names, live):
            items = {_key_element(item, keys): item for item in live}
            for item in applied:
                key = _key_element(item, keys)
                items[key] = _merged(items[key], item, names) if key in items else deepcopy(item)
            return list(items.values())
    return deepcopy(applied)


def _prune(content: Object, removed: Iterable[FieldPath], kept: list[FieldPath], root: Names) -> None:
    for path in sorted(removed, key=len):
        if not any(other[: len(path)] == path for other in kept):
            _remove(content, path, root)


def _remove(value: Any, path: FieldPath, names: Names) -> None:
    """Remove what `path` names, and maps that became empty by it."""
    element, rest = path[0], path[1:]
    if element.startswith("f:"):
        name = element[2:]
        if not isinstance(value, dict) or name not in value:
            return
        if rest:
            _remove(value[name], rest, (*names, name))
        if not rest or not value[name]:
            del value[name]
        return
    index = _index(value, element, names)
    if index is None:
        return
    if rest:
        _remove(value[index], rest, names)
    else:
        del value[index]


def _index(items: Any, element: str, names: Names) -> int | None:
    if not isinstance(items, list):
        return None
    if element.startswith("v:"):
        wanted = json.loads(element[2:])
        return items.index(wanted) if wanted in items else None
    keys = merge_keys(names, items)
    if keys is None:
        return None
    return next((i for i, item in enumerate(items) if _key_element(item, keys) == element), None)


def _tree(fields: Iterable[FieldPath]) -> Object:
    paths = set(fields)
    inner = {path[:length] for path in paths for length in range(1, len(path))}
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        if path in inner:
            node["."] = {}
    return tree


def _paths(tree: Object, path: FieldPath = ()) -> Iterator[FieldPath]:
    for element, children in tree.items():
        if element == ".":
            yield path
        elif children:
            yield from _paths(children, (*path, element))
        else:
            yield (*path, element)


def _readable(path: FieldPath) -> str:
    """A path as messages show it: `.spec.template.spec.containers[name="app"].image`."""
    text = ""
    for element in path:
        content = element[2:]
        if element.startswith("f:"):
            text += f".{content}"
        elif element.startswith("k:"):
            keys = ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(content).items())
            text += f"[{keys}]"
        else:
            text += f"[={content}]"
    return text
