"""The plan of one deployment: the configuration resolved for one application and environment.

A plan is made once, when the deployment starts, and kept in the workflow's history, so a later edit of
deployment.yaml changes no running deployment.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain.analysis.settings import AnalysisSettings
from domain.approval import ApprovalPolicy, EmergencyPolicy, identity
from domain.approval_settings import ApprovalSettings
from domain.build import BuildDefinition, StepDefinition
from domain.compliance import Checklist
from domain.configuration import (
    ApplicationSettings,
    Configuration,
    Directory,
    EnvironmentSettings,
    HealthSettings,
    MetricSettings,
)
from domain.deployment import DeploymentRequest
from domain.gates import GateDefinition, GateType
from domain.merging import overlay
from domain.model import Model
from domain.rollback_triggers import RollbackTriggers
from domain.version import commit_prefix
from domain.workload import WorkloadSettings, WorkloadTarget

APPROVAL_TIMEOUT = timedelta(hours=72)
"""How long people have, where a manual gate does not say (spec: Manual Approval Gate)."""


class UnknownNameError(ValueError):
    """A request names an application or environment the configuration does not have."""


class DeploymentPlan(Model):
    """Everything a deployment needs to know, resolved.

    Attributes:
        tag: of this version; `any_tag` is the template for others, with ``{version}``.
    """

    application: str
    environment: str
    settings: EnvironmentSettings
    repository: str
    tag: str
    image: str
    build: BuildDefinition
    gates: dict[str, GateDefinition]
    checklist: Checklist
    approval: ApprovalPolicy | None
    target: WorkloadTarget
    health: HealthSettings | None
    metrics: MetricSettings
    triggers: RollbackTriggers
    analysis: AnalysisSettings = AnalysisSettings()
    any_tag: str | None = None

    @property
    def automated_gates(self) -> tuple[str, ...]:
        return tuple(n for n in self.settings.required_gates if self.gates[n].type is GateType.AUTOMATED)

    @property
    def planned_waits(self) -> timedelta:
        """What the waits of the plan come to; builds and people are not foreseen."""
        settings = self.settings
        waits = settings.soak_duration
        if settings.canary is not None:
            waits += settings.canary.step_duration * len(settings.canary.weights)
        if settings.blue_green is not None:
            waits += settings.blue_green.preview_checks + settings.blue_green.watch
        return waits + sum(
            (flag.step_duration * len(flag.steps) for flag in settings.feature_flags), timedelta()
        )

    def reference_of(self, version: str) -> str | None:
        """What names another version in the repository: its tag, or its commit if it has none."""
        if self.any_tag is None:
            return None
        return commit_prefix(version) or self.any_tag.format(version=version)

    def steps_of(self, gate: str) -> dict[str, StepDefinition]:
        return {name: self.build.steps[name] for name in self.gates[gate].steps if name in self.build.steps}


def resolve_plan(configuration: Configuration, request: DeploymentRequest) -> DeploymentPlan:
    """Resolve the configuration for one request.

    Raises:
        UnknownNameError: the application or environment is not configured.
    """
    application = _known("application", request.application, configuration.applications)
    environment = _known("environment", request.environment, configuration.environments)
    names = {
        "application": request.application,
        "environment": request.environment,
        "version": request.version,
    }
    namespace = application.namespaces.get(request.environment) or application.namespace.format(**names)
    names["namespace"] = namespace
    workload, health, metrics = overridden(application, request.environment)
    target = WorkloadTarget.model_validate(
        {
            **workload.model_dump(),
            "deployment": workload.deployment or request.application,
            "container": workload.container or request.application,
            "application": request.application,
            "environment": request.environment,
            "namespace": namespace,
        }
    )
    return DeploymentPlan(
        application=request.application,
        environment=request.environment,
        settings=environment,
        repository=application.repository,
        tag=application.tag.format(**names),
        image=application.image.format(**names),
        build=build_definition(application, health, metrics),
        gates={name: configuration.gates[name] for name in environment.required_gates},
        checklist=configuration.pre_deployment_compliance,
        approval=approval_policy(configuration, environment, request),
        target=target,
        health=_filled_health(health, names),
        metrics=_filled_metrics(metrics, names),
        triggers=configuration.automatic_rollback_triggers,
        analysis=application.analysis,
        any_tag=application.tag.format(**{**names, "version": "{version}"}),
    )


def tests_must_run(configuration: Configuration, request: DeploymentRequest) -> str | None:
    """Why this person may not skip the tests here, where roles are named for it; none if they may."""
    roles = configuration.environments[request.environment].approvals.emergency_roles
    holders = {identity(p) for role in roles for p in configuration.directory.roles.get(role, ())}
    if not request.skip_tests or not roles or identity(request.actor) in holders:
        return None
    return (
        f"in {request.environment} it takes one of the roles {', '.join(roles)}, which {request.actor} does "
        "not hold; ask somebody who does"
    )


def _known(kind: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise UnknownNameError(
            f"{kind} {name!r} is not in deployment.yaml; choose one of: {', '.join(sorted(known)) or 'none'}"
        )
    return known[name]


def overridden(
    application: ApplicationSettings, environment: str
) -> tuple[WorkloadSettings, HealthSettings | None, MetricSettings]:
    """The parts of an application as they are in one environment.

    Raises:
        pydantic.ValidationError: an override does not fit the part it changes.
    """
    override = application.overrides.get(environment)
    workload, health, metrics = application.workload, application.health, application.metrics
    if override is None:
        return workload, health, metrics
    if override.workload:
        workload = WorkloadSettings.model_validate(
            overlay(workload.model_dump(mode="json"), override.workload)
        )
    if override.health:
        base = {} if health is None else health.model_dump(mode="json")
        health = HealthSettings.model_validate(overlay(base, override.health))
    if override.metrics:
        metrics = MetricSettings.model_validate(overlay(metrics.model_dump(mode="json"), override.metrics))
    return workload, health, metrics


def build_definition(
    application: ApplicationSettings, health: HealthSettings | None, metrics: MetricSettings
) -> BuildDefinition:
    """The build, with the repository's documents told to the step that inspects them."""
    documents = application.documents.model_dump()
    operational = {
        "health_checks_defined": str(health is not None).lower(),
        "metrics_configured": str(metrics.prometheus_url is not None).lower(),
    }
    steps = {
        name: step.model_copy(update={"options": {**documents, **operational, **step.options}})
        if step.tool == "repository.documents"
        else step
        for name, step in application.build.steps.items()
    }
    return application.build.model_copy(update={"steps": steps})


