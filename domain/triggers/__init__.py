"""Event triggers: what happened at a Git host, and what the rules make of it (spec: Event Triggers).

A payload is read by `domain.triggers.github` or `domain.triggers.gitlab`, and led to what it starts by
`domain.triggers.routing`. Those are imported by their own names: the configuration, which routing reads, is
made of the rules in here.
"""

from domain.triggers.host_event import Host, HostEvent, HostEventKind
from domain.triggers.reading import EventIgnoredError, EventUnusableError
from domain.triggers.route import Route, RouteOutcome
from domain.triggers.rules import (
    ALL_GATES,
    GATE_ALIASES,
    REASON,
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
    "REASON",
    "SOAK_COMPLETE",
    "TARGETS",
    "Action",
    "EventFilter",
    "EventIgnoredError",
    "EventUnusableError",
    "Host",
    "HostEvent",
    "HostEventKind",
    "InputDefinition",
    "Route",
    "RouteOutcome",
    "TriggerRule",
    "check_cron",
    "parse_condition",
]
