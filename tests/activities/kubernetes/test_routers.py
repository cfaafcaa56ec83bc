"""The traffic routers: the canary's life with each, told on the real API server and on the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.errors import NOT_FOUND, REFUSED, UNAVAILABLE
from activities.kubernetes import ClusterConnection, KubernetesActivities
from activities.kubernetes.api import KubernetesApi
from activities.kubernetes.failures import StatusError
from activities.kubernetes.routers import Services
from activities.kubernetes.routers.gateway_api import GatewayApiRouter
from activities.kubernetes.routers.ingress_nginx import IngressNginxRouter
from activities.kubernetes.tracks import Tracks
from domain.routing import RouterKind, RouterSettings
from domain.workload import Restore, Track, WeightChange, WeightReading, WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.custom_resources import install_custom_resources
from sandbox.kubernetes.fault_proxy import READS, WRITES, FaultProxy
from tests.activities.kubernetes.workload import (
    Onlooker,
    ProbedService,
    encoded,
    foreign_deployment,
    release,
    roll_out,
    run,
    target_in,
)

NGINX = "nginx.ingress.kubernetes.io"
ROUTES = "gateway.networking.k8s.io/v1"


@pytest.fixture
async def proxy(cluster: ClusterAccess, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    await install_custom_resources(cluster.client_configuration())
    async with FaultProxy.start(cluster, tmp_path) as running:
        yield running


@pytest.fixture
def connection(proxy: FaultProxy) -> ClusterConnection:
    return ClusterConnection(kube_config=encoded(proxy.access))


@pytest.fixture
async def activities(connection: ClusterConnection) -> AsyncIterator[KubernetesActivities]:
    working = KubernetesActivities(connection)
    yield working
    await working.close()


@pytest.fixture
async def api(connection: ClusterConnection) -> AsyncIterator[KubernetesApi]:
    api = KubernetesApi(connection)
    yield api
    await api.close()


@pytest.fixture
def ingress_nginx(api: KubernetesApi) -> IngressNginxRouter:
    """The router alone, for what needs no pods."""
    return IngressNginxRouter(Tracks(api), Services(api), api)


@pytest.fixture
def gateway_api(api: KubernetesApi) -> GatewayApiRouter:
    return GatewayApiRouter(Tracks(api), Services(api), api)


def routed(target: WorkloadTarget, kind: RouterKind, **settings: Any) -> WorkloadTarget:
    """Three pods behind a Service `web`, and a router of this kind in front."""
    router = RouterSettings(
        kind=kind, service="web", ingress="shop", http_route="shop", drain=timedelta(milliseconds=20)
    )
    return target.model_copy(update={"router": router, "replicas": 3, **settings})


def weight(target: WorkloadTarget, percent: int) -> WeightChange:
    return WeightChange(key=f"run/weight-{percent}", target=target, weight=percent, replicas=3)


class Platform:
    """What the platform's engineers set up and look at: Services, Ingresses and routes."""

    def __init__(self, onlooker: Onlooker, namespace: str) -> None:
        self._onlooker = onlooker
        self._core = f"/api/v1/namespaces/{namespace}"
        self._ingresses = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses"
        self._routes = f"/apis/{ROUTES}/namespaces/{namespace}/httproutes"
        self.namespace = namespace

    async def add_service(self, name: str = "web", **selector: str) -> None:
        port = {"name": "http", "port": 80, "targetPort": 8080}
        spec = {"selector": {"app": "erlmcp", **selector}, "ports": [port]}
        await self._onlooker.ask("POST", f"{self._core}/services", {"metadata": {"name": name}, "spec": spec})

    async def add_headless(self, name: str) -> None:
        """How Erlang nodes find each other."""
        spec = {"selector": {"app": "erlmcp"}, "clusterIP": "None"}
        await self._onlooker.ask("POST", f"{self._core}/services", {"metadata": {"name": name}, "spec": spec})

    async def add_ingress(self, name: str = "shop", **metadata: Any) -> None:
        """A shop whose paths lead to two applications, for two hosts."""

        def path(path: str, service: str) -> dict[str, Any]:
            backend = {"service": {"name": service, "port": {"name": "http"}}}
            return {"path": path, "pathType": "Prefix", "backend": backend}

        rules = [
            {"host": "shop.example.com", "http": {"paths": [path("/", "web"), path("/pay", "payments")]}},
            {"host": "pay.example.com", "http": {"paths": [path("/", "payments")]}},
        ]
        spec = {
            "ingressClassName": "nginx",
            "tls": [{"hosts": ["shop.example.com"], "secretName": "shop-tls"}],
            "rules": rules,
        }
        await self._onlooker.ask(
            "POST", self._ingresses, {"metadata": {"name": name, **metadata}, "spec": spec}
        )

    async def add_route(self, *rules: list[dict[str, Any]]) -> None:
        backends = rules or ([{"name": "web", "port": 80}], [{"name": "payments", "port": 80}])
        spec = {"hostnames": ["shop.example.com"], "rules": [{"backendRefs": refs} for refs in backends]}
        body = {"apiVersion": ROUTES, "kind": "HTTPRoute", "metadata": {"name": "shop"}, "spec": spec}
        await self._onlooker.ask("POST", self._routes, body)

    async def service(self, name: str = "web") -> Any:
        return await self._onlooker.ask("GET", f"{self._core}/services/{name}")

    async def ingress(self, name: str = "shop-canary") -> Any:
        return await self._onlooker.ask("GET", f"{self._ingresses}/{name}")

    async def names(self, kind: str) -> set[str]:
        collection = {
            "services": f"{self._core}/services",
            "ingresses": self._ingresses,
            "deployments": f"/apis/apps/v1/namespaces/{self.namespace}/deployments",
        }[kind]
        return {each["metadata"]["name"] for each in (await self._onlooker.ask("GET", collection))["items"]}

    async def edit(self, collection: str, name: str, change: Any, manager: str = "kubectl-edit") -> Any:
        base = {"services": f"{self._core}/services", "ingresses": self._ingresses, "routes": self._routes}
        return await self._onlooker.ask(
            "PATCH",
            f"{base[collection]}/{name}?fieldManager={manager}",
            change,
            content_type="application/merge-patch+json",
        )

    async def delete(self, collection: str, name: str) -> None:
        base = {"services": f"{self._core}/services", "ingresses": self._ingresses, "routes": self._routes}
        await self._onlooker.ask("DELETE", f"{base[collection]}/{name}")

    async def route(self) -> Any:
        return await self._onlooker.ask("GET", f"{self._routes}/shop")

    async def backends(self) -> list[dict[str, int]]:
        """The weights of each rule by Service."""
        rules = (await self.route())["spec"]["rules"]
        return [{ref["name"]: ref.get("weight", 1) for ref in rule["backendRefs"]} for rule in rules]

    async def behind(self, service: str, tracks: set[str]) -> None:
        """Wait until the pods behind a Service are of these tracks."""
        async with asyncio.timeout(20):
            while await self._tracks_behind(service) != tracks:  # noqa: ASYNC110 - the cluster's own pace
                await asyncio.sleep(0.1)

    async def _tracks_behind(self, service: str) -> set[str]:
        listed = await self._onlooker.ask("GET", f"{self._core}/endpoints")
        found = [each for each in listed["items"] if each["metadata"]["name"] == service]
        subsets = [subset for each in found for subset in each.get("subsets") or []]
        addresses = [address for subset in subsets for address in subset.get("addresses") or []]
        return {"canary" if "-canary-" in a["targetRef"]["name"] else "stable" for a in addresses}

    async def report(self, generation: int, accepted: bool = True) -> None:
        """Say as a Gateway's controller what became of a generation of the route."""
        verdict = {
            "type": "Accepted",
            "status": str(accepted),
            "reason": "Accepted" if accepted else "UnsupportedValue",
            "message": "" if accepted else "weights are not supported",
        }
        conditions = [
            {**verdict, "observedGeneration": generation, "lastTransitionTime": "2026-01-05T12:00:00Z"}
        ]
        parent = {"parentRef": {"name": "edge"}, "controllerName": "example.com/gateway"}
        await self._onlooker.ask(
            "PATCH",
            f"{self._routes}/shop/status",
            {"status": {"parents": [{**parent, "conditions": conditions}]}},
            content_type="application/merge-patch+json",
        )

    @asynccontextmanager
    async def controller(self, accepts: bool = True) -> AsyncIterator[None]:
        """A Gateway's controller that reports on every generation of the route."""

        async def reconcile() -> None:
            seen = 0
            while True:
                generation = (await self.route())["metadata"]["generation"]
                if generation != seen:
                    await self.report(generation, accepts)
                    seen = generation
                await asyncio.sleep(0.05)

        await self.report((await self.route())["metadata"]["generation"])
        task = asyncio.create_task(reconcile())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def platform(onlooker: Onlooker, namespace: str) -> Platform:
    return Platform(onlooker, namespace)


