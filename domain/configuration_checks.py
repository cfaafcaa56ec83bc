"""What the models alone cannot see: names that do not exist, gates that prove nothing, unsafe production.

Whatever would otherwise fail at three in the morning, or let something pass unmeasured, is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from pydantic import ValidationError

from domain.analysis.checks import problems as analysis_problems
from domain.approval import OnTimeout
from domain.approval_checks import gate_approvals, people_and_roles
from domain.configuration import (
    ApplicationSettings,
    Configuration,
    EnvironmentSettings,
    HealthSettings,
    MetricSettings,
    MonitoringLevel,
)
from domain.delivery_checks import deliveries
from domain.findings import Finding, nearest
from domain.gates import GateDefinition, GateType, OnFailure
from domain.plan import overridden
from domain.secrets import Path, clear_secrets
from domain.trigger_checks import triggers
from domain.workload import WorkloadSettings

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_LABEL = 63
_LONGEST_SUBDOMAIN = 253
_SUFFIX = "-canary"
"""The longest that we add: ``-blue`` and ``-green`` are shorter."""
_RECOVERY_SITE = "dr"
_SEVERITIES = ("critical", "high", "medium", "low", "info")
_PAGERDUTY_SEVERITIES = ("critical", "error", "warning", "info")


def problems(configuration: Configuration) -> list[Finding]:
    """Everything that is wrong with a configuration whose fields are all well-formed."""
    findings: list[Finding] = []
    for check in (
        _names,
        _gates,
        _environments,
        _applications,
        triggers,
        _promotions,
        _notifications,
        people_and_roles,
        _secrets,
    ):
        findings.extend(check(configuration))
    return list({(f.path, f.message): f for f in findings}.values())


def _names(configuration: Configuration) -> Iterator[Finding]:
    for kind, names in (
        ("applications", configuration.applications),
        ("environments", configuration.environments),
    ):
        if not names:
            yield Finding(
                (kind,), None, "is empty, so nothing can be deployed", f"describe at least one of {kind}"
            )
        for name in names:
            if not _NAME.fullmatch(name):
                yield Finding(
                    (kind, name), name, "cannot be part of a workflow id and a Kubernetes name",
                    "use lower case letters, digits and dashes, at most 63",
                )  # fmt: skip


# Gates and environments


def _gates(configuration: Configuration) -> Iterator[Finding]:
    for name, gate in configuration.gates.items():
        path: Path = ("gates", name)
        for environment in gate.approvers:
            if environment not in configuration.environments:
                yield Finding(
                    (*path, "approvers", environment), environment, "is no environment",
                    nearest(environment, configuration.environments),
                )  # fmt: skip
        if gate.type is GateType.MANUAL:
            for field in ("condition", "conditions", "steps"):
                if value := getattr(gate, field):
                    yield Finding(
                        (*path, field), value, "is never looked at: the gate is manual",
                        "remove it, or make it another gate of type automated",
                    )  # fmt: skip
        elif gate.approvers:
            yield Finding(
                (*path, "approvers"), None, "are never asked: the gate is automated",
                "remove them, or write type: manual",
            )  # fmt: skip
        if gate.type is GateType.AUTOMATED and gate.condition is None and not gate.conditions:
            yield Finding(
                path, None, "has no condition, so it proves nothing", "add for example condition: errors == 0"
            )


def _environments(configuration: Configuration) -> Iterator[Finding]:
    for name, settings in configuration.environments.items():
        path: Path = ("environments", name)
        known = [g for g in settings.required_gates if g in configuration.gates]
        for index, gate in enumerate(settings.required_gates):
            if gate not in configuration.gates:
                yield Finding(
                    (*path, "required_gates", index), gate, "is no gate", nearest(gate, configuration.gates)
                )
            if gate in settings.required_gates[:index]:
                yield Finding((*path, "required_gates", index), gate, "is named twice", "name each gate once")
        gates = {g: configuration.gates[g] for g in known}
        yield from _measured(path, gates)
        yield from gate_approvals(configuration, name, settings, gates)
        if settings.canary is not None and settings.canary.initial_percentage == 100:
            yield Finding(
                (*path, "canary", "initial_percentage"), 100, "leaves nothing to compare with",
                "write less than 100, for example 10, or canary: null",
            )  # fmt: skip
        yield from deliveries(path, settings)
        if settings.production:
            yield from _safe(configuration, name, settings, gates)


def _measured(path: Path, gates: dict[str, GateDefinition]) -> Iterator[Finding]:
    for name, gate in gates.items():
        if gate.type is GateType.AUTOMATED and not gate.steps:
            yield Finding(
                ("gates", name, "steps"), [], f"{path[1]} requires this gate, and nothing measures it",
                "name the build steps that do, for example steps: [compile]",
            )  # fmt: skip


def _safe(
    configuration: Configuration, name: str, settings: EnvironmentSettings, gates: dict[str, GateDefinition]
) -> Iterator[Finding]:
    """What a production environment must not be without (design, section 1, no. 6)."""
    path: Path = ("environments", name)
    blocking = [g for g in gates.values() if g.type is GateType.AUTOMATED and g.on_failure is OnFailure.BLOCK]
    if not blocking:
        yield Finding(
            (*path, "required_gates"), list(settings.required_gates),
            "production needs an automated gate that blocks", "add for example compile, test and security",
        )  # fmt: skip
    manual = [g for g, definition in gates.items() if definition.type is GateType.MANUAL]
    if not manual and settings.approval is None:
        yield Finding(
            (*path, "approval"), None, "production needs the approval of a person",
            "name a role, for example approval: change_board, and its people under directory.roles",
        )  # fmt: skip
    asked = manual[:1] or (["manual_approval"] if settings.approval else [])
    for gate in asked:
        definition = configuration.gates.get(gate)
        if definition is not None and definition.on_timeout is OnTimeout.APPROVE:
            yield Finding(
                ("gates", gate, "on_timeout"), "approve", f"would let {name} be deployed unapproved",
                "write on_timeout: reject",
            )  # fmt: skip
    if settings.canary is None and settings.monitoring is MonitoringLevel.BASIC:
        yield Finding(
            (*path, "canary"), None, "production needs a canary, or monitoring of more than health",
            "add a canary, or write monitoring: full",
        )  # fmt: skip
    if settings.soak_duration <= timedelta(0):
        yield Finding(
            (*path, "soak_duration"), "0s", "production would not be watched at all",
            "write how long it is watched, for example 1h",
        )  # fmt: skip
    if settings.canary is not None and settings.canary.rollback_threshold >= 100:
        yield Finding(
            (*path, "canary", "rollback_threshold"), settings.canary.rollback_threshold,
            "can never be exceeded, so no error rate would stop the canary",
            "write a percentage below 100, for example 5",
        )  # fmt: skip
    if configuration.automatic_rollback_triggers.error_rate.threshold >= 100:
        yield Finding(
            ("automatic_rollback_triggers", "error_rate", "threshold"),
            configuration.automatic_rollback_triggers.error_rate.threshold,
            "can never be exceeded, so no error rate would roll back",
            "write a percentage below 100, for example 5",
        )  # fmt: skip


# Applications


def _applications(configuration: Configuration) -> Iterator[Finding]:
    required = {g for e in configuration.environments.values() for g in e.required_gates}
    for name, application in configuration.applications.items():
        path: Path = ("applications", name)
        for gate in sorted(required & configuration.gates.keys()):
            for step in configuration.gates[gate].steps:
                if step not in application.build.steps:
                    yield Finding(
                        (*path, "build", "steps", step), None,
                        f"gate {gate!r} needs this step, and the application has none of this name",
                        f"add it, or name another under gates.{gate}.steps; "
                        + nearest(step, application.build.steps),
                    )  # fmt: skip
        for field, allowed in (
            ("namespaces", {*configuration.environments, _RECOVERY_SITE}),
            ("overrides", set(configuration.environments)),
        ):
            for environment in getattr(application, field):
                if environment not in allowed:
                    yield Finding(
                        (*path, field, environment), None, "is no environment", nearest(environment, allowed)
                    )
        if "{version}" not in application.tag:
            yield Finding(
                (*path, "tag"), application.tag, "would check out the same commit for every version",
                "write for example v{version}",
            )  # fmt: skip
        for where, value, fault, remedy in analysis_problems(application.analysis):
            yield Finding((*path, "analysis", *where), value, fault, remedy)
        for environment, settings in configuration.environments.items():
            yield from _application_in(path, name, application, environment, settings)


def _application_in(
    path: Path, name: str, application: ApplicationSettings, environment: str, settings: EnvironmentSettings
) -> Iterator[Finding]:
    names = {"application": name, "environment": environment, "version": "1.0.0"}
    namespace = application.namespaces.get(environment)
    where: Path = (*path, "namespaces", environment)
    if namespace is None:
        where = (*path, "namespace")
        namespace, finding = _filled(where, application.namespace, names)
        if finding is not None:
            yield finding
            return
    if not _NAME.fullmatch(namespace):
        yield Finding(
            where, namespace, "is no name of a Kubernetes namespace",
            "use lower case letters, digits and dashes, at most 63",
        )  # fmt: skip
    for field in ("tag", "image"):
        _, finding = _filled((*path, field), getattr(application, field), names)
        if finding is not None:
            yield finding
    try:
        workload, health, metrics = overridden(application, environment)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False):
            part = {"WorkloadSettings": "workload", "HealthSettings": "health"}.get(error.title, "metrics")
            yield Finding(
                (*path, "overrides", environment, part, *fault["loc"]),
                None if isinstance(fault["input"], dict) else fault["input"],
                "does not fit: " + fault["msg"].removeprefix("Value error, "),
                f"write it as under applications.{name}.{part}",
            )  # fmt: skip
        return
    yield from _workload_names((*path, "workload"), name, workload, settings)
    names["namespace"] = namespace
    yield from _templates(path, environment, application, health, metrics, names=names)
    if settings.production:
        yield from _watched(path, environment, settings, health, metrics)


def _workload_names(
    path: Path, application: str, workload: WorkloadSettings, settings: EnvironmentSettings
) -> Iterator[Finding]:
    router = workload.router
    for where, resource, pattern, longest in (
        (("deployment",), workload.deployment, _NAME, _LONGEST_LABEL),
        (("container",), workload.container, _NAME, _LONGEST_LABEL),
        (("router", "service"), router.service, _SERVICE_NAME, _LONGEST_LABEL),
        (("router", "canary_service"), router.canary_service, _SERVICE_NAME, _LONGEST_LABEL),
        (("router", "ingress"), router.ingress, _SUBDOMAIN, _LONGEST_SUBDOMAIN - len(_SUFFIX)),
        (("router", "http_route"), router.http_route, _SUBDOMAIN, _LONGEST_SUBDOMAIN),
    ):
        if resource is not None and not (pattern.fullmatch(resource) and len(resource) <= longest):
            characters = "digits, dashes and dots" if pattern is _SUBDOMAIN else "digits and dashes"
            first = ", beginning with a letter" if pattern is _SERVICE_NAME else ""
            yield Finding(
                (*path, *where), resource, "is no Kubernetes name",
                f"use lower case letters, {characters}, at most {longest}{first}",
            )  # fmt: skip
    if not router.weighted and settings.blue_green is None:
        return
    service = router.service or workload.deployment or application
    if router.canary_service == service:
        yield Finding(
            (*path, "router", "canary_service"), service, "is the Service of the stable version itself",
            f"give the new version a Service of its own, for example {service}{_SUFFIX}",
        )  # fmt: skip
    if router.canary_service is None and len(service) > _LONGEST_LABEL - len(_SUFFIX):
        yield Finding(
            (*path, "router", "service"), service, f"leaves no room for {_SUFFIX} in the name of a Service",
            f"use at most {_LONGEST_LABEL - len(_SUFFIX)} characters, or name router.canary_service",
        )  # fmt: skip


def _templates(
    path: Path,
    environment: str,
    application: ApplicationSettings,
    health: HealthSettings | None,
    metrics: MetricSettings,
    *,
    names: dict[str, str],
) -> Iterator[Finding]:
    override = application.overrides.get(environment)

    def place(part: str, field: str) -> Path:
        changed = override is not None and field in getattr(override, part)
        return (*path, "overrides", environment, part, field) if changed else (*path, part, field)

    addresses = [("health", f, getattr(health, f)) for f in ("url", "canary_url")] if health else []
    addresses.append(("metrics", "prometheus_url", metrics.prometheus_url))
    for part, field, template in addresses:
        if template is None:
            continue
        address, finding = _filled(place(part, field), template, names)
        if finding is not None:
            yield finding
        elif not re.match(r"https?://[^/\s]", address):
            yield Finding(
                place(part, field), template, "is no address",
                "write scheme, host and port, for example http://{application}.{namespace}.svc:8080",
            )  # fmt: skip
    for field in ("stable_selector", "canary_selector"):
        _, finding = _filled(place("metrics", field), getattr(metrics, field), names, promql=True)
        if finding is not None:
            yield finding
    known = names | {"selector": "", "pod": "", "window": "5m", "window_minutes": "5"}
    for field in ("error_rate", "latency_p95", "latency_p99", "crash_rate"):
        _, finding = _filled(place("metrics", field), getattr(metrics, field), known, promql=True)
        if finding is not None:
            yield finding


def _filled(
    path: Path, template: str, names: dict[str, str], *, promql: bool = False
) -> tuple[str, Finding | None]:
    try:
        return template.format(**names), None
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        fault = f"no {{{error.args[0]}}} is known here" if isinstance(error, KeyError) else str(error)
        braces = "; write {{ and }} for the braces of the query" if promql else ""
        placeholders = ", ".join(f"{{{n}}}" for n in sorted(names))
        return "", Finding(
            path, template, f"cannot be filled in: {fault}", f"use only {placeholders}{braces}"
        )


def _watched(
    path: Path,
    environment: str,
    settings: EnvironmentSettings,
    health: HealthSettings | None,
    metrics: MetricSettings,
) -> Iterator[Finding]:
    if health is None:
        yield Finding(
            (*path, "health"), None, f"{environment} is a production environment and needs health checks",
            'add for example health: {url: "http://{application}.{namespace}.svc:8080"}',
        )  # fmt: skip
        return
    if not health.paths:
        yield Finding(
            (*path, "health", "paths"), [], "no path means that nothing is checked",
            "write for example [/health, /ready, /live]",
        )  # fmt: skip
    measured = metrics.prometheus_url is not None
    if not measured and settings.monitoring is not MonitoringLevel.BASIC:
        yield Finding(
            (*path, "metrics", "prometheus_url"), None,
            f"{environment} has monitoring: {settings.monitoring}, and there is nothing to measure it with",
            f"name the Prometheus server, or write environments.{environment}.monitoring: basic",
        )  # fmt: skip
    measured = measured and settings.monitoring is not MonitoringLevel.BASIC
    if settings.canary is not None and health.canary_url is None and not measured:
        yield Finding(
            (*path, "health", "canary_url"), None, f"the canary of {environment} would be judged by nothing",
            "name the canary's own address, or a Prometheus server with monitoring: standard or full",
        )  # fmt: skip


# Promotions


def _promotions(configuration: Configuration) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for index, criteria in enumerate(configuration.promotions):
        path: Path = ("promotions", index)
        for field in ("from_env", "to_env"):
            name = getattr(criteria, field)
            if name not in configuration.environments:
                yield Finding(
                    (*path, field), name, "is no environment", nearest(name, configuration.environments)
                )
        if criteria.from_env == criteria.to_env:
            yield Finding(
                (*path, "to_env"), criteria.to_env, "is where it comes from", "name the next environment"
            )
        if (criteria.from_env, criteria.to_env) in seen:
            yield Finding(
                path, None, f"{criteria.from_env} to {criteria.to_env} is described twice", "keep one of them"
            )
        seen.add((criteria.from_env, criteria.to_env))
        for place, gate in enumerate(criteria.required_checks):
            if gate not in configuration.gates:
                yield Finding(
                    (*path, "required_checks", place), gate, "is no gate", nearest(gate, configuration.gates)
                )


# People, channels, secrets


def _notifications(configuration: Configuration) -> Iterator[Finding]:
    path: Path = ("notification_channels",)
    for ours, theirs in configuration.notification_channels.pagerduty.severity_mapping.items():
        where = (*path, "pagerduty", "severity_mapping", ours)
        if ours not in _SEVERITIES:
            yield Finding(where, ours, "is no severity", nearest(ours, _SEVERITIES))
        if theirs not in _PAGERDUTY_SEVERITIES:
            yield Finding(
                where, theirs, "is no severity of PagerDuty", nearest(theirs, _PAGERDUTY_SEVERITIES)
            )
    for group, addresses in configuration.notification_channels.email.recipients.items():
        for index, address in enumerate(addresses):
            if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
                yield Finding(
                    (*path, "email", "recipients", group, index), address, "is no email address",
                    "write for example oncall@example.com",
                )  # fmt: skip


def _secrets(configuration: Configuration) -> Iterator[Finding]:
    for path, remedy in clear_secrets(configuration.model_dump(mode="json")):
        yield Finding(path, None, "is a secret written in clear", remedy)
