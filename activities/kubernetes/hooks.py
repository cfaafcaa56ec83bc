"""Hooks as Kubernetes Jobs (``batch/v1``): found again by name, followed to their end."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

import aiohttp
from temporalio import activity

from activities.errors import CONFLICT, REFUSED, fail
from activities.kubernetes.api import FIELD_MANAGER, KubernetesApi, Object, jobs, pods
from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError, raise_typed
from activities.kubernetes.heartbeat import Progress, heartbeats
from activities.kubernetes.manifests import (
    DEPLOYMENT_ID,
    KEY,
    MANAGED_BY_LABEL,
    PREFIX,
    ManifestError,
    annotations_of,
    is_ours,
    match_labels,
)
from activities.kubernetes.rollout import describe_failures
from domain.durations import format_duration
from domain.hooks import HookReport, HookRun, job_fault
from domain.merging import merge

HOOK_LABEL: Final = f"{PREFIX}hook"
KEY_VARIABLE: Final = "ERLMCP_DEPLOY_KEY"
_KEPT: Final = timedelta(days=1)
"""How long a finished Job is kept, to be looked at and to be found by a retry."""
_OVERDUE: Final = timedelta(seconds=30)
"""Past the Job's own deadline: then its controller is not at work, and we end the Job ourselves."""
_CLEANING_SECONDS: Final = 10.0
_LOG_LINES: Final = 12
_LOG_BYTES: Final = 4096
_LOG_SECONDS: Final = 10.0
_NOT_STARTED: Final = ("ContainerCannotRun", "StartError")
_NEVER_ACCEPTED: Final = (400, 422)


