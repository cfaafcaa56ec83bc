"""Event triggers: what happened at a Git host, and what the rules make of it (spec: Event Triggers)."""

from domain.triggers.host_event import HostEvent, HostEventKind
from domain.triggers.route import Route, RouteOutcome
from domain.triggers.rules import (
    ALL_GATES,
    GATE_ALIASES,
    SOAK_COMPLETE,
    TARGETS,
    Action,
    EventFilter,
    InputDefinition,
    TriggerRule,
    check_cron,
    parse_condition,
)

__all__ = [
    "ALL_GATES",
    "GATE_ALIASES",
    "SOAK_COMPLETE",
    "TARGETS",
    "Action",
    "EventFilter",
    "HostEvent",
    "HostEventKind",
    "InputDefinition",
    "Route",
    "RouteOutcome",
    "TriggerRule",
    "check_cron",
    "parse_condition",
]