def written(proxy: FaultProxy, *kinds: str) -> list[str]:
    """The kinds of objects that were written, in order, repetitions left out."""
    order: list[str] = []
    for each in proxy.writes:
        kind = each.path.split("/")[-2]
        if kind in kinds and order[-1:] != [kind]:
            order.append(kind)
    return order


async def begin(activities: KubernetesActivities, target: WorkloadTarget) -> None:
    """A stable version with all its pods, and a canary with one."""
    assert (await roll_out(activities, target, "1.0.0")).complete
    one = target.model_copy(update={"replicas": 1})
    assert (await roll_out(activities, one, "1.1.0", Track.CANARY)).complete


def summary(reading: WeightReading) -> tuple[int, float, int, int]:
    return (reading.weight, reading.observed, reading.stable, reading.canary)


# The canary's life


async def test_a_canarys_life_behind_ingress_nginx(
    activities: KubernetesActivities,
    target: WorkloadTarget,
    platform: Platform,
    onlooker: Onlooker,
    proxy: FaultProxy,
) -> None:
    # given an application behind an Ingress, and a Service that selects the pods of any track
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress(annotations={"example.com/owner": "shop"})

    # when a canary starts
    await begin(activities, shop)

    # then it has a Service of its own, and the stable one does not send to it
    assert (await platform.service())["spec"]["selector"] == {"app": "erlmcp", "track": "stable"}
    own = (await platform.service("web-canary"))["spec"]
    assert own["selector"] == {"app": "erlmcp", "track": "canary"}
    assert [(p["name"], p["port"], p["targetPort"]) for p in own["ports"]] == [("http", 80, 8080)]
    await platform.behind("web", {"stable"})
    await platform.behind("web-canary", {"canary"})
    assert await platform.names("ingresses") == {"shop"}

    # when its weight rises, then pods come first; the stable side keeps all of its own
    for percent, pods in {10: 1, 50: 2, 100: 3}.items():
        proxy.forget_writes()
        reading = await run(activities.set_weight, weight(shop, percent))
        assert summary(reading) == (percent, percent, 3, pods)
        assert reading.note == ""
        assert await onlooker.replicas(shop.namespace) == {"erlmcp": 3, "erlmcp-canary": pods}
        assert written(proxy, "deployments", "ingresses") == [
            *(["deployments"] if pods > 1 else []),
            "ingresses",
        ]

    # and the canary's Ingress repeats what leads to the application, and nothing else
    canary = await platform.ingress()
    assert canary["metadata"]["annotations"] == {f"{NGINX}/canary": "true", f"{NGINX}/canary-weight": "100"}
    assert canary["spec"]["ingressClassName"] == "nginx"
    assert canary["spec"]["tls"] == [{"hosts": ["shop.example.com"], "secretName": "shop-tls"}]
    assert canary["spec"]["rules"] == [
        {
            "host": "shop.example.com",
            "http": {
                "paths": [
                    {
                        "path": "/",
                        "pathType": "Prefix",
                        "backend": {"service": {"name": "web-canary", "port": {"name": "http"}}},
                    }
                ]
            },
        }
    ]

    # when it is given up while the API server hiccups, then the retry takes traffic first and pods after
    proxy.forget_writes()
    proxy.refuse(503, times=1, path="ingresses")
    with pytest.raises(ApplicationError) as hiccup:
        await run(activities.set_weight, weight(shop, 0))
    assert hiccup.value.type == UNAVAILABLE
    reading = await run(activities.set_weight, weight(shop, 0))
    assert summary(reading) == (0, 0, 3, 0)
    assert written(proxy, "deployments", "ingresses") == ["ingresses", "deployments"]

    # and when it is removed, all is as it was
    await run(activities.remove_canary, shop)
    await run(activities.remove_canary, shop)
    assert await platform.names("ingresses") == {"shop"}
    assert await platform.names("services") == {"web"}
    restored = await platform.service()
    assert restored["spec"]["selector"] == {"app": "erlmcp"}
    assert not restored["metadata"].get("annotations")
    assert await onlooker.replicas(shop.namespace) == {"erlmcp": 3}


