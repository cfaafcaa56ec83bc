"""With each router: one version takes over step by step, a bad one is caught, a person calls one back.

The users come in as the router leads them: through a Service over both sides, an Ingress, or an HTTPRoute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import pytest
from kubernetes.aio import client
from temporalio.client import WorkflowHandle

from domain.deployment import DeploymentStatus
from domain.routing import RouterKind
from sandbox.configuration import APPLICATION
from sandbox.kubernetes.custom_resources import HTTP_ROUTES, install_custom_resources
from sandbox.kubernetes.fault_proxy import RecordedWrite
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.story import HAPPY_PATH, QUICK, Story, result, states

CANARY = f"{APPLICATION}-canary"
NGINX = "nginx.ingress.kubernetes.io"
PIN, ROLLED_BACK_BY = "erlmcp-deploy/pinned-to-track", "erlmcp-deploy/rolled-back-by"
PODS = 3
USERS, RUSH = 30, 100  # requests per second
SWIFT = replace(QUICK, canary_step="4s", soak="1s")
# 1.2.0 goes on saying that it is ready while it answers its users with 500: only its error rate tells.
HEALTH = {"paths": ["/ready"]}

Objects = dict[str, dict[str, Any]]
"""Name → what matters, by kind."""


# The platform


class Platform:
    """What the platform's engineers set up before anything is deployed, and look at later."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._core = client.CoreV1Api(api)
        self._objects = client.CustomObjectsApi(api)
        self.namespace = namespace

    async def set_up(self, kind: RouterKind) -> None:
        core: Any = self._core  # its annotations want models, it takes JSON too
        await core.create_namespace({"metadata": {"name": self.namespace}})
        service = {
            "metadata": {"name": APPLICATION},
            "spec": {
                "selector": {"app": APPLICATION},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
            },
        }
        await core.create_namespaced_service(self.namespace, service)
        if kind is RouterKind.INGRESS_NGINX:
            await self._serve_class("nginx", "k8s.io/ingress-nginx")
            backend = {"service": {"name": APPLICATION, "port": {"name": "http"}}}
            path = {"path": "/", "pathType": "Prefix", "backend": backend}
            rule = {"host": "shop.example.com", "http": {"paths": [path]}}
            spec = {"ingressClassName": "nginx", "rules": [rule]}
            await self._create("networking.k8s.io", "v1", "ingresses", "Ingress", spec)
        if kind is RouterKind.GATEWAY_API:
            spec = {
                "parentRefs": [{"name": "edge"}],
                "hostnames": ["shop.example.com"],
                "rules": [{"backendRefs": [{"name": APPLICATION, "port": 80}]}],
            }
            await self._create(HTTP_ROUTES.group, "v1", HTTP_ROUTES.plural, HTTP_ROUTES.kind, spec)

    async def _serve_class(self, name: str, controller: str) -> None:
        """The only object of the whole cluster: another story may have it already."""
        networking: Any = client.NetworkingV1Api(self._core.api_client)
        body = {"metadata": {"name": name}, "spec": {"controller": controller}}
        try:
            await networking.create_ingress_class(body)
        except client.ApiException as error:
            if error.status != HTTPStatus.CONFLICT:
                raise

    async def _create(self, group: str, version: str, plural: str, kind: str, spec: Any) -> None:
        body = {
            "apiVersion": f"{group}/{version}",
            "kind": kind,
            "metadata": {"name": APPLICATION},
            "spec": spec,
        }
        await self._objects.create_namespaced_custom_object(group, version, self.namespace, plural, body)

    async def objects(self) -> Objects:
        """All that leads to the application: selectors, annotations, rules, and the pods that are wanted."""
        services = self._core.api_client.sanitize_for_serialization(
            (await self._core.list_namespaced_service(self.namespace)).items
        )
        deployments = await self._list("apps", "v1", "deployments")
        ingresses = await self._list("networking.k8s.io", "v1", "ingresses")
        routes = await self._list(HTTP_ROUTES.group, "v1", HTTP_ROUTES.plural)
        return {
            "deployments": {name: spec.get("replicas", 0) for name, (_, spec) in _described(deployments)},
            "services": {name: (notes, spec["selector"]) for name, (notes, spec) in _described(services)},
            "ingresses": dict(_described(ingresses)),
            "httproutes": dict(_described(routes)),
        }

    async def _list(self, group: str, version: str, plural: str) -> list[Any]:
        found: Any = await self._objects.list_namespaced_custom_object(group, version, self.namespace, plural)
        return list(found["items"])


def _described(found: list[Any]) -> list[tuple[str, tuple[dict[str, str], dict[str, Any]]]]:
    return [(o["metadata"]["name"], (o["metadata"].get("annotations") or {}, o["spec"])) for o in found]


# The routers


