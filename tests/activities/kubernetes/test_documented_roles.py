"""The Roles in docs/operations.md are enough: each feature at work with an account of no other rights."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML
from temporalio.exceptions import ApplicationError

from activities.errors import FORBIDDEN
from activities.kubernetes import ClusterConnection, KubernetesActivities
from activities.kubernetes.colours import ColourActivities
from activities.kubernetes.flags import FlagActivities
from activities.kubernetes.handover import HandoverActivities
from activities.kubernetes.hooks import HookJobs
from activities.metrics.sources import MetricSources
from activities.otp import NodeActivities
from domain.analysis import Metric, WorkloadMeasure, WorkloadSource
from domain.blue_green import SideScale, Switch
from domain.feature_flags import FlagChange, FlagRollout
from domain.handover import Controller, HandoverCommand, HandoverVerb
from domain.hooks import Hook, HookRun
from domain.hot_upgrade import HotUpgradeSettings, NodeQuery
from domain.routing import RouterKind
from domain.workload import ReleaseQuery, Restore, Side, Track, WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.control_plane import ControlPlane
from sandbox.kubernetes.custom_resources import install_custom_resources
from tests.activities.kubernetes.controllers import PlayedArgo, PlayedFlagger, handover_of
from tests.activities.kubernetes.test_routers import Platform, routed, weight
from tests.activities.kubernetes.workload import Onlooker, encoded, release, roll_out, rollout_of, run

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"
ALWAYS = "erlmcp-deploy"
FLAGS = (
    '{"flags": {"search": {"state": "ENABLED", "variants": {"on": 1, "off": 0}, "defaultVariant": "off"}}}'
)

Account = Callable[..., Awaitable[ClusterConnection]]


def documented_roles() -> dict[str, Any]:
    """The Roles that a reader would copy, by name."""
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    documents = [d for block in blocks for d in YAML(typ="safe", pure=True).load_all(block)]
    return {d["metadata"]["name"]: d["rules"] for d in documents if d.get("kind") == "Role"}


@pytest.fixture
def cluster(control_plane: ControlPlane) -> ClusterAccess:
    """The emulator knows no rights."""
    return control_plane.access


@pytest.fixture
def account(onlooker: Onlooker, cluster: ClusterAccess, namespace: str) -> Account:
    """A service account with the Role of everybody, and those of features."""

    async def grant(*features: str) -> ClusterConnection:
        core = f"/api/v1/namespaces/{namespace}"
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        await onlooker.ask("POST", f"{core}/serviceaccounts", {"metadata": {"name": "deployer"}})
        for name in (ALWAYS, *(f"{ALWAYS}-{feature}" for feature in features)):
            named = {"metadata": {"name": name}}
            await onlooker.ask("POST", f"{rbac}/roles", {**named, "rules": documented_roles()[name]})
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
            subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}
            await onlooker.ask(
                "POST", f"{rbac}/rolebindings", {**named, "roleRef": role, "subjects": [subject]}
            )
        wanted = {"spec": {"audiences": ["https://kubernetes.default.svc"]}}
        granted = await onlooker.ask("POST", f"{core}/serviceaccounts/deployer/token", wanted)
        return ClusterConnection(kube_config=encoded(replace(cluster, token=granted["status"]["token"])))

    return grant


@pytest.fixture
async def resources(cluster: ClusterAccess) -> None:
    await install_custom_resources(cluster.client_configuration())


@pytest.fixture
async def platform(onlooker: Onlooker, namespace: str) -> Platform:
    """The application's own Service."""
    platform = Platform(onlooker, namespace)
    await platform.add_service()
    return platform


async def a_canarys_life(connection: ClusterConnection, target: WorkloadTarget) -> None:
    activities = KubernetesActivities(connection)
    assert (await roll_out(activities, target, "1.0.0")).complete
    before = await run(activities.observe_workload, target)
    one = target.model_copy(update={"replicas": 1})
    assert (await roll_out(activities, one, "1.1.0", Track.CANARY)).complete
    for percent in (10, 0):
        assert (await run(activities.set_weight, weight(target, percent))).weight == percent
    await run(activities.remove_canary, target)
    assert (await run(activities.find_release, ReleaseQuery(target=target, version="1.0.0"))).exists
    restore = Restore(key="r", target=target, observation=before, replicas=1, deployment_id="d")
    assert (await run(activities.restore_workload, restore)).exists
    await activities.close()


