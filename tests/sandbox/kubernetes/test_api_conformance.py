"""What clients rely on in the API, told once and held by the real API server and by the emulator."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from kubernetes.aio import client, watch

from sandbox.kubernetes.access import ClusterAccess

Json = dict[str, Any]
# The models of the client declare every field optional; here each one read is there or the test fails.
AppsV1Api = Any
CoreV1Api = Any
Watch: Any = watch.Watch
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def deployment(name: str = "web", **spec: Any) -> Json:
    """A deployment that needs no node: it asks for no replicas unless told."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "registry.example/web:1"}]},
            },
            **spec,
        },
    }


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels or {}},
        "data": data,
    }


@pytest.fixture
def apps(api: client.ApiClient) -> AppsV1Api:
    return client.AppsV1Api(api)


@pytest.fixture
def core(api: client.ApiClient) -> CoreV1Api:
    return client.CoreV1Api(api)


# Creating and reading


async def test_a_created_object_gets_identity_version_and_defaults(apps: AppsV1Api, namespace: str) -> None:
    created = await apps.create_namespaced_deployment(namespace, deployment())

    assert created.metadata.uid
    assert created.metadata.resource_version
    assert created.metadata.creation_timestamp is not None
    assert created.metadata.generation == 1
    assert created.spec.progress_deadline_seconds == 600
    assert created.spec.strategy.rolling_update.max_surge == "25%"
    assert created.spec.template.spec.containers[0].image_pull_policy == "IfNotPresent"
    read = await apps.read_namespaced_deployment("web", namespace)
    assert read.metadata.uid == created.metadata.uid


async def test_creating_twice_is_a_conflict(apps: AppsV1Api, namespace: str) -> None:
    await apps.create_namespaced_deployment(namespace, deployment())

    with pytest.raises(client.ApiException) as refused:
        await apps.create_namespaced_deployment(namespace, deployment())

    assert refused.value.status == 409
    assert '"reason":"AlreadyExists"' in str(refused.value.body).replace(" ", "")


async def test_a_lease_is_taken_only_once(api: client.ApiClient, namespace: str) -> None:
    leases: Any = client.CoordinationV1Api(api)
    lease = client.V1Lease(
        metadata=client.V1ObjectMeta(name="lock"), spec=client.V1LeaseSpec(holder_identity="first")
    )
    await leases.create_namespaced_lease(namespace, lease)

    with pytest.raises(client.ApiException) as refused:
        await leases.create_namespaced_lease(namespace, lease)

    assert refused.value.status == 409
    held = await leases.read_namespaced_lease("lock", namespace)
    assert held.spec.holder_identity == "first"


async def test_what_does_not_exist_is_a_status_404(http: httpx.AsyncClient, namespace: str) -> None:
    answer = await http.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/absent")

    assert answer.status_code == 404
    status = answer.json()
    assert (status["kind"], status["reason"]) == ("Status", "NotFound")
    assert status["message"] == 'deployments.apps "absent" not found'
    assert status["details"] == {"name": "absent", "group": "apps", "kind": "deployments"}


async def test_nothing_is_created_in_a_namespace_that_does_not_exist(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/namespaces/nowhere/configmaps", json=config_map("flags"))

    assert answer.status_code == 404
    assert answer.json()["message"] == 'namespaces "nowhere" not found'


def _without_selector(body: Json) -> None:
    del body["spec"]["selector"]


def _with_other_labels(body: Json) -> None:
    body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}


def _with_version_label(body: Json) -> None:
    body["metadata"]["labels"]["version"] = "1.0.0+build"


def _without_image(body: Json) -> None:
    del body["spec"]["template"]["spec"]["containers"][0]["image"]


def _with_negative_replicas(body: Json) -> None:
    body["spec"]["replicas"] = -1


