"""The edge of the sandbox's cluster, which has neither ingress-nginx nor a Gateway: plays their controllers.

It decides between the stable Service and the canary's, by what the objects in the cluster say; to send the
requests there is left to whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from kubernetes.aio import client

from sandbox.kubernetes.custom_resources import HTTP_ROUTES

CONTROLLER: Final = "sandbox.example.com/gateway"

_NGINX: Final = "nginx.ingress.kubernetes.io"
_TIMEOUT_SECONDS: Final = 5

Object = Mapping[str, Any]


class Edge:
    """The way of the users' requests to one application in one namespace."""

    def __init__(self, api: client.ApiClient, namespace: str, stable: str, canary: str) -> None:
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._namespace = namespace
        self._stable = stable
        self._canary = canary
        self._share = 0.0

    async def canary_share(self) -> float:
        """The part of the requests (0 to 1) for the canary's Service; 0 where nothing leads to it.

        Each question is a reconciliation: a route's new generation is reported on before it has any effect.
        While the API server is away, what was known last goes on.
        """
        try:
            ingresses = await self._list("networking.k8s.io", "v1", "ingresses")
            routes = await self._list(HTTP_ROUTES.group, HTTP_ROUTES.versions[0], HTTP_ROUTES.plural)
            for route in routes:
                await self._report(route)
        except (client.ApiException, aiohttp.ClientError, TimeoutError, OSError):
            return self._share
        shares = [*map(self._ingress_share, ingresses), *map(self._route_share, routes)]
        self._share = max(shares, default=0.0)
        return self._share

    async def _list(self, group: str, version: str, plural: str) -> list[Object]:
        try:
            found: Any = await self._objects.list_namespaced_custom_object(
                group, version, self._namespace, plural, _request_timeout=_TIMEOUT_SECONDS
            )
        except client.ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return []  # not every cluster has the Gateway API
            raise
        return list(found["items"])

    # ingress-nginx

    def _ingress_share(self, ingress: Object) -> float:
        notes = ingress["metadata"].get("annotations") or {}
        rules = ingress["spec"].get("rules") or []
        paths = [path for rule in rules for path in (rule.get("http") or {}).get("paths") or []]
        leads_here = any(path["backend"]["service"]["name"] == self._canary for path in paths)
        if notes.get(f"{_NGINX}/canary") != "true" or not leads_here:
            return 0.0
        weight = int(notes.get(f"{_NGINX}/canary-weight", "0"))
        return weight / int(notes.get(f"{_NGINX}/canary-weight-total", "100"))

    # Gateway API

    def _route_share(self, route: Object) -> float:
        for refs in _backend_refs(route):
            weights = {ref["name"]: ref.get("weight", 1) for ref in refs}
            ours = weights.get(self._stable, 0) + weights.get(self._canary, 0)
            if ours:
                return float(weights.get(self._canary, 0) / ours)
        return 0.0

    async def _report(self, route: Object) -> None:
        """Say to each of its parents what became of the route's generation, unless that is said."""
        generation = route["metadata"]["generation"]
        reported = (route.get("status") or {}).get("parents") or []
        if any(c["observedGeneration"] == generation for p in reported for c in p["conditions"]):
            return
        missing = await self._missing(ref["name"] for refs in _backend_refs(route) for ref in refs)
        common = {
            "observedGeneration": generation,
            "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        conditions = [
            {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", **common},
            {
                "type": "ResolvedRefs",
                "status": "False" if missing else "True",
                "reason": "BackendNotFound" if missing else "ResolvedRefs",
                "message": f"there is no Service {', '.join(missing)}" if missing else "",
                **common,
            },
        ]
        parents = [
            {"parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions}
            for parent in route["spec"].get("parentRefs") or []
        ]
        await self._objects.patch_namespaced_custom_object_status(
            HTTP_ROUTES.group,
            HTTP_ROUTES.versions[0],
            self._namespace,
            HTTP_ROUTES.plural,
            route["metadata"]["name"],
            {"status": {"parents": parents}},
            _content_type="application/merge-patch+json",
            _request_timeout=_TIMEOUT_SECONDS,
        )

    async def _missing(self, services: Iterable[str]) -> list[str]:
        found = await self._core.list_namespaced_service(self._namespace, _request_timeout=_TIMEOUT_SECONDS)
        known = {service.metadata.name for service in found.items if service.metadata}
        return sorted(set(services) - known)


def _backend_refs(route: Object) -> Iterable[list[Object]]:
    return [rule.get("backendRefs") or [] for rule in route["spec"].get("rules") or []]
