"""Conditions of rules: one field of the event, compared with one word (spec: ``merged == true``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from domain.triggers.host_event import HostEvent, HostEventKind
from domain.triggers.rules import InputDefinition, parse_condition

INPUTS = "inputs."
"""A field with this in front is an input of a manual dispatch."""

FIELDS: dict[str, tuple[HostEventKind, ...]] = {
    "merged": ("pull_request",),
    "action": ("pull_request",),
    "fork": ("pull_request",),
    "number": ("pull_request",),
    "branch": ("push", "pull_request", "workflow_dispatch"),
    "tag": ("push", "workflow_dispatch"),
    "actor": ("push", "pull_request", "workflow_dispatch"),
    "workflow": ("workflow_dispatch",),
}
"""Field → the events that have it."""

_VALUES: dict[str, Callable[[HostEvent], object]] = {
    "merged": lambda event: event.merged,
    "action": lambda event: event.action,
    "fork": lambda event: event.fork,
    "number": lambda event: event.number,
    "branch": lambda event: event.branch,
    "tag": lambda event: event.tag,
    "actor": lambda event: event.event.actor,
    "workflow": lambda event: event.workflow,
}
_ANY_CASE = frozenset({"merged", "fork", "actor"})


def holds(condition: str, event: HostEvent, inputs: Mapping[str, InputDefinition]) -> bool:
    """Whether the event fulfils the condition.

    A field that the event does not have is empty text. A field that does not exist fulfils nothing: a
    condition that was misspelt lets nothing through.
    """
    field, sign, word = parse_condition(condition)
    if field.startswith(INPUTS):
        name = field.removeprefix(INPUTS)
        given = event.inputs.get(name)
        definition = inputs.get(name)
        value: object = definition.default if given in (None, "") and definition is not None else given
        any_case = isinstance(value, bool) or (definition is not None and definition.type == "boolean")
    elif field in _VALUES:
        value = _VALUES[field](event)
        any_case = field in _ANY_CASE
    else:
        return False
    text = "" if value is None else str(value).strip()
    if any_case:
        text, word = text.casefold(), word.casefold()
    return (text == word) is (sign == "==")