def _with_no_room_to_roll(body: Json) -> None:
    body["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}


@pytest.mark.parametrize(
    ("spoil", "field", "reason"),
    [
        (_without_selector, "spec.selector", "FieldValueRequired"),
        (_with_other_labels, "spec.template.metadata.labels", "FieldValueInvalid"),
        (_with_version_label, "metadata.labels", "FieldValueInvalid"),
        (_without_image, "spec.template.spec.containers[0].image", "FieldValueRequired"),
        (_with_negative_replicas, "spec.replicas", "FieldValueInvalid"),
        (_with_no_room_to_roll, "spec.strategy.rollingUpdate.maxUnavailable", "FieldValueInvalid"),
    ],
)
async def test_an_invalid_object_is_refused_naming_the_field(
    http: httpx.AsyncClient, namespace: str, spoil: Any, field: str, reason: str
) -> None:
    body = deployment()
    spoil(body)

    answer = await http.post(f"/apis/apps/v1/namespaces/{namespace}/deployments", json=body)

    assert answer.status_code == 422
    status = answer.json()
    assert status["reason"] == "Invalid"
    assert (field, reason) in [(each["field"], each["reason"]) for each in status["details"]["causes"]]


async def test_a_value_of_the_wrong_type_is_a_bad_request(http: httpx.AsyncClient, namespace: str) -> None:
    answer = await http.post(
        f"/apis/apps/v1/namespaces/{namespace}/deployments", json=deployment(replicas="three")
    )

    assert answer.status_code == 400
    assert answer.json()["reason"] == "BadRequest"


async def test_a_dry_run_is_checked_but_not_stored(apps: AppsV1Api, namespace: str) -> None:
    created = await apps.create_namespaced_deployment(namespace, deployment(), dry_run="All")

    assert created.metadata.uid
    assert not (await apps.list_namespaced_deployment(namespace)).items


async def test_lists_are_filtered_by_labels_and_fields(core: CoreV1Api, namespace: str) -> None:
    for name, tier in (("one", "front"), ("two", "back"), ("three", "back")):
        await core.create_namespaced_config_map(namespace, config_map(name, {"tier": tier}))

    async def names(**selectors: str) -> set[str]:
        listed = await core.list_namespaced_config_map(namespace, **selectors)
        return {each.metadata.name for each in listed.items} - {"kube-root-ca.crt"}

    assert await names(label_selector="tier=back") == {"two", "three"}
    assert await names(label_selector="tier in (front, side)") == {"one"}
    assert await names(label_selector="tier,tier!=front") == {"two", "three"}
    assert await names(label_selector="tier=back", field_selector="metadata.name!=two") == {"three"}
    with pytest.raises(client.ApiException) as refused:
        await names(field_selector="data.key=1")
    assert refused.value.status == 400


async def test_long_lists_come_in_pages(core: CoreV1Api, namespace: str) -> None:
    for index in range(3):
        await core.create_namespaced_config_map(namespace, config_map(f"page-{index}", {"of": "three"}))

    first = await core.list_namespaced_config_map(namespace, label_selector="of=three", limit=2)
    rest = await core.list_namespaced_config_map(
        namespace, label_selector="of=three", limit=2, _continue=first.metadata._continue
    )

    pages = [[each.metadata.name for each in page.items] for page in (first, rest)]
    assert pages == [["page-0", "page-1"], ["page-2"]]


# Changing


async def test_a_replace_with_a_stale_version_is_a_conflict(core: CoreV1Api, namespace: str) -> None:
    stale = await core.create_namespaced_config_map(namespace, config_map("flags", a="1"))
    await core.patch_namespaced_config_map("flags", namespace, {"data": {"a": "2"}})

    stale.data = {"a": "3"}
    with pytest.raises(client.ApiException) as refused:
        await core.replace_namespaced_config_map("flags", namespace, stale)

    assert refused.value.status == 409
    assert (await core.read_namespaced_config_map("flags", namespace)).data == {"a": "2"}


async def test_a_patch_that_names_a_stale_version_is_a_conflict(core: CoreV1Api, namespace: str) -> None:
    first = await core.create_namespaced_config_map(namespace, config_map("flags", a="1"))
    await core.patch_namespaced_config_map("flags", namespace, {"data": {"a": "2"}})

    patch = {"metadata": {"resourceVersion": first.metadata.resource_version}, "data": {"a": "3"}}
    with pytest.raises(client.ApiException) as refused:
        await core.patch_namespaced_config_map("flags", namespace, patch)

    assert refused.value.status == 409


async def test_a_lease_is_replaced_only_with_its_version(http: httpx.AsyncClient, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    body = {"metadata": {"name": "lock"}, "spec": {"holderIdentity": "first"}}
    assert (await http.post(path, json=body)).status_code == 201

    answer = await http.put(f"{path}/lock", json=body)

    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["field"] == "metadata.resourceVersion"


async def test_a_merge_patch_changes_and_removes_keys(core: CoreV1Api, namespace: str) -> None:
    await core.create_namespaced_config_map(namespace, config_map("flags", a="1", b="1"))

    patched = await core.patch_namespaced_config_map(
        "flags", namespace, {"data": {"a": None, "c": "3"}}, _content_type=MERGE
    )

    assert patched.data == {"b": "1", "c": "3"}


async def test_a_strategic_patch_merges_containers_and_variables_by_name(
    apps: AppsV1Api, namespace: str
) -> None:
    # given two containers, one with variables
    body = deployment()
    body["spec"]["template"]["spec"]["containers"] = [
        {"name": "app", "image": "web:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"name": "sidecar", "image": "proxy:1"},
    ]
    await apps.create_namespaced_deployment(namespace, body)

    # when one image and one variable are patched, and another variable deleted
    variables = [{"name": "A", "$patch": "delete"}, {"name": "B", "value": "3"}]
    change = {"name": "app", "image": "web:2", "env": variables}
    patched = await apps.patch_namespaced_deployment(
        "web",
        namespace,
        {"spec": {"template": {"spec": {"containers": [change]}}}},
        _content_type=STRATEGIC,
    )

    # then the rest stays
    containers = {each.name: each for each in patched.spec.template.spec.containers}
    assert {name: each.image for name, each in containers.items()} == {"app": "web:2", "sidecar": "proxy:1"}
    assert [(each.name, each.value) for each in containers["app"].env] == [("B", "3")]


async def test_a_json_patch_applies_or_is_refused_whole(core: CoreV1Api, namespace: str) -> None:
    await core.create_namespaced_config_map(namespace, config_map("flags", a="1"))
    replace = {"op": "replace", "path": "/data/a", "value": "2"}

    with pytest.raises(client.ApiException) as refused:
        await core.patch_namespaced_config_map(
            "flags",
            namespace,
            [replace, {"op": "test", "path": "/data/a", "value": "9"}],
            _content_type=JSON_PATCH,
        )
    assert refused.value.status == 422
    assert (await core.read_namespaced_config_map("flags", namespace)).data == {"a": "1"}

    await core.patch_namespaced_config_map(
        "flags",
        namespace,
        [{"op": "test", "path": "/data/a", "value": "1"}, replace],
        _content_type=JSON_PATCH,
    )
    assert (await core.read_namespaced_config_map("flags", namespace)).data == {"a": "2"}


async def test_generations_count_changes_of_the_specification_only(
    http: httpx.AsyncClient, namespace: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await http.post(path, json=deployment())

    async def generation(patch: Json) -> int:
        answer = await http.patch(f"{path}/web", json=patch, headers={"Content-Type": MERGE})
        answer.raise_for_status()
        return int(answer.json()["metadata"]["generation"])

    assert await generation({"metadata": {"labels": {"team": "core"}}}) == 1
    assert await generation({"spec": {"minReadySeconds": 1}}) == 2
    assert await generation({"spec": {"minReadySeconds": 1}}) == 2
    assert await generation({"metadata": {"annotations": {"note": "counts for deployments"}}}) == 3


async def test_a_write_without_change_keeps_the_version(core: CoreV1Api, namespace: str) -> None:
    created = await core.create_namespaced_config_map(namespace, config_map("flags", a="1"))

    patched = await core.patch_namespaced_config_map("flags", namespace, {"data": {"a": "1"}})

    assert patched.metadata.resource_version == created.metadata.resource_version


async def test_the_selector_of_a_deployment_is_immutable(http: httpx.AsyncClient, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await http.post(path, json=deployment())
    patch = {
        "spec": {
            "selector": {"matchLabels": {"app": "web", "track": "canary"}},
            "template": {"metadata": {"labels": {"app": "web", "track": "canary"}}},
        }
    }

    answer = await http.patch(f"{path}/web", json=patch, headers={"Content-Type": MERGE})

    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["field"] == "spec.selector"


async def test_a_service_keeps_its_address_when_its_selector_switches(
    core: CoreV1Api, namespace: str
) -> None:
    service = client.V1Service(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1ServiceSpec(selector={"slot": "blue"}, ports=[client.V1ServicePort(port=80)]),
    )
    created = await core.create_namespaced_service(namespace, service)
    assert created.spec.cluster_ip.startswith("10.0.")

    switched = await core.patch_namespaced_service(
        "web", namespace, {"spec": {"selector": {"slot": "green"}}}
    )

    assert switched.spec.selector == {"slot": "green"}
    assert switched.spec.cluster_ip == created.spec.cluster_ip
    assert switched.spec.ports[0].target_port == 80


async def test_an_ingress_takes_canary_annotations(api: client.ApiClient, namespace: str) -> None:
    networking: Any = client.NetworkingV1Api(api)
    backend = client.V1IngressBackend(
        service=client.V1IngressServiceBackend(name="web", port=client.V1ServiceBackendPort(number=80))
    )
    await networking.create_namespaced_ingress(
        namespace,
        client.V1Ingress(
            metadata=client.V1ObjectMeta(name="web"), spec=client.V1IngressSpec(default_backend=backend)
        ),
    )
    weight = {"nginx.ingress.kubernetes.io/canary-weight": "10"}

    patched = await networking.patch_namespaced_ingress(
        "web", namespace, {"metadata": {"annotations": weight}}
    )

    assert patched.metadata.annotations == weight
    assert patched.metadata.generation == 1


async def test_status_is_written_apart_from_the_specification(apps: AppsV1Api, namespace: str) -> None:
    body = deployment(paused=True)
    body["status"] = {"replicas": 7}
    created = await apps.create_namespaced_deployment(namespace, body)
    assert created.status.replicas is None

    written = await apps.patch_namespaced_deployment_status(
        "web",
        namespace,
        {"spec": {"replicas": 5}, "status": {"collisionCount": 7}},
        _content_type=MERGE,
    )

    assert written.spec.replicas == 0
    assert written.status.collision_count == 7


# Server-side apply


async def apply(
    http: httpx.AsyncClient, namespace: str, body: Json, manager: str, *, force: bool = False
) -> httpx.Response:
    return await http.patch(
        f"/apis/apps/v1/namespaces/{namespace}/deployments/{body['metadata']['name']}",
        params={"fieldManager": manager, "force": str(force).lower()},
        json=body,
        headers={"Content-Type": APPLY},
    )


def image(body: Json, name: str = "app") -> str:
    containers = {each["name"]: each for each in body["spec"]["template"]["spec"]["containers"]}
    return str(containers[name]["image"])


async def test_apply_creates_then_changes_and_records_its_manager(
    http: httpx.AsyncClient, namespace: str
) -> None:
    created = await apply(http, namespace, deployment(), "deployer")
    changed = await apply(http, namespace, deployment(replicas=0, minReadySeconds=2), "deployer")

    assert (created.status_code, changed.status_code) == (201, 200)
    assert changed.json()["spec"]["minReadySeconds"] == 2
    (entry,) = (each for each in changed.json()["metadata"]["managedFields"] if each["manager"] == "deployer")
    assert entry["operation"] == "Apply"
    assert "f:minReadySeconds" in entry["fieldsV1"]["f:spec"]


async def test_applying_the_same_again_changes_nothing(http: httpx.AsyncClient, namespace: str) -> None:
    first = (await apply(http, namespace, deployment(paused=True), "deployer")).json()
    # the deployment controller writes its first status meanwhile; it does not touch the specification
    second = (await apply(http, namespace, deployment(paused=True), "deployer")).json()

    assert second["metadata"]["generation"] == first["metadata"]["generation"] == 1


async def test_apply_refuses_to_take_a_field_of_another_manager(
    http: httpx.AsyncClient, namespace: str
) -> None:
    # given an image that the deployer owns
    await apply(http, namespace, deployment(), "deployer")

    # when another manager applies another image
    other = deployment()
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/web:2"
    refused = await apply(http, namespace, other, "autopilot")

    # then the conflict names the owner and the field
    assert refused.status_code == 409
    status = refused.json()
    assert status["reason"] == "Conflict"
    (cause,) = status["details"]["causes"]
    assert cause["reason"] == "FieldManagerConflict"
    assert '"deployer"' in cause["message"]
    assert cause["field"] == '.spec.template.spec.containers[name="app"].image'

    # and by force it takes the field over: now the deployer meets the conflict
    forced = await apply(http, namespace, other, "autopilot", force=True)
    assert image(forced.json()) == "registry.example/web:2"
    again = await apply(http, namespace, deployment(), "deployer")
    assert again.status_code == 409
    assert '"autopilot"' in again.json()["message"]


async def test_apply_conflicts_with_a_plain_update_too(http: httpx.AsyncClient, namespace: str) -> None:
    await apply(http, namespace, deployment(), "deployer")
    await http.patch(
        f"/apis/apps/v1/namespaces/{namespace}/deployments/web",
        params={"fieldManager": "operator"},
        json={"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "hand-made:1"}]}}}},
        headers={"Content-Type": STRATEGIC},
    )

    refused = await apply(http, namespace, deployment(), "deployer")

    assert refused.status_code == 409
    assert 'conflict with "operator"' in refused.json()["message"]


async def test_what_a_manager_no_longer_applies_is_removed_and_the_rest_stays(
    http: httpx.AsyncClient, namespace: str
) -> None:
    # given a deployment with a label and a sidecar of the deployer, and a sidecar of someone else
    body = deployment()
    body["metadata"]["labels"]["team"] = "core"
    body["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": "proxy:1"})
    await apply(http, namespace, body, "deployer")
    metrics = deployment()
    metrics["metadata"] = {"name": "web"}
    metrics["spec"] = {"template": {"spec": {"containers": [{"name": "metrics", "image": "metrics:1"}]}}}
    added = await apply(http, namespace, metrics, "observer")
    assert added.status_code == 200

    # when the deployer applies without them
    answer = (await apply(http, namespace, deployment(), "deployer")).json()

    # then its own are gone and the other's stays
    assert answer["metadata"]["labels"] == {"app": "web"}
    names = {each["name"] for each in answer["spec"]["template"]["spec"]["containers"]}
    assert names == {"app", "metrics"}


async def test_two_managers_may_agree(http: httpx.AsyncClient, namespace: str) -> None:
    await apply(http, namespace, deployment(), "deployer")

    assert (await apply(http, namespace, deployment(), "autopilot")).status_code == 200


async def test_apply_needs_a_manager_and_a_known_media_type(http: httpx.AsyncClient, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"

    nameless = await http.patch(path, json=deployment(), headers={"Content-Type": APPLY})
    unknown = await http.patch(path, json={}, headers={"Content-Type": "text/plain"})

    assert nameless.status_code in (400, 422)
    assert "fieldManager" in nameless.json()["message"]
    assert unknown.status_code == 415


# Deleting


async def test_delete_honours_preconditions(core: CoreV1Api, namespace: str) -> None:
    await core.create_namespaced_config_map(namespace, config_map("flags"))
    other = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))

    with pytest.raises(client.ApiException) as refused:
        await core.delete_namespaced_config_map("flags", namespace, body=other)
    assert refused.value.status == 409

    await core.delete_namespaced_config_map("flags", namespace)
    with pytest.raises(client.ApiException) as gone:
        await core.read_namespaced_config_map("flags", namespace)
    assert gone.value.status == 404


async def test_finalizers_hold_a_deleted_object(core: CoreV1Api, namespace: str) -> None:
    body = config_map("flags")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    await core.create_namespaced_config_map(namespace, body)

    await core.delete_namespaced_config_map("flags", namespace)
    held = await core.read_namespaced_config_map("flags", namespace)
    assert held.metadata.deletion_timestamp is not None

    await core.patch_namespaced_config_map(
        "flags", namespace, {"metadata": {"finalizers": None}}, _content_type=MERGE
    )
    with pytest.raises(client.ApiException) as gone:
        await core.read_namespaced_config_map("flags", namespace)
    assert gone.value.status == 404


async def test_a_collection_is_deleted_by_label(core: CoreV1Api, namespace: str) -> None:
    await core.create_namespaced_config_map(namespace, config_map("old", {"keep": "no"}))
    await core.create_namespaced_config_map(namespace, config_map("new", {"keep": "yes"}))

    await core.delete_collection_namespaced_config_map(namespace, label_selector="keep=no")

    left = await core.list_namespaced_config_map(namespace, label_selector="keep")
    assert [each.metadata.name for each in left.items] == ["new"]


# Watching


async def test_a_watch_tells_everything_after_its_version(core: CoreV1Api, namespace: str) -> None:
    # given changes after a list
    listed = await core.list_namespaced_config_map(namespace)
    await core.create_namespaced_config_map(namespace, config_map("flags", {"on": "yes"}, a="1"))
    await core.patch_namespaced_config_map("flags", namespace, {"data": {"a": "2"}})
    await core.create_namespaced_config_map(namespace, config_map("other", {"on": "no"}))
    await core.patch_namespaced_config_map("flags", namespace, {"metadata": {"labels": {"on": "no"}}})

    # when a watch starts from that list, then it tells what it missed: a change of label as a deletion
    events = []
    async with Watch().stream(
        core.list_namespaced_config_map,
        namespace,
        label_selector="on=yes",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=20,
    ) as stream:
        async for event in stream:
            events.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                break
    assert events == [("ADDED", "flags"), ("MODIFIED", "flags"), ("DELETED", "flags")]


async def test_a_watch_without_version_starts_with_what_there_is(core: CoreV1Api, namespace: str) -> None:
    await core.create_namespaced_config_map(namespace, config_map("flags"))

    events: list[tuple[str, str]] = []
    async with Watch().stream(
        core.list_namespaced_config_map,
        namespace,
        field_selector="metadata.name=flags",
        timeout_seconds=1,
    ) as stream:
        async for event in stream:
            events.append((event["type"], event["object"].metadata.name))

    # it ended by itself after its time
    assert events == [("ADDED", "flags")]


async def test_a_watch_follows_changes_as_they_happen(core: CoreV1Api, namespace: str) -> None:
    listed = await core.list_namespaced_config_map(namespace)
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        async with Watch().stream(
            core.list_namespaced_config_map, namespace, resource_version=listed.metadata.resource_version
        ) as stream:
            async for event in stream:
                if event["object"].metadata.name == "flags":
                    seen.put_nowait(event["type"])

    follower = asyncio.create_task(follow())
    try:
        await core.create_namespaced_config_map(namespace, config_map("flags"))
        assert await asyncio.wait_for(seen.get(), 30) == "ADDED"
        await core.delete_namespaced_config_map("flags", namespace)
        assert await asyncio.wait_for(seen.get(), 30) == "DELETED"
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


# The server itself


async def test_a_wrong_token_is_unauthorized(cluster: ClusterAccess, http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/namespaces", headers={"Authorization": "Bearer wrong"})

    assert answer.status_code == 401
    assert answer.json()["reason"] == "Unauthorized"


async def test_without_token_only_health_and_version_are_public(http: httpx.AsyncClient) -> None:
    del http.headers["Authorization"]

    assert (await http.get("/readyz")).text == "ok"
    assert (await http.get("/version")).json()["minor"] == "20"
    assert (await http.get("/api/v1/namespaces")).status_code == 403


async def test_discovery_names_groups_and_resources(api: client.ApiClient, http: httpx.AsyncClient) -> None:
    groups: Any = await client.ApisApi(api).get_api_versions()
    apps = await client.AppsV1Api(api).get_api_resources()
    core = await client.CoreV1Api(api).get_api_resources()

    assert {"apps", "networking.k8s.io", "coordination.k8s.io"} <= {each.name for each in groups.groups}
    assert {"deployments", "deployments/scale", "replicasets"} <= {each.name for each in apps.resources}
    assert {"pods", "services", "configmaps"} <= {each.name for each in core.resources}
    unknown = await http.get("/apis/example.com/v1/widgets")
    assert unknown.status_code == 404
