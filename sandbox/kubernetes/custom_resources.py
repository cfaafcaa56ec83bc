"""Custom resource definitions of what is steered on Kubernetes: Gateway API, Flagger and Argo Rollouts.

They are shells: every field is kept and none is checked, so that objects of any release of these projects can
be stored. Their controllers are not part of the sandbox; a test that needs one plays it over the API.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from kubernetes.aio import client

ESTABLISHED_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1
APPROVAL: Final = "https://github.com/kubernetes-sigs/gateway-api/pull/1923"
"""Without a word on its approval the API server refuses a definition under ``*.k8s.io``."""


@dataclass(frozen=True, slots=True)
class CustomResource:
    """One definition; all versions are served, the first is the stored one."""

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.plural}.{self.group}"

    @property
    def manifest(self) -> dict[str, Any]:
        """The ``CustomResourceDefinition``, fit for kubectl."""
        metadata: dict[str, Any] = {"name": self.name}
        if self.group.endswith(".k8s.io"):
            metadata["annotations"] = {"api-approved.kubernetes.io": APPROVAL}
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": metadata,
            "spec": {
                "group": self.group,
                "scope": "Namespaced",
                "names": {
                    "plural": self.plural,
                    "singular": self.kind.lower(),
                    "kind": self.kind,
                    "listKind": f"{self.kind}List",
                },
                "versions": [self._version(version) for version in self.versions],
            },
        }

    def _version(self, version: str) -> dict[str, Any]:
        return {
            "name": version,
            "served": True,
            "storage": version == self.versions[0],
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            "subresources": {"status": {}},
        }


HTTP_ROUTES: Final = CustomResource("gateway.networking.k8s.io", ("v1", "v1beta1"), "httproutes", "HTTPRoute")
FLAGGER_CANARIES: Final = CustomResource("flagger.app", ("v1beta1",), "canaries", "Canary")
ARGO_ROLLOUTS: Final = CustomResource("argoproj.io", ("v1alpha1",), "rollouts", "Rollout")
CUSTOM_RESOURCES: Final = (HTTP_ROUTES, FLAGGER_CANARIES, ARGO_ROLLOUTS)


async def install_custom_resources(
    configuration: client.Configuration, resources: tuple[CustomResource, ...] = CUSTOM_RESOURCES
) -> None:
    """Install the definitions that are missing and wait until all are served.

    Raises:
        TimeoutError: the API server does not serve one of them.
    """
    async with client.ApiClient(configuration) as api:
        for resource in resources:
            await _create(api, resource)
        async with asyncio.timeout(ESTABLISHED_SECONDS):
            for resource in resources:
                await _until_served(api, resource)


async def _create(api: client.ApiClient, resource: CustomResource) -> None:
    definitions: Any = client.ApiextensionsV1Api(api)  # its annotations want models, it takes JSON too
    try:
        await definitions.create_custom_resource_definition(resource.manifest)
    except client.ApiException as error:
        if error.status != HTTPStatus.CONFLICT:
            raise


async def _until_served(api: client.ApiClient, resource: CustomResource) -> None:
    """Until objects can be listed in every version: discovery alone comes a moment too early."""
    objects = client.CustomObjectsApi(api)
    waiting = list(resource.versions)
    while waiting:
        try:
            await objects.list_namespaced_custom_object(
                resource.group, waiting[0], "default", resource.plural
            )
        except client.ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            await asyncio.sleep(POLL_SECONDS)
        else:
            del waiting[0]