@dataclass(frozen=True)
class Routing:
    """A router as it is seen from the API server."""

    kind: RouterKind

    def split(self, weight: int) -> tuple[int, int]:
        """Pods of both sides: only the router by replicas takes any from the stable one."""
        canary = {10: 1, 50: 2, 100: PODS}[weight]
        return (PODS - canary if self.kind is RouterKind.REPLICAS else PODS), canary

    def steered(self, before: Objects, weight: int) -> Objects:
        """The objects in a step, made from those of before."""
        stable, canary = self.split(weight)
        found = before | {"deployments": {APPLICATION: stable, CANARY: canary}}
        if self.kind is RouterKind.REPLICAS:
            return found
        found["services"] = {
            APPLICATION: ({PIN: "stable"}, {"app": APPLICATION, "track": "stable"}),
            CANARY: ({}, {"app": APPLICATION, "track": "canary"}),
        }
        if self.kind is RouterKind.INGRESS_NGINX:
            _, spec = before["ingresses"][APPLICATION]
            (rule,) = spec["rules"]
            (path,) = rule["http"]["paths"]
            backend = {"service": {"name": CANARY, "port": {"name": "http"}}}
            found["ingresses"] = before["ingresses"] | {
                CANARY: (
                    {f"{NGINX}/canary": "true", f"{NGINX}/canary-weight": str(weight)},
                    spec | {"rules": [rule | {"http": {"paths": [path | {"backend": backend}]}}]},
                )
            }
        if self.kind is RouterKind.GATEWAY_API:
            notes, spec = before["httproutes"][APPLICATION]
            refs = [
                {"name": APPLICATION, "port": 80, "weight": 100 - weight},
                {"name": CANARY, "port": 80, "weight": weight},
            ]
            found["httproutes"] = {APPLICATION: (notes, spec | {"rules": [{"backendRefs": refs}]})}
        return found

    def observed(self, weight: int) -> float:
        """What the router says when its weight is read back: by replicas, the share of the pods."""
        stable, canary = self.split(weight)
        return 100 * canary / (stable + canary) if self.kind is RouterKind.REPLICAS else weight

    def withdrawal(self) -> list[str]:
        """What is written, in this order, when a canary that has a weight is given up."""
        gone = ["canary gets 0 pods", "canary's deployments deleted"]
        if self.kind is RouterKind.REPLICAS:
            return [f"stable gets {PODS} pods", *gone, "stable restored"]
        traffic = ["router gives canary 0%", "canary gets 0 pods"]
        ingress = ["canary's ingresses deleted"] if self.kind is RouterKind.INGRESS_NGINX else []
        return [
            *traffic,
            *ingress,
            "canary's services deleted",
            "canary's deployments deleted",
            "stable Service as it was",
            "stable restored",
        ]


# What was written


def deeds(writes: list[RecordedWrite]) -> list[str]:
    """What the worker has done to the cluster, in order and in words; what is told twice in a row is one."""
    told: list[str] = []
    for write in writes:
        deed = None if "dryRun" in write.query else _deed(write)
        if deed is not None and told[-1:] != [deed]:
            told.append(deed)
    return told


def _deed(write: RecordedWrite) -> str | None:
    collection, name = write.path.split("/")[-2:]
    metadata, spec = ((write.body or {}).get(part) or {} for part in ("metadata", "spec"))
    notes = metadata.get("annotations") or {}
    match write.method, collection, name:
        case "DELETE", _, _ if name == CANARY:
            return f"canary's {collection} deleted"
        case "PATCH", "ingresses", _ if name == CANARY:
            return f"router gives canary {notes[f'{NGINX}/canary-weight']}%"
        case "PATCH", "httproutes", _:
            (rule,) = spec["rules"]
            weights = {ref["name"]: ref.get("weight", 1) for ref in rule["backendRefs"]}
            return f"router gives canary {weights.get(CANARY, 0)}%"
        case "PATCH", "services", _ if name == APPLICATION:
            return "stable Service pinned" if notes[PIN] else "stable Service as it was"
        case "PATCH", "services", _ if name == CANARY:
            return "canary's services offered"
        case "PATCH", "deployments", _ if ROLLED_BACK_BY in notes:
            return "stable restored"
        case "PATCH", "deployments", _ if "template" in spec:
            return f"{'canary' if name == CANARY else 'stable'} applied"
        case "PATCH", "deployments", _ if "replicas" in spec:
            return f"{'canary' if name == CANARY else 'stable'} gets {spec['replicas']} pods"
    return None


# The story


async def _begin(story: Story, version: str) -> WorkflowHandle[Any, Any]:
    handle = await story.start(version, skip_tests=True, reason="told in other stories")
    await story.approve(handle)
    return handle


async def _at(story: Story, handle: WorkflowHandle[Any, Any], weight: int) -> DeploymentStatus:
    return await story.until(
        handle,
        lambda s: s.canary is not None and s.canary.weight == weight and s.canary.phase == "Analysing",
    )


