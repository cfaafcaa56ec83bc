"""Hooks as Jobs on the real API server with its Job controller; the test plays the kubelet of a node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import FORBIDDEN, REFUSED, UNAVAILABLE
from activities.hooks import HookActivities
from activities.kubernetes import ClusterConnection
from activities.kubernetes.hooks import HOOK_LABEL, HookJobs, job_name
from activities.ledger import EffectsLedger
from domain.hooks import Hook, HookReport, HookRun
from domain.workload import WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.certificates import create_server_certificate
from sandbox.kubernetes.control_plane import ControlPlane
from sandbox.kubernetes.fault_proxy import READS, FaultProxy
from tests.activities.kubernetes.workload import Onlooker, encoded

SECRET = "s3cret-0123456789"
JSON_MERGE = "application/merge-patch+json"


@pytest.fixture
def cluster(control_plane: ControlPlane) -> ClusterAccess:
    """The emulator has no Jobs."""
    return control_plane.access


@dataclass
class PlayedKubelet:
    """A node of its own, whose pods do what the test says; answers for logs as a kubelet does."""

    onlooker: Onlooker
    node: str
    logs: dict[str, str] = field(default_factory=dict)

    async def pod_of(self, namespace: str, job: str) -> Any:
        """The Job's newest pod, as soon as the controller has made it."""
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=job-name={job}"
        async with asyncio.timeout(30):
            while not (found := (await self.onlooker.ask("GET", path))["items"]):  # noqa: ASYNC110 - the controller makes it
                await asyncio.sleep(0.05)
        return found[-1]

    async def end(self, pod: Any, exit_code: int, log: str = "", message: str = "") -> None:
        """Let the pod's container end."""
        metadata, container = pod["metadata"], pod["spec"]["containers"][0]["name"]
        self.logs[metadata["name"]] = log
        ended = {
            "exitCode": exit_code,
            "reason": "Error" if exit_code else "Completed",
            "message": message,
        }
        status = {
            "phase": "Failed" if exit_code else "Succeeded",
            "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted"}],
            "containerStatuses": [
                {
                    "name": container,
                    "image": "",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"terminated": ended},
                }
            ],
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        await self.onlooker.ask("PATCH", path, {"status": status}, content_type=JSON_MERGE)

    async def answer(self, request: web.Request) -> web.Response:
        pod = request.match_info["pod"]
        assert {"tailLines", "limitBytes"} <= request.query.keys()
        return web.Response(text=self.logs.get(pod, ""))