def _filled_health(health: HealthSettings | None, names: dict[str, str]) -> HealthSettings | None:
    if health is None:
        return None
    canary = None if health.canary_url is None else health.canary_url.format(**names)
    return health.model_copy(update={"url": health.url.format(**names), "canary_url": canary})


def _filled_metrics(metrics: MetricSettings, names: dict[str, str]) -> MetricSettings:
    filled = {
        field: value.format(**names)
        for field in ("prometheus_url", "stable_selector", "canary_selector")
        if (value := getattr(metrics, field)) is not None
    }
    return metrics.model_copy(update=filled)


def approval_policy(
    configuration: Configuration, environment: EnvironmentSettings, request: DeploymentRequest
) -> ApprovalPolicy | None:
    """Who must approve here: by the rules of ``approvals``, else the ``approval`` role, else the manual
    gate's approvers; none if neither a role nor a gate asks for it. Who wrote what is deployed is not known
    yet: see `with_authors`.
    """
    gate = next(
        (n for n in environment.required_gates if configuration.gates[n].type is GateType.MANUAL), None
    )
    if gate is None and environment.approval is None:
        return None
    name = gate or "manual_approval"
    definition = configuration.gates.get(name, GateDefinition(type=GateType.MANUAL))
    approvals, directory = environment.approvals, configuration.directory
    if approvals.rules:
        roles = tuple(dict.fromkeys(role for rule in approvals.rules for role in rule.roles))
    elif environment.approval:
        roles = (environment.approval,)
    else:
        roles = definition.approvers.get(request.environment, ())
    members = {role: directory.roles.get(role, ()) for role in roles}
    holders = {identity(p) for people in members.values() for p in people}
    timeout = definition.timeout if "timeout" in definition.model_fields_set else APPROVAL_TIMEOUT
    return ApprovalPolicy(
        gate=name,
        roles=roles,
        members=members,
        min_approvals=environment.min_approvals,
        timeout=timeout,
        on_timeout=definition.on_timeout,
        excluded=(request.actor,) if "requester" in approvals.exclude else (),
        exclude_authors="author" in approvals.exclude,
        rules=approvals.rules,
        require=approvals.require,
        delegations=tuple(d for d in directory.delegations if identity(d.person) in holders),
        on_call={role: directory.on_call[role] for role in roles if role in directory.on_call},
        reminders=approvals.reminders,
        escalate_before=_escalation(approvals, timeout),
        require_verified=environment.require_verified_identity,
        emergency=_emergency(approvals, directory),
    )


def _escalation(approvals: ApprovalSettings, timeout: timedelta) -> timedelta | None:
    """The default is meant for days; a gate of hours is escalated when half of its time is over."""
    before = approvals.escalate_before
    if before is None or "escalate_before" in approvals.model_fields_set or before < timeout:
        return before
    return timeout / 2


def _emergency(approvals: ApprovalSettings, directory: Directory) -> EmergencyPolicy | None:
    roles = approvals.emergency_roles
    if not roles:
        return None
    members = {role: directory.roles.get(role, ()) for role in roles}
    return EmergencyPolicy(roles=roles, members=members, people=approvals.emergency_people)