async def test_a_canarys_life_behind_a_gateway(
    activities: KubernetesActivities,
    target: WorkloadTarget,
    platform: Platform,
    onlooker: Onlooker,
    proxy: FaultProxy,
) -> None:
    # given an application behind an HTTPRoute that a controller serves
    shop = routed(target, RouterKind.GATEWAY_API)
    await platform.add_service()
    await platform.add_route()
    before = (await platform.route())["spec"]
    async with platform.controller():
        # when a canary starts, then the route is not touched
        await begin(activities, shop)
        assert (await platform.route())["spec"] == before
        await platform.behind("web", {"stable"})

        # when its weight rises, then pods come first, and the route leads to both
        for percent, pods in {10: 1, 50: 2, 100: 3}.items():
            proxy.forget_writes()
            reading = await run(activities.set_weight, weight(shop, percent))
            assert summary(reading) == (percent, percent, 3, pods)
            assert reading.note == ""
            assert await platform.backends() == [
                {"web": 100 - percent, "web-canary": percent},
                {"payments": 1},
            ]
            assert written(proxy, "deployments", "httproutes") == [
                *(["deployments"] if pods > 1 else []),
                "httproutes",
            ]

        # when an activity is retried because its answer was lost, then nothing is written twice
        proxy.forget_writes()
        assert (await run(activities.set_weight, weight(shop, 100))).weight == 100
        assert written(proxy, "deployments", "httproutes") == []

        # when the weight is lowered, then traffic goes before the pods
        proxy.forget_writes()
        assert summary(await run(activities.set_weight, weight(shop, 10))) == (10, 10, 3, 1)
        assert written(proxy, "deployments", "httproutes") == ["httproutes", "deployments"]

        # and when the canary is removed straight away, the route is what it was
        await run(activities.remove_canary, shop)
        assert (await platform.route())["spec"] == before
        assert await platform.names("services") == {"web"}
        assert await onlooker.replicas(shop.namespace) == {"erlmcp": 3}