async def test_canaries_by_replicas(account: Account, target: WorkloadTarget, platform: Platform) -> None:
    # With the Role for Services, and then a pin of a weighted router to undo
    shop = routed(target, RouterKind.REPLICAS)
    pinned = {"metadata": {"annotations": {"erlmcp-deploy/pinned-to-track": "stable"}}}
    await platform.edit("services", "web", {**pinned, "spec": {"selector": {"track": "stable"}}})
    await a_canarys_life(await account("replicas"), shop)
    assert (await platform.service())["spec"]["selector"] == {"app": "erlmcp"}


async def test_canaries_by_replicas_without_any_right_on_services(
    account: Account, target: WorkloadTarget, platform: Platform
) -> None:
    await a_canarys_life(await account(), routed(target, RouterKind.REPLICAS))


async def test_canaries_by_ingress_nginx(
    account: Account, target: WorkloadTarget, platform: Platform
) -> None:
    await platform.add_ingress()
    await a_canarys_life(await account("ingress-nginx"), routed(target, RouterKind.INGRESS_NGINX))


@pytest.mark.usefixtures("resources")
async def test_canaries_by_the_gateway_api(
    account: Account, target: WorkloadTarget, platform: Platform
) -> None:
    await platform.add_route()
    async with platform.controller():
        await a_canarys_life(await account("gateway-api"), routed(target, RouterKind.GATEWAY_API))


async def test_blue_green(account: Account, target: WorkloadTarget, platform: Platform) -> None:
    connection = await account("blue-green")
    workloads, colours = KubernetesActivities(connection), ColourActivities(connection)
    shop = routed(target, RouterKind.REPLICAS, replicas=1)
    assert (await roll_out(workloads, shop, "1.0.0")).complete
    blue = shop.on(Side.BLUE)
    await run(colours.apply_side, release(blue, "1.1.0", key="blue"))
    assert (await run(workloads.watch_rollout, rollout_of(blue, "1.1.0"))).complete
    switch = Switch(key="switch", target=shop, to=Side.BLUE, version="1.1.0")
    assert (await run(colours.switch_traffic, switch)).active is Side.BLUE
    await run(colours.scale_side, SideScale(key="scale", target=shop, side=None, replicas=0))
    await run(colours.scale_side, SideScale(key="back", target=shop, side=None, replicas=1))
    back = Switch(key="switch-back", target=shop, to=None, version="1.0.0")
    assert (await run(colours.switch_traffic, back)).active is None
    assert not (await run(colours.release_traffic, shop)).held
    await workloads.close()
    await colours.close()


@pytest.mark.usefixtures("resources")
async def test_the_first_blue_green_deployment_makes_its_service(
    account: Account, target: WorkloadTarget
) -> None:
    connection = await account("blue-green")
    workloads, colours = KubernetesActivities(connection), ColourActivities(connection)
    blue = target.model_copy(update={"replicas": 1, "create_namespace": True}).on(Side.BLUE)
    await run(colours.apply_side, release(blue, key="blue"))
    assert (await run(workloads.watch_rollout, rollout_of(blue, "1.0.0"))).complete
    switch = Switch(key="switch", target=blue.on(None), to=Side.BLUE, version="1.0.0")
    assert (await run(colours.switch_traffic, switch)).endpoints == 1
    await workloads.close()
    await colours.close()


@pytest.mark.usefixtures("resources")
async def test_flagger(account: Account, target: WorkloadTarget, onlooker: Onlooker, namespace: str) -> None:
    await PlayedFlagger(onlooker, namespace).install()
    handover = HandoverActivities(await account("flagger"))
    request = handover_of(target, Controller.FLAGGER, replicas=0)
    await run(handover.begin_handover, request)
    for verb in (HandoverVerb.PAUSE, HandoverVerb.RESUME, HandoverVerb.PROMOTE, HandoverVerb.ABORT):
        await run(handover.command_handover, HandoverCommand(key=verb, request=request, verb=verb))
    assert (await run(handover.observe_handover, request)).exists
    await handover.close()


