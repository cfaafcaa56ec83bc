"""What deployment.yaml may hold, for editors (JSON Schema) and for people (Markdown), from the models."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from domain.conditions import Scalar
from domain.configuration import ApplicationOverride, ApplicationSettings, Configuration, HealthSettings
from domain.disaster_recovery import RecoveryTrigger
from domain.durations import format_duration
from domain.model import Model
from domain.triggers import EventFilter, TriggerRule

_COMPLETED = (ApplicationSettings, HealthSettings, TriggerRule, EventFilter, RecoveryTrigger)
"""Models whose required fields the defaults may supply: a file that changes one names only what differs."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file as a person writes it: nothing is required that has a
    default, and ``null`` removes any entry of a map."""
    schema = Configuration.model_json_schema(mode="validation")
    definitions: dict[str, Any] = schema["$defs"]
    for model in models():
        described = schema if model is Configuration else definitions[model.__name__]
        described["description"] = summary(model)
        fields = attributes(model)
        for name, field in described.get("properties", {}).items():
            field.pop("title", None)
            if name in fields:
                field["description"] = fields[name]
        if model in _COMPLETED:
            described.pop("required", None)
    parts = definitions[ApplicationOverride.__name__]["properties"]
    for name in ApplicationOverride.model_fields:
        part = {"workload": "WorkloadSettings", "health": "HealthSettings", "metrics": "MetricSettings"}[name]
        loose = {k: v for k, v in definitions[part].items() if k != "required"}
        definitions[f"{part}Override"] = loose
        parts[name] = {"$ref": f"#/$defs/{part}Override", "description": parts[name]["description"]}
    _allow_removal(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "deployment.yaml",
        # An empty file is a file: it holds nothing but the defaults.
        "type": ["object", "null"],
    }


def _allow_removal(node: Any) -> None:
    if isinstance(node, dict):
        entries = node.get("additionalProperties")
        if isinstance(entries, dict) and "properties" not in node and entries:
            node["additionalProperties"] = {"anyOf": [entries, {"type": "null"}]}
        for inner in node.values():
            _allow_removal(inner)
    elif isinstance(node, list):
        for inner in node:
            _allow_removal(inner)


def models(start: type[Model] = Configuration) -> list[type[Model]]:
    """The models of the configuration, from the root down, each once."""
    found: list[type[Model]] = []

    def visit(model: type[Model]) -> None:
        if model in found:
            return
        found.append(model)
        for field in model.model_fields.values():
            for inner in _models_in(field.annotation):
                visit(inner)

    visit(start)
    return found


def _models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def summary(model: type[Model]) -> str:
    """The docstring of a model without its sections, on one line."""
    text = inspect.getdoc(model) or ""
    return _markdown(text.split("Attributes:")[0])


def attributes(model: type[Model]) -> dict[str, str]:
    """The descriptions of a model's fields, from its docstring and those of its base classes."""
    described: dict[str, str] = {}
    for base in reversed(model.__mro__):
        _, _, section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        for match in re.finditer(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", section, flags=re.MULTILINE):
            described[match[1]] = _markdown(match[2])
    return described


def _markdown(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


# Markdown


def reference() -> str:
    """Every field as Markdown tables, one per model."""
    sections = []
    for model in models():
        meanings = attributes(model)
        rows = [
            f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {meanings.get(name, '')} |"
            for name, field in model.model_fields.items()
        ]
        sections.append(
            "\n".join(
                [
                    f"### {model.__name__}",
                    "",
                    summary(model),
                    "",
                    "| Field | Type | If left out | Meaning |",
                    "|---|---|---|---|",
                    *rows,
                ]
            )
        )
    return "\n\n".join(sections) + "\n"


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " \\| ".join(f"`{a}`" for a in arguments)
    if set(arguments) == set(get_args(Scalar)):
        return "value"
    if origin in (Union, types.UnionType):
        names = [_kind(a) for a in arguments if a is not type(None)]
        return " or ".join(dict.fromkeys(names)) + (" or null" if type(None) in arguments else "")
    if origin is dict:
        return f"map of {_kind(arguments[1])}"
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if isinstance(annotation, type):
        if issubclass(annotation, Model):
            return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
        if issubclass(annotation, Enum):
            return " \\| ".join(f"`{m.value}`" for m in annotation)
        words = {bool: "true or false", int: "whole number", float: "number", str: "text"}
        return words.get(annotation, "duration" if annotation is timedelta else "anything")
    return "anything"


def _default(field: Any) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, Model):
        return "its own defaults"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | Mapping):
        return ", ".join(f"`{v}`" for v in value) or "empty"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "`" + text.replace("|", "\\|") + "`"
