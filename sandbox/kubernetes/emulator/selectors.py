"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from sandbox.kubernetes.emulator.errors import bad_request
from sandbox.kubernetes.emulator.resources import EVENTS, NAMESPACES, NODES, PODS, Object, ResourceType

Predicate = Callable[[Object], bool]

REQUIREMENT: Final = re.compile(
    r"""\s*(?:
        (?P<key>[\w./-]+)\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\)
      | (?P<name>[\w./-]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[\w.-]*)
      | (?P<absent>!)?\s*(?P<present>[\w./-]+)
    )\s*(?:,|$)""",
    re.VERBOSE,
)
FIELDS: Final[dict[ResourceType, frozenset[str]]] = {
    PODS: frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        }
    ),
    EVENTS: frozenset(
        {
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "source",
            "type",
        }
    ),
    NAMESPACES: frozenset({"status.phase"}),
    NODES: frozenset({"spec.unschedulable"}),
}
COMMON_FIELDS: Final = frozenset({"metadata.name", "metadata.namespace"})


def everything(_: Object) -> bool:
    return True


def parse_labels(selector: str) -> Predicate:
    """The predicate of a `labelSelector` parameter; 400 when it cannot be read."""
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    position = 0
    while position < len(selector):
        match = REQUIREMENT.match(selector, position)
        if match is None:
            raise bad_request(f"unable to parse requirement: found {selector[position:]!r}")
        tests.append(_label_test(match))
        position = match.end()

    def matches(candidate: Object) -> bool:
        labels = candidate["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def _label_test(match: re.Match[str]) -> Callable[[Mapping[str, str]], bool]:
    if match["set"]:
        key, wanted = match["key"], {each.strip() for each in match["values"].split(",")}
        if match["set"] == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    if match["operator"]:
        name, value = match["name"], match["value"]
        if match["operator"] == "!=":
            return lambda labels: labels.get(name) != value
        return lambda labels: labels.get(name) == value
    present, wanted_presence = match["present"], not match["absent"]
    return lambda labels: (present in labels) == wanted_presence


def parse_fields(resource: ResourceType, selector: str) -> Predicate:
    """The predicate of a `fieldSelector` parameter; 400 for a field the type does not support."""
    tests: list[tuple[str, bool, str]] = []
    for term in filter(None, selector.split(",")):
        match = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", term)
        if match is None:
            raise bad_request(f"invalid selector: {term!r}; can't understand it")
        if match[1] not in COMMON_FIELDS | FIELDS.get(resource, frozenset()):
            raise bad_request(f"field label not supported: {match[1]}")
        tests.append((match[1], match[2] != "!=", match[3]))

    def matches(candidate: Object) -> bool:
        return all((field_value(candidate, path) == value) == equal for path, equal, value in tests)

    return matches


def field_value(candidate: Object, path: str) -> str:
    """The value at a dotted path as selectors compare it: missing is the empty string."""
    value: Any = candidate
    for name in path.split("."):
        if not isinstance(value, dict):
            return ""
        value = value.get(name)
    if isinstance(value, dict):  # `source` of an event means its component
        value = value.get("component")
    return "" if value is None else str(value)


def label_selector(selector: Object) -> Callable[[Mapping[str, str]], bool]:
    """The predicate over labels of a `metav1.LabelSelector` (of a Deployment or ReplicaSet)."""
    wanted: dict[str, str] = selector.get("matchLabels") or {}
    expressions: list[Object] = selector.get("matchExpressions") or []

    def matches(labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in wanted.items()) and all(
            _meets(expression, labels) for expression in expressions
        )

    return matches


def _meets(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def format_selector(selector: Object) -> str:
    """A `metav1.LabelSelector` in the text form of the scale subresource."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or []:
        values = ",".join(expression.get("values") or [])
        parts.append(
            {
                "In": f"{expression['key']} in ({values})",
                "NotIn": f"{expression['key']} notin ({values})",
                "Exists": expression["key"],
            }.get(expression["operator"], f"!{expression['key']}")
        )
    return ",".join(parts)