async def test_a_canary_whose_pods_have_all_gone_bad_loses_its_traffic_first(
    activities: KubernetesActivities, platform: Platform, namespace: str, service: ProbedService
) -> None:
    # given a canary with half of the traffic, probed where the stable pods are not
    probe = {"httpGet": {"path": "/canary", "host": "127.0.0.1", "port": service.port}}
    settings = {"spec": {"containers": [{"name": "erlmcp", "readinessProbe": probe}]}}
    target = target_in(namespace, service, canary_template=settings)
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress()
    await begin(activities, shop)
    assert (await run(activities.set_weight, weight(shop, 50))).weight == 50

    # when none of its pods is ready any more, and it is to have more
    service.broken.add("/canary")
    await platform.behind("web-canary", set())
    hasty = shop.model_copy(update={"progress_deadline": timedelta(seconds=1)})
    reading = await run(activities.set_weight, weight(hasty, 100))

    # then it has none, and says why
    assert summary(reading) == (0, 0, 3, 0)
    assert reading.note == "no canary pod is ready"
    assert (await platform.ingress())["metadata"]["annotations"][f"{NGINX}/canary-weight"] == "0"


async def test_a_canary_that_was_left_behind_hands_its_traffic_to_nobody(
    activities: KubernetesActivities, target: WorkloadTarget, platform: Platform, proxy: FaultProxy
) -> None:
    # given a canary with half of the traffic, whose deployment was terminated
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress()
    await begin(activities, shop)
    assert (await run(activities.set_weight, weight(shop, 50))).weight == 50

    # when the canary of the next deployment is applied, then the traffic goes before that
    proxy.forget_writes()
    await run(activities.apply_release, release(shop, "1.2.0", Track.CANARY, replicas=1))

    assert (await platform.ingress())["metadata"]["annotations"][f"{NGINX}/canary-weight"] == "0"
    assert written(proxy, "deployments", "ingresses")[0] == "ingresses"


async def test_weight_0_reaches_the_router_although_no_deployment_can_be_changed(
    activities: KubernetesActivities,
    target: WorkloadTarget,
    platform: Platform,
    onlooker: Onlooker,
    proxy: FaultProxy,
) -> None:
    # given a canary with half of the traffic, a stable side that misses a pod, and a broken admission webhook
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress()
    await begin(activities, shop)
    assert (await run(activities.set_weight, weight(shop, 50))).weight == 50
    await onlooker.patch_deployment(shop.namespace, {"spec": {"replicas": 2}})
    proxy.refuse(500, path="deployments", message="failed calling webhook")

    # when the canary is given up, then it has no traffic, and a retry is asked for
    with pytest.raises(ApplicationError, match="failed calling webhook") as webhook:
        await run(activities.set_weight, weight(shop, 0))
    assert webhook.value.type == UNAVAILABLE
    assert (await platform.ingress())["metadata"]["annotations"][f"{NGINX}/canary-weight"] == "0"

    # which does the rest
    proxy.clear()
    await run(activities.set_weight, weight(shop, 0))
    assert await onlooker.replicas(shop.namespace) == {"erlmcp": 3, "erlmcp-canary": 0}


