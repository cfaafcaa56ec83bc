"""The same upgrades inside pods: exec through the real API server, and a node that really runs commands."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import NOT_FOUND, UNAVAILABLE
from activities.kubernetes import ClusterConnection
from activities.otp import NodeActivities
from domain.hot_upgrade import HotUpgradeSettings, NodeQuery, NodeResult, NodeTarget, NodeVerb
from sandbox.kubernetes.control_plane import ControlPlane
from sandbox.otp import NAME, RunningNode, Users
from tests.activities.otp.conftest import Packages
from tests.activities.otp.kubelet import ExecutingKubelet
from tests.activities.otp.operating import TIMEOUT, Operator

pytestmark = [pytest.mark.erlang, pytest.mark.kubernetes]


@pytest.fixture
async def kubelet(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ExecutingKubelet]:
    namespace = f"otp-{uuid4().hex[:8]}"
    async with ExecutingKubelet.joined(control_plane, namespace, tmp_path / "kubelet") as joined:
        yield joined


@pytest.fixture
async def activities(control_plane: ControlPlane) -> AsyncIterator[NodeActivities]:
    connection = ClusterConnection(kubeconfig_path=control_plane.kubeconfig_path)
    activities = NodeActivities(connection, environment={"NODE_COOKIE": "none of this"})
    yield activities
    await activities.close()


def query_of(kubelet: ExecutingKubelet, path: Path, **settings: object) -> NodeQuery:
    described = HotUpgradeSettings.model_validate(
        {"pods": f"app={NAME}", "path": str(path), "timeout": TIMEOUT, **settings}
    )
    return NodeQuery(settings=described, application=NAME, namespace=kubelet.namespace)


async def found(activities: NodeActivities, query: NodeQuery) -> tuple[NodeTarget, ...]:
    return await ActivityEnvironment().run(activities.find_nodes, query)


async def test_a_pod_is_upgraded_and_taken_back_under_load(
    kubelet: ExecutingKubelet, activities: NodeActivities, packages: Packages, tmp_path: Path
) -> None:
    node = RunningNode(tmp_path / "pod")
    async with node.running(packages["1.0.0"]):
        # Given a pod whose container has the node's variables, but for the cookie
        inside = {n: v for n, v in node.variables.items() if n != "ERLSAMPLE_COOKIE"}
        await kubelet.add_pod(
            "erlsample-1", {"PATH": os.environ["PATH"], "HOME": str(node.directory), **inside}
        )
        worker = NodeActivities(activities._connection, environment={"NODE_COOKIE": node.cookie})
        query = query_of(kubelet, node.directory, environment={"ERLSAMPLE_COOKIE": "${NODE_COOKIE}"})
        (target,) = await found(worker, query)
        operator = Operator(node, packages, worker, target)
        async with Users.of(node) as users:
            # When it is upgraded for good, and taken back again
            for verb, version in (
                (NodeVerb.UPGRADE, "1.1.0"),
                (NodeVerb.MAKE_PERMANENT, "1.1.0"),
                (NodeVerb.DOWNGRADE, "1.0.0"),
            ):
                report = await operator.carry_out(verb, version)
                # Then each of it is so
                assert (report.result, report.reason) == (NodeResult.DONE, "")
                assert report.observed.version == version
            await users.served(5)
        # And nobody noticed
        assert users.failures == []
        assert users.count >= users.answered
        # And what fails comes back as it failed
        assert (await operator.carry_out(NodeVerb.UPGRADE, "1.2.0")).result is NodeResult.NO_PATH
        # And the cookie was in no address, which the API server's audit log keeps
        assert kubelet.addresses
        assert not [address for address in kubelet.addresses if node.cookie in address]
        await worker.close()


async def test_the_ready_pods_are_the_nodes(
    kubelet: ExecutingKubelet, activities: NodeActivities, tmp_path: Path
) -> None:
    query = query_of(kubelet, tmp_path, health_url="http://{ip}:8080")
    # Given no pod at all
    with pytest.raises(ApplicationError, match="is ready") as missing:
        await found(activities, query)
    assert missing.value.type == NOT_FOUND
    # When there are three, one of them not ready
    for name, ready in (("b", True), ("c", False), ("a", True)):
        await kubelet.add_pod(name, {}, ready=ready)
    # Then the others are the nodes, in the order of their names
    nodes = [target.node for target in await found(activities, query)]
    assert [node.pod for node in nodes] == ["a", "b"]
    assert {node.health_url for node in nodes} == {"http://127.0.0.1:8080"}


async def test_a_broken_connection_may_be_tried_again_and_a_pod_that_is_gone_may_not(
    kubelet: ExecutingKubelet, activities: NodeActivities, tmp_path: Path
) -> None:
    await kubelet.add_pod("a", {"PATH": os.environ["PATH"]})
    (target,) = await found(activities, query_of(kubelet, tmp_path))
    # Given a pod whose connections break
    kubelet.cut.add("a")
    with pytest.raises(ApplicationError) as broken:
        await ActivityEnvironment().run(activities.observe_node, target)
    assert (broken.value.type, broken.value.non_retryable) == (UNAVAILABLE, False)
    # And one that does not exist
    gone = target.model_copy(update={"node": target.node.model_copy(update={"pod": "gone"})})
    with pytest.raises(ApplicationError, match="gone") as missing:
        await ActivityEnvironment().run(activities.observe_node, gone)
    assert missing.value.type == NOT_FOUND