class HookJobs:
    """Runs hooks as Jobs; holds the client of one cluster."""

    def __init__(self, connection: ClusterConnection, *, overdue: timedelta = _OVERDUE) -> None:
        self._api = _LogReadingApi(connection)
        self._overdue = overdue

    async def close(self) -> None:
        await self._api.close()

    async def run(self, run: HookRun) -> HookReport:
        """Start the hook's Job, unless it is there already, and follow it to its end.

        A cancellation that was asked for ends the Job; a worker that stops leaves it to the next attempt.

        Raises:
            ApplicationError: what the API server's outages and refusals mean; Refused for somebody else's
                Job under this name; Conflict while an earlier one is being deleted.
        """
        subject = f"Job {job_name(run)} in namespace {run.target.namespace}"
        async with _work(subject) as progress:
            try:
                manifest = job_manifest(run)
            except ManifestError as error:
                return HookReport(succeeded=False, reason=f"hook {run.hook.name}: {error}")
            try:
                job = await self._start(run, manifest, subject)
            except StatusError as error:
                if error.status not in _NEVER_ACCEPTED:
                    raise
                reason = f"hook {run.hook.name}: the API server does not accept its Job: {error.message}"
                return HookReport(succeeded=False, reason=f"{reason}; correct job")
            try:
                kept = timedelta(seconds=manifest["spec"]["ttlSecondsAfterFinished"])
                await self._delete_outdated(run, job, kept)
                async with asyncio.timeout((run.hook.timeout + self._overdue).total_seconds()) as limit:
                    return await self._follow(run, subject, progress)
            except TimeoutError:
                if not limit.expired():
                    raise
                await self._end(job)
                waited = format_duration(run.hook.timeout)
                return HookReport(succeeded=False, reason=f"{subject} did not end within {waited}")
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                if details is not None and details.cancel_requested:
                    # If that fails, the Job's own deadline ends it.
                    with suppress(StatusError, aiohttp.ClientError, OSError):
                        await asyncio.shield(self._end(job))
                raise

    async def _start(self, run: HookRun, manifest: Object, subject: str) -> Object:
        collection, name = jobs(run.target.namespace), manifest["metadata"]["name"]
        try:
            return await self._api.create(collection, manifest)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
        found = await self._api.find(collection, name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            fail(CONFLICT, f"{subject} is just being deleted")
        if not is_ours(found) or annotations_of(found).get(KEY) != run.key:
            fail(REFUSED, f"{subject} was not made by {FIELD_MANAGER} for this roll-back; delete it")
        return found

    async def _follow(self, run: HookRun, subject: str, progress: Progress) -> HookReport:
        async with aclosing(self._api.follow(jobs(run.target.namespace), job_name(run))) as states:
            async for job in states:
                if job is None:
                    return HookReport(succeeded=False, reason=f"{subject} was deleted while it ran")
                progress.text = _describe(job)
                ended = _conditions(job).keys() & {"Complete", "Failed"}
                if ended:
                    return await self._report(run, job, subject, succeeded="Complete" in ended)
        raise AssertionError("following never ends by itself")

    async def _report(self, run: HookRun, job: Object, subject: str, *, succeeded: bool) -> HookReport:
        """How it ended, and what its newest pod says or where to read that."""
        found = await self._pods(job)
        log = where = ""
        if found:
            newest, container = found[0]["metadata"], found[0]["spec"]["containers"][0]["name"]
            if run.hook.log:
                log = await self._api.log_tail(newest["namespace"], newest["name"], container)
            if not log:
                pod = f"{newest['name']} --namespace {newest['namespace']} --container {container}"
                where = f"; its output: kubectl logs {pod}"
        if succeeded:
            return HookReport(succeeded=True, reason=f"{subject} completed{where}", log=log)
        condition = _conditions(job)["Failed"]
        said = ": ".join(word for word in (condition.get("reason"), condition.get("message")) if word)
        failures = describe_failures(None, found if run.hook.log else map(_without_output, found))
        why = f" [{failures}]" if failures else ""
        return HookReport(succeeded=False, reason=f"{subject} failed, {said}{why}{where}", log=log)

    async def _pods(self, job: Object) -> list[Object]:
        """Its pods, newest first; none if they cannot be asked for."""
        selector = ",".join(f"{label}={value}" for label, value in sorted(match_labels(job).items()))
        try:
            listing = await self._api.list_all(pods(job["metadata"]["namespace"]), labelSelector=selector)
        except (StatusError, aiohttp.ClientError, OSError):
            return []
        found: list[Object] = listing.get("items") or []
        return sorted(found, key=lambda p: str(p["metadata"].get("creationTimestamp")), reverse=True)

    async def _delete_outdated(self, run: HookRun, current: Object, kept: timedelta) -> None:
        """Delete finished Jobs of the same hook that a cluster without the TTL controller keeps for ever.

        Kubernetes has it by default from 1.21 on; an API server without it drops the field. Best effort.
        """
        ours = f"{MANAGED_BY_LABEL}={FIELD_MANAGER},{HOOK_LABEL}={run.hook.name}"
        with suppress(StatusError, aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            async with asyncio.timeout(_CLEANING_SECONDS):
                listing = await self._api.list_all(jobs(run.target.namespace), labelSelector=ours)
                for job in listing.get("items") or []:
                    ended = _ended_at(job)
                    outdated = ended is not None and datetime.now(UTC) - ended >= kept
                    if outdated and job["metadata"]["uid"] != current["metadata"]["uid"]:
                        await self._end(job)

    async def _end(self, job: Object) -> None:
        """Delete our Job and its pods, so that it does not go on behind our back."""
        metadata = job["metadata"]
        await self._api.delete(jobs(metadata["namespace"]), metadata["name"], metadata["uid"])


class _LogReadingApi(KubernetesApi):
    async def log_tail(self, namespace: str, pod: str, container: str) -> str:
        """The last lines of a container's log; nothing if they cannot be read."""
        query = {"container": container, "tailLines": str(_LOG_LINES), "limitBytes": str(_LOG_BYTES)}
        path = f"{pods(namespace)}/{quote(pod, safe='')}/log"
        try:
            answer = await self._send("GET", path, query=query, timeout=_LOG_SECONDS)
            try:
                content = await answer.read()
            finally:
                answer.release()
        except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            return ""
        if answer.status != 200:
            return ""
        lines = content.decode(errors="replace").splitlines()
        return "\n".join("".join(c for c in line if c.isprintable()) for line in lines).strip()


def job_name(run: HookRun) -> str:
    """The same run has the same Job."""
    return f"{run.hook.name}-{hashlib.sha256(run.key.encode()).hexdigest()[:10]}"


def job_manifest(run: HookRun) -> Object:
    """The Job of a hook: what is configured, over one container of the version's image.

    Raises:
        ManifestError: the configured part does not fit; the text names the field and the remedy.
    """
    # None of the service's own labels: a Service that selects by them would send the Job its traffic.
    labels = {MANAGED_BY_LABEL: FIELD_MANAGER, HOOK_LABEL: run.hook.name}
    origin = {DEPLOYMENT_ID: run.deployment_id}
    base = {
        "metadata": {"labels": labels, "annotations": origin},
        "spec": {"restartPolicy": "Never"},
    }
    settings = run.hook.job or {}
    fault = job_fault(settings)
    if fault is not None:
        raise ManifestError(fault)
    configured = settings.get("template") or {}
    pod = dict(configured.get("spec") or {})
    containers = _containers(run, pod.pop("containers", None) or [{}])
    template = merge(base, {**configured, "spec": pod})
    template["spec"]["containers"] = containers
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(run),
            "namespace": run.target.namespace,
            "labels": labels,
            "annotations": {KEY: run.key, **origin},
        },
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": int(_KEPT.total_seconds()),
            **merge({}, settings),
            "activeDeadlineSeconds": max(1, math.ceil(run.hook.timeout.total_seconds())),
            "template": template,
        },
    }


