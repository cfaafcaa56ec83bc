"""Reading deployment.yaml: every mistake at once, each with its line, its path and a remedy."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from domain.configuration import Configuration
from domain.configuration_checks import problems
from domain.defaults import defaults_for
from domain.findings import nearest
from domain.merging import overlay
from domain.model import Model
from domain.secrets import clear_secrets, looks_secret

VARIABLE = "ERLMCP_DEPLOY_CONFIG"
"""The environment variable that names the file."""
DEFAULT_PATH = Path("deployment.yaml")
_SHOWN = 100
_DEEPEST = 50


class Problem(Model):
    """One mistake in deployment.yaml.

    Attributes:
        line: counted from one; none where the mistake is that something is missing from the file.
        path: dotted, such as ``environments.production.canary``.
        value: what stands there, as JSON; none where nothing does, or where it must not be shown.
    """

    file: str
    line: int | None = None
    column: int | None = None
    path: str = ""
    value: str | None = None
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        place = ":".join(str(p) for p in (self.file, self.line, self.column) if p is not None)
        subject = f"{self.path}: " if self.path else ""
        shown = f"{self.value} — " if self.value is not None else ""
        return f"{place}: {subject}{shown}{self.message}" + (f"; {self.remedy}" if self.remedy else "")


class ConfigurationError(Exception):
    """deployment.yaml cannot be used; `problems` are all its mistakes."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


def load_configuration(path: str | Path) -> Configuration:
    """Read, complete and check a deployment.yaml.

    The file is laid over the defaults; ``null`` removes an entry or switches a setting off.

    Raises:
        ConfigurationError: with every mistake found.
    """
    return parse_configuration(_read(Path(path)), file=str(path))


def parse_configuration(text: str, file: str = "deployment.yaml") -> Configuration:
    """`load_configuration` of a text; `file` is what messages call it.

    Raises:
        ConfigurationError: with every mistake found.
    """
    document = _Document(file, _parse(text, file))
    found: list[Problem] = []
    settings = document.plain(document.root, (), found)
    for place, remedy in clear_secrets(settings):
        found.append(document.problem(place, None, "is a secret written in clear", remedy))
    merged = _without_removed(overlay(defaults_for(settings), settings), Configuration)
    try:
        configuration = Configuration.model_validate_json(json.dumps(merged), strict=True)
    except ValidationError as error:
        found += _structural(error, merged, document)
    else:
        found += [document.problem(*finding) for finding in problems(configuration)]
        if not found:
            return configuration
    unique = {(p.path, p.message): p for p in found}
    raise ConfigurationError(sorted(unique.values(), key=lambda p: (p.line or math.inf, p.path)))


def _read(path: Path) -> str:
    remedy = f"create it, or name another file in the environment variable {VARIABLE}"
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        message = "there is no such file"
    except IsADirectoryError:
        message, remedy = "is a directory", f"name a file in the environment variable {VARIABLE}"
    except PermissionError:
        message, remedy = "must not be read by this user", f"allow it, or name another file in {VARIABLE}"
    except UnicodeDecodeError as error:
        message, remedy = f"is not UTF-8 (byte {error.start})", "save the file as UTF-8"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    raise ConfigurationError([Problem(file=str(path), message=message, remedy=remedy)])


def _parse(text: str, file: str) -> CommentedMap:
    """The document with its lines."""
    yaml = YAML()
    yaml.allow_duplicate_keys = False

    def refuse(message: str, remedy: str, line: int | None = None, column: int | None = None) -> Any:
        raise ConfigurationError(
            [Problem(file=file, line=line, column=column, message=message, remedy=remedy)]
        ) from None

    try:
        document = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        fault = error.problem or "cannot be read as YAML"
        remedy = "correct the YAML around this place"
        if isinstance(error, DuplicateKeyError):
            key = re.match(r'found duplicate key "?([^" ]*)', fault)
            fault, remedy = f"the key {key[1] if key else ''!r} is there twice", "keep one of them"
        elif r"\t" in fault or "\t" in fault:
            fault, remedy = "there is a tab", "indent with spaces"
        elif "another document" in fault:
            remedy = "keep one document per file; remove the line ---"
        return refuse(fault, remedy, line, column)  # type: ignore[no-any-return]
    except YAMLError as error:
        fault = str(error).strip().splitlines()[0]
        return refuse(f"cannot be read as YAML: {fault}", "remove control characters")  # type: ignore[no-any-return]
    if document is None:
        return CommentedMap()
    if not isinstance(document, CommentedMap):
        return refuse(  # type: ignore[no-any-return]
            "holds no settings", "write names with values, for example environments: {…}", 1
        )
    return document


