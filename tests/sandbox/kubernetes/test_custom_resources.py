"""Custom resources and what else the routers need, held by the real API server and by the emulator."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.custom_resources import install_custom_resources

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def route(**rule: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}], **rule}]},
    }


@pytest.fixture
async def routes(cluster: ClusterAccess, namespace: str) -> str:
    """The collection of HTTPRoutes of the test's namespace; installing them again changes nothing."""
    await install_custom_resources(cluster.client_configuration())
    await install_custom_resources(cluster.client_configuration())
    return f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"


async def test_a_custom_resource_keeps_every_field_and_counts_changes_of_its_specification(
    http: httpx.AsyncClient, routes: str
) -> None:
    # given a custom resource with fields of all kinds, and a status that is not its creator's to give
    body = {**route(timeouts={"request": "10s"}), "status": {"parents": []}}

    # when it is created
    created = (await http.post(routes, json=body)).raise_for_status().json()

    # then all is kept but the status
    assert created["spec"] == body["spec"]
    assert "status" not in created
    assert created["metadata"]["generation"] == 1

    # and changes of the specification are counted, others not
    async def patched(change: dict[str, Any], part: str = "") -> Any:
        answer = await http.patch(f"{routes}/web{part}", json=change, headers={"Content-Type": MERGE})
        return answer.raise_for_status().json()

    assert (await patched({"metadata": {"annotations": {"a": "b"}}}))["metadata"]["generation"] == 1
    reported = await patched({"status": {"parents": [{"controllerName": "x"}]}}, "/status")
    assert reported["status"] == {"parents": [{"controllerName": "x"}]}
    assert reported["metadata"]["generation"] == 1
    changed = await patched({"spec": {"hostnames": ["example.com"]}, "status": {"parents": []}})
    assert changed["metadata"]["generation"] == 2
    assert changed["status"] == {"parents": [{"controllerName": "x"}]}


async def test_all_served_versions_show_the_same_object(http: httpx.AsyncClient, routes: str) -> None:
    (await http.post(routes, json=route())).raise_for_status()

    older = (await http.get(f"{routes.replace('/v1/', '/v1beta1/')}/web")).raise_for_status().json()

    assert older["apiVersion"] == "gateway.networking.k8s.io/v1beta1"
    assert older["spec"] == route()["spec"]
    group = (await http.get("/apis/gateway.networking.k8s.io")).json()
    assert [each["version"] for each in group["versions"]] == ["v1", "v1beta1"]
    assert group["preferredVersion"]["version"] == "v1"


async def test_lists_of_a_custom_resource_are_one_value(http: httpx.AsyncClient, routes: str) -> None:
    # given a route that somebody applied
    async def applied(body: dict[str, Any], manager: str, force: str = "false") -> httpx.Response:
        return await http.patch(
            f"{routes}/web",
            params={"fieldManager": manager, "force": force},
            json=body,
            headers={"Content-Type": APPLY},
        )

    assert (await applied(route(), "helm")).status_code == 201

    # when another one applies other rules, then all of them are in conflict
    other = route(name="first")
    refused = await applied(other, "deployer")
    assert refused.status_code == 409
    assert [cause["field"] for cause in refused.json()["details"]["causes"]] == [".spec.rules"]

    # and by force they are replaced
    assert (await applied(other, "deployer", "true")).json()["spec"]["rules"] == other["spec"]["rules"]

    # and a strategic merge, which needs a schema, is not supported
    strategic = await http.patch(f"{routes}/web", json={"spec": {}}, headers={"Content-Type": STRATEGIC})
    assert strategic.status_code == 415


async def test_custom_resources_are_listed_and_go_with_their_namespace(
    http: httpx.AsyncClient, routes: str
) -> None:
    (await http.post(routes, json=route())).raise_for_status()
    listed = (await http.get(routes, params={"fieldSelector": "metadata.name=web"})).json()
    assert (listed["kind"], len(listed["items"])) == ("HTTPRouteList", 1)
    stale = await http.patch(
        f"{routes}/web", json={"metadata": {"resourceVersion": "1"}}, headers={"Content-Type": MERGE}
    )
    assert stale.status_code == 409

    (await http.delete(f"{routes}/web")).raise_for_status()

    assert (await http.get(f"{routes}/web")).status_code == 404


async def test_a_protected_group_needs_an_approval(http: httpx.AsyncClient) -> None:
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    refused = await http.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        json={
            "metadata": {"name": "things.example.k8s.io"},
            "spec": {
                "group": "example.k8s.io",
                "scope": "Namespaced",
                "names": names,
                "versions": [version],
            },
        },
    )

    assert refused.status_code == 422
    causes = refused.json()["details"]["causes"]
    assert [each["field"] for each in causes] == ["metadata.annotations[api-approved.kubernetes.io]"]


async def test_endpoints_follow_the_pods_behind_a_service(http: httpx.AsyncClient, namespace: str) -> None:
    # given a Service and two pods behind it
    core = f"/api/v1/namespaces/{namespace}"
    service = {
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    (await http.post(f"{core}/services", json=service)).raise_for_status()

    async def pod(name: str, track: str) -> None:
        body = {
            "metadata": {"name": name, "labels": {"app": "web", "track": track}},
            "spec": {"containers": [{"name": "app", "image": "registry.example/web:1"}]},
        }
        (await http.post(f"{core}/pods", json=body)).raise_for_status()

    async def names() -> set[str]:
        found = await http.get(f"{core}/endpoints/web")
        subsets = found.json().get("subsets") or [] if found.is_success else []
        return {a["targetRef"]["name"] for each in subsets for a in each.get("addresses") or []}

    async def until(wanted: set[str]) -> None:
        async with asyncio.timeout(30):
            while await names() != wanted:  # noqa: ASYNC110 - the cluster tells no event of ours
                await asyncio.sleep(0.1)

    await pod("one", "stable")
    await pod("two", "canary")
    await until({"one", "two"})

    # when the Service is pinned to one track, then the other pod gets no traffic
    pinned = {"spec": {"selector": {"track": "stable"}}}
    answer = await http.patch(f"{core}/services/web", json=pinned, headers={"Content-Type": MERGE})
    assert answer.json()["spec"]["selector"] == {"app": "web", "track": "stable"}
    await until({"one"})
