"""Releases on the stable track: applied once, rolled out for real, and brought back exactly."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import NOT_FOUND, REFUSED
from activities.kubernetes import KubernetesActivities
from domain.workload import (
    ReleaseQuery,
    Restore,
    RolloutResult,
    Track,
    WorkloadObservation,
    WorkloadTarget,
)
from tests.activities.kubernetes.workload import (
    Onlooker,
    ProbedService,
    foreign_deployment,
    release,
    roll_out,
    rollout_of,
    run,
    target_in,
)


def restore_to(target: WorkloadTarget, observation: WorkloadObservation, key: str = "restore-1") -> Restore:
    return Restore(
        key=key,
        target=target,
        observation=observation,
        replicas=target.replicas,
        deployment_id="deployment:erlmcp:test:1.1.0",
    )


async def test_a_first_release_rolls_out_and_says_where_it_comes_from(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a namespace without the workload
    assert not (await run(activities.observe_workload, target)).exists

    # when the first version is applied and watched
    result = await roll_out(
        activities, target, "1.0.0", digest="sha256:abc", artefact="s3://releases/1.0.0.tar.gz"
    )

    # then its pods serve, and carry version, track and origin
    assert result == RolloutResult(complete=True, reason="2 of 2 pods of 1.0.0 are available", ready=2)
    deployment = await onlooker.deployment(target.namespace)
    pod = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == {"app": "erlmcp", "track": "stable"}
    assert pod["metadata"]["labels"] == {
        "app": "erlmcp",
        "track": "stable",
        "app.kubernetes.io/name": "erlmcp",
        "app.kubernetes.io/instance": "erlmcp",
        "app.kubernetes.io/managed-by": "erlmcp-deploy",
        "app.kubernetes.io/version": "1.0.0",
    }
    assert pod["metadata"]["annotations"] == {
        "erlmcp-deploy/deployment-id": "deployment:erlmcp:test:1.0.0",
        "erlmcp-deploy/version": "1.0.0",
        "erlmcp-deploy/commit": "1a2b3c4",
        "erlmcp-deploy/digest": "sha256:abc",
        "erlmcp-deploy/artefact": "s3://releases/1.0.0.tar.gz",
    }
    seen = await run(activities.observe_workload, target)
    assert (seen.version, seen.image, seen.revision) == ("1.0.0", "registry.example.com/erlmcp:1.0.0", "1")
    assert (seen.replicas, seen.ready, seen.deployment_id) == (2, 2, "deployment:erlmcp:test:1.0.0")


async def test_a_missing_namespace_is_made_where_the_settings_say_so(
    activities: KubernetesActivities, onlooker: Onlooker, service: ProbedService
) -> None:
    namespace = f"test-{uuid4().hex[:10]}"

    applied = await run(
        activities.apply_release, release(target_in(namespace, service, create_namespace=True))
    )

    assert applied.exists
    await onlooker.ask("DELETE", f"/api/v1/namespaces/{namespace}")


async def test_the_same_key_applies_once(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a release that was applied and scaled since
    await run(activities.apply_release, release(target))
    await onlooker.patch_deployment(target.namespace, {"spec": {"replicas": 1}})
    before = await onlooker.deployment(target.namespace)

    # when its activity is tried again
    again = await run(activities.apply_release, release(target))

    # then nothing has changed
    after = await onlooker.deployment(target.namespace)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert again.version == "1.0.0"
    assert again.replicas == 1


async def test_a_workload_made_elsewhere_keeps_its_selector_and_settings(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a Deployment of somebody else, with a short selector, a setting and a strategy of its own
    await onlooker.create_deployment(target.namespace, foreign_deployment("v0.9.0"))
    found = await run(activities.observe_workload, target)
    assert (found.exists, found.version, found.deployment_id) == (True, "v0.9.0", None)

    # when a release is applied
    await run(activities.apply_release, release(target))

    # then it goes on with them, under the new image
    spec = (await onlooker.deployment(target.namespace))["spec"]
    assert spec["selector"]["matchLabels"] == {"app": "erlmcp"}
    assert spec["strategy"]["type"] == "Recreate"
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/erlmcp:1.0.0"
    assert container["env"] == [{"name": "MODE", "value": "cluster"}]


async def test_fields_of_others_are_left_to_them_unless_forced(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a Deployment whose image somebody else owns
    await onlooker.create_deployment(target.namespace, foreign_deployment("v0.9.0"), "helm")
    polite = target.model_copy(update={"force_conflicts": False})

    # when a release does not insist, then it is refused, naming owner, field and remedy
    with pytest.raises(ApplicationError, match=r"image.*helm.*force_conflicts") as refused:
        await run(activities.apply_release, release(polite))
    assert refused.value.type == REFUSED
    assert refused.value.non_retryable

    # and one that insists takes the fields over
    await run(activities.apply_release, release(target))
    assert (await run(activities.observe_workload, target)).version == "1.0.0"


async def test_our_own_earlier_writes_are_no_conflict(
    activities: KubernetesActivities, target: WorkloadTarget
) -> None:
    # given a release that was taken back to an earlier state
    polite = target.model_copy(update={"force_conflicts": False})
    await run(activities.apply_release, release(polite))
    before = await run(activities.observe_workload, polite)
    await run(activities.apply_release, release(polite, "1.1.0"))
    await run(activities.restore_workload, restore_to(polite, before))

    # when the next one comes, then nothing needs to be forced
    applied = await run(activities.apply_release, release(polite, "1.2.0", replicas=1))

    assert (applied.version, applied.replicas) == ("1.2.0", 1)


async def test_a_failed_release_names_its_pods_and_is_taken_back_to_the_same_replica_set(
    activities: KubernetesActivities, namespace: str, onlooker: Onlooker, service: ProbedService
) -> None:
    # given a good version that serves
    target = target_in(namespace, service, replicas=1)
    assert (await roll_out(activities, target, "1.0.0")).complete
    before = await run(activities.observe_workload, target)
    good = await onlooker.serving_hashes(target.namespace)

    # when a version comes whose pods never get ready
    service.broken.add("/broken")
    bad = target_in(namespace, service, "/broken", replicas=1, progress_deadline=timedelta(seconds=3))
    failed = await roll_out(activities, bad, "1.1.0")

    # then the roll-out fails in the cluster's own words, while the good pods still serve
    assert not failed.complete
    assert "ProgressDeadlineExceeded" in failed.reason
    assert "[pod erlmcp-" in failed.reason
    assert failed.ready == 1

    # and after the roll-back the very ReplicaSet of before serves, whose note of failure is not taken for new
    restored = await run(activities.restore_workload, restore_to(bad, before))
    assert restored.template == before.template
    result = await run(activities.watch_rollout, rollout_of(bad, "1.0.0"))
    assert result.complete
    assert await onlooker.serving_hashes(target.namespace) == good
    deployment = await onlooker.deployment(target.namespace)
    assert (
        deployment["metadata"]["annotations"]["erlmcp-deploy/rolled-back-by"]
        == "deployment:erlmcp:test:1.1.0"
    )


async def test_a_roll_back_is_exact_although_others_changed_the_pods_meanwhile(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a release, after which somebody adds a setting to the pods
    await run(activities.apply_release, release(target))
    before = await run(activities.observe_workload, target)
    await run(activities.apply_release, release(target, "1.1.0"))
    container = {"name": "erlmcp", "env": [{"name": "DEBUG", "value": "1"}]}
    await onlooker.patch_deployment(
        target.namespace, {"spec": {"template": {"spec": {"containers": [container]}}}}
    )

    # when it is rolled back, then not even that setting is left
    restored = await run(activities.restore_workload, restore_to(target, before))

    assert restored.template == before.template
    assert restored.version == "1.0.0"


async def test_a_workload_made_elsewhere_is_restored_whatever_its_tag(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a Deployment of somebody else, whose tag no label could hold
    tag = "_" + "x" * 100
    await onlooker.create_deployment(target.namespace, foreign_deployment(tag))
    before = await run(activities.observe_workload, target)
    assert before.version == tag

    # when a release on it is rolled back
    await run(activities.apply_release, release(target))
    restored = await run(activities.restore_workload, restore_to(target, before))

    # then it is as it was
    assert restored.template == before.template
    spec = (await onlooker.deployment(target.namespace))["spec"]
    assert spec["selector"]["matchLabels"] == {"app": "erlmcp"}
    assert spec["strategy"]["type"] == "Recreate"


async def test_a_restore_is_done_once(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    await run(activities.apply_release, release(target))
    before = await run(activities.observe_workload, target)
    await run(activities.apply_release, release(target, "1.1.0"))
    await run(activities.restore_workload, restore_to(target, before))
    generation = (await onlooker.deployment(target.namespace))["metadata"]["generation"]

    await run(activities.restore_workload, restore_to(target, before))

    deployment = await onlooker.deployment(target.namespace)
    assert deployment["metadata"]["generation"] == generation


async def test_what_a_failed_first_deployment_created_is_deleted_and_nothing_else(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given nothing, and then a Deployment of the release
    nothing = await run(activities.observe_workload, target)
    await run(activities.apply_release, release(target, "1.1.0"))

    # when it is taken back, then it is deleted, and the answer says so
    restored = await run(activities.restore_workload, restore_to(target, nothing))
    assert not restored.exists
    assert "was deleted" in restored.note
    assert not (await run(activities.observe_workload, target)).exists

    # but a Deployment that somebody else made in the meantime stays
    await onlooker.create_deployment(target.namespace, foreign_deployment("v0.9.0"))
    with pytest.raises(ApplicationError, match="belongs to somebody else now; it was not deleted") as refused:
        await run(activities.restore_workload, restore_to(target, nothing, key="restore-2"))
    assert refused.value.type == REFUSED
    assert (await run(activities.observe_workload, target)).exists


async def test_earlier_versions_are_found_among_the_revisions(
    activities: KubernetesActivities, target: WorkloadTarget
) -> None:
    # given three versions in a row (without pods, which makes no difference to their revisions)
    observed = {}
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await run(activities.apply_release, release(target, version, replicas=0))
        watch = rollout_of(target, version).model_copy(update={"replicas": 0})
        assert (await run(activities.watch_rollout, watch)).complete
        observed[version] = await run(activities.observe_workload, target)

    # then one can be asked for by name, or as the newest but the current one
    named = await run(activities.find_release, ReleaseQuery(target=target, version="1.0.0"))
    newest = await run(activities.find_release, ReleaseQuery(target=target, excluding="1.2.0"))
    unknown = await run(activities.find_release, ReleaseQuery(target=target, version="0.1.0"))

    assert named.template == observed["1.0.0"].template
    assert (named.version, named.revision) == ("1.0.0", "1")
    assert newest.version == "1.1.0"
    assert not unknown.exists


async def test_a_version_somebody_else_puts_in_between_fails_the_roll_out(
    activities: KubernetesActivities, target: WorkloadTarget
) -> None:
    await run(activities.apply_release, release(target, "1.1.0"))

    result = await run(activities.watch_rollout, rollout_of(target, "1.0.0"))

    assert not result.complete
    assert "somebody put version 1.1.0 in place of 1.0.0" in result.reason


async def test_scaling_to_nothing_is_a_failure_only_if_pods_were_wanted(
    activities: KubernetesActivities, target: WorkloadTarget
) -> None:
    await run(activities.apply_release, release(target, replicas=0))

    wanted = await run(activities.watch_rollout, rollout_of(target, "1.0.0"))
    unwanted = await run(
        activities.watch_rollout, rollout_of(target, "1.0.0").model_copy(update={"replicas": 0})
    )

    assert not wanted.complete
    assert "scaled it to 0" in wanted.reason
    assert unwanted.complete


async def test_a_roll_out_of_nothing_cannot_be_watched(
    activities: KubernetesActivities, target: WorkloadTarget
) -> None:
    with pytest.raises(
        ApplicationError, match=r"Deployment erlmcp in namespace .* does not exist"
    ) as missing:
        await run(activities.watch_rollout, rollout_of(target, "1.0.0"))

    assert missing.value.type == NOT_FOUND


async def test_a_watch_sends_heartbeats_and_ends_when_cancelled(
    activities: KubernetesActivities, target: WorkloadTarget, service: ProbedService
) -> None:
    # given a roll-out that does not come to an end
    service.broken.add("/ready")
    await run(activities.apply_release, release(target))
    environment, beats = ActivityEnvironment(), asyncio.Queue[str]()
    environment.on_heartbeat = beats.put_nowait
    watching = asyncio.ensure_future(environment.run(activities.watch_rollout, rollout_of(target, "1.0.0")))
    while "0 available" not in await asyncio.wait_for(beats.get(), 30):
        pass

    # when the workflow cancels, then the watch ends as cancelled
    environment.cancel()

    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_pod_template_can_be_run_as_it_is_on_either_track(
    activities: KubernetesActivities, target: WorkloadTarget, onlooker: Onlooker
) -> None:
    # given a version made elsewhere, and one of ours that somebody patched after it
    await onlooker.create_deployment(target.namespace, foreign_deployment("v0.9.0"))
    old = await run(activities.observe_workload, target)
    await run(activities.apply_release, release(target, "1.0.0"))
    patch = {"name": "erlmcp", "env": [{"name": "TRACE", "value": "all"}]}
    change = {"spec": {"template": {"spec": {"containers": [patch]}}}}
    await onlooker.patch_deployment(target.namespace, change)

    # when the old one is to come back step by step, with the image it had
    for track in (Track.CANARY, Track.STABLE):
        back = release(target, "v0.9.0", track, template=old.template, image="", replicas=0)
        applied = await run(activities.apply_release, back)
        assert (applied.version, applied.image) == ("v0.9.0", old.image)

    # then both tracks run what it was, and say what they are now
    for name, label in (("erlmcp-canary", "canary"), ("erlmcp", "stable")):
        pod = (await onlooker.deployment(target.namespace, name))["spec"]["template"]
        assert old.template is not None
        assert pod["spec"] == old.template["spec"]
        assert pod["metadata"]["labels"]["track"] == label
        assert pod["metadata"]["annotations"]["erlmcp-deploy/version"] == "v0.9.0"

    # and with an image that is asked for, the container that gets it must be there
    strange = target.model_copy(update={"container": "other", "deployment": "fresh"})
    with pytest.raises(ApplicationError, match="the pod template to run has no container 'other'"):
        await run(activities.apply_release, release(strange, "1.2.0", template=old.template))
