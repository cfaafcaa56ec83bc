"""Reading objects by the OpenAPI schema that the Kubernetes client carries in its models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from kubernetes.aio.client import models

from sandbox.kubernetes.emulator.errors import Cause, bad_request
from sandbox.kubernetes.emulator.resources import Object, ResourceType

LIST_TYPE: Final = re.compile(r"^List\[(.+)\]$")
MAP_TYPE: Final = re.compile(r"^Dict\[str, (.+)\]$")
# Maps of quantities: the schema says string, the server takes numbers too.
QUANTITY_MAPS: Final = frozenset({"limits", "requests", "capacity", "allocatable", "hard"})
SCALARS: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "datetime": (str,),
    "bytes": (str,),
}
JSON_NAMES: Final = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
}


def decode(resource: ResourceType, content: Any) -> Object:
    """An object of this type as the server stores it: unknown and empty optional fields are gone.

    Raises the server's 400 for a value of the wrong type, naming its path.
    """
    if not isinstance(content, dict):
        raise bad_request(f"the request body is no JSON object but {_json_name(content)}")
    if resource.model is None:
        metadata = _decode(content.get("metadata") or {}, "V1ObjectMeta", "metadata", resource.kind)
        content = {**content, "metadata": metadata}
        return {**content, "apiVersion": resource.api_version, "kind": resource.kind}
    decoded: Object = _decode(content, resource.model, "", resource.kind)
    return {**decoded, "apiVersion": resource.api_version, "kind": resource.kind}


def missing_fields(resource: ResourceType, content: Object) -> list[Cause]:
    """The fields the schema requires and the object lacks; its status is not the caller's to give."""
    if resource.model is None:
        return []
    given = {key: value for key, value in content.items() if key != "status"}
    return [Cause.required(field) for field in _missing(given, resource.model, "")]


def _decode(value: Any, type_name: str, path: str, kind: str) -> Any:
    if type_name == "object":
        return value
    if match := LIST_TYPE.match(type_name):
        _require(value, list, path, kind)
        items = [_decode(item, match[1], f"{path}[{i}]", kind) for i, item in enumerate(value)]
        return items or None
    if match := MAP_TYPE.match(type_name):
        _require(value, dict, path, kind)
        if path.rpartition(".")[2] in QUANTITY_MAPS:
            return {key: str(item) for key, item in value.items()} or None
        entries = {
            key: _decode(item, match[1], f"{path}.{key}", kind)
            for key, item in value.items()
            if item is not None
        }
        return entries or None
    if accepted := SCALARS.get(type_name):
        # bool is an int in Python, not in JSON
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            raise _wrong_type(type_name, value, path, kind)
        return value
    _require(value, dict, path, kind)
    model = getattr(models, type_name)
    decoded: Object = {}
    for attribute, key in model.attribute_map.items():
        if (item := value.get(key)) is None:
            continue
        item = _decode(item, model.openapi_types[attribute], f"{path}.{key}".lstrip("."), kind)
        if item is not None:
            decoded[key] = item
    return decoded


def _missing(value: Any, type_name: str, path: str) -> Iterator[str]:
    if match := LIST_TYPE.match(type_name):
        for index, item in enumerate(value):
            yield from _missing(item, match[1], f"{path}[{index}]")
    elif match := MAP_TYPE.match(type_name):
        for key, item in value.items():
            yield from _missing(item, match[1], f"{path}[{key}]")
    elif type_name not in SCALARS and type_name != "object":
        model = getattr(models, type_name)
        required = _required(type_name)
        for attribute, key in model.attribute_map.items():
            child = f"{path}.{key}".lstrip(".")
            if key in value:
                yield from _missing(value[key], model.openapi_types[attribute], child)
            elif key in required:
                yield child


@cache
def _required(type_name: str) -> frozenset[str]:
    fields = getattr(models, type_name).model_fields
    return frozenset(
        field.serialization_alias or name for name, field in fields.items() if field.is_required()
    )


def _require(value: Any, expected: type, path: str, kind: str) -> None:
    if not isinstance(value, expected):
        raise _wrong_type(JSON_NAMES[expected], value, path, kind)


def _wrong_type(expected: str, value: Any, path: str, kind: str) -> Exception:
    return bad_request(
        f"{kind} cannot be handled: json: cannot unmarshal {_json_name(value)} into {kind}.{path} "
        f"of type {expected}"
    )


def _json_name(value: Any) -> str:
    return "null" if value is None else JSON_NAMES[type(value)]