# What is missing, foreign or in the way


@pytest.mark.parametrize("kind", [RouterKind.INGRESS_NGINX, RouterKind.GATEWAY_API])
async def test_a_canary_does_not_start_without_what_would_lead_to_it(
    activities: KubernetesActivities,
    target: WorkloadTarget,
    platform: Platform,
    proxy: FaultProxy,
    kind: RouterKind,
) -> None:
    shop = routed(target, kind)

    async def refusal() -> ApplicationError:
        with pytest.raises(ApplicationError) as failed:
            await run(activities.apply_release, release(shop, track=Track.CANARY, replicas=1))
        assert failed.value.type == NOT_FOUND
        return failed.value

    # given a cluster without Gateway API, then that is told
    if kind is RouterKind.GATEWAY_API:
        proxy.refuse(404, path="gateway.networking.k8s.io$", methods=READS, times=1)
        assert "install the Gateway API" in (await refusal()).message

    # given neither router objects nor Services, then the first that is missing is named
    missing = "Ingress" if kind is RouterKind.INGRESS_NGINX else "HTTPRoute"
    assert f"{missing} shop in namespace {shop.namespace} does not exist" in (await refusal()).message

    # given a route or Ingress that leads elsewhere, then that is told
    router = shop.router.model_copy(update={"service": "other"})
    await platform.add_route()
    await platform.add_ingress()
    elsewhere, shop = shop, shop.model_copy(update={"router": router})
    assert "Service other" in (await refusal()).message

    # given all but the Service, then it is named
    shop = elsewhere
    assert "Service web in namespace" in (await refusal()).message

    # and no canary was started, nor anything else made
    assert await platform.names("deployments") == set()
    assert await platform.names("services") == set()


async def test_a_foreign_ingress_under_the_canarys_name_is_left_alone(
    activities: KubernetesActivities, target: WorkloadTarget, platform: Platform
) -> None:
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress()
    await platform.add_ingress("shop-canary", annotations={f"{NGINX}/canary-weight": "7"})

    with pytest.raises(ApplicationError, match=r"Ingress shop-canary .* was not made by erlmcp-deploy") as no:
        await run(activities.apply_release, release(shop, track=Track.CANARY, replicas=1))

    assert no.value.type == REFUSED
    reading = await run(activities.set_weight, weight(shop, 0))
    assert (reading.weight, reading.note) == (
        0,
        "Ingress shop-canary was not made by erlmcp-deploy and was left alone",
    )
    await run(activities.remove_canary, shop)
    assert (await platform.ingress())["metadata"]["annotations"] == {f"{NGINX}/canary-weight": "7"}


async def test_a_foreign_service_under_the_canarys_name_is_left_alone_but_one_named_on_purpose_is_used(
    activities: KubernetesActivities, target: WorkloadTarget, platform: Platform
) -> None:
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress()
    await platform.add_service("web-canary")
    with pytest.raises(ApplicationError, match=r"Service web-canary .* was not made by") as refused:
        await run(activities.apply_release, release(shop, track=Track.CANARY, replicas=1))
    assert refused.value.type == REFUSED

    # given one that is named in the settings, but would send to the stable pods too
    await platform.edit("services", "web-canary", {"spec": {"selector": {"track": "stable"}}})
    await platform.add_service("beta")
    named = shop.router.model_copy(update={"canary_service": "beta"})
    beta = shop.model_copy(update={"router": named})
    with pytest.raises(ApplicationError, match="let its selector be track=canary"):
        await run(activities.apply_release, release(beta, track=Track.CANARY, replicas=1))

    # when it selects the canary alone, then it is used, and stays when the canary goes
    await platform.edit("services", "beta", {"spec": {"selector": {"track": "canary"}}})
    await run(activities.apply_release, release(beta, track=Track.CANARY, replicas=0))
    await run(activities.remove_canary, beta)
    assert await platform.names("services") == {"web", "web-canary", "beta"}


