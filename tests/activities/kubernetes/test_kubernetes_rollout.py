"""What a Deployment and its pods tell of a roll-out, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from activities.kubernetes.manifests import observe_template
from activities.kubernetes.rollout import describe_failures, judge_rollout
from domain.workload import RolloutWatch, Track, WorkloadTarget

TARGET = WorkloadTarget(
    application="erlmcp", environment="test", namespace="erlmcp-test", deployment="erlmcp", container="erlmcp"
)
WATCH = RolloutWatch(target=TARGET, track=Track.STABLE, version="1.1.0", replicas=2)
ALL_WELL = {
    "observedGeneration": 3,
    "replicas": 2,
    "updatedReplicas": 2,
    "availableReplicas": 2,
    "readyReplicas": 2,
}
GIVEN_UP = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": "it has timed out",
    "lastUpdateTime": "2026-01-05T12:00:00Z",
}


def deployment(status: dict[str, Any], *, notes: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"annotations": {"erlmcp-deploy/version": "1.1.0"}}, "spec": {}}
    return {
        "metadata": {"name": "erlmcp", "generation": 3, "annotations": notes or {}},
        "spec": {"replicas": 2, "progressDeadlineSeconds": 600, "template": template, **spec},
        "status": status,
    }


@pytest.mark.parametrize(
    "status",
    [
        {},
        {**ALL_WELL, "observedGeneration": 2},
        {**ALL_WELL, "updatedReplicas": 1},
        {**ALL_WELL, "replicas": 3},
        {**ALL_WELL, "availableReplicas": 1},
        {**ALL_WELL, "observedGeneration": 2, "availableReplicas": 1, "conditions": [GIVEN_UP]},
    ],
    ids=["nothing known", "not seen yet", "old pods", "one too many", "not available", "failure of before"],
)
def test_a_roll_out_goes_on_until_all_pods_are_new_and_available(status: dict[str, Any]) -> None:
    assert judge_rollout(deployment(status), WATCH) is None


def test_a_roll_out_is_complete_when_only_new_pods_are_left() -> None:
    result = judge_rollout(deployment(ALL_WELL), WATCH)

    assert result is not None
    assert result.complete
    assert result.ready == 2


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            deployment({**ALL_WELL, "availableReplicas": 1, "conditions": [GIVEN_UP]}),
            "ProgressDeadlineExceeded after 600 s: it has timed out",
        ),
        (
            deployment({**ALL_WELL, "updatedReplicas": 0}, paused=True),
            "kubectl rollout resume deployment/erlmcp",
        ),
        (deployment(ALL_WELL, replicas=0), "somebody scaled it to 0"),
        (
            deployment(ALL_WELL, template={"metadata": {"annotations": {"erlmcp-deploy/version": "2.0.0"}}}),
            "somebody put version 2.0.0 in place of 1.1.0",
        ),
    ],
)
def test_a_roll_out_that_cannot_end_well_says_why(found: dict[str, Any], reason: str) -> None:
    result = judge_rollout(found, WATCH)

    assert result is not None
    assert not result.complete
    assert reason in result.reason


def test_the_failure_of_the_roll_out_before_is_not_taken_for_a_new_one() -> None:
    # given a roll-out that was begun when the one before it had been given up
    status = {**ALL_WELL, "availableReplicas": 1, "conditions": [GIVEN_UP]}
    noted = {"erlmcp-deploy/superseded-failure": GIVEN_UP["lastUpdateTime"]}

    # then that old note does not end it, but a later one does
    assert judge_rollout(deployment(status, notes=noted), WATCH) is None
    later = {**status, "conditions": [{**GIVEN_UP, "lastUpdateTime": "2026-01-05T12:10:00Z"}]}
    assert judge_rollout(deployment(later, notes=noted), WATCH) is not None


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": "Pending", **status}}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {
                "containerStatuses": [
                    {
                        "name": "erlmcp",
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
                    }
                ]
            },
            "container erlmcp waiting, ImagePullBackOff: no such image",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "name": "erlmcp",
                        "state": {"running": {}},
                        "lastState": {"terminated": {"reason": "Error", "exitCode": 137}},
                    }
                ]
            },
            "container erlmcp terminated, Error, exit code 137",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes",
                    }
                ]
            },
            "Unschedulable: 0/3 nodes",
        ),
        ({}, "not ready (Pending)"),
    ],
)
def test_a_pod_that_is_not_ready_is_described_in_the_clusters_words(
    status: dict[str, Any], reason: str
) -> None:
    assert describe_failures(None, [pod("erlmcp-1", **status)]) == f"pod erlmcp-1: {reason}"


def test_ready_pods_are_not_named_and_many_failures_are_counted() -> None:
    ready = pod("erlmcp-0", conditions=[{"type": "Ready", "status": "True"}])
    failures = describe_failures(None, [ready, *(pod(f"erlmcp-{n}") for n in range(1, 6))])

    assert "erlmcp-0" not in failures
    assert failures.count("pod ") == 3
    assert failures.endswith("and 2 more")


def test_pods_that_could_not_be_made_are_reported_by_their_replica_set() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=10"}

    assert describe_failures({"status": {"conditions": [condition]}}, []) == (
        "no pod could be created: exceeded quota: pods=10"
    )


@pytest.mark.parametrize(
    ("image", "labels", "version"),
    [
        ("erlmcp:1.0.0", {"app.kubernetes.io/version": "1.2.3"}, "1.2.3"),
        ("erlmcp:1.0.0", {}, "1.0.0"),
        ("registry.example.com:5000/team/erlmcp:v1@sha256:00", {}, "v1"),
        ("registry.example.com:5000/team/erlmcp", {}, None),
        ("erlmcp@sha256:00", {}, None),
    ],
)
def test_the_version_is_the_label_or_the_images_tag(
    image: str, labels: dict[str, str], version: str | None
) -> None:
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "erlmcp", "image": image}]}}

    assert observe_template(template, "erlmcp", "erlmcp").version == version
