"""The HTTP face of the emulator: paths, media types, discovery, watches."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sandbox.kubernetes.emulator import errors
from sandbox.kubernetes.emulator.deletion import GarbageCollector, NamespaceController
from sandbox.kubernetes.emulator.deployments import DeploymentController
from sandbox.kubernetes.emulator.endpoints import EndpointsController
from sandbox.kubernetes.emulator.errors import StatusError
from sandbox.kubernetes.emulator.kubelet import Kubelet
from sandbox.kubernetes.emulator.patching import APPLY, PATCH_TYPES, STRATEGIC
from sandbox.kubernetes.emulator.registry import Propagation, Registry, Target, Write
from sandbox.kubernetes.emulator.replica_sets import ReplicaSetController
from sandbox.kubernetes.emulator.resources import Object, ResourceType
from sandbox.kubernetes.emulator.selectors import Predicate, everything, parse_fields, parse_labels
from sandbox.kubernetes.emulator.store import Change, Expired, Store, in_version

VERSION: Final[Object] = {
    "major": "1",
    "minor": "20",
    "gitVersion": "v1.20.2-emulated",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2021-01-13T13:20:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "python",
}
METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]
HEALTH_PATHS: Final = frozenset({"healthz", "livez", "readyz"})
PUBLIC_PATHS: Final = HEALTH_PATHS | {"version"}
WATCH_SECONDS: Final = 1800.0
BOOKMARK_SECONDS: Final = 10.0
YAML_TYPES: Final = ("application/yaml", APPLY)
JSON_TYPES: Final = ("application/json", *(each for each in PATCH_TYPES if each != APPLY))


async def serve(port: int, token: str, certificate: Path, private_key: Path) -> None:
    """Serve the API on loopback, with its controllers, until cancelled; `token` is the administrator's.

    A controller that breaks ends the server too: a cluster that silently does nothing helps nobody.
    """
    registry = Registry(Store())
    controllers = (
        DeploymentController(registry),
        ReplicaSetController(registry),
        GarbageCollector(registry),
        NamespaceController(registry),
        EndpointsController(registry),
        Kubelet(registry),
    )
    application = Starlette(routes=[Route("/{path:path}", Api(registry, token).handle, methods=METHODS)])
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            host="127.0.0.1",
            port=port,
            ssl_certfile=certificate,
            ssl_keyfile=private_key,
            access_log=False,
            lifespan="off",
        )
    )
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each.run()) for each in controllers]
        await server.serve()
        for task in running:
            task.cancel()


class Api:
    """Requests to answers."""

    def __init__(self, registry: Registry, token: str) -> None:
        self._registry = registry
        self._token = token

    async def handle(self, request: Request) -> Response:
        """Answer any request; refusals become `metav1.Status`."""
        try:
            self._authenticate(request)
            return await self._route(request)
        except StatusError as error:
            return JSONResponse(error.body, status_code=error.code)

    def _authenticate(self, request: Request) -> None:
        path = request.path_params["path"]
        header = request.headers.get("Authorization")
        if header is None:
            if path in PUBLIC_PATHS:
                return
            raise StatusError(
                HTTPStatus.FORBIDDEN,
                "Forbidden",
                f'forbidden: User "system:anonymous" cannot {request.method.lower()} path "/{path}"',
            )
        if not hmac.compare_digest(header.encode(), f"Bearer {self._token}".encode()):
            raise errors.unauthorized()

    async def _route(self, request: Request) -> Response:
        match request.path_params["path"].strip("/").split("/"):
            case [name] if name in HEALTH_PATHS:
                return PlainTextResponse("ok")
            case ["version"]:
                return JSONResponse(VERSION)
            case ["api"]:
                return JSONResponse({"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                groups = sorted({each.group for each in self._registry.types if each.group})
                listed = [self._group(each) for each in groups]
                return JSONResponse({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed})
            case ["api", "v1"]:
                return JSONResponse(self._resource_list("", "v1"))
            case ["apis", group] if any(each.group == group for each in self._registry.types):
                return JSONResponse({**self._group(group), "kind": "APIGroup", "apiVersion": "v1"})
            case ["apis", group, version] if any(
                (each.group, each.version) == (group, version) for each in self._registry.types
            ):
                return JSONResponse(self._resource_list(group, version))
            case ["api", "v1", *rest] if rest:
                return await self._resource_request(request, "", "v1", rest)
            case ["apis", group, version, *rest] if rest:
                return await self._resource_request(request, group, version, rest)
        raise errors.unknown_path()

    async def _resource_request(
        self, request: Request, group: str, version: str, path: list[str]
    ) -> Response:
        namespace: str | None = None
        if path[0] == "namespaces" and len(path) > 2 and (path[2] not in ("status", "finalize")):
            namespace, path = path[1], path[2:]
        served = {(each.group, each.version, each.plural): each for each in self._registry.types}
        resource = served.get((group, version, path[0]))
        if resource is None or (namespace is not None and not resource.namespaced):
            raise errors.unknown_path()
        match path[1:]:
            case []:
                return await self._collection_request(request, resource, namespace)
            case [name]:
                target = Target(resource, namespace or "", name)
            case [name, ("status" | "scale") as subresource] if subresource in resource.subresources:
                target = Target(resource, namespace or "", name, subresource)
            case _:
                raise errors.unknown_path()
        if resource.namespaced and namespace is None:
            raise errors.unknown_path()
        return await self._object_request(request, target)

    async def _collection_request(
        self, request: Request, resource: ResourceType, namespace: str | None
    ) -> Response:
        query = request.query_params
        matches = _predicate(resource, query)
        if request.method == "GET":
            if _flag(query, "watch"):
                return StreamingResponse(
                    self._watch(resource, namespace, matches, query), media_type="application/json"
                )
            return JSONResponse(self._list(resource, namespace, matches, query))
        if resource.namespaced and namespace is None:
            raise errors.method_not_allowed()
        if request.method == "POST":
            content = await _body(request)
            _check_type(resource, content)
            created = self._registry.create(resource, namespace or "", content, _write(request))
            return JSONResponse(created, status_code=201)
        if request.method == "DELETE":
            options = await _delete_options(request)
            doomed = self._registry.listed(resource, namespace, matches)
            for each in doomed:
                target = Target(resource, namespace or "", each["metadata"]["name"])
                self._delete(target, options)
            return JSONResponse(self._as_list(resource, doomed))
        raise errors.method_not_allowed()

    async def _object_request(self, request: Request, target: Target) -> Response:
        match request.method:
            case "GET":
                return JSONResponse(self._registry.read(target))
            case "PUT":
                content = await _body(request)
                if target.subresource != "scale":
                    _check_type(target.resource, content)
                return JSONResponse(self._registry.replace(target, content, _write(request)))
            case "PATCH":
                return await self._patch(request, target)
            case "DELETE" if not target.subresource:
                return self._deleted(target, await _delete_options(request))
        raise errors.method_not_allowed()

    async def _patch(self, request: Request, target: Target) -> Response:
        patch_type = _media_type(request)
        supported = [each for each in PATCH_TYPES if each != STRATEGIC or not target.resource.custom]
        if patch_type not in supported:
            raise errors.unsupported_media_type(supported)
        patch = await _body(request)
        if patch_type != APPLY:
            return JSONResponse(self._registry.patch(target, patch, patch_type, _write(request)))
        if target.subresource == "scale":
            raise errors.unsupported_media_type([each for each in PATCH_TYPES if each != APPLY])
        if not request.query_params.get("fieldManager"):
            raise errors.unprocessable(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: "
                "is required for apply patch"
            )
        _check_type(target.resource, patch)
        force = _flag(request.query_params, "force")
        applied, created = self._registry.apply(target, patch, _write(request), force=force)
        return JSONResponse(applied, status_code=201 if created else 200)

    # Deleting

    def _delete(self, target: Target, options: Object) -> Object:
        propagation: Propagation = options.get("propagationPolicy") or "Background"
        if options.get("orphanDependents"):
            propagation = "Orphan"
        if propagation not in ("Background", "Foreground", "Orphan"):
            raise errors.unprocessable(
                f'DeleteOptions.meta.k8s.io is invalid: propagationPolicy: Unsupported value: "{propagation}"'
            )
        return self._registry.delete(
            target,
            propagation=propagation,
            preconditions=options.get("preconditions"),
            grace_seconds=options.get("gracePeriodSeconds"),
            dry_run="All" in (options.get("dryRun") or []),
        )

    def _deleted(self, target: Target, options: Object) -> Response:
        last = self._delete(target, options)
        resource = target.resource
        if "deletionTimestamp" in last["metadata"]:
            return JSONResponse(last)
        details = {"name": target.name, "kind": resource.plural, "uid": last["metadata"]["uid"]}
        if resource.group:
            details["group"] = resource.group
        return JSONResponse(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    # Listing and watching

    def _list(
        self,
        resource: ResourceType,
        namespace: str | None,
        matches: Predicate,
        query: Mapping[str, str],
    ) -> Object:
        objects = self._registry.listed(resource, namespace, matches)
        if token := query.get("continue"):
            after = _continue_key(token)
            objects = [each for each in objects if _position(each) > after]
        limit = _number(query, "limit") or len(objects)
        listed = self._as_list(resource, objects[:limit])
        if len(objects) > limit:
            position = json.dumps(_position(objects[limit - 1]))
            listed["metadata"]["continue"] = base64.urlsafe_b64encode(position.encode()).decode()
            listed["metadata"]["remainingItemCount"] = len(objects) - limit
        return listed

    def _as_list(self, resource: ResourceType, objects: list[Object]) -> Object:
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(self._registry.store.revision)},
            "items": [
                {key: value for key, value in each.items() if key not in ("kind", "apiVersion")}
                for each in objects
            ],
        }

    async def _watch(
        self,
        resource: ResourceType,
        namespace: str | None,
        matches: Predicate,
        query: Mapping[str, str],
    ) -> AsyncIterator[bytes]:
        store = self._registry.store
        end = time.monotonic() + (_number(query, "timeoutSeconds") or WATCH_SECONDS)
        bookmarks = _flag(query, "allowWatchBookmarks")

        def shown(change: Change) -> tuple[str, Object] | None:
            if change.resource.key != resource.key:
                return None
            if namespace is not None and change.current["metadata"].get("namespace") != namespace:
                return None
            was = change.previous is not None and matches(change.previous)
            now = change.type != "DELETED" and matches(change.current)
            current = in_version(resource, change.current)
            if was and now:
                return ("MODIFIED", current)
            if now:
                return ("ADDED", current)
            return ("DELETED", current) if was else None

        with store.follow() as changes:
            since = query.get("resourceVersion") or "0"
            if since == "0":
                for each in self._registry.listed(resource, namespace, matches):
                    yield _line("ADDED", each)
            else:
                try:
                    missed = store.since(resource, int(since))
                except (Expired, ValueError) as error:
                    yield _line("ERROR", errors.gone(str(error)).body)
                    return
                for change in missed:
                    if event := shown(change):
                        yield _line(*event)
            while (left := end - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(min(left, BOOKMARK_SECONDS)):
                        change = await changes.get()
                except TimeoutError:
                    if bookmarks:
                        yield _line("BOOKMARK", _bookmark(resource, store.revision))
                    continue
                if event := shown(change):
                    yield _line(*event)

    # Discovery

    def _group(self, group: str) -> Object:
        versions = {each.version for each in self._registry.types if each.group == group}
        named = [
            {"groupVersion": f"{group}/{each}", "version": each}
            for each in sorted(versions, key=_priority, reverse=True)
        ]
        return {"name": group, "versions": named, "preferredVersion": named[0]}

    def _resource_list(self, group: str, version: str) -> Object:
        verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        listed: list[Object] = []
        for each in self._registry.types:
            if (each.group, each.version) != (group, version):
                continue
            entry: Object = {
                "name": each.plural,
                "singularName": "",
                "namespaced": each.namespaced,
                "kind": each.kind,
                "verbs": verbs,
            }
            if each.short_names:
                entry["shortNames"] = list(each.short_names)
            if each.categories:
                entry["categories"] = list(each.categories)
            listed.append(entry)
            for name in sorted(each.subresources):
                part: Object = {
                    "name": f"{each.plural}/{name}",
                    "singularName": "",
                    "namespaced": each.namespaced,
                    "kind": each.kind,
                    "verbs": ["get", "patch", "update"],
                }
                if name == "scale":
                    part |= {"group": "autoscaling", "version": "v1", "kind": "Scale"}
                listed.append(part)
        group_version = f"{group}/{version}" if group else version
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": listed,
        }


def _line(kind: str, content: Object) -> bytes:
    return json.dumps({"type": kind, "object": content}, separators=(",", ":")).encode() + b"\n"


def _bookmark(resource: ResourceType, revision: int) -> Object:
    return {
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": {"resourceVersion": str(revision)},
    }


def _position(content: Object) -> list[str]:
    return [content["metadata"].get("namespace", ""), content["metadata"]["name"]]


def _continue_key(token: str) -> list[str]:
    try:
        position = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise errors.bad_request(f"continue key is not valid: {error}") from error
    return [str(each) for each in position]


def _predicate(resource: ResourceType, query: Mapping[str, str]) -> Predicate:
    tests: list[Predicate] = []
    if labels := query.get("labelSelector"):
        tests.append(parse_labels(labels))
    if fields := query.get("fieldSelector"):
        tests.append(parse_fields(resource, fields))
    return (lambda content: all(test(content) for test in tests)) if tests else everything


def _media_type(request: Request) -> str:
    return request.headers.get("Content-Type", "application/json").partition(";")[0].strip()


async def _body(request: Request) -> Any:
    media_type = _media_type(request)
    if media_type not in (*YAML_TYPES, *JSON_TYPES):
        raise errors.unsupported_media_type([*JSON_TYPES, *YAML_TYPES])
    raw = await request.body()
    try:
        return yaml.safe_load(raw) if media_type in YAML_TYPES else json.loads(raw)
    except (ValueError, yaml.YAMLError) as error:
        raise errors.bad_request(f"error decoding the request body: {error}") from error


async def _delete_options(request: Request) -> Object:
    """`DeleteOptions` from the body, else from the query."""
    options: Object = dict(await _body(request) or {}) if await request.body() else {}
    query = request.query_params
    for name in ("propagationPolicy", "orphanDependents"):
        if name in query and name not in options:
            options[name] = query[name] if name == "propagationPolicy" else _flag(query, name)
    if "gracePeriodSeconds" not in options and (grace := _number(query, "gracePeriodSeconds")) is not None:
        options["gracePeriodSeconds"] = grace
    if "dryRun" in query:
        options["dryRun"] = [query["dryRun"]]
    return options


def _check_type(resource: ResourceType, content: Any) -> None:
    """A body may leave its type out, but not name another."""
    given = content if isinstance(content, dict) else {}
    for name, expected in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        if given.get(name, expected) != expected:
            raise errors.bad_request(
                f"{given.get('kind')} in version {given.get('apiVersion')!r} cannot be handled as a "
                f"{resource.kind}: the API version in the data does not match the expected API version "
                f"({resource.api_version})"
            )


def _write(request: Request) -> Write:
    query = request.query_params
    agent = request.headers.get("User-Agent", "unknown").partition("/")[0]
    return Write(query.get("fieldManager") or agent, dry_run=query.get("dryRun") == "All")


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true")


def _number(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if not value:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise errors.bad_request(f"{name}: {value!r} is no number") from error


def _priority(version: str) -> tuple[int, int, int]:
    """Kubernetes' order of versions: v2, v1, v1beta2, v1beta1, v1alpha1."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return (-1, 0, 0)
    stage = {None: 2, "beta": 1, "alpha": 0}[match[2]]
    return (stage, int(match[1]), int(match[3] or 0))
