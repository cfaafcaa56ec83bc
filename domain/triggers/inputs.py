"""The typed inputs of a manual dispatch (spec: Ad-hoc Deployment)."""

from __future__ import annotations

from collections.abc import Mapping

from domain.findings import nearest
from domain.triggers.rules import REASON, InputDefinition

Inputs = Mapping[str, str | bool | None]
_WHY = InputDefinition(description="Why")


class InputRefusedError(Exception):
    """An input cannot be used; the text names it and what to write."""


def typed(definitions: Mapping[str, InputDefinition], given: Mapping[str, str | bool]) -> Inputs:
    """The inputs by their definitions, with defaults; blank text is as good as none.

    Raises:
        InputRefusedError: one is missing, unknown or of another type.
    """
    known = {REASON: _WHY, **definitions}
    for name in given:
        if name not in known:
            raise InputRefusedError(f"input {name[:60]!r} is unknown; {nearest(name[:60], known)}")
    return {name: _typed(name, definition, given.get(name)) for name, definition in known.items()}


def _typed(name: str, definition: InputDefinition, given: str | bool | None) -> str | bool | None:
    value = given.strip() if isinstance(given, str) else given
    if value is None or value == "":
        if definition.default is None and definition.required:
            explained = f" ({definition.description})" if definition.description else ""
            raise InputRefusedError(f"input {name!r}{explained} is missing; fill it in")
        return definition.default
    if definition.type == "boolean":
        return _boolean(name, value)
    text = str(value).lower() if isinstance(value, bool) else value
    if definition.type == "choice" and text not in definition.options:
        raise InputRefusedError(
            f"input {name!r} is {text[:60]!r}, which is no option; {nearest(text[:60], definition.options)}"
        )
    return text


def _boolean(name: str, value: str | bool) -> bool:
    """Hosts send text: "false" is false."""
    if isinstance(value, bool):
        return value
    if value.lower() not in ("true", "false"):
        raise InputRefusedError(f"input {name!r} is {value[:60]!r}; write true or false")
    return value.lower() == "true"


def text_of(inputs: Inputs, name: str) -> str | None:
    value = inputs.get(name)
    return value if isinstance(value, str) and value else None
