"""JSON merge patch, JSON patch and strategic merge patch."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import jsonpatch
from jsonpointer import JsonPointerException

from sandbox.kubernetes.emulator.errors import bad_request, unprocessable
from sandbox.kubernetes.emulator.list_keys import SETS, Names, merge_keys
from sandbox.kubernetes.emulator.resources import Object

MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
PATCH_TYPES: Final = (JSON, MERGE, STRATEGIC, APPLY)

PRIMITIVE_DELETION: Final = "$deleteFromPrimitiveList/"
ELEMENT_ORDER: Final = "$setElementOrder/"


def patched(current: Object, patch: Any, patch_type: str) -> Any:
    """The object after a patch of one of the three types; `current` is left as it is.

    Raises 400 for a patch that cannot be read and 422 for one that does not fit the object.
    """
    if patch_type == JSON:
        return _json_patched(current, patch)
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a merge patch is a JSON object")
    if patch_type == MERGE:
        return merged(deepcopy(current), patch)
    return strategically_merged(deepcopy(current), patch)


def _json_patched(current: Object, patch: Any) -> Any:
    try:
        operations = jsonpatch.JsonPatch(patch)
    except (jsonpatch.InvalidJsonPatch, JsonPointerException, TypeError) as error:
        raise bad_request(f"error decoding patch: {error}") from error
    try:
        return operations.apply(current)
    except (jsonpatch.JsonPatchException, JsonPointerException) as error:
        raise unprocessable(
            f"the server rejected our request due to an error in our request: {error}"
        ) from error


def merged(current: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = current if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def strategically_merged(current: Any, patch: Object, names: Names = ()) -> Any:
    """Kubernetes' strategic merge: lists of named things are merged item by item."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    result: Object = current if isinstance(current, dict) else {}
    for key, value in patch.items():
        if key == "$retainKeys":
            result = {name: kept for name, kept in result.items() if name in value}
    for key, value in patch.items():
        if key.startswith(PRIMITIVE_DELETION):
            field = key.removeprefix(PRIMITIVE_DELETION)
            result[field] = [item for item in result.get(field) or [] if item not in value]
        elif key in ("$patch", "$retainKeys") or key.startswith(ELEMENT_ORDER):
            continue
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = strategically_merged(result.get(key), value, (*names, key))
        elif isinstance(value, list):
            result[key] = _merged_list(result.get(key) or [], value, (*names, key))
        else:
            result[key] = value
    return result


def _merged_list(current: list[Any], patch: list[Any], names: Names) -> list[Any]:
    if names[-1] in SETS:
        return [*current, *(item for item in patch if item not in current)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    keys = merge_keys(names, [item for item in patch if item != {"$patch": "replace"}])
    if keys is None:
        return patch
    key = keys[0]
    result = list(current)
    for change in patch:
        index = next((i for i, item in enumerate(result) if item.get(key) == change[key]), None)
        if change.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(strategically_merged({}, change, names))
        else:
            result[index] = strategically_merged(result[index], change, names)
    return result