async def test_another_service_must_not_send_to_the_canary_past_the_router(
    activities: KubernetesActivities, target: WorkloadTarget, platform: Platform, proxy: FaultProxy
) -> None:
    # given a second Service over the application's pods, and others that do no harm
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress()
    await platform.add_service("internal")
    await platform.add_service("canary-only", track="canary")
    await platform.add_service("payments", app="payments")
    await platform.add_headless("peers")
    canary = release(shop, track=Track.CANARY, replicas=0)

    # when a canary is to start, then it is refused with the remedy
    with pytest.raises(ApplicationError, match=r"Service internal in .*; add track: stable to") as refused:
        await run(activities.apply_release, canary)
    assert refused.value.type == REFUSED
    assert await platform.names("deployments") == set()

    # but an account that may not list Services goes on, as does one where the remedy was followed
    proxy.refuse(403, path="/services$", methods=READS, times=1)
    await run(activities.apply_release, canary)
    await platform.edit("services", "internal", {"spec": {"selector": {"track": "stable"}}})
    await run(activities.apply_release, canary)


@pytest.mark.parametrize("cluster", ["real"], indirect=True)  # the emulator knows no IngressClasses
async def test_an_ingress_of_another_controller_is_refused(
    ingress_nginx: IngressNginxRouter,
    target: WorkloadTarget,
    platform: Platform,
    onlooker: Onlooker,
    proxy: FaultProxy,
) -> None:
    shop = routed(target, RouterKind.INGRESS_NGINX)
    classes, name = "/apis/networking.k8s.io/v1/ingressclasses", shop.namespace
    await platform.add_ingress()
    await platform.edit("ingresses", "shop", {"spec": {"ingressClassName": name}})

    # given a class that nobody has made, or that may not be read, then it goes on
    await ingress_nginx.check(shop)
    served_by = {"spec": {"controller": "traefik.io/ingress-controller"}}
    await onlooker.ask("POST", classes, {"metadata": {"name": name}, **served_by})
    proxy.refuse(403, path="ingressclasses", methods=READS, times=1)
    await ingress_nginx.check(shop)

    # but one of another controller is refused, by name as by annotation
    with pytest.raises(ApplicationError, match=r"which traefik.io/ingress-controller serves") as refused:
        await ingress_nginx.check(shop)
    assert refused.value.type == REFUSED
    by_annotation = {"kubernetes.io/ingress.class": name}
    change = {"metadata": {"annotations": by_annotation}, "spec": {"ingressClassName": None}}
    await platform.edit("ingresses", "shop", change)
    with pytest.raises(ApplicationError, match=f"is of class {name}"):
        await ingress_nginx.check(shop)

    # and one of a second ingress-nginx is not
    await onlooker.ask("DELETE", f"{classes}/{name}")
    served_by = {"spec": {"controller": "k8s.io/internal-ingress-nginx"}}
    await onlooker.ask("POST", classes, {"metadata": {"name": name}, **served_by})
    await ingress_nginx.check(shop)
    await onlooker.ask("DELETE", f"{classes}/{name}")


async def test_pods_without_a_track_are_not_shut_out(
    activities: KubernetesActivities, target: WorkloadTarget, platform: Platform, onlooker: Onlooker
) -> None:
    # given pods made elsewhere, which carry no label that tells them from a canary's
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await onlooker.create_deployment(shop.namespace, foreign_deployment("v0.9.0"))
    await platform.add_service()
    await platform.add_ingress()
    await platform.behind("web", {"stable"})

    # when a canary is to start, then it is refused with the remedy, and they keep their traffic
    with pytest.raises(ApplicationError, match=r"do not carry .*; deploy once without a canary") as refused:
        await run(activities.apply_release, release(shop, track=Track.CANARY, replicas=1))
    assert refused.value.type == REFUSED
    assert (await platform.service())["spec"]["selector"] == {"app": "erlmcp"}


@pytest.mark.parametrize("kind", [RouterKind.INGRESS_NGINX, RouterKind.GATEWAY_API])
async def test_weight_0_and_removal_need_nothing_at_all(
    activities: KubernetesActivities, target: WorkloadTarget, kind: RouterKind
) -> None:
    shop = routed(target, kind)

    assert summary(await run(activities.set_weight, weight(shop, 0))) == (0, 0, 0, 0)
    await run(activities.remove_canary, shop)


