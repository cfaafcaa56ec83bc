"""The checks of the API server that lead to 422, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from sandbox.kubernetes.emulator import errors
from sandbox.kubernetes.emulator.errors import Cause
from sandbox.kubernetes.emulator.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Object,
    ResourceType,
)
from sandbox.kubernetes.emulator.schema import missing_fields
from sandbox.kubernetes.emulator.selectors import label_selector

SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
QUALIFIED_NAME: Final = re.compile(r"([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
COUNT_OR_PERCENT: Final = re.compile(r"[0-9]+%")
LABEL_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character"
)
NAME_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character"
)
PROTOCOLS: Final = ("SCTP", "TCP", "UDP")


def validate(resource: ResourceType, new: Object, live: Object | None) -> None:
    """Raise the server's 422 with every cause when the object, or its change from `live`, is not allowed."""
    causes = [
        *missing_fields(resource, new),
        *_metadata_causes(resource, new["metadata"], "metadata"),
        *_type_causes(resource, new, live),
    ]
    if causes:
        raise errors.invalid(resource, new["metadata"].get("name", ""), causes)


def _metadata_causes(resource: ResourceType, metadata: Object, path: str) -> Iterator[Cause]:
    name = metadata.get("name", "")
    pattern = {SERVICES: SERVICE_NAME, NAMESPACES: DNS_LABEL}.get(resource, SUBDOMAIN)
    if not name:
        yield Cause.required(f"{path}.name", "name or generateName is required")
    elif not pattern.fullmatch(name) or len(name) > (253 if pattern is SUBDOMAIN else 63):
        yield Cause.invalid(f"{path}.name", name, NAME_RULE)
    yield from _label_causes(metadata.get("labels"), f"{path}.labels")
    for key in metadata.get("annotations") or {}:
        if not QUALIFIED_NAME.fullmatch(key.lower()):
            yield Cause.invalid(f"{path}.annotations", key, "name part must be a qualified name")


def _label_causes(labels: dict[str, str] | None, path: str) -> Iterator[Cause]:
    for key, value in (labels or {}).items():
        if not QUALIFIED_NAME.fullmatch(key):
            yield Cause.invalid(path, key, "name part must be a qualified name")
        if not LABEL_VALUE.fullmatch(value):
            yield Cause.invalid(path, value, LABEL_VALUE_RULE)


def _type_causes(resource: ResourceType, new: Object, live: Object | None) -> Iterator[Cause]:
    if resource in (DEPLOYMENTS, REPLICA_SETS):
        yield from _workload_causes(new["spec"], live["spec"] if live else None)
        if resource is DEPLOYMENTS:
            yield from _rollout_causes(new["spec"])
    elif resource is PODS:
        yield from _pod_causes(new.get("spec", {}), "spec")
        if live is not None:
            yield from _pod_change_causes(new["spec"], live["spec"])
    elif resource is SERVICES:
        yield from _service_causes(new["spec"])
    elif resource is CUSTOM_RESOURCE_DEFINITIONS:
        yield from _definition_causes(new)
    elif resource is LEASES and (duration := new.get("spec", {}).get("leaseDurationSeconds", 1)) <= 0:
        yield Cause.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")


