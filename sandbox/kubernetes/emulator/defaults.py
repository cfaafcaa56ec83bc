"""The defaults the API server fills in before it stores an object."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from sandbox.kubernetes.emulator.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICES,
    Object,
    ResourceType,
)

POD_DEFAULTS: Final[Object] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
CONTAINER_DEFAULTS: Final[Object] = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
PROBE_DEFAULTS: Final[Object] = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
DEPLOYMENT_DEFAULTS: Final[Object] = {
    "replicas": 1,
    "revisionHistoryLimit": 10,
    "progressDeadlineSeconds": 600,
}
ROLLING_UPDATE_DEFAULTS: Final[Object] = {"maxUnavailable": "25%", "maxSurge": "25%"}
PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")


def with_defaults(resource: ResourceType, content: Object) -> Object:
    """The object with its type's defaults; what the caller gave stays as given."""
    content = deepcopy(content)
    spec: Object = content.get("spec", {})
    if resource in (DEPLOYMENTS, REPLICA_SETS):
        if resource is DEPLOYMENTS:
            _fill(spec, DEPLOYMENT_DEFAULTS)
            strategy = spec.setdefault("strategy", {})
            if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
                _fill(strategy.setdefault("rollingUpdate", {}), ROLLING_UPDATE_DEFAULTS)
        else:
            spec.setdefault("replicas", 1)
        _default_pod_spec(spec.get("template", {}).get("spec"))
        content["spec"] = spec
    elif resource is PODS:
        _default_pod_spec(content.get("spec"))
    elif resource is SERVICES:
        _fill(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
        for port in spec.get("ports") or []:
            _fill(port, {"protocol": "TCP", "targetPort": port.get("port")})
        content["spec"] = spec
    elif resource is NAMESPACES:
        content.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
        content.setdefault("status", {}).setdefault("phase", "Active")
    elif resource is SECRETS:
        content.setdefault("type", "Opaque")
    return content


def _default_pod_spec(spec: Object | None) -> None:
    if spec is None:
        return
    _fill(spec, POD_DEFAULTS)
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        _fill(container, CONTAINER_DEFAULTS)
        latest = str(container.get("image", "")).endswith(":latest")
        untagged = ":" not in str(container.get("image", "")).rpartition("/")[2]
        container.setdefault("imagePullPolicy", "Always" if latest or untagged else "IfNotPresent")
        for port in container.get("ports") or []:
            port.setdefault("protocol", "TCP")
        for name in PROBES:
            if (probe := container.get(name)) is not None:
                _fill(probe, PROBE_DEFAULTS)
                if (action := probe.get("httpGet")) is not None:
                    _fill(action, {"path": "/", "scheme": "HTTP"})


def _fill(target: Object, defaults: dict[str, Any]) -> None:
    for key, value in defaults.items():
        target.setdefault(key, deepcopy(value))