async def test_weight_0_is_obeyed_when_the_stable_ingress_is_gone(
    activities: KubernetesActivities,
    ingress_nginx: IngressNginxRouter,
    target: WorkloadTarget,
    platform: Platform,
) -> None:
    # given a canary's Ingress with weight, whose model and whose pods are gone
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_ingress()
    await ingress_nginx.steer(shop, 50)
    await platform.delete("ingresses", "shop")

    # when the canary is given up, then it is
    assert (await ingress_nginx.shares(shop)).percents == (50.0,)
    assert (await run(activities.set_weight, weight(shop, 0))).weight == 0
    annotations = (await platform.ingress())["metadata"]["annotations"]
    assert annotations[f"{NGINX}/canary-weight"] == "0"


# Others who change the same objects


async def test_a_weight_that_somebody_changed_is_seen_and_set_again(
    ingress_nginx: IngressNginxRouter, target: WorkloadTarget, platform: Platform
) -> None:
    # given a canary at 50, and a person who makes it 5 and adds a note of their own
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_ingress(annotations={f"{NGINX}/canary-weight-total": "1000"})
    await ingress_nginx.steer(shop, 50)
    mine = {f"{NGINX}/canary-weight": "50", "example.com/incident": "4711"}
    await platform.edit("ingresses", "shop-canary", {"metadata": {"annotations": mine}})

    # then that is what is read, of the total that the stable Ingress counts in
    assert (await ingress_nginx.shares(shop)).percents == (5.0,)

    # when fields of others are to be respected, then it is refused; else the weight is set again
    with pytest.raises(StatusError) as conflict:
        await ingress_nginx.steer(shop.model_copy(update={"force_conflicts": False}), 50)
    assert conflict.value.field_conflicts[0][0].startswith('conflict with "kubectl-edit"')
    await ingress_nginx.steer(shop, 50)
    annotations = (await platform.ingress())["metadata"]["annotations"]
    assert annotations[f"{NGINX}/canary-weight"] == "500"

    # and the note stays
    assert annotations["example.com/incident"] == "4711"


async def test_a_route_that_others_change_keeps_their_changes(
    gateway_api: GatewayApiRouter, target: WorkloadTarget, platform: Platform, proxy: FaultProxy
) -> None:
    # given a rule that sends a tenth of its traffic to another application
    shop = routed(target, RouterKind.GATEWAY_API)
    await platform.add_route([{"name": "web", "port": 80, "weight": 9}, {"name": "legacy", "port": 80}])

    # when the canary gets half, then the other's part stays what it was
    note = await gateway_api.steer(shop, 50)
    assert await platform.backends() == [{"web": 450, "web-canary": 450, "legacy": 100}]
    assert note == "no controller reports on the HTTPRoute; its weights were only read back"
    assert (await gateway_api.shares(shop)).percents == [50.0]

    # and when somebody adds a filter and takes the canary back, that is seen
    rules = (await platform.route())["spec"]["rules"]
    rules[0]["filters"] = [{"type": "RequestHeaderModifier"}]
    rules[0]["backendRefs"][0]["weight"], rules[0]["backendRefs"][1]["weight"] = 855, 45
    await platform.edit("routes", "shop", {"spec": {"rules": rules}})
    assert (await gateway_api.shares(shop)).percents == [5.0]

    # and when it is removed while the API server reports a conflict, all is as it was, the filter included
    proxy.refuse(409, times=1, path="httproutes")
    assert await gateway_api.take_away(shop) == ""
    assert await platform.backends() == [{"web": 9, "legacy": 1}]
    assert (await platform.route())["spec"]["rules"][0]["filters"] == [{"type": "RequestHeaderModifier"}]


async def test_weights_that_cannot_be_divided_are_refused_and_left_as_they_are(
    gateway_api: GatewayApiRouter, target: WorkloadTarget, platform: Platform
) -> None:
    shop = routed(target, RouterKind.GATEWAY_API)
    await platform.add_route([{"name": "web", "port": 80}, {"name": "old", "port": 80, "weight": 20_000}])

    with pytest.raises(ApplicationError, match="weights of rule 0 are too far apart") as refused:
        await gateway_api.steer(shop, 10)

    assert refused.value.type == REFUSED
    assert await platform.backends() == [{"web": 1, "old": 20_000}]