def _workload_causes(spec: Object, live: Object | None) -> Iterator[Cause]:
    if spec.get("replicas", 0) < 0:
        yield Cause.invalid("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    selector, template = spec.get("selector"), spec.get("template", {})
    if selector is not None and not selector:
        yield Cause.invalid("spec.selector", "{}", "empty selector is invalid for deployment")
    labels = template.get("metadata", {}).get("labels") or {}
    if selector and template and not label_selector(selector)(labels):
        yield Cause.invalid(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
    yield from _label_causes(labels, "spec.template.labels")
    if live is not None and selector != live.get("selector"):
        yield Cause.invalid("spec.selector", selector, "field is immutable")
    yield from _pod_causes(template.get("spec"), "spec.template.spec")
    policy = template.get("spec", {}).get("restartPolicy", "Always")
    if policy != "Always":
        yield Cause.unsupported("spec.template.spec.restartPolicy", policy, ["Always"])


def _rollout_causes(spec: Object) -> Iterator[Cause]:
    strategy = spec["strategy"]
    if strategy["type"] not in ("Recreate", "RollingUpdate"):
        yield Cause.unsupported("spec.strategy.type", strategy["type"], ["Recreate", "RollingUpdate"])
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "Recreate" and rolling is not None:
        yield Cause(
            "spec.strategy.rollingUpdate",
            "FieldValueForbidden",
            "Forbidden: may not be specified when strategy `type` is 'Recreate'",
        )
    elif rolling is not None:
        for name in ("maxUnavailable", "maxSurge"):
            value = rolling[name]
            if isinstance(value, str) and not COUNT_OR_PERCENT.fullmatch(value):
                yield Cause.invalid(
                    f"spec.strategy.rollingUpdate.{name}",
                    value,
                    "a valid percent string must be a numeric string followed by an ending '%'",
                )
        if _is_zero(rolling["maxUnavailable"]) and _is_zero(rolling["maxSurge"]):
            yield Cause.invalid(
                "spec.strategy.rollingUpdate.maxUnavailable",
                rolling["maxUnavailable"],
                "may not be 0 when `maxSurge` is 0",
            )
    if spec["progressDeadlineSeconds"] <= spec.get("minReadySeconds", 0):
        yield Cause.invalid(
            "spec.progressDeadlineSeconds",
            spec["progressDeadlineSeconds"],
            "must be greater than minReadySeconds",
        )


def _is_zero(value: Any) -> bool:
    return value in (0, "0%")


def _pod_causes(spec: Object | None, path: str) -> Iterator[Cause]:
    names: set[str] = set()
    for index, container in enumerate((spec or {}).get("containers") or []):
        here = f"{path}.containers[{index}]"
        name = container.get("name")
        if name is not None and (not DNS_LABEL.fullmatch(name) or len(name) > 63):
            yield Cause.invalid(f"{here}.name", name, "must be a lowercase RFC 1123 label")
        if name in names:
            yield Cause.duplicate(f"{here}.name", str(name))
        names.add(str(name))
        if not container.get("image"):
            yield Cause.required(f"{here}.image")
        for position, port in enumerate(container.get("ports") or []):
            yield from _port_causes(port.get("containerPort"), f"{here}.ports[{position}].containerPort")
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            yield from _probe_causes(container.get(probe), f"{here}.{probe}")


def _probe_causes(probe: Object | None, path: str) -> Iterator[Cause]:
    if probe is None:
        return
    handlers = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if name in probe]
    if not handlers:
        yield Cause.required(path, "must specify a handler type")
    for name in ("periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"):
        if probe.get(name, 0) < 0:
            yield Cause.invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0")
    port = probe.get("httpGet", {}).get("port")
    if isinstance(port, int):
        yield from _port_causes(port, f"{path}.httpGet.port")


def _port_causes(port: Any, path: str) -> Iterator[Cause]:
    if port is not None and not 1 <= port <= 65535:
        yield Cause.invalid(path, port, "must be between 1 and 65535, inclusive")


def _pod_change_causes(spec: Object, live: Object) -> Iterator[Cause]:
    changeable = {"activeDeadlineSeconds", "tolerations", "containers", "initContainers", "nodeName"}

    def fixed(pod: Object) -> Object:
        kept = {key: value for key, value in pod.items() if key not in changeable}
        for name in ("containers", "initContainers"):
            kept[name] = [
                {key: value for key, value in container.items() if key != "image"}
                for container in pod.get(name) or []
            ]
        return kept

    if fixed(spec) != fixed(live):
        yield Cause(
            "spec",
            "FieldValueForbidden",
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, "
            "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds` or `spec.tolerations` "
            "(only additions to existing tolerations)",
        )


def _definition_causes(definition: Object) -> Iterator[Cause]:
    metadata, spec = definition["metadata"], definition["spec"]
    wanted = f"{spec['names']['plural']}.{spec['group']}"
    if metadata.get("name") != wanted:
        yield Cause.invalid("metadata.name", metadata.get("name"), 'must be spec.names.plural+"."+spec.group')
    annotation = "api-approved.kubernetes.io"
    if spec["group"].endswith((".k8s.io", ".kubernetes.io")) and not (metadata.get("annotations") or {}).get(
        annotation
    ):
        yield Cause.required(
            f"metadata.annotations[{annotation}]",
            f'protected groups must have approval annotation "{annotation}"',
        )
    if sum(bool(each.get("storage")) for each in spec["versions"]) != 1:
        yield Cause.invalid("spec.versions", "", "must have exactly one version marked as storage version")


def _service_causes(spec: Object) -> Iterator[Cause]:
    if spec["type"] != "ExternalName" and spec.get("clusterIP") != "None" and not spec.get("ports"):
        yield Cause.required("spec.ports")
    seen: set[tuple[Any, Any]] = set()
    for index, port in enumerate(spec.get("ports") or []):
        yield from _port_causes(port.get("port"), f"spec.ports[{index}].port")
        if port.get("protocol") not in PROTOCOLS:
            yield Cause.unsupported(f"spec.ports[{index}].protocol", port.get("protocol"), PROTOCOLS)
        if len(spec["ports"]) > 1 and not port.get("name"):
            yield Cause.required(f"spec.ports[{index}].name")
        key = (port.get("port"), port.get("protocol"))
        if key in seen:
            yield Cause.duplicate(f"spec.ports[{index}]", f"{key[0]}/{key[1]}")
        seen.add(key)
