"""The plan of one deployment: the configuration resolved for one application and environment.

A plan is made once, when the deployment starts, and kept in the workflow's history, so a later edit of
deployment.yaml changes no running deployment.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from domain.analysis import HealthProbe, MetricLimit, WatchPolicy
from domain.approval import ApprovalPolicy
from domain.build import BuildDefinition, StepDefinition
from domain.compliance import Checklist
from domain.configuration import (
    ApplicationSettings,
    Configuration,
    EnvironmentSettings,
    HealthSettings,
    MetricSettings,
    MonitoringLevel,
    RollbackPolicy,
    RollbackTriggers,
)
from domain.deployment import DeploymentRequest
from domain.durations import format_duration
from domain.gates import GateDefinition, GateType
from domain.merging import overlay
from domain.model import Model
from domain.workload import Track, WorkloadSettings, WorkloadTarget

APPROVAL_TIMEOUT = timedelta(hours=72)
"""How long people have, where a manual gate does not say (spec: Manual Approval Gate)."""


class UnknownNameError(ValueError):
    """A request names an application or environment the configuration does not have."""


class DeploymentPlan(Model):
    """Everything a deployment needs to know, resolved."""

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

    @property
    def automated_gates(self) -> tuple[str, ...]:
        return tuple(n for n in self.settings.required_gates if self.gates[n].type is GateType.AUTOMATED)

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
        build=_build(application, health, metrics),
        gates={name: configuration.gates[name] for name in environment.required_gates},
        checklist=configuration.pre_deployment_compliance,
        approval=approval_policy(configuration, environment, request),
        target=target,
        health=_filled_health(health, names),
        metrics=_filled_metrics(metrics, names),
        triggers=configuration.automatic_rollback_triggers,
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


def _build(
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
    """Who must approve here: the ``approval`` role, or the manual gate's approvers; none if neither."""
    gate = next(
        (n for n in environment.required_gates if configuration.gates[n].type is GateType.MANUAL), None
    )
    if gate is None and environment.approval is None:
        return None
    name = gate or "manual_approval"
    definition = configuration.gates.get(name, GateDefinition(type=GateType.MANUAL))
    roles = (
        (environment.approval,) if environment.approval else definition.approvers.get(request.environment, ())
    )
    return ApprovalPolicy(
        gate=name,
        roles=roles,
        members={role: configuration.directory.roles.get(role, ()) for role in roles},
        min_approvals=environment.min_approvals,
        timeout=definition.timeout if "timeout" in definition.model_fields_set else APPROVAL_TIMEOUT,
        on_timeout=definition.on_timeout,
        excluded=(request.actor,),
    )


def health_probe(
    plan: DeploymentPlan, version: str | None, track: Track = Track.STABLE
) -> HealthProbe | None:
    """The probe of a track, or none if it has no address of its own."""
    health = plan.health
    if health is None:
        return None
    url = health.url if track is Track.STABLE else health.canary_url
    if url is None:
        return None
    return HealthProbe(
        base_url=url,
        paths=health.paths,
        healthy_words=health.healthy_words,
        version=version if health.version_field else None,
        timeout=health.timeout,
    )