@pytest.fixture
async def kubelet(onlooker: Onlooker, tmp_path: Path) -> AsyncIterator[PlayedKubelet]:
    """The node, with a server for the logs of its pods at its address."""
    played = PlayedKubelet(onlooker, f"played-{uuid4().hex[:8]}")
    certificate = create_server_certificate(tmp_path / "kubelet")
    application = web.Application()
    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", played.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.ssl_context()).start()
    await onlooker.ask("POST", "/api/v1/nodes", {"metadata": {"name": played.node}})
    status = {
        "addresses": [{"type": "Hostname", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": runner.addresses[0][1]}},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    path = f"/api/v1/nodes/{played.node}"
    await onlooker.ask("PATCH", f"{path}/status", {"status": status}, content_type=JSON_MERGE)
    yield played
    await onlooker.ask("DELETE", path)
    await runner.cleanup()


@pytest.fixture
async def proxy(cluster: ClusterAccess, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy.start(cluster, tmp_path / "proxy") as running:
        yield running


@asynccontextmanager
async def working(proxy: FaultProxy, home: Path, **settings: Any) -> AsyncIterator[HookActivities]:
    """The activities of a worker that reaches the cluster through the proxy."""
    jobs = HookJobs(ClusterConnection(kube_config=encoded(proxy.access)), **settings)
    async with EffectsLedger.open(home / "effects.db") as ledger:
        yield HookActivities(home / "hooks", ledger, jobs, environment={"DATABASE_PASSWORD": SECRET})
        await jobs.close()


@pytest.fixture
async def hooks(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[HookActivities]:
    async with working(proxy, tmp_path) as activities:
        yield activities


def job_hook(namespace: str, node: str, job: dict[str, Any] | None = None, **fields: Any) -> HookRun:
    spec = {"nodeName": node, "containers": [{"command": ["bin/migrate", "down"]}]}
    hook = {"name": "migrate-down", "job": job or {"template": {"spec": spec}}, "timeout": "1m", **fields}
    return HookRun(
        key="rollback:erlmcp:test:1.1.0/before-1",
        hook=Hook.model_validate(hook),
        target=WorkloadTarget(
            application="erlmcp",
            environment="test",
            namespace=namespace,
            deployment="erlmcp",
            container="erlmcp",
        ),
        image="registry.example.com/erlmcp:1.0.0",
        deployment_id="deployment:erlmcp:test:1.1.0",
        variables={"FROM_VERSION": "1.1.0", "TO_VERSION": "1.0.0"},
    )


def begin(hooks: HookActivities, run: HookRun) -> asyncio.Task[HookReport]:
    return asyncio.create_task(ActivityEnvironment().run(hooks.run_hook, run))


async def jobs_in(onlooker: Onlooker, namespace: str) -> list[Any]:
    listing = await onlooker.ask("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")
    return list(listing["items"])


def names(found: list[Any]) -> set[str]:
    return {each["metadata"]["name"] for each in found}


async def ends_well(hooks: HookActivities, kubelet: PlayedKubelet, run: HookRun) -> None:
    running = begin(hooks, run)
    await kubelet.end(await kubelet.pod_of(run.target.namespace, job_name(run)), 0)
    assert (await running).succeeded


async def gone(onlooker: Onlooker, namespace: str) -> None:
    async with asyncio.timeout(30):
        while await jobs_in(onlooker, namespace):  # noqa: ASYNC110 - the garbage collector works
            await asyncio.sleep(0.05)


async def test_a_job_runs_the_versions_image_and_is_followed_to_its_end(
    hooks: HookActivities, kubelet: PlayedKubelet, onlooker: Onlooker, namespace: str
) -> None:
    # given a hook that says no more than a command, and that its output may be shown
    run = job_hook(namespace, kubelet.node, log=True)
    running = begin(hooks, run)
    pod = await kubelet.pod_of(namespace, job_name(run))

    # when its pod ends well, having said more than it should
    await kubelet.end(pod, 0, log=f"migrating with {SECRET}\n3 tables changed\n")
    report = await running

    # then it is reported, with its log
    assert report.succeeded, report
    assert report.log == "migrating with ***\n3 tables changed"
    # and what ran was one container of the version, told what it is for, and out of every Service's sight
    (container,) = pod["spec"]["containers"]
    assert (container["name"], container["image"]) == ("erlmcp", "registry.example.com/erlmcp:1.0.0")
    assert container["command"] == ["bin/migrate", "down"]
    assert {v["name"]: v["value"] for v in container["env"]} == {
        "ERLMCP_DEPLOY_KEY": run.key,
        "FROM_VERSION": "1.1.0",
        "TO_VERSION": "1.0.0",
    }
    assert pod["spec"]["restartPolicy"] == "Never"
    assert not {"app", "track", "app.kubernetes.io/name"} & pod["metadata"]["labels"].keys()
    (job,) = await jobs_in(onlooker, namespace)
    assert job["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "erlmcp-deploy",
        HOOK_LABEL: "migrate-down",
    }
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 60)


async def test_a_job_that_fails_says_what_its_pod_says(
    hooks: HookActivities, kubelet: PlayedKubelet, namespace: str
) -> None:
    run = job_hook(namespace, kubelet.node, log=True)
    running = begin(hooks, run)

    await kubelet.end(await kubelet.pod_of(namespace, job_name(run)), 3, log="table users is locked\n")
    report = await running

    assert not report.succeeded
    assert "BackoffLimitExceeded" in report.reason
    assert "container erlmcp terminated, Error, exit code 3" in report.reason
    assert report.log == "table users is locked"


async def test_what_a_job_prints_stays_in_the_cluster_unless_asked_for(
    hooks: HookActivities, kubelet: PlayedKubelet, namespace: str
) -> None:
    # given a migration that prints a secret of its own
    run = job_hook(namespace, kubelet.node)
    running = begin(hooks, run)
    pod = await kubelet.pod_of(namespace, job_name(run))

    # when it fails, and the kubelet takes its last line for the reason
    dsn = "postgres://erlmcp:hunter2-hunter2@db"
    await kubelet.end(pod, 3, log=f"cannot reach {dsn}\n", message=f"cannot reach {dsn}")
    report = await running

    # then the report says where to read that, and not what it is
    assert "hunter2" not in report.model_dump_json()
    assert "container erlmcp terminated, Error, exit code 3" in report.reason
    name = pod["metadata"]["name"]
    assert f"kubectl logs {name} --namespace {namespace} --container erlmcp" in report.reason


async def test_a_log_that_cannot_be_read_changes_nothing(
    hooks: HookActivities, proxy: FaultProxy, kubelet: PlayedKubelet, namespace: str
) -> None:
    run = job_hook(namespace, kubelet.node, log=True)
    running = begin(hooks, run)
    pod = await kubelet.pod_of(namespace, job_name(run))
    proxy.refuse(403, path="/log$", methods=READS)

    await kubelet.end(pod, 0, log="unread\n")

    report = await running
    assert (report.succeeded, report.log) == (True, "")
    assert f"{job_name(run)} in namespace {namespace} completed; its output: kubectl logs" in report.reason


async def test_a_retry_finds_the_job_it_started(
    hooks: HookActivities, proxy: FaultProxy, kubelet: PlayedKubelet, onlooker: Onlooker, namespace: str
) -> None:
    run = job_hook(namespace, kubelet.node)
    # given a Job that was made, although the answer got lost
    proxy.drop_responses(path="/jobs$", times=1)
    with pytest.raises(ApplicationError) as lost:
        await begin(hooks, run)
    assert lost.value.type == UNAVAILABLE
    assert not lost.value.non_retryable
    # when it is tried again, while the watch breaks too
    running = begin(hooks, run)
    pod = await kubelet.pod_of(namespace, job_name(run))
    proxy.break_streams()
    await kubelet.end(pod, 0)
    assert (await running).succeeded
    # then there is one Job, and a third attempt finds it finished
    assert len(await jobs_in(onlooker, namespace)) == 1
    assert (await begin(hooks, run)).succeeded


async def test_jobs_that_ended_long_ago_are_deleted_where_the_cluster_does_not(
    hooks: HookActivities, kubelet: PlayedKubelet, onlooker: Onlooker, namespace: str
) -> None:
    # given finished Jobs of two hooks, in a cluster that does not know how long they are kept
    first, other = job_hook(namespace, kubelet.node), job_hook(namespace, kubelet.node, name="warm-up")
    for run in (first, other):
        await ends_well(hooks, kubelet, run)
    kept = await jobs_in(onlooker, namespace)
    assert all("ttlSecondsAfterFinished" not in job["spec"] for job in kept)

    # when one of them runs anew, then its earlier Job stays as long as it is kept
    second = first.model_copy(update={"key": "rollback:erlmcp:test:1.1.0/before-2"})
    await ends_well(hooks, kubelet, second)
    assert names(await jobs_in(onlooker, namespace)) == {job_name(run) for run in (first, second, other)}

    # and when that time is over, the earlier Jobs of this hook go
    spec = {**(first.hook.job or {}), "ttlSecondsAfterFinished": 0}
    hook = first.hook.model_copy(update={"job": spec})
    third = first.model_copy(update={"key": "rollback:erlmcp:test:1.1.0/before-3", "hook": hook})
    await ends_well(hooks, kubelet, third)
    assert names(await jobs_in(onlooker, namespace)) == {job_name(run) for run in (third, other)}


async def test_a_worker_that_stops_leaves_its_job_and_an_abort_does_not(
    hooks: HookActivities, kubelet: PlayedKubelet, onlooker: Onlooker, namespace: str
) -> None:
    # given a running Job
    run = job_hook(namespace, kubelet.node)
    first = ActivityEnvironment()
    running = asyncio.create_task(first.run(hooks.run_hook, run))
    await kubelet.pod_of(namespace, job_name(run))
    # when the worker is shut down
    first.cancel(ActivityCancellationDetails(worker_shutdown=True))
    with pytest.raises(asyncio.CancelledError):
        await running
    # then the Job goes on, and the next attempt follows it
    (job,) = await jobs_in(onlooker, namespace)
    second = ActivityEnvironment()
    following = asyncio.Event()
    second.on_heartbeat = lambda text: following.set() if "1 active" in text else None
    running = asyncio.create_task(second.run(hooks.run_hook, run))
    await asyncio.wait_for(following.wait(), 30)
    assert [j["metadata"]["uid"] for j in await jobs_in(onlooker, namespace)] == [job["metadata"]["uid"]]
    # but when somebody aborts, it is ended
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(onlooker, namespace)


async def test_a_job_that_takes_too_long_is_ended_by_its_deadline(
    hooks: HookActivities, kubelet: PlayedKubelet, onlooker: Onlooker, namespace: str
) -> None:
    report = await begin(hooks, job_hook(namespace, kubelet.node, timeout="1s"))

    assert not report.succeeded
    assert "DeadlineExceeded" in report.reason
    assert all(not job["status"].get("active") for job in await jobs_in(onlooker, namespace))


async def test_a_job_that_its_controller_does_not_end_in_time_is_ended_by_us(
    proxy: FaultProxy, kubelet: PlayedKubelet, onlooker: Onlooker, namespace: str, tmp_path: Path
) -> None:
    # given a worker that gives up long before the Job's own deadline
    async with working(proxy, tmp_path, overdue=timedelta(seconds=-59)) as hooks:
        report = await begin(hooks, job_hook(namespace, kubelet.node, timeout="1m"))

    assert not report.succeeded
    assert report.reason.endswith("did not end within 1m")
    await gone(onlooker, namespace)


async def test_a_job_that_is_deleted_under_way_has_failed(
    hooks: HookActivities, kubelet: PlayedKubelet, onlooker: Onlooker, namespace: str
) -> None:
    run = job_hook(namespace, kubelet.node)
    running = begin(hooks, run)
    await kubelet.pod_of(namespace, job_name(run))
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{job_name(run)}"
    await onlooker.ask("DELETE", path, {"propagationPolicy": "Background"})

    report = await running

    assert not report.succeeded
    assert report.reason.endswith("was deleted while it ran")


async def test_somebody_elses_job_is_neither_followed_nor_deleted(
    hooks: HookActivities, onlooker: Onlooker, namespace: str
) -> None:
    run = job_hook(namespace, "localhost")
    containers = [{"name": "main", "image": "registry.example.com/other:1"}]
    foreign = {
        "metadata": {"name": job_name(run)},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": containers}}},
    }
    await onlooker.ask("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", foreign)

    with pytest.raises(ApplicationError, match="was not made by erlmcp-deploy") as refused:
        await begin(hooks, run)

    assert refused.value.type == REFUSED
    assert len(await jobs_in(onlooker, namespace)) == 1


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({"spec": {"containers": "bin/migrate"}}, "job.template.spec.containers must be a list"),
        ({"spec": {"containers": [{"image": None}]}}, "containers[0].image is null"),
        ({"spec": {"containers": [{"env": {"FOO": "bar"}}]}}, "containers[0].env must be a list"),
        ({"spec": {"containers": [{"env": None}]}}, "containers[0].env must be a list"),
        ({"spec": {"containers": [{"env": ["X=1"]}]}}, "containers[0].env[0] must be a mapping"),
        ({"spec": {"restartPolicy": "Always"}}, "the API server does not accept its Job"),
        ("bin/migrate", "job.template must be a mapping"),
    ],
)
async def test_a_job_that_cannot_be_made_has_failed(
    hooks: HookActivities, onlooker: Onlooker, namespace: str, template: Any, reason: str
) -> None:
    # given a hook that got past the validation of settings
    run = job_hook(namespace, "localhost")
    hook = run.hook.model_copy(update={"job": {"template": template}})

    report = await begin(hooks, run.model_copy(update={"hook": hook}))

    assert not report.succeeded
    assert report.reason.startswith("hook migrate-down: ")
    assert reason in report.reason
    assert await jobs_in(onlooker, namespace) == []


async def test_an_account_that_may_not_is_no_failure_of_the_hook(
    hooks: HookActivities, proxy: FaultProxy, namespace: str
) -> None:
    proxy.refuse(403, path="/jobs$")

    with pytest.raises(ApplicationError, match="check the role") as refused:
        await begin(hooks, job_hook(namespace, "localhost"))

    assert refused.value.type == FORBIDDEN
