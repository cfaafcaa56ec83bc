"""An API server that fails, refuses or is unreachable: what the activities make of it."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.errors import CONFLICT, FORBIDDEN, INVALID_CONFIGURATION, NOT_FOUND, REFUSED, UNAVAILABLE
from activities.kubernetes import ClusterConnection, KubernetesActivities
from domain.workload import RolloutWatch, Track, WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.certificates import create_server_certificate
from sandbox.kubernetes.fault_proxy import READS, FaultProxy
from tests.activities.kubernetes.workload import (
    Onlooker,
    ProbedService,
    encoded,
    release,
    roll_out,
    run,
    target_in,
)


@pytest.fixture
async def proxy(cluster: ClusterAccess, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy.start(cluster, tmp_path) as running:
        yield running


@pytest.fixture
async def activities(proxy: FaultProxy) -> AsyncIterator[KubernetesActivities]:
    """Activities that reach the cluster through the proxy."""
    working = KubernetesActivities(ClusterConnection(kube_config=encoded(proxy.access)))
    yield working
    await working.close()


async def failure_of(work: Callable[..., Any], *arguments: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as failed:
        await run(work, *arguments)
    return failed.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, FORBIDDEN),
        (409, CONFLICT),
        (422, REFUSED),
        (429, UNAVAILABLE),
        (500, UNAVAILABLE),
        (503, UNAVAILABLE),
    ],
)
async def test_a_refusal_is_typed_and_names_object_and_reason(
    activities: KubernetesActivities, proxy: FaultProxy, target: WorkloadTarget, status: int, kind: str
) -> None:
    proxy.refuse(status, retry_after=7, message="the server has its reasons")

    failure = await failure_of(activities.apply_release, release(target))

    retryable = kind in (CONFLICT, UNAVAILABLE)
    assert failure.type == kind
    assert failure.non_retryable is not retryable
    assert f"Deployment erlmcp in namespace {target.namespace}" in failure.message
    assert "the server has its reasons" in failure.message
    assert failure.next_retry_delay == (timedelta(seconds=7) if retryable else None)


async def test_an_apply_whose_answer_was_lost_is_found_by_its_retry(
    activities: KubernetesActivities, proxy: FaultProxy, target: WorkloadTarget
) -> None:
    # given an apply that took effect while its answer was lost
    proxy.drop_responses(times=1)
    failure = await failure_of(activities.apply_release, release(target))
    assert failure.type == UNAVAILABLE
    assert len(proxy.writes) == 1

    # when it is retried, then the earlier effect is found and nothing is written again
    applied = await run(activities.apply_release, release(target))

    assert applied.version == "1.0.0"
    assert len(proxy.writes) == 1


async def test_a_watch_outlives_broken_connections(
    activities: KubernetesActivities, proxy: FaultProxy, target: WorkloadTarget
) -> None:
    # given a watch of a roll-out that has just begun
    await run(activities.apply_release, release(target, replicas=1))
    watch = RolloutWatch(target=target, track=Track.STABLE, version="1.0.0", replicas=1)
    watching = asyncio.ensure_future(run(activities.watch_rollout, watch))

    # when its streams break again and again
    while not watching.done():
        proxy.break_streams()
        await asyncio.sleep(0.05)

    # then it sees the end all the same
    assert (await watching).complete


async def test_a_server_that_does_not_listen_is_unavailable(
    cluster: ClusterAccess, target: WorkloadTarget
) -> None:
    gone = replace(cluster, server="https://127.0.0.1:9")

    failure = await failure_through(gone, target)

    assert failure.type == UNAVAILABLE
    assert "cannot be reached" in failure.message


async def test_a_dropped_connection_is_unavailable(
    activities: KubernetesActivities, proxy: FaultProxy, target: WorkloadTarget
) -> None:
    proxy.drop_requests(methods=READS)

    failure = await failure_of(activities.observe_workload, target)

    assert failure.type == UNAVAILABLE


async def test_a_wrong_token_is_forbidden_and_never_shown(
    cluster: ClusterAccess, target: WorkloadTarget
) -> None:
    failure = await failure_through(replace(cluster, token="secret-token"), target)

    assert failure.type == FORBIDDEN
    assert "KUBE_CONFIG" in failure.message
    assert "secret-token" not in "".join(traceback.format_exception(failure))


async def test_a_server_with_another_authority_is_not_trusted(
    cluster: ClusterAccess, target: WorkloadTarget, tmp_path: Path
) -> None:
    stranger = create_server_certificate(tmp_path).authority

    failure = await failure_through(replace(cluster, certificate_authority=stranger), target)

    assert failure.type == INVALID_CONFIGURATION
    assert "certificate-authority-data" in failure.message


async def test_a_missing_namespace_is_named_with_the_remedy(
    activities: KubernetesActivities, service: ProbedService
) -> None:
    failure = await failure_of(activities.apply_release, release(target_in("nowhere", service)))

    assert failure.type == NOT_FOUND
    assert "namespace 'nowhere' does not exist" in failure.message
    assert "create_namespace" in failure.message


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"template": {"spec": {"restartPolicy": "Sometimes"}}}, REFUSED, "restartPolicy"),
        ({"template": {"spec": {"containers": [{"env": []}]}}}, INVALID_CONFIGURATION, "has no name"),
        ({"template": {"spec": {"containers": None}}}, INVALID_CONFIGURATION, "must be a list"),
    ],
)
async def test_settings_that_make_no_pod_are_refused_with_their_place(
    activities: KubernetesActivities, target: WorkloadTarget, settings: dict[str, Any], kind: str, text: str
) -> None:
    failure = await failure_of(activities.apply_release, release(target.model_copy(update=settings)))

    assert failure.type == kind
    assert failure.non_retryable
    assert text in failure.message


async def test_a_release_is_not_put_beside_a_container_of_another_name(
    activities: KubernetesActivities, target: WorkloadTarget
) -> None:
    await run(activities.apply_release, release(target))

    failure = await failure_of(
        activities.apply_release,
        release(target.model_copy(update={"container": "web", "template": {}}), "1.1.0"),
    )

    assert failure.type == INVALID_CONFIGURATION
    assert "has no container 'web', only ['erlmcp']" in failure.message
    assert "workload.container" in failure.message


@pytest.mark.parametrize("cluster", ["real"], indirect=True)  # the emulator has no roles
async def test_a_small_role_is_enough_to_deploy(
    cluster: ClusterAccess, namespace: str, service: ProbedService, onlooker: Onlooker
) -> None:
    # given an account that may change Deployments, but neither watch them nor look at namespaces
    access = await account_of(onlooker, cluster, namespace, ["get", "list", "create", "patch"])
    activities = KubernetesActivities(ClusterConnection(kube_config=encoded(access)))
    target = target_in(namespace, service, replicas=1)

    # when it deploys, then looking again and again takes the place of the watch
    assert (await roll_out(activities, target, "1.0.0")).complete

    # and what it may not do is refused for good
    failure = await failure_of(activities.remove_canary, target_in("default", service))
    assert failure.type == FORBIDDEN
    assert "role of the worker's account" in failure.message
    await activities.close()


async def failure_through(access: ClusterAccess, target: WorkloadTarget) -> ApplicationError:
    activities = KubernetesActivities(ClusterConnection(kube_config=encoded(access)))
    failure = await failure_of(activities.observe_workload, target)
    await activities.close()
    return failure


async def account_of(
    onlooker: Onlooker, admin: ClusterAccess, namespace: str, verbs: list[str]
) -> ClusterAccess:
    """A service account with a role for Deployments, and its way in."""
    core = f"/api/v1/namespaces/{namespace}"
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    name = {"metadata": {"name": "deployer"}}
    await onlooker.ask("POST", f"{core}/serviceaccounts", name)
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    await onlooker.ask("POST", f"{rbac}/roles", {**name, "rules": rules})
    binding = {
        **name,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}],
    }
    await onlooker.ask("POST", f"{rbac}/rolebindings", binding)
    wanted = {"spec": {"audiences": ["https://kubernetes.default.svc"]}}
    granted = await onlooker.ask("POST", f"{core}/serviceaccounts/deployer/token", wanted)
    return replace(admin, token=granted["status"]["token"])