async def test_a_cluster_with_an_older_gateway_api_is_served_in_its_version(
    gateway_api: GatewayApiRouter, target: WorkloadTarget, platform: Platform, proxy: FaultProxy
) -> None:
    # given a cluster whose v1 has no HTTPRoutes
    shop = routed(target, RouterKind.GATEWAY_API)
    await platform.add_route()
    proxy.refuse(404, path="gateway.networking.k8s.io/v1(/|$)", methods=READS | WRITES)

    await gateway_api.steer(shop, 30)

    assert await platform.backends() == [{"web": 70, "web-canary": 30}, {"payments": 1}]
    assert {each.path.split("/")[3] for each in proxy.writes} == {"v1beta1"}


async def test_a_route_that_its_controller_does_not_accept_is_restored(
    gateway_api: GatewayApiRouter, target: WorkloadTarget, platform: Platform
) -> None:
    shop = routed(target, RouterKind.GATEWAY_API)
    await platform.add_route()
    before = (await platform.route())["spec"]

    async with platform.controller(accepts=False):
        with pytest.raises(ApplicationError) as refused:
            await gateway_api.steer(shop, 10)

    assert refused.value.type == REFUSED
    assert (
        "Gateway edge (example.com/gateway): Accepted is False, UnsupportedValue: weights are not supported"
        in refused.value.message
    )
    assert (await platform.route())["spec"] == before


async def test_a_controller_that_keeps_silent_is_not_taken_for_consent_but_holds_up_no_withdrawal(
    gateway_api: GatewayApiRouter, target: WorkloadTarget, platform: Platform
) -> None:
    # given a controller that reported once, and not again
    hasty = {"progress_deadline": timedelta(seconds=1)}
    shop = routed(target, RouterKind.GATEWAY_API, **hasty)
    await platform.add_route()
    await platform.report(1)

    # when the canary is to get traffic, then that fails, and can be tried again
    with pytest.raises(ApplicationError, match="did not take the canary's weight 10 within 1 s") as silent:
        await gateway_api.steer(shop, 10)
    assert silent.value.type == UNAVAILABLE

    # and when it is given up, then it is, and the reading says what is not known
    said = await gateway_api.take_away(shop)
    assert said.endswith("Gateway edge (example.com/gateway) has not confirmed it")
    assert await platform.backends() == [{"web": 1}, {"payments": 1}]


# Pins


async def test_a_pin_that_a_weighted_router_left_is_undone_for_sharing_by_replicas(
    activities: KubernetesActivities, target: WorkloadTarget, platform: Platform
) -> None:
    # given a Service that was pinned for a canary which nobody removed
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress()
    await run(activities.apply_release, release(shop, track=Track.CANARY, replicas=0))
    assert (await platform.service())["spec"]["selector"] == {"app": "erlmcp", "track": "stable"}

    # when the same canary is to share by replicas, then both tracks are selected again
    plain = routed(target, RouterKind.REPLICAS)
    await run(activities.apply_release, release(plain, track=Track.CANARY, replicas=0))
    assert (await platform.service())["spec"]["selector"] == {"app": "erlmcp"}

    # but a Service that somebody else keeps to one track is not touched
    await platform.edit("services", "web", {"spec": {"selector": {"track": "stable"}}})
    with pytest.raises(ApplicationError, match=r"selects track=stable only, so a canary .* no traffic") as no:
        await run(activities.apply_release, release(plain, track=Track.CANARY, replicas=0))
    assert no.value.type == REFUSED
    assert (await platform.service())["spec"]["selector"] == {"app": "erlmcp", "track": "stable"}


async def test_a_version_of_before_the_label_is_not_restored_behind_a_pin(
    activities: KubernetesActivities, target: WorkloadTarget, platform: Platform, onlooker: Onlooker
) -> None:
    # given a version made elsewhere, then one of ours, and a canary that pinned the Service and was left
    shop = routed(target, RouterKind.INGRESS_NGINX)
    await platform.add_service()
    await platform.add_ingress()
    await onlooker.create_deployment(shop.namespace, foreign_deployment("v0.9.0"))
    old = await run(activities.observe_workload, shop)
    rolled_out = await roll_out(activities, shop, "1.0.0")
    assert rolled_out.complete, rolled_out.reason
    await run(activities.apply_release, release(shop, "1.1.0", Track.CANARY, replicas=0))
    assert (await platform.service())["spec"]["selector"]["track"] == "stable"

    # when the old version is restored, whose pods have no track, then the pin is undone before
    restore = Restore(key="back", target=shop, observation=old, replicas=3, deployment_id="deployment:x")
    await run(activities.restore_workload, restore)
    assert (await platform.service())["spec"]["selector"] == {"app": "erlmcp"}
