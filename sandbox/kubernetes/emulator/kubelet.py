"""A node with a kubelet that runs nothing but really probes: pods become Ready when their probes say so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx

from sandbox.kubernetes.emulator.controller import object_key, record_event
from sandbox.kubernetes.emulator.errors import StatusError
from sandbox.kubernetes.emulator.patching import MERGE
from sandbox.kubernetes.emulator.registry import Registry, Target, Write, timestamp
from sandbox.kubernetes.emulator.resources import NODES, PODS, Object
from sandbox.kubernetes.emulator.store import Change

NODE_NAME: Final = "localhost"
KUBELET: Final = Write("kubelet")
NO_POD_NETWORK: Final = "pods have no network of their own here: set httpGet.host or tcpSocket.host"

logger = logging.getLogger(__name__)


class Kubelet:
    """Binds pods to its node and follows each until it is deleted."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._pods: dict[str, asyncio.Task[None]] = {}
        self._addresses = iter(range(1, 2**16))
        registry.create(NODES, "", {"metadata": {"name": NODE_NAME, "labels": _node_labels()}}, KUBELET)
        node = Target(NODES, "", NODE_NAME, subresource="status")
        registry.patch(node, {"status": _node_status()}, MERGE, KUBELET)

    async def run(self) -> None:
        """Work until cancelled."""
        # Certificates are not checked, as the real kubelet does not; proxies are for others.
        async with (
            httpx.AsyncClient(
                verify=False,  # noqa: S501
                trust_env=False,
                limits=httpx.Limits(max_keepalive_connections=0),
                headers={"User-Agent": "kube-probe/1.20"},
            ) as http,
            asyncio.TaskGroup() as tasks,
        ):
            with self.registry.store.follow() as changes:
                while True:
                    change = await changes.get()
                    if change.resource is PODS:
                        self._note(change, http, tasks)

    def _note(self, change: Change, http: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> None:
        pod = change.current
        uid = pod["metadata"]["uid"]
        if change.type == "DELETED" or "deletionTimestamp" in pod["metadata"]:
            if (task := self._pods.pop(uid, None)) is not None:
                task.cancel()
            if change.type != "DELETED":
                self.registry.finish_deletion(PODS, pod)
        elif uid not in self._pods and pod["spec"].get("nodeName", NODE_NAME) == NODE_NAME:
            if not _node_labels().items() >= (pod["spec"].get("nodeSelector") or {}).items():
                self._refuse(pod)
                return
            third, fourth = divmod(next(self._addresses), 256)
            runner = PodRunner(self.registry, pod, f"10.244.{third}.{fourth}", http)
            self._pods[uid] = tasks.create_task(runner.run())

    def _refuse(self, pod: Object) -> None:
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 node(s) didn't match node selector.",
        }
        target = Target(PODS, *object_key(pod), subresource="status")
        self.registry.patch(target, {"status": {"conditions": [condition]}}, MERGE, KUBELET)


@dataclass(slots=True)
class ContainerState:
    """What the kubelet reports of one container."""

    started_at: str
    ready: bool
    restarts: int = 0


class ProbesFailed(Exception):  # noqa: N818 - an outcome: the container is restarted
    """A liveness or startup probe failed as often as its threshold allows."""


