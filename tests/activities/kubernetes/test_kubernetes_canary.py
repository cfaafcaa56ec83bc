"""The canary track: like the stable pods but for the release, with its share of the pods."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from http import HTTPMethod
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import CONFLICT, NOT_FOUND, REFUSED
from activities.kubernetes import ClusterConnection, KubernetesActivities
from domain.workload import Track, WeightChange, WeightReading, WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.fault_proxy import FaultProxy
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


def weight(target: WorkloadTarget, percent: int, replicas: int = 4) -> WeightChange:
    return WeightChange(key=f"run/weight-{percent}", target=target, weight=percent, replicas=replicas)


async def test_a_canary_runs_with_what_the_stable_pods_have_and_the_service_finds_both(
    activities: KubernetesActivities, service: ProbedService, namespace: str, onlooker: Onlooker
) -> None:
    # given a stable Deployment made elsewhere, and settings for the canary alone
    sidecar = {"name": "recorder", "image": "registry.example.com/recorder:1"}
    target = target_in(namespace, service, canary_template={"spec": {"containers": [sidecar]}})
    await onlooker.create_deployment(namespace, foreign_deployment("v0.9.0"))

    # when a canary is applied
    await run(activities.apply_release, release(target, "1.0.0", Track.CANARY, replicas=1))

    # then it has the stable pods' setting, the release's image and the sidecar
    canary = (await onlooker.deployment(namespace, "erlmcp-canary"))["spec"]
    containers = {c["name"]: c for c in canary["template"]["spec"]["containers"]}
    assert set(containers) == {"erlmcp", "recorder"}
    assert containers["erlmcp"]["image"] == "registry.example.com/erlmcp:1.0.0"
    assert containers["erlmcp"]["env"] == [{"name": "MODE", "value": "cluster"}]
    assert containers["erlmcp"]["readinessProbe"]["httpGet"]["port"] == service.port

    # and it stands beside the stable one, under labels that a Service for app=erlmcp selects
    assert canary["selector"]["matchLabels"] == {"app": "erlmcp", "track": "canary"}
    assert canary["template"]["metadata"]["labels"]["track"] == "canary"
    stable = await run(activities.observe_workload, target)
    assert stable.version == "v0.9.0"


async def test_weights_move_pods_from_one_track_to_the_other_and_back(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a stable version with all four pods, and a canary with one
    assert (await roll_out(activities, target.model_copy(update={"replicas": 4}), "1.0.0")).complete
    assert (
        await roll_out(activities, target.model_copy(update={"replicas": 1}), "1.1.0", Track.CANARY)
    ).complete

    # when the weight rises step by step, then the pods follow, and what is read back is what is there
    expected = {10: (3, 1), 50: (2, 2), 100: (0, 4)}
    for percent, (stable, canary) in expected.items():
        reading = await run(activities.set_weight, weight(target, percent))
        assert (reading.weight, reading.stable, reading.canary) == (percent, stable, canary)
        assert reading.observed == 100 * canary / 4
        assert await onlooker.replicas(target.namespace) == {"erlmcp": stable, "erlmcp-canary": canary}

    # and when the canary is given up, its pods go as soon as a stable one serves
    reading = await run(activities.set_weight, weight(target, 0))
    assert (reading.weight, reading.observed, reading.canary) == (0, 0.0, 0)
    assert reading.stable >= 1
    assert await onlooker.replicas(target.namespace) == {"erlmcp": 4, "erlmcp-canary": 0}

    # and asking again changes nothing
    assert (await run(activities.set_weight, weight(target, 0))).weight == 0


async def test_a_canary_that_never_gets_ready_takes_no_pod_from_the_stable_side(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker, service: ProbedService
) -> None:
    # given a stable version, and a canary whose pods are not ready
    assert (await roll_out(activities, target, "1.0.0")).complete
    service.broken.add("/broken")
    bad = target_in(target.namespace, service, "/broken", progress_deadline=timedelta(seconds=2))
    await run(activities.apply_release, release(bad, "1.1.0", Track.CANARY, replicas=1))

    # when it is to have half of the traffic
    reading = await run(activities.set_weight, weight(bad, 50, replicas=2))

    # then it is told to have none, and the stable side is untouched
    assert (reading.weight, reading.observed, reading.stable, reading.canary) == (0, 0.0, 2, 0)
    assert await onlooker.replicas(target.namespace) == {"erlmcp": 2, "erlmcp-canary": 1}


async def test_a_canary_that_was_given_up_goes_even_if_no_stable_pod_can_serve(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker, service: ProbedService
) -> None:
    # given a canary that serves, and a stable side that cannot
    service.broken.add("/broken")
    bad = target_in(target.namespace, service, "/broken", progress_deadline=timedelta(seconds=2))
    await run(activities.apply_release, release(bad, replicas=1))
    one = target.model_copy(update={"replicas": 1})
    assert (await roll_out(activities, one, "1.1.0", Track.CANARY)).complete

    # when the canary is given up
    reading = await run(activities.set_weight, weight(bad, 0, replicas=1))

    # then it is obeyed in the end
    assert (reading.weight, reading.stable, reading.canary) == (0, 0, 0)
    assert await onlooker.replicas(target.namespace) == {"erlmcp": 1, "erlmcp-canary": 0}


async def test_a_weight_needs_a_canary_but_giving_up_needs_none(
    activities: KubernetesActivities, target: WorkloadTarget
) -> None:
    assert (await roll_out(activities, target, "1.0.0")).complete

    with pytest.raises(
        ApplicationError, match=r"Deployment erlmcp-canary in namespace .* does not exist"
    ) as missing:
        await run(activities.set_weight, weight(target, 10, replicas=2))
    assert missing.value.type == NOT_FOUND

    reading = await run(activities.set_weight, weight(target, 0, replicas=2))
    assert (reading.weight, reading.stable, reading.canary) == (0, 2, 0)


async def test_a_canary_that_was_left_behind_hands_its_share_to_nobody(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a canary with all the pods, whose deployment was terminated
    assert (await roll_out(activities, target, "1.0.0")).complete
    assert (await roll_out(activities, target, "1.1.0", Track.CANARY)).complete
    assert (await run(activities.set_weight, weight(target, 100, replicas=2))).stable == 0

    # when the canary of the next deployment is applied, then the stable side has its pods again
    await run(activities.apply_release, release(target, "1.2.0", Track.CANARY, replicas=1))

    assert (await run(activities.observe_workload, target)).ready > 0
    assert await onlooker.replicas(target.namespace) == {"erlmcp": 2, "erlmcp-canary": 1}


async def test_a_frozen_worker_that_goes_on_cannot_undo_a_newer_weight(
    cluster: ClusterAccess,
    activities: KubernetesActivities,
    target: WorkloadTarget,
    onlooker: Onlooker,
    tmp_path: Path,
) -> None:
    async def at(minute: int, by: KubernetesActivities, percent: int) -> WeightReading:
        """As Temporal would have it scheduled at a minute."""
        scheduled = datetime(2026, 1, 5, 12, minute, tzinfo=UTC)
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(environment.info, scheduled_time=scheduled)
        return await environment.run(by.set_weight, weight(target, percent, replicas=2))

    assert (await roll_out(activities, target, "1.0.0")).complete
    assert (await roll_out(activities, target, "1.1.0", Track.CANARY)).complete
    async with FaultProxy.start(cluster, tmp_path) as proxy:
        frozen = KubernetesActivities(ClusterConnection(kube_config=encoded(proxy.access)))
        assert (await at(1, frozen, 50)).weight == 50

        # given a worker that freezes when it is about to take the stable side's last pods
        patch = frozenset({HTTPMethod.PATCH})
        proxy.delay(0.0, times=1, path="deployments/erlmcp$", methods=patch)  # its claim
        freeze = proxy.delay(3.0, times=1, path="deployments/erlmcp$", methods=patch)
        late = asyncio.create_task(at(2, frozen, 100))
        async with asyncio.timeout(20):
            while not freeze.hits:  # noqa: ASYNC110 - the proxy counts, and tells nobody
                await asyncio.sleep(0.02)

        # when another worker gives the canary up, then that holds
        assert (await at(3, activities, 0)).weight == 0
        with pytest.raises(ApplicationError, match="another change of the canary's weight has begun") as lost:
            await late
        assert (lost.value.type, lost.value.non_retryable) == (CONFLICT, True)
        assert await onlooker.replicas(target.namespace) == {"erlmcp": 2, "erlmcp-canary": 0}

        # and a retry that comes even later does not begin, but weight 0 is obeyed from whenever it is
        with pytest.raises(ApplicationError, match="has begun meanwhile"):
            await at(2, frozen, 100)
        proxy.refuse(500, path="deployments", message="failed calling webhook")
        assert (await at(1, frozen, 0)).weight == 0
        await frozen.close()


async def test_a_removed_canary_is_gone_and_removing_it_again_is_fine(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    await run(activities.apply_release, release(target, track=Track.CANARY, replicas=1))

    await run(activities.remove_canary, target)
    await run(activities.remove_canary, target)

    assert await onlooker.replicas(target.namespace) == {}


async def test_a_foreign_deployment_under_the_canarys_name_is_left_alone(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    foreign: dict[str, Any] = foreign_deployment("v0.9.0")
    foreign["metadata"]["name"] = "erlmcp-canary"
    await onlooker.create_deployment(target.namespace, foreign)

    for effect in (
        run(activities.remove_canary, target),
        run(activities.apply_release, release(target, track=Track.CANARY)),
    ):
        with pytest.raises(ApplicationError, match="was not made by erlmcp-deploy") as refused:
            await effect
        assert refused.value.type == REFUSED
    assert await onlooker.replicas(target.namespace) == {"erlmcp-canary": 2}
