"""Real payloads, changed where a story needs it, and the configuration they are held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.merging import overlay
from domain.triggers import HostEvent, Route, RouteOutcome
from domain.triggers.github import read_github
from domain.triggers.gitlab import read_gitlab
from domain.triggers.routing import routes

PAYLOADS = Path(__file__).parents[2] / "payloads"
NAMES = sorted(p.stem for p in PAYLOADS.glob("*.json"))
RECEIVED = datetime(2026, 2, 2, 12, tzinfo=UTC)

_HEADERS = {
    "github_push": "push",
    "github_pull_request": "pull_request",
    "github_workflow_dispatch": "workflow_dispatch",
    "github_release": "release",
    "github_deployment_review": "deployment_review",
    "gitlab_push": "Push Hook",
    "gitlab_tag": "Tag Push Hook",
    "gitlab_pull_request": "Merge Request Hook",
}

PEOPLE = {
    "roles": {
        "tech_lead": ["tara@example.com"],
        "change_board": ["carla@example.com"],
        "sre": ["sam@example.com"],
    },
    "accounts": {
        "tara@example.com": {"github": "Tara-L", "gitlab": "tara"},
        "carla@example.com": {"github": "carla"},
        "sam@example.com": {"github": "sam"},
        "dora@example.com": {"github": "dora"},
    },
}


def header_of(name: str) -> str:
    return next(header for prefix, header in _HEADERS.items() if name.startswith(prefix))


def payload(name: str, **changes: Any) -> dict[str, Any]:
    """A file of tests/payloads, with fields changed: ``pull_request__base__ref="main"``."""
    loaded: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_bytes())
    for place, value in changes.items():
        *parents, last = place.split("__")
        inner: Any = loaded
        for parent in parents:
            inner = inner[int(parent) if parent.isdigit() else parent]
        inner[int(last) if last.isdigit() else last] = value
    return loaded


def read(name: str, body: Any, *, delivery: str = "d-1", metadata: Mapping[str, str] = {}) -> HostEvent:
    """What the file's host makes of a body."""
    reader = read_github if name.startswith("github") else read_gitlab
    return reader(header_of(name), body, delivery=delivery, received=RECEIVED, metadata=metadata)


def event(name: str, **changes: Any) -> HostEvent:
    return read(name, payload(name, **changes))


def configuration(project: str | None = None, **changes: Any) -> Configuration:
    """The defaults with people; the application is that of `project`."""
    settings = overlay(DEFAULTS, {"directory": PEOPLE})
    if project is not None:
        settings = overlay(settings, {"applications": {"erlmcp": {"project": project}}})
    settings = overlay(settings, changes)
    kept = {name: written for name, written in settings["triggers"].items() if written is not None}
    return Configuration.model_validate({**settings, "triggers": kept})


def routed(happened: HostEvent, **changes: Any) -> tuple[Route, ...]:
    """Where the event leads, if it is of the application's project."""
    return routes(happened, configuration(happened.project, **changes))


def only(found: tuple[Route, ...], outcome: RouteOutcome) -> Route:
    (route,) = found
    assert route.outcome is outcome, route.reason
    return route


def started(happened: HostEvent, **changes: Any) -> Route:
    return only(routed(happened, **changes), RouteOutcome.START)


def ignored(happened: HostEvent, **changes: Any) -> str:
    return only(routed(happened, **changes), RouteOutcome.IGNORE).reason


def refused(happened: HostEvent, **changes: Any) -> str:
    return only(routed(happened, **changes), RouteOutcome.REFUSE).reason


def rule(**written: Any) -> dict[str, Any]:
    """The configuration's only rule, in place of the specification's."""
    return {"triggers": {**dict.fromkeys(DEFAULTS["triggers"]), "mine": written}}