@pytest.mark.usefixtures("resources")
async def test_argo_rollouts(
    account: Account, target: WorkloadTarget, onlooker: Onlooker, namespace: str
) -> None:
    argo = PlayedArgo(onlooker, namespace)
    await argo.install()
    handover = HandoverActivities(await account("argo-rollouts"))
    request = handover_of(target, Controller.ARGO_ROLLOUTS)
    await run(handover.begin_handover, request)
    await argo.observes("Progressing", currentPodHash="bbb", stableRS="aaa")
    for verb in (HandoverVerb.PAUSE, HandoverVerb.RESUME, HandoverVerb.ABORT):
        await run(handover.command_handover, HandoverCommand(key=verb, request=request, verb=verb))
    assert (await run(handover.observe_handover, request)).exists
    await handover.close()


async def test_feature_flags(account: Account, onlooker: Onlooker, namespace: str) -> None:
    config_map = {"metadata": {"name": "feature-flags"}, "data": {"flags.json": FLAGS}}
    await onlooker.ask("POST", f"/api/v1/namespaces/{namespace}/configmaps", config_map)
    flags, rollout = FlagActivities(await account("feature-flags")), FlagRollout(flag="search")
    for percentage in (10, 0):
        change = FlagChange(
            key=f"k{percentage}",
            namespace=namespace,
            rollout=rollout,
            percentage=percentage,
            deployment_id="d",
        )
        assert (await run(flags.set_flag, change)).percentage == percentage
    await flags.close()


async def test_hooks(account: Account, target: WorkloadTarget) -> None:
    # A Job that its own deadline ends; and one that does not even come that far
    connection = await account("hooks")
    hook = Hook(name="migrate", job={}, timeout=timedelta(seconds=1))
    for key, overdue in (("ended", timedelta(seconds=30)), ("overdue", -timedelta(milliseconds=900))):
        jobs = HookJobs(connection, overdue=overdue)
        described = HookRun(key=key, hook=hook, target=target, image="erlmcp:1.0.0", deployment_id="d")
        report = await run(jobs.run, described)
        assert not report.succeeded
        assert "DeadlineExceeded" in report.reason or "did not end" in report.reason
        await jobs.close()


async def test_hot_upgrades_of_pods(account: Account, target: WorkloadTarget) -> None:
    connection = await account("hot-upgrade")
    workloads, nodes = KubernetesActivities(connection), NodeActivities(connection, {})
    assert (await roll_out(workloads, target.model_copy(update={"replicas": 1}), "1.0.0")).complete
    query = NodeQuery(
        settings=HotUpgradeSettings(pods="app=erlmcp", timeout=timedelta(seconds=5)),
        application="erlmcp",
        namespace=target.namespace,
    )
    found = await run(nodes.find_nodes, query)
    assert len(found) == 1
    # Nothing can be executed in a hollow pod, but it is not for want of rights
    with pytest.raises(ApplicationError) as failed:
        await run(nodes.observe_node, found[0])
    assert failed.value.type != FORBIDDEN
    await workloads.close()
    await nodes.close()


async def test_metrics_of_the_workload_need_nothing_more(account: Account, target: WorkloadTarget) -> None:
    connection = await account()
    activities = KubernetesActivities(connection)
    assert (await roll_out(activities, target, "1.0.0")).complete
    async with httpx.AsyncClient() as http:
        sources = MetricSources(http, connection, {})
        for measure in WorkloadMeasure:
            source = WorkloadSource(measure=measure, namespace=target.namespace, deployment=target.deployment)
            reading = await sources.measure(Metric(name="m", workload=source, success=">= 0"), None)
            assert reading.error is None
        await sources.close()
    await activities.close()


async def test_without_its_role_a_feature_is_refused(account: Account, namespace: str) -> None:
    flags = FlagActivities(await account())
    change = FlagChange(
        key="k", namespace=namespace, rollout=FlagRollout(flag="search"), percentage=10, deployment_id="d"
    )
    with pytest.raises(ApplicationError) as refused:
        await run(flags.set_flag, change)
    assert refused.value.type == FORBIDDEN
    await flags.close()
