"""The resource types the emulator serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Object = dict[str, Any]
"""An API object as JSON. Objects in the store are never changed in place."""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One kind of object: its place in the API and how the registry treats it.

    `model` names its schema in `kubernetes.aio.client`; a custom resource has none. `counts_generations`:
    changes of the spec raise `metadata.generation`. `unconditional_update`: a PUT may leave out
    `resourceVersion`.
    """

    group: str
    version: str
    plural: str
    kind: str
    model: str | None
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()
    counts_generations: bool = False
    unconditional_update: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """What it is stored under: all versions of a type share their objects."""
        return (self.group, self.plural)

    @property
    def custom(self) -> bool:
        return self.model is None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified_plural(self) -> str:
        """The plural as error messages write it, for example `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular(self) -> str:
        return self.kind.lower()


STATUS: Final = frozenset({"status"})
STATUS_AND_SCALE: Final = frozenset({"status", "scale"})
ALL: Final = ("all",)

NAMESPACES: Final = ResourceType(
    "", "v1", "namespaces", "Namespace", "V1Namespace", ("ns",), namespaced=False, subresources=STATUS
)
NODES: Final = ResourceType(
    "", "v1", "nodes", "Node", "V1Node", ("no",), namespaced=False, subresources=STATUS
)
PODS: Final = ResourceType("", "v1", "pods", "Pod", "V1Pod", ("po",), ALL, subresources=STATUS)
SERVICES: Final = ResourceType(
    "", "v1", "services", "Service", "V1Service", ("svc",), ALL, subresources=STATUS
)
CONFIG_MAPS: Final = ResourceType("", "v1", "configmaps", "ConfigMap", "V1ConfigMap", ("cm",))
SECRETS: Final = ResourceType("", "v1", "secrets", "Secret", "V1Secret")
SERVICE_ACCOUNTS: Final = ResourceType(
    "", "v1", "serviceaccounts", "ServiceAccount", "V1ServiceAccount", ("sa",)
)
ENDPOINTS: Final = ResourceType("", "v1", "endpoints", "Endpoints", "V1Endpoints", ("ep",))
EVENTS: Final = ResourceType("", "v1", "events", "Event", "CoreV1Event", ("ev",))
DEPLOYMENTS: Final = ResourceType(
    "apps",
    "v1",
    "deployments",
    "Deployment",
    "V1Deployment",
    ("deploy",),
    ALL,
    subresources=STATUS_AND_SCALE,
    counts_generations=True,
)
REPLICA_SETS: Final = ResourceType(
    "apps",
    "v1",
    "replicasets",
    "ReplicaSet",
    "V1ReplicaSet",
    ("rs",),
    ALL,
    subresources=STATUS_AND_SCALE,
    counts_generations=True,
)
INGRESSES: Final = ResourceType(
    "networking.k8s.io",
    "v1",
    "ingresses",
    "Ingress",
    "V1Ingress",
    ("ing",),
    subresources=STATUS,
    counts_generations=True,
)
NETWORK_POLICIES: Final = ResourceType(
    "networking.k8s.io",
    "v1",
    "networkpolicies",
    "NetworkPolicy",
    "V1NetworkPolicy",
    ("netpol",),
    counts_generations=True,
)
LEASES: Final = ResourceType(
    "coordination.k8s.io", "v1", "leases", "Lease", "V1Lease", unconditional_update=False
)
CUSTOM_RESOURCE_DEFINITIONS: Final = ResourceType(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    "V1CustomResourceDefinition",
    ("crd", "crds"),
    namespaced=False,
    subresources=STATUS,
    counts_generations=True,
)

RESOURCES: Final = (
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    CONFIG_MAPS,
    SECRETS,
    SERVICE_ACCOUNTS,
    ENDPOINTS,
    EVENTS,
    DEPLOYMENTS,
    REPLICA_SETS,
    INGRESSES,
    NETWORK_POLICIES,
    LEASES,
    CUSTOM_RESOURCE_DEFINITIONS,
)
