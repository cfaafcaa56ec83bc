"""What deployment.yaml says of an application's dependency updates."""

from __future__ import annotations

from domain.configuration import ApplicationSettings, Configuration
from domain.dependency_update import (
    DependencySettings,
    DependencyUpdatePlan,
    DependencyUpdateRequest,
    GateRule,
)
from domain.plan import UnknownNameError
from domain.triggers.globs import matches

_REBAR3 = "rebar3."


def dependency_settings(application: ApplicationSettings) -> DependencySettings | None:
    """How an application is updated: as configured, or by rebar3 where rebar3 builds it; else none."""
    if application.dependencies is not None:
        return application.dependencies
    tools = (step.tool for step in application.build.steps.values() if step.tool is not None)
    return DependencySettings() if any(tool.startswith(_REBAR3) for tool in tools) else None


def nothing_to_run(name: str) -> str:
    """Why an application without settings is not updated."""
    return (
        f"it is not known how dependencies of {name} are updated, as no step of it is built by rebar3; "
        f"write applications.{name}.dependencies: {{command: […], paths: […]}}"
    )


def resolve_dependency_update(
    configuration: Configuration, request: DependencyUpdateRequest
) -> DependencyUpdatePlan:
    """Resolve the configuration for one update.

    Raises:
        UnknownNameError: there is no such application, or no command for it.
    """
    name = request.application
    if name not in configuration.applications:
        known = ", ".join(sorted(configuration.applications)) or "none"
        raise UnknownNameError(f"application {name!r} is not in deployment.yaml; choose one of: {known}")
    application = configuration.applications[name]
    settings = dependency_settings(application)
    if settings is None:
        raise UnknownNameError(nothing_to_run(name))
    rules = tuple(
        GateRule(name=rule_name, branches=rule.trigger.branches, gates=rule.gates)
        for rule_name, rule in configuration.triggers.items()
        if rule.action == "validate_pr" and rule.trigger.event == "pull_request"
    )
    return DependencyUpdatePlan(
        application=name, repository=application.repository, settings=settings, rules=rules
    )


def gates_for(plan: DependencyUpdatePlan, base: str) -> tuple[str, ...]:
    """What a pull request into this branch is held against: the first rule that wants it says.

    Where no rule wants it: every gate that some environment requires (none are named).
    """
    rule = next((r for r in plan.rules if not r.branches or matches(r.branches, base)), None)
    return rule.gates if rule is not None else ()