def _metric_limits(
    plan: DeploymentPlan, track: Track, error_rate_limit: float, *, span: timedelta, interval: timedelta
) -> tuple[MetricLimit, ...]:
    """The metrics of a track over a watch of `span`, measured every `interval`.

    A measurement looks back over its window, and must not see what was before the watch: windows are at
    most half the watch, and nothing is judged before the first whole one.
    """
    metrics, triggers, level = plan.metrics, plan.triggers, plan.settings.monitoring
    if metrics.prometheus_url is None or level is MonitoringLevel.BASIC:
        return ()
    watched = metrics.stable_selector if track is Track.STABLE else metrics.canary_selector
    names = {
        "application": plan.application,
        "namespace": plan.target.namespace,
        "environment": plan.environment,
    }

    def within(window: timedelta) -> timedelta:
        return min(window, span / 2)

    def warm_up(window: timedelta) -> int:
        return max(0, math.ceil(within(window) / interval) - 1)

    def query(template: str, window: timedelta, selector: str) -> str:
        window = within(window)
        minutes = max(window.total_seconds() / 60, 1 / 60)
        return template.format(
            **names, selector=selector, window=format_duration(window), window_minutes=f"{minutes:g}"
        )

    rate, latency, crash = triggers.error_rate, triggers.latency, triggers.crash_rate
    compared = track is Track.CANARY and rate.comparison == "baseline"
    limits = [
        MetricLimit(
            name="error_rate",
            query=query(metrics.error_rate, rate.window, watched),
            limit=error_rate_limit,
            unit="%",
            baseline_query=query(metrics.error_rate, rate.window, metrics.stable_selector)
            if compared
            else None,
            max_increase=triggers.canary_failure.error_rate_increase if compared else None,
            no_data=metrics.no_data,
            error_limit=metrics.error_limit,
            warm_up=warm_up(rate.window),
        )
    ]
    if level is MonitoringLevel.FULL:
        for name, template, threshold in (
            ("latency_p95", metrics.latency_p95, latency.p95_threshold),
            ("latency_p99", metrics.latency_p99, latency.p99_threshold),
        ):
            limits.append(
                MetricLimit(
                    name=name,
                    query=query(template, latency.window, watched),
                    limit=threshold.total_seconds(),
                    unit="s",
                    no_data=metrics.no_data,
                    error_limit=metrics.error_limit,
                    warm_up=warm_up(latency.window),
                )
            )
        limits.append(
            MetricLimit(
                name="crash_rate",
                query=query(metrics.crash_rate, crash.window, watched),
                limit=crash.threshold,
                unit=" per pod and minute",
                no_data=metrics.no_data,
                error_limit=metrics.error_limit,
                warm_up=warm_up(crash.window),
            )
        )
    return tuple(limits)


def canary_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """The analysis of one canary step: canary health, and the error rate against limit and stable side."""
    canary = plan.settings.canary
    if canary is None:
        raise ValueError(f"{plan.environment} has no canary")
    return WatchPolicy(
        subject=f"canary {version}",
        interval=canary.analysis_interval,
        initial_delay=canary.analysis_interval,
        rounds=max(1, math.ceil(canary.step_duration / canary.analysis_interval)),
        health=health_probe(plan, version, Track.CANARY),
        consecutive_failures=plan.triggers.health_checks.consecutive_failures,
        metrics=_metric_limits(
            plan,
            Track.CANARY,
            canary.rollback_threshold,
            span=canary.step_duration,
            interval=canary.analysis_interval,
        ),
        inconclusive_limit=0.5,
    )


def verification_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """Verifying: healthy as many times in a row as would count as broken, within the spec's timeout."""
    health = plan.triggers.health_checks
    return WatchPolicy(
        subject=f"verification of {version}",
        interval=health.check_interval,
        rounds=max(health.consecutive_failures, math.ceil(health.timeout / health.check_interval)),
        health=health_probe(plan, version),
        consecutive_failures=health.consecutive_failures,
        settle=health.consecutive_failures,
    )


def monitoring_watch(plan: DeploymentPlan, version: str) -> WatchPolicy:
    """Monitoring: the rollback triggers of the environment's level for its soak duration."""
    health, soak = plan.triggers.health_checks, plan.settings.soak_duration
    metrics = _metric_limits(
        plan,
        Track.STABLE,
        plan.triggers.error_rate.threshold,
        span=max(soak, health.check_interval),
        interval=health.check_interval,
    )
    if plan.settings.rollback_strategy is RollbackPolicy.ON_FAILURE:
        metrics = ()
    return WatchPolicy(
        subject=f"monitoring of {version}",
        interval=health.check_interval,
        initial_delay=health.check_interval,
        rounds=max(1, math.ceil(soak / health.check_interval)),
        health=health_probe(plan, version),
        consecutive_failures=health.consecutive_failures,
        metrics=metrics,
    )