def _containers(run: HookRun, configured: list[Object]) -> list[Object]:
    told = {**run.variables, KEY_VARIABLE: run.key}
    containers = []
    for place, changes in enumerate(configured):
        name = run.target.container if place == 0 else f"{run.target.container}-{place}"
        container = merge({"name": name, "image": run.image, "env": []}, changes)
        if not container["image"]:
            raise ManifestError(
                f"no image of the version is known; write job.template.spec.containers[{place}].image"
            )
        named = {variable["name"] for variable in container["env"]}
        ours = [{"name": n, "value": v} for n, v in sorted(told.items()) if n not in named]
        containers.append({**container, "env": [*ours, *container["env"]]})
    return containers


def _conditions(job: Object) -> dict[str, Object]:
    found = (job.get("status") or {}).get("conditions") or []
    return {c["type"]: c for c in found if c["status"] == "True"}


def _ended_at(job: Object) -> datetime | None:
    """When a Job ended, as its TTL is counted; none while it has not."""
    for kind, condition in _conditions(job).items():
        if kind in ("Complete", "Failed"):
            return datetime.fromisoformat(condition["lastTransitionTime"])
    return None


def _without_output(pod: Object) -> Object:
    """A pod without what its containers have said at their end (which may be the end of their log).

    What the kubelet says of a container that it could not even start stays.
    """
    status = dict(pod.get("status") or {})
    for field in ("initContainerStatuses", "containerStatuses"):
        status[field] = [_quiet(container) for container in status.get(field) or []]
    return {**pod, "status": status}


def _quiet(container: Object) -> Object:
    quiet = dict(container)
    for field in ("state", "lastState"):
        ended = (container.get(field) or {}).get("terminated")
        if ended and ended.get("reason") not in _NOT_STARTED:
            quiet[field] = {"terminated": {k: v for k, v in ended.items() if k != "message"}}
    return quiet


def _describe(job: Object) -> str:
    """One line for the heartbeat."""
    status = job.get("status") or {}
    counts = [f"{status.get(field, 0)} {field}" for field in ("active", "succeeded", "failed")]
    return f"Job {job['metadata']['name']}: pods {', '.join(counts)}"


@asynccontextmanager
async def _work(subject: str) -> AsyncIterator[Progress]:
    """Heartbeats while it goes on, and typed errors if it fails."""
    try:
        async with heartbeats(subject) as progress:
            yield progress
    except (StatusError, aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise_typed(error, f"run {subject}")
