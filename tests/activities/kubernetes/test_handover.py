"""Canaries of Flagger and Argo Rollouts: begun, followed and commanded in their own way."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import INVALID_CONFIGURATION, NOT_FOUND, REFUSED
from activities.kubernetes import ClusterConnection
from activities.kubernetes.flagger import Before
from activities.kubernetes.flagger import judge as judge_canary
from activities.kubernetes.handover import HandoverActivities
from domain.handover import (
    Controller,
    HandoverCommand,
    HandoverPhase,
    HandoverReading,
    HandoverRequest,
    HandoverVerb,
)
from domain.workload import WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.custom_resources import install_custom_resources
from tests.activities.kubernetes.controllers import PlayedArgo, PlayedFlagger, handover_of
from tests.activities.kubernetes.workload import Onlooker, encoded, run

V1_0, V1_1 = "1.0.0", "1.1.0"


@pytest.fixture
async def handover(cluster: ClusterAccess) -> AsyncIterator[HandoverActivities]:
    await install_custom_resources(cluster.client_configuration())
    working = HandoverActivities(ClusterConnection(kube_config=encoded(cluster)))
    yield working
    await working.close()


@dataclass
class Watched:
    """A watch that goes on beside the test, and what its heartbeats say."""

    task: asyncio.Task[HandoverReading]
    heartbeats: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, handover: HandoverActivities, request: HandoverRequest) -> Watched:
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(
            environment.info,
            scheduled_time=datetime.now(UTC),
            heartbeat_timeout=timedelta(milliseconds=150),
            workflow_id=None,
        )
        beats: list[str] = []
        environment.on_heartbeat = lambda *details: beats.append(str(details[0]))
        return cls(asyncio.create_task(environment.run(handover.watch_handover, request)), beats)

    async def says(self, text: str) -> None:
        """Wait until a heartbeat says so, while the watch goes on."""
        async with asyncio.timeout(20):
            while not any(text in beat for beat in self.heartbeats[-1:]):
                assert not self.task.done(), self.task.result()
                await asyncio.sleep(0.02)

    async def ends(self) -> HandoverReading:
        return await asyncio.wait_for(self.task, 20)


def command(request: HandoverRequest, verb: HandoverVerb, key: str = "command-1") -> HandoverCommand:
    return HandoverCommand(key=key, request=request, verb=verb, reason="a person said so")


# Flagger


@pytest.fixture
async def flagger(handover: HandoverActivities, onlooker: Onlooker, namespace: str) -> PlayedFlagger:
    return PlayedFlagger(onlooker, namespace)


@pytest.fixture
async def serving(handover: HandoverActivities, flagger: PlayedFlagger, target: WorkloadTarget) -> None:
    """Version 1.0.0 was handed to Flagger and promoted."""
    await flagger.install()
    await flagger.says("Initializing")
    await run(handover.begin_handover, handover_of(target, Controller.FLAGGER, V1_0, replicas=0))
    await flagger.promotes("hash-1")
    await flagger.writes(lastAppliedSpec="hash-1")
    await _until_it_has_a_replica_set(flagger)


async def _until_it_has_a_replica_set(flagger: PlayedFlagger) -> None:
    path = f"/apis/apps/v1/namespaces/{flagger.namespace}/replicasets?labelSelector=app=erlmcp"
    async with asyncio.timeout(20):
        while not (await flagger.onlooker.ask("GET", path))["items"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.fixture
def request_(target: WorkloadTarget) -> HandoverRequest:
    return handover_of(target, Controller.FLAGGER, V1_1, replicas=0)


@pytest.mark.usefixtures("serving")
async def test_flagger_is_followed_until_it_has_promoted_the_version(
    handover: HandoverActivities, flagger: PlayedFlagger, request_: HandoverRequest
) -> None:
    # when a version is handed over
    begun = await run(handover.begin_handover, request_)

    # then the Deployment has it, and the success of the version before is not taken for its own
    live = await flagger.onlooker.deployment(request_.target.namespace)
    containers = live["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == "registry.example.com/erlmcp:1.1.0"
    assert (begun.phase, begun.said) == (HandoverPhase.PROGRESSING, "Succeeded")
    watched = Watched.begin(handover, request_)
    await watched.says("Progressing (Succeeded), 0%")

    # and when Flagger goes on, the watch does
    await flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20, failedChecks=1)
    await watched.says("Progressing (Progressing), 20%")
    await flagger.says("WaitingPromotion", canaryWeight=50)
    await watched.says("Paused (WaitingPromotion), 50%")
    await flagger.promotes("hash-2")

    # then it ends with all traffic on the version
    assert await watched.ends() == HandoverReading(
        phase=HandoverPhase.SUCCEEDED, weight=100, said="Succeeded"
    )


@pytest.mark.usefixtures("serving")
async def test_a_version_that_flagger_gave_up_is_handed_over_again(
    handover: HandoverActivities, flagger: PlayedFlagger, request_: HandoverRequest
) -> None:
    # given a version that failed
    await run(handover.begin_handover, request_)
    watched = Watched.begin(handover, request_)
    await flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20)
    await flagger.says("Failed", canaryWeight=0)
    failed = await watched.ends()
    assert (failed.phase, failed.reason) == (HandoverPhase.FAILED, "message of Failed")
    before = await flagger.onlooker.deployment(request_.target.namespace)

    # when the same version is handed over by another run
    again = request_.model_copy(update={"key": "run-2/handover"})
    begun = await run(handover.begin_handover, again)

    # then the pod template is another one, so that Flagger takes it up, and the old failure does not count,
    # not even when Flagger stamps it with the new revision's hash
    after = await flagger.onlooker.deployment(request_.target.namespace)
    assert after["spec"]["template"] != before["spec"]["template"]
    assert begun.phase is HandoverPhase.PROGRESSING
    await flagger.says("Failed", lastAppliedSpec="hash-3")
    watched = Watched.begin(handover, again)
    await watched.says("Progressing (Failed), 0%")
    await flagger.says("Progressing", canaryWeight=20)
    await flagger.says("Failed", canaryWeight=0)
    assert (await watched.ends()).phase is HandoverPhase.FAILED


@pytest.mark.usefixtures("serving")
async def test_the_same_key_hands_over_once(
    handover: HandoverActivities, flagger: PlayedFlagger, request_: HandoverRequest
) -> None:
    await run(handover.begin_handover, request_)
    before = await flagger.onlooker.deployment(request_.target.namespace)

    await flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20)
    again = await run(handover.begin_handover, request_)

    after = await flagger.onlooker.deployment(request_.target.namespace)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert (again.phase, again.weight) == (HandoverPhase.PROGRESSING, 20)


@pytest.mark.parametrize(
    ("spec", "refusal"),
    [
        (
            {"targetRef": {"kind": "DaemonSet", "name": "erlmcp"}},
            (INVALID_CONFIGURATION, "is for DaemonSet"),
        ),
        ({"suspend": True}, (REFUSED, "is suspended; set spec.suspend to false")),
        (None, (NOT_FOUND, "does not exist; install Flagger")),
    ],
)
async def test_what_flagger_would_not_take_up_is_refused(
    handover: HandoverActivities,
    flagger: PlayedFlagger,
    request_: HandoverRequest,
    spec: dict[str, Any] | None,
    refusal: tuple[str, str],
) -> None:
    kind, said = refusal
    if spec is not None:
        await flagger.install(**spec)

    with pytest.raises(ApplicationError, match=said) as refused:
        await run(handover.begin_handover, request_)

    assert refused.value.type == kind
    assert refused.value.non_retryable


@pytest.mark.usefixtures("serving")
async def test_people_pause_resume_and_promote_through_flagger(
    handover: HandoverActivities, flagger: PlayedFlagger, request_: HandoverRequest
) -> None:
    # given an analysis
    await run(handover.begin_handover, request_)
    await flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20)

    # when somebody pauses and resumes, then Flagger is suspended meanwhile
    paused = await run(handover.command_handover, command(request_, HandoverVerb.PAUSE))
    assert (paused.phase, paused.weight, paused.reason) == (HandoverPhase.PAUSED, 20, "suspended")
    assert (await flagger.canary())["spec"]["suspend"] is True
    resumed = await run(handover.command_handover, command(request_, HandoverVerb.RESUME))
    assert resumed.phase is HandoverPhase.PROGRESSING
    assert "suspend" not in (await flagger.canary())["spec"]

    # and when somebody promotes, the analysis is skipped, for this version only
    await run(handover.command_handover, command(request_, HandoverVerb.PROMOTE))
    assert (await flagger.canary())["spec"]["skipAnalysis"] is True
    watched = Watched.begin(handover, request_)
    await flagger.promotes("hash-2")
    assert (await watched.ends()).phase is HandoverPhase.SUCCEEDED
    canary = await flagger.canary()
    assert "skipAnalysis" not in canary["spec"]
    assert not canary["metadata"].get("annotations")


@pytest.mark.usefixtures("serving")
async def test_a_gate_of_flaggers_own_is_not_ours_to_open(
    handover: HandoverActivities, flagger: PlayedFlagger, request_: HandoverRequest
) -> None:
    await run(handover.begin_handover, request_)
    await flagger.says("WaitingPromotion", lastAppliedSpec="hash-2", canaryWeight=50)

    with pytest.raises(ApplicationError, match=r"confirm-promotion webhook.*gate/open.*promote") as refused:
        await run(handover.command_handover, command(request_, HandoverVerb.RESUME))
    assert refused.value.type == REFUSED


@pytest.mark.usefixtures("serving")
async def test_an_abort_brings_the_pod_template_of_before_back(
    handover: HandoverActivities, flagger: PlayedFlagger, request_: HandoverRequest
) -> None:
    # given a paused analysis
    before = await flagger.onlooker.deployment(request_.target.namespace)
    await run(handover.begin_handover, request_)
    await flagger.says("Progressing", lastAppliedSpec="hash-2", canaryWeight=20)
    await run(handover.command_handover, command(request_, HandoverVerb.PAUSE))
    watched = Watched.begin(handover, request_)

    # when it is aborted, also twice
    for _ in range(2):
        aborted = await run(handover.command_handover, command(request_, HandoverVerb.ABORT))
        assert aborted.phase is HandoverPhase.FAILED

    # then the template is exactly what Flagger has promoted last, Flagger goes on, and the watch ends
    after = await flagger.onlooker.deployment(request_.target.namespace)
    assert after["spec"]["template"] == before["spec"]["template"]
    assert "suspend" not in (await flagger.canary())["spec"]
    ended = await watched.ends()
    assert (ended.phase, "version 1.0.0 now" in ended.reason) == (HandoverPhase.FAILED, True)

    # and a late second try of the hand-over does not begin it again
    await run(handover.begin_handover, request_)
    assert (await flagger.onlooker.deployment(request_.target.namespace))["spec"] == after["spec"]


@pytest.mark.usefixtures("serving")
async def test_an_abort_is_done_where_nothing_has_begun(
    handover: HandoverActivities, flagger: PlayedFlagger, request_: HandoverRequest
) -> None:
    before = await flagger.onlooker.deployment(request_.target.namespace)

    aborted = await run(handover.command_handover, command(request_, HandoverVerb.ABORT))

    assert "does not have 1.1.0" in aborted.reason
    after = await flagger.onlooker.deployment(request_.target.namespace)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


@pytest.mark.usefixtures("serving")
async def test_a_controller_that_does_not_run_is_a_failure(
    handover: HandoverActivities, request_: HandoverRequest
) -> None:
    impatient = request_.target.model_copy(update={"progress_deadline": timedelta(milliseconds=300)})
    request = request_.model_copy(update={"target": impatient})
    await run(handover.begin_handover, request)

    reading = await Watched.begin(handover, request).ends()

    assert (reading.phase, reading.weight) == (HandoverPhase.FAILED, 0)
    assert "is its controller running?" in reading.reason


def test_only_what_cannot_be_old_ends_the_watch_of_a_canary() -> None:
    """Each status is one that Flagger can show after a hand-over that found `before`."""
    failed = {"type": "Promoted", "status": "False", "reason": "Failed", "lastTransitionTime": "t1"}
    before = Before(applied="old", condition="Failed False t1")
    succeeded = {**failed, "status": "True", "reason": "Succeeded"}
    running = {**failed, "status": "Unknown", "reason": "Progressing", "lastTransitionTime": "t2"}

    def phase(condition: dict[str, str], applied: str, *, promoted: bool | None = False) -> str:
        status = {"phase": condition["reason"], "lastAppliedSpec": applied, "conditions": [condition]}
        seen = judge_canary({"metadata": {}, "spec": {}, "status": status}, before, promoted)
        return f"{seen.reading.phase}{'' if seen.noticed else ', not noticed'}"

    assert phase(failed, "old") == "Progressing, not noticed"
    assert phase(failed, "new") == "Progressing, not noticed"  # stamped before it is taken up
    assert phase(running, "new") == "Progressing"
    assert phase({**failed, "lastTransitionTime": "t3"}, "new") == "Failed"
    assert phase({**succeeded, "lastTransitionTime": "t3"}, "new", promoted=True) == "Succeeded"
    assert phase({**succeeded, "lastTransitionTime": "t3"}, "new", promoted=None) == "Succeeded"
    assert phase({**succeeded, "lastTransitionTime": "t3"}, "other") == "Progressing, not noticed"


# Argo Rollouts


@pytest.fixture
async def argo(handover: HandoverActivities, onlooker: Onlooker, namespace: str) -> PlayedArgo:
    played = PlayedArgo(onlooker, namespace)
    await played.install()
    return played


@pytest.fixture
def rollout(namespace: str) -> HandoverRequest:
    target = WorkloadTarget(
        application="erlmcp",
        environment="test",
        namespace=namespace,
        deployment="erlmcp",
        container="erlmcp",
        template={"spec": {"containers": [{"name": "erlmcp", "env": [{"name": "MODE", "value": "y"}]}]}},
    )
    return handover_of(target, Controller.ARGO_ROLLOUTS)


async def test_argo_rollouts_is_followed_until_the_version_is_stable(
    handover: HandoverActivities, argo: PlayedArgo, rollout: HandoverRequest
) -> None:
    # when a version is handed over
    begun = await run(handover.begin_handover, rollout)

    # then only what is of the release has changed in the pod template
    template = (await argo.rollout())["spec"]["template"]
    assert template["spec"]["containers"] == [
        {"name": "proxy", "image": "proxy:7"},
        {
            "name": "erlmcp",
            "image": "registry.example.com/erlmcp:1.1.0",
            "env": [{"name": "MODE", "value": "y"}],
        },
    ]
    assert template["metadata"]["labels"] == {
        "app": "shop",
        "mesh": "yes",
        "app.kubernetes.io/version": "1.1.0",
    }
    assert template["metadata"]["annotations"]["erlmcp-deploy/version"] == "1.1.0"

    # and the health of the version before is not taken for its own
    assert (begun.phase, begun.said) == (HandoverPhase.PROGRESSING, "Healthy")
    watched = Watched.begin(handover, rollout)
    await watched.says("Progressing (Healthy), 0%")
    await argo.observes("Progressing", currentPodHash="bbb", currentStepIndex=0)
    await watched.says("Progressing (Progressing), 20%")
    pause = {"reason": "CanaryPauseStep", "startTime": "2026-02-02T12:00:00Z"}
    await argo.writes(phase="Paused", message="CanaryPauseStep", currentStepIndex=3, pauseConditions=[pause])
    await watched.says("Paused (Paused), 60%")
    await argo.writes(
        phase="Progressing", pauseConditions=None, canary={"weights": {"canary": {"weight": 70}}}
    )
    await watched.says("Progressing (Progressing), 70%")
    await argo.writes(phase="Healthy", message="", stableRS="bbb")
    assert await watched.ends() == HandoverReading(phase=HandoverPhase.SUCCEEDED, weight=100, said="Healthy")


async def test_an_abort_by_argo_rollouts_itself_is_a_failure(
    handover: HandoverActivities, argo: PlayedArgo, rollout: HandoverRequest
) -> None:
    await run(handover.begin_handover, rollout)
    watched = Watched.begin(handover, rollout)

    said = "RolloutAborted: metric success-rate assessed Failed"
    await argo.observes("Degraded", currentPodHash="bbb", abort=True, message=said)

    ended = await watched.ends()
    assert (ended.phase, ended.said, ended.reason) == (HandoverPhase.FAILED, "Degraded", said)


async def test_people_pause_resume_and_promote_through_argo_rollouts(
    handover: HandoverActivities, argo: PlayedArgo, rollout: HandoverRequest
) -> None:
    # given a canary in a pause that is one of its steps
    await run(handover.begin_handover, rollout)
    first = {"reason": "CanaryPauseStep", "startTime": "2026-02-02T12:00:00Z"}
    await argo.observes("Paused", currentPodHash="bbb", pauseConditions=[first], controllerPause=True)

    # when somebody pauses it by hand, and then resumes
    await run(handover.command_handover, command(rollout, HandoverVerb.PAUSE, "command-1"))
    assert (await argo.rollout())["spec"]["paused"] is True
    await run(handover.command_handover, command(rollout, HandoverVerb.RESUME, "command-2"))

    # then both pauses are over
    live = await argo.rollout()
    assert live["spec"]["paused"] is False
    assert not live["status"].get("pauseConditions")

    # and a second try of that does not end the next pause
    second = {"reason": "CanaryPauseStep", "startTime": "2026-02-02T12:10:00Z"}
    await argo.observes("Paused", pauseConditions=[second])
    again = await run(handover.command_handover, command(rollout, HandoverVerb.RESUME, "command-2"))
    assert again.phase is HandoverPhase.PAUSED
    assert (await argo.rollout())["status"]["pauseConditions"] == [second]

    # and a promotion goes all the way
    await run(handover.command_handover, command(rollout, HandoverVerb.PROMOTE, "command-3"))
    assert (await argo.rollout())["status"]["promoteFull"] is True


async def test_an_abort_leaves_the_rollout_as_it_was(
    handover: HandoverActivities, argo: PlayedArgo, rollout: HandoverRequest
) -> None:
    # given a canary
    before = await argo.rollout()
    await run(handover.begin_handover, rollout)
    await argo.observes("Progressing", currentPodHash="bbb", currentStepIndex=0)

    # when it is aborted, also twice
    for _ in range(2):
        aborted = await run(handover.command_handover, command(rollout, HandoverVerb.ABORT))
        assert aborted.phase is HandoverPhase.FAILED

    # then the traffic goes back at once, and nothing begins it again
    after = await argo.rollout()
    assert after["status"]["abort"] is True
    template, earlier = after["spec"]["template"], before["spec"]["template"]
    assert template["metadata"]["labels"] == earlier["metadata"]["labels"]
    assert "annotations" not in template["metadata"]
    for container, was in zip(template["spec"]["containers"], earlier["spec"]["containers"], strict=True):
        assert was.items() <= container.items()  # with the defaults of a ReplicaSet, as its own undo has it


async def test_a_rollout_that_refers_to_a_deployment_gets_the_version_there(
    handover: HandoverActivities, onlooker: Onlooker, target: WorkloadTarget
) -> None:
    # given a Deployment whose pods a Rollout has taken over
    argo = PlayedArgo(onlooker, target.namespace)
    await argo.install(workloadRef={"apiVersion": "apps/v1", "kind": "Deployment", "name": "erlmcp"})
    request = handover_of(target, Controller.ARGO_ROLLOUTS)

    # when a version is handed over
    await run(handover.begin_handover, request)

    # then the Deployment has its pod template, and no pods of its own
    live = await onlooker.deployment(target.namespace)
    assert live["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == "1.1.0"
    assert live["spec"]["replicas"] == 0
    watched = Watched.begin(handover, request)
    await argo.observes("Healthy", currentPodHash="bbb", stableRS="bbb")
    await watched.says("Progressing (Healthy)")
    await argo.writes(workloadObservedGeneration=str(live["metadata"]["generation"]))
    assert (await watched.ends()).phase is HandoverPhase.SUCCEEDED


async def test_a_missing_rollout_is_named(handover: HandoverActivities, rollout: HandoverRequest) -> None:
    with pytest.raises(ApplicationError, match=r"Rollout erlmcp in namespace .* does not exist") as missing:
        await run(handover.begin_handover, rollout)
    assert missing.value.type == NOT_FOUND
