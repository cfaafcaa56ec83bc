"""The Kubernetes API in its own JSON: requests, server-side apply and watches.

Plain JSON instead of the client's generated models, because a pod template must come back exactly as it
was read, fields that this client's models do not know included.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from kubernetes.aio import client

from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError

FIELD_MANAGER: Final = "erlmcp-deploy"
REQUEST_SECONDS: Final = 30.0
WATCH_SECONDS: Final = 60
RELIST_SECONDS: Final = 0.5

APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

Object = dict[str, Any]


def _collection(group_version: str, namespace: str, plural: str) -> str:
    root = "/api" if "/" not in group_version else "/apis"
    return f"{root}/{group_version}/namespaces/{quote(namespace, safe='')}/{plural}"


def deployments(namespace: str) -> str:
    return _collection("apps/v1", namespace, "deployments")


def replica_sets(namespace: str) -> str:
    return _collection("apps/v1", namespace, "replicasets")


def pods(namespace: str) -> str:
    return _collection("v1", namespace, "pods")


def services(namespace: str) -> str:
    return _collection("v1", namespace, "services")


def endpoints(namespace: str) -> str:
    return _collection("v1", namespace, "endpoints")


def config_maps(namespace: str) -> str:
    return _collection("v1", namespace, "configmaps")


def jobs(namespace: str) -> str:
    return _collection("batch/v1", namespace, "jobs")


def ingresses(namespace: str) -> str:
    return _collection("networking.k8s.io/v1", namespace, "ingresses")


def http_routes(namespace: str, version: str = "v1") -> str:
    """`version`: the one that is served, see `KubernetesApi.served_version`."""
    return _collection(f"{GATEWAY_API}/{version}", namespace, "httproutes")


def flagger_canaries(namespace: str) -> str:
    return _collection("flagger.app/v1beta1", namespace, "canaries")


def argo_rollouts(namespace: str) -> str:
    return _collection("argoproj.io/v1alpha1", namespace, "rollouts")


GATEWAY_API: Final = "gateway.networking.k8s.io"
NAMESPACES: Final = "/api/v1/namespaces"
INGRESS_CLASSES: Final = "/apis/networking.k8s.io/v1/ingressclasses"


class KubernetesApi:
    """One client for all activities of a worker; connects at first use.

    Answers other than 2xx are raised as `StatusError`, a broken transport as aiohttp raises it;
    `failures.raise_typed` turns both into typed errors.
    """

    def __init__(self, connection: ClusterConnection) -> None:
        self._connection = connection
        self._client: client.ApiClient | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]
            self._client = None

    async def find(self, collection: str, name: str) -> Object | None:
        """An object, or none if it does not exist."""
        try:
            return await self._json("GET", _member(collection, name))
        except StatusError as error:
            if error.status == 404:
                return None
            raise

    async def served_version(self, group: str, plural: str) -> str | None:
        """The version of an API group to use for a kind of object: the preferred one that has it, if any."""
        try:
            found = await self._json("GET", f"/apis/{group}")
        except StatusError as error:
            if error.status == 404:
                return None
            raise
        versions = [v["version"] for v in found["versions"]]
        preferred = found["preferredVersion"]["version"]
        for version in sorted(versions, key=lambda v: v != preferred):
            resources = await self.find(f"/apis/{group}", version)
            if any(r["name"] == plural for r in (resources or {}).get("resources") or []):
                return str(version)
        return None

    async def list_all(self, collection: str, **query: str) -> Object:
        return await self._json("GET", collection, query=query)

    async def create(self, collection: str, body: Object) -> Object:
        return await self._json("POST", collection, query={"fieldManager": FIELD_MANAGER}, body=body)

    async def apply(
        self, collection: str, name: str, body: Object, *, force: bool, dry_run: bool = False
    ) -> Object:
        """Server-side apply: we own what `body` says, and nothing else.

        A conflict only with our own earlier writes (a scale, a restore) is none.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        try:
            return await self._patch(collection, name, APPLY, body, query)
        except StatusError as error:
            ours = f'"{FIELD_MANAGER}"'
            if not error.field_conflicts or any(ours not in owner for owner, _ in error.field_conflicts):
                raise
        return await self._patch(collection, name, APPLY, body, {**query, "force": "true"})

    async def merge(
        self, collection: str, name: str, body: Object, *, resource_version: str | None = None
    ) -> Object:
        """Change a few fields (RFC 7396).

        With `resource_version` only if the object is still the one that was read; else 409 is raised, as
        `StatusError` without field conflicts.
        """
        if resource_version is not None:
            metadata = {**(body.get("metadata") or {}), "resourceVersion": resource_version}
            body = {**body, "metadata": metadata}
        return await self._patch(collection, name, MERGE_PATCH, body, {"fieldManager": FIELD_MANAGER})

    async def replace_parts(self, collection: str, name: str, operations: list[Object]) -> Object:
        """Change parts of an object all at once, or none of them (RFC 6902)."""
        return await self._patch(collection, name, JSON_PATCH, operations, {"fieldManager": FIELD_MANAGER})

    async def delete(self, collection: str, name: str, uid: str) -> None:
        """Delete this very object; the garbage collector follows. One that is gone already is fine."""
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._json("DELETE", _member(collection, name), body=body)
        except StatusError as error:
            if error.status != 404:
                raise

    async def follow(self, collection: str, name: str) -> AsyncGenerator[Object | None, None]:
        """The object as it is now and after every change, without end; none while it does not exist.

        A watch that breaks, expires (410) or is not allowed is replaced by listing again; only when
        listing fails is the fault the caller's.
        """
        selector = f"metadata.name={name}"
        while True:
            listing = await self.list_all(collection, fieldSelector=selector)
            items = listing.get("items") or []
            yield items[0] if items else None
            version = listing.get("metadata", {}).get("resourceVersion", "")
            try:
                async with aclosing(self._watch(collection, selector, version)) as events:
                    async for kind, found in events:
                        yield None if kind == "DELETED" else found
            except (StatusError, aiohttp.ClientError, TimeoutError, ValueError):
                pass
            await asyncio.sleep(RELIST_SECONDS)

    async def _watch(
        self, collection: str, selector: str, version: str
    ) -> AsyncGenerator[tuple[str, Object], None]:
        query = {
            "watch": "true",
            "fieldSelector": selector,
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        answer = await self._send("GET", collection, query=query, timeout=WATCH_SECONDS + REQUEST_SECONDS)
        try:
            if answer.status != 200:
                raise StatusError.from_answer(answer.status, answer.headers, await answer.read())
            while line := await answer.content.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise StatusError.from_status(status.get("code", 500), status)
                yield event["type"], event["object"]
        finally:
            answer.close()

    async def _patch(
        self, collection: str, name: str, content_type: str, body: Any, query: Mapping[str, str]
    ) -> Object:
        return await self._json(
            "PATCH", _member(collection, name), query=query, body=body, content_type=content_type
        )

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        answer = await self._send(method, path, query=query, body=body, content_type=content_type)
        try:
            content = await answer.read()
        finally:
            answer.release()
        if not 200 <= answer.status < 300:
            raise StatusError.from_answer(answer.status, answer.headers, content)
        try:
            found: Object = json.loads(content)
        except ValueError:
            # A proxy's own page under 200: whoever answered was not the API server.
            raise StatusError(status=502, message="the answer is no JSON") from None
        return found

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = REQUEST_SECONDS,
    ) -> aiohttp.ClientResponse:
        opened = await self._open()

        async def ask() -> aiohttp.ClientResponse:
            prepared = await opened.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await opened.call_api(*prepared, _request_timeout=timeout)
            response: aiohttp.ClientResponse = answer.response
            return response

        answer = await ask()
        if answer.status != 401:
            return answer
        # The token may have been renewed (a rotated file, an exec plugin): read it again, once.
        answer.release()
        opened.configuration.api_key = (await self._connection.load()).api_key
        return await ask()

    async def _open(self) -> client.ApiClient:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connection.open()
            return self._client


def _member(collection: str, name: str) -> str:
    return f"{collection}/{quote(name, safe='')}"
