"""Which events start what (spec: Event Triggers)."""

from __future__ import annotations

from typing import Literal

from domain.model import Model


class InputDefinition(Model):
    """A typed input of a manual dispatch."""

    description: str = ""
    required: bool = False
    type: Literal["string", "boolean", "choice"] = "string"
    options: tuple[str, ...] = ()
    default: str | bool | None = None


class EventFilter(Model):
    """What an event must look like; globs match whole path segments."""

    event: Literal["push", "pull_request", "workflow_dispatch", "schedule"]
    branches: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    inputs: dict[str, InputDefinition] = {}
    cron: str | None = None


class TriggerRule(Model):
    """One rule: an event, a condition, an action."""

    trigger: EventFilter
    action: Literal[
        "deploy_dev",
        "deploy_staging",
        "deploy_production",
        "deploy_environment",
        "validate_pr",
        "promote_to_staging",
        "nightly_validation",
        "dependency_update",
    ]
    approval: Literal["none", "automatic", "required"] | None = None
    condition: str | None = None
    gates: tuple[str, ...] = ()