class PodRunner:
    """One pod on the node: its containers' states, its probes, its status."""

    def __init__(self, registry: Registry, pod: Object, address: str, http: httpx.AsyncClient) -> None:
        self.registry = registry
        self._pod = pod
        self._address = address
        self._http = http
        self._containers = {
            each["name"]: ContainerState(timestamp(), ready="readinessProbe" not in each)
            for each in pod["spec"]["containers"]
        }

    async def run(self) -> None:
        """Bind, start and probe the pod until the task is cancelled."""
        try:
            bound = {"spec": {"nodeName": NODE_NAME}}
            self.registry.patch(Target(PODS, *object_key(self._pod)), bound, MERGE, Write("kube-scheduler"))
            self._report()
            async with asyncio.TaskGroup() as probes:
                for container in self._pod["spec"]["containers"]:
                    probes.create_task(self._follow(container))
        except* StatusError as gone:
            logger.info("pod %s: %s", self._pod["metadata"]["name"], gone.exceptions[0])

    async def _follow(self, container: Object) -> None:
        state = self._containers[container["name"]]
        while True:
            try:
                await self._probe_once_started(container, state)
            except* ProbesFailed:
                state.restarts += 1
                state.started_at = timestamp()
                state.ready = "readinessProbe" not in container
                self._report()
            else:
                return

    async def _probe_once_started(self, container: Object, state: ContainerState) -> None:
        if (startup := container.get("startupProbe")) is not None:
            state.ready = False
            await self._watch(container, "Startup", startup, until_success=True)
            if "readinessProbe" not in container:
                self._set_ready(state, True)
        async with asyncio.TaskGroup() as probes:
            if (readiness := container.get("readinessProbe")) is not None:
                probes.create_task(
                    self._watch(
                        container, "Readiness", readiness, lambda ready: self._set_ready(state, ready)
                    )
                )
            if (liveness := container.get("livenessProbe")) is not None:
                probes.create_task(self._watch(container, "Liveness", liveness))

    async def _watch(
        self,
        container: Object,
        name: str,
        probe: Object,
        report: Callable[[bool], None] | None = None,
        *,
        until_success: bool = False,
    ) -> None:
        """Probe for ever, or until it succeeds; without `report` the threshold of failures is fatal."""
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        successes = failures = 0
        while True:
            failure = await self._attempt(container, probe)
            if failure is None:
                successes, failures = successes + 1, 0
            else:
                successes, failures = 0, failures + 1
                self._record_failure(name, failure)
            if successes >= probe["successThreshold"]:
                if until_success:
                    return
                if report is not None:
                    report(True)
            elif failures >= probe["failureThreshold"]:
                if report is None:
                    raise ProbesFailed
                report(False)
            await asyncio.sleep(probe["periodSeconds"])

    async def _attempt(self, container: Object, probe: Object) -> str | None:
        """Send one probe; None is success, else what was wrong."""
        timeout = probe["timeoutSeconds"]
        if (action := probe.get("httpGet")) is not None:
            return await self._get(container, action, timeout)
        if (socket := probe.get("tcpSocket")) is not None:
            if not socket.get("host"):
                return NO_POD_NETWORK
            try:
                async with asyncio.timeout(timeout):
                    _, writer = await asyncio.open_connection(
                        socket["host"], _port(container, socket["port"])
                    )
            except (OSError, TimeoutError) as error:
                return f"dial tcp {socket['host']}:{socket['port']}: {error or 'i/o timeout'}"
            writer.close()
        return None  # exec: nothing runs, nothing fails, as in the hollow kubelet

    async def _get(self, container: Object, action: Object, timeout: float) -> str | None:
        if not action.get("host"):
            return NO_POD_NETWORK
        authority = f"{action['host']}:{_port(container, action['port'])}"
        url = f"{action['scheme'].lower()}://{authority}{action['path']}"
        headers = [(each["name"], each["value"]) for each in action.get("httpHeaders") or []]
        try:
            # A total limit: httpx's own counts each read afresh.
            async with asyncio.timeout(timeout):
                answer = await self._http.get(url, headers=headers, timeout=None)
        except TimeoutError:
            return f'Get "{url}": context deadline exceeded'
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f'Get "{url}": {error}'
        if 200 <= answer.status_code < 400:
            return None
        return f"HTTP probe failed with statuscode: {answer.status_code}"

    def _record_failure(self, name: str, failure: str) -> None:
        record_event(
            self.registry,
            self._pod,
            kind="Warning",
            reason="Unhealthy",
            message=f"{name} probe failed: {failure}",
            component="kubelet",
        )

    def _set_ready(self, state: ContainerState, ready: bool) -> None:
        if state.ready != ready:
            state.ready = ready
            self._report()

    def _report(self) -> None:
        """Write the pod's status as it is now."""
        live = self.registry.read(Target(PODS, *object_key(self._pod)))
        earlier = {each["type"]: each for each in live["status"].get("conditions") or []}
        unready = [name for name, state in self._containers.items() if not state.ready]
        conditions = []
        for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled"):
            is_true = not unready or kind in ("Initialized", "PodScheduled")
            condition: Object = {"type": kind, "status": "True" if is_true else "False"}
            if not is_true:
                condition["reason"] = "ContainersNotReady"
                condition["message"] = f"containers with unready status: [{' '.join(unready)}]"
            same = earlier.get(kind, {}).get("status") == condition["status"]
            condition["lastTransitionTime"] = earlier[kind]["lastTransitionTime"] if same else timestamp()
            conditions.append(condition)
        status = {
            **live["status"],
            "phase": "Running",
            "conditions": conditions,
            "hostIP": "127.0.0.1",
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "startTime": live["status"].get("startTime") or timestamp(),
            "containerStatuses": [self._container_status(each) for each in live["spec"]["containers"]],
        }
        target = Target(PODS, *object_key(self._pod), subresource="status")
        self.registry.replace(target, {**live, "status": status}, KUBELET)

    def _container_status(self, container: Object) -> Object:
        state = self._containers[container["name"]]
        last_state: Object = {}
        if state.restarts:
            last_state = {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": state.started_at}}
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": f"emulated://{container['image']}",
            "containerID": f"emulated://{self._pod['metadata']['uid']}/{container['name']}",
            "ready": state.ready,
            "started": True,
            "restartCount": state.restarts,
            "state": {"running": {"startedAt": state.started_at}},
            "lastState": last_state,
        }


def _port(container: Object, port: Any) -> int:
    """A probe's port as a number; names are looked up in the container."""
    if isinstance(port, int):
        return port
    named = {each.get("name"): each["containerPort"] for each in container.get("ports") or []}
    return int(named.get(port, port if str(port).isdigit() else 0))


def _node_labels() -> dict[str, str]:
    return {"kubernetes.io/hostname": NODE_NAME, "kubernetes.io/os": "linux"}


def _node_status() -> Object:
    now = timestamp()
    return {
        "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
        "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "emulated kubelet: probes are sent, nothing runs",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
        ],
        "addresses": [{"type": "Hostname", "address": NODE_NAME}],
        "nodeInfo": {
            "architecture": "none",
            "bootID": "emulated",
            "containerRuntimeVersion": "emulated://1",
            "kernelVersion": "none",
            "kubeProxyVersion": "v1.20.2",
            "kubeletVersion": "v1.20.2",
            "machineID": "emulated",
            "operatingSystem": "linux",
            "osImage": "none",
            "systemUUID": "emulated",
        },
    }