def _failed_requests(story: Story) -> int:
    traffic = story.world.traffic
    return traffic.errors("stable") + traffic.errors("canary")


@pytest.mark.kubernetes
@pytest.mark.parametrize("kind", RouterKind)
async def test_a_canary_is_promoted_caught_and_called_back(start_story: StartStory, kind: RouterKind) -> None:
    application = {
        "health": HEALTH,
        "workload": {"replicas": PODS, "router": {"kind": str(kind), "drain": "200ms"}},
    }
    changes = {"applications": {APPLICATION: application}}
    routing = Routing(kind)
    begun = start_story(routed=("production",), changes=changes, times=SWIFT, traffic_rate=USERS)
    async with begun as story:
        configuration = await story.world.kubernetes.client_configuration()
        await install_custom_resources(configuration, (HTTP_ROUTES,))
        async with client.ApiClient(configuration) as api:
            platform = Platform(api, story.world.namespace("production"))
            await _the_three_outcomes(story, platform, routing)


async def _the_three_outcomes(story: Story, platform: Platform, routing: Routing) -> None:
    traffic = story.world.traffic
    # Given an application behind its router, and 1.0.0 of it
    await platform.set_up(routing.kind)
    first = await result(await _begin(story, "1.0.0"))
    assert states(first) == HAPPY_PATH, first.reason
    before = await platform.objects()
    assert before["deployments"] == {APPLICATION: PODS}

    # When 1.1.0 is deployed, then the router gives it what each step says
    traffic.results.clear()
    handle = await _begin(story, "1.1.0")
    for weight in (10, 50, 100):
        await _at(story, handle, weight)
        assert await platform.objects() == routing.steered(before, weight), weight
    promoted = await result(handle)
    # And it was judged by its own error rate, is stable in the end, and nothing of the canary is left
    assert states(promoted) == HAPPY_PATH, promoted.reason
    assert promoted.canary is not None
    assert promoted.canary.phase == "Succeeded"
    assert [(s.weight, s.observed_weight, s.note) for s in promoted.canary.steps] == [
        (weight, routing.observed(weight), "") for weight in (10, 50, 100)
    ]
    for step in promoted.canary.steps:
        assert step.verdict is not None
        assert step.verdict.tally.metrics["error_rate"].successful > 0, step
    assert await story.serves() == {"1.1.0"}
    assert await platform.objects() == before
    # And no user has noticed
    assert _failed_requests(story) == 0, traffic.results

    # When 1.2.0 is deployed, which breaks under its users, then its error rate gives it away
    traffic.results.clear()
    traffic.rate = RUSH
    story.proxy.forget_writes()
    caught = await result(await _begin(story, "1.2.0"))
    traffic.rate = USERS
    assert caught.canary is not None
    assert (caught.canary.phase, caught.canary.trigger) == ("Failed", "error_rate")
    assert (caught.reason or "").startswith(f"canary at {caught.canary.steps[-1].weight}%: error_rate is")
    await _assert_given_up(story, platform, routing, caught, before)
    # And users whom the router led to the stable side have not noticed
    if routing.kind is not RouterKind.REPLICAS:
        assert traffic.errors("stable") == 0, traffic.results

    # When a person calls 1.3.0 back, although it is well, while half of the traffic is on it
    traffic.results.clear()
    story.proxy.forget_writes()
    handle = await _begin(story, "1.3.0")
    await _at(story, handle, 10)
    await handle.signal("promote", {"actor": "operator@example.com"})
    await _at(story, handle, 50)
    assert await platform.objects() == routing.steered(before, 50)
    await handle.signal("abort", {"actor": "operator@example.com", "reason": "not today"})
    aborted = await result(handle)
    # Then it ends by that person's word, and no user has noticed
    assert aborted.reason == "aborted by operator@example.com: not today"
    assert aborted.canary is not None
    assert (aborted.canary.phase, aborted.canary.trigger) == ("Aborted", None)
    assert [step.weight for step in aborted.canary.steps] == [10, 50]
    await _assert_given_up(story, platform, routing, aborted, before)
    assert _failed_requests(story) == 0, traffic.results


async def _assert_given_up(
    story: Story, platform: Platform, routing: Routing, ended: DeploymentStatus, before: Objects
) -> None:
    """The canary lost its traffic, then its pods, and then 1.1.0 was restored; all is as it was before."""
    done, end = deeds(story.proxy.writes), routing.withdrawal()
    assert done[-len(end) :] == end, done
    assert not {*done[: -len(end)]} & {*end}, done
    assert states(ended)[-3:] == ["Deploying", "RollingBack", "Failed"], ended.reason
    assert ended.canary is not None
    assert ended.canary.weight == 0
    assert ended.rollback is not None
    assert (ended.rollback.succeeded, ended.rollback.to_version) == (True, "1.1.0"), ended.rollback
    assert await story.serves() == {"1.1.0"}
    assert await platform.objects() == before