class _Document:
    """A parsed file that knows on which line everything stands."""

    def __init__(self, file: str, root: CommentedMap) -> None:
        self.file = file
        self.root = root

    def problem(self, path: Sequence[str | int], value: Any, message: str, remedy: str) -> Problem:
        return Problem(
            file=self.file,
            line=self._line(path),
            path=".".join(str(p) for p in path),
            value=_shown(value),
            message=message,
            remedy=remedy,
        )

    def _line(self, path: Sequence[str | int]) -> int | None:
        """The line of the deepest part of a path that the file itself holds."""
        line: int | None = None
        node: Any = self.root
        for key in path:
            if isinstance(node, CommentedMap):
                own = next((k for k in node if _key(k) == str(key)), None)
                if own is None or own not in (node.lc.data or {}):
                    break
                line, node = node.lc.data[own][0] + 1, node[own]
            elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
                line, node = node.lc.data[key][0] + 1, node[key]
            else:
                break
        return line

    def plain(self, node: Any, path: tuple[str | int, ...], found: list[Problem]) -> Any:
        """The node as JSON would hold it; what JSON cannot hold is a problem."""

        def refuse(value: Any, message: str, remedy: str) -> None:
            found.append(self.problem(path, value, message, remedy))

        if len(path) > _DEEPEST:
            refuse(None, "is nested too deeply", "write it without an alias to itself")
        elif isinstance(node, TaggedScalar) or getattr(getattr(node, "tag", None), "value", None):
            refuse(None, "has a tag, which no setting needs", "remove the word that begins with !")
        elif isinstance(node, Mapping):
            return {_key(key): self.plain(node[key], (*path, _key(key)), found) for key in node}
        elif isinstance(node, list | tuple):
            return [self.plain(item, (*path, i), found) for i, item in enumerate(node)]
        elif isinstance(node, bool) or node is None:
            return node
        elif isinstance(node, str):
            return str(node)
        elif isinstance(node, int):
            return int(node)
        elif isinstance(node, float) and math.isfinite(node):
            return float(node)
        elif isinstance(node, float):
            refuse(str(node), "is no number to compare with", "write a finite number")
            return 0.0
        elif isinstance(node, date):
            return node.isoformat()
        else:
            refuse(None, f"is a {type(node).__name__}", "write text, a number, true or false")
        return None


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) or key is None else str(key)


# Types as the models declare them


def _unwrapped(annotation: Any) -> Any:
    """The annotation without Annotated and without None."""
    if get_origin(annotation) is Annotated:
        return _unwrapped(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None)]
        if len(members) == 1:
            return _unwrapped(members[0])
    return annotation


def _inner(annotation: Any, key: str | int) -> Any:
    """The type of one entry of a value of this type; none if it has no such entry."""
    kind = _unwrapped(annotation)
    if isinstance(kind, type) and issubclass(kind, Model):
        field = kind.model_fields.get(str(key))
        return None if field is None else field.annotation
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if get_origin(kind) is tuple and isinstance(key, int):
        return get_args(kind)[0]
    return None


def _without_removed(value: Any, annotation: Any) -> Any:
    """The settings without the entries of maps that are null: those the file removes."""
    kind = _unwrapped(annotation)
    if isinstance(value, dict):
        if get_origin(kind) is dict and get_args(kind)[1] is not Any:
            value = {k: v for k, v in value.items() if v is not None}
        return {k: _without_removed(v, _inner(kind, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_removed(v, _inner(kind, i)) for i, v in enumerate(value)]
    return value


def _fields_at(path: Sequence[str | int]) -> tuple[str, ...]:
    kind: Any = Configuration
    for key in path:
        kind = _inner(kind, key)
    kind = _unwrapped(kind)
    return tuple(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Model) else ()


# From errors to problems

_MUST_BE = {
    "int_type": ("a whole number", "write for example 3"),
    "int_from_float": ("a whole number", "write for example 3"),
    "float_type": ("a number", "write for example 5"),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "string_type": ("text", "put it in quotes"),
    "tuple_type": ("a list", "write for example [a, b]"),
    "dict_type": ("a map", "write names with values below it"),
    "model_type": ("a map", "write names with values below it"),
    "time_delta_type": ("a duration", "write a number and a unit, such as 30s, 10m or 72h"),
}


def _structural(error: ValidationError, merged: Any, document: _Document) -> Iterator[Problem]:
    for fault in error.errors(include_url=False):
        location = _existing(fault["loc"], merged, missing=fault["type"] == "missing")
        # Who pastes a wrong key may have pasted the private one.
        hidden = fault["type"] == "missing" or "public_key" in fault["loc"]
        value = None if hidden else fault["input"]
        message, remedy = _explained(fault, location, fault["loc"])
        yield document.problem(location, value, message, remedy)


def _existing(location: Sequence[str | int], merged: Any, *, missing: bool) -> tuple[str | int, ...]:
    """The location without the names pydantic adds for members of a union."""
    path: list[str | int] = []
    node = merged
    for key in location:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            if missing:
                path.append(key)
            break
        path.append(key)
    return tuple(path)


def _explained(
    fault: ErrorDetails, location: tuple[str | int, ...], reported: Sequence[str | int]
) -> tuple[str, str]:
    kind = fault["type"]
    if kind == "missing":
        return "is required", "add it"
    if kind == "extra_forbidden":
        return "is not known here", nearest(str(location[-1]), _fields_at(location[:-1]))
    if kind == "value_error":
        message, _, remedy = fault["msg"].removeprefix("Value error, ").partition("; ")
        return message, remedy
    if kind in ("enum", "literal_error"):
        return f"must be {fault.get('ctx', {}).get('expected', 'another value')}", "choose one of them"
    if len(reported) > len(location):
        return "must be a number, true or false, or text", "write one value, not several"
    if fault["input"] is None:
        return "must not be null", "leave the line out to keep the default"
    if kind in _MUST_BE:
        wanted, remedy = _MUST_BE[kind]
        return f"must be {wanted}", remedy
    return fault["msg"].replace("Input should", "must").replace("datetime.timedelta(0)", "0s"), ""


def _shown(value: Any) -> str | None:
    """A value for people, cut short; none for maps and for what may be a secret."""
    if value is None or isinstance(value, Mapping):
        return None
    text = json.dumps(value, ensure_ascii=False, default=str)
    if any(True for _ in clear_secrets(value)) or looks_secret(text):
        return None
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
