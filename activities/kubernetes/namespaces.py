"""Namespaces that are made where the settings say so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from activities.kubernetes.api import FIELD_MANAGER, NAMESPACES, KubernetesApi
from activities.kubernetes.failures import StatusError
from activities.kubernetes.manifests import MANAGED_BY_LABEL
from domain.workload import WorkloadTarget

T = TypeVar("T")


async def in_namespace(api: KubernetesApi, target: WorkloadTarget, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work; where the namespace is missing and `create_namespace` is set, create it and do it again.

    Not before: an account that may not look at namespaces can still work in one that exists.
    """
    try:
        return await work()
    except StatusError as error:
        if not (error.missing_namespace and target.create_namespace):
            raise
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": target.namespace, "labels": {MANAGED_BY_LABEL: FIELD_MANAGER}},
    }
    try:
        await api.create(NAMESPACES, body)
    except StatusError as error:
        if error.reason != "AlreadyExists":
            raise
    return await work()
