"""The endpoints controller: which pods a Service sends to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sandbox.kubernetes.emulator.controller import CONTROLLER_MANAGER, Controller, object_key
from sandbox.kubernetes.emulator.patching import MERGE
from sandbox.kubernetes.emulator.registry import Target
from sandbox.kubernetes.emulator.resources import ENDPOINTS, PODS, SERVICES, Object
from sandbox.kubernetes.emulator.store import Change, Key


class EndpointsController(Controller):
    """Keeps one Endpoints object for each Service with a selector."""

    def keys(self, change: Change) -> Iterable[Key]:
        if change.resource is SERVICES:
            return [object_key(change.current)]
        if change.resource is PODS:
            namespace = change.current["metadata"]["namespace"]
            return [object_key(each) for each in self.store.objects(SERVICES, namespace)]
        return ()

    def reconcile(self, key: Key) -> float | None:
        service = self.store.get(SERVICES, *key)
        current = self.store.get(ENDPOINTS, *key)
        if service is None:
            if current is not None:
                self.registry.delete(Target(ENDPOINTS, *key))
            return None
        if not service["spec"].get("selector"):
            return None
        subsets = list(_subsets(service, self._pods(service)))
        if current is None:
            content = {"metadata": {"name": key[1]}, "subsets": subsets}
            self.registry.create(ENDPOINTS, key[0], content, CONTROLLER_MANAGER)
        elif (current.get("subsets") or []) != subsets:
            self.registry.patch(Target(ENDPOINTS, *key), {"subsets": subsets}, MERGE, CONTROLLER_MANAGER)
        return None

    def _pods(self, service: Object) -> Iterator[Object]:
        wanted = service["spec"]["selector"].items()
        for pod in self.store.objects(PODS, service["metadata"]["namespace"]):
            going = "deletionTimestamp" in pod["metadata"] or pod["status"].get("phase") in (
                "Failed",
                "Succeeded",
            )
            if not going and pod["status"].get("podIP") and wanted <= _labels(pod).items():
                yield pod


def _labels(pod: Object) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}


def _subsets(service: Object, pods: Iterable[Object]) -> Iterator[Object]:
    """One subset; pods that name a port differently are no case of the sandbox."""
    ready: list[Object] = []
    waiting: list[Object] = []
    ports: list[Object] = []
    for pod in pods:
        conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions") or []}
        address = {
            "ip": pod["status"]["podIP"],
            "nodeName": pod["spec"].get("nodeName"),
            "targetRef": {
                "kind": "Pod",
                "namespace": pod["metadata"]["namespace"],
                "name": pod["metadata"]["name"],
                "uid": pod["metadata"]["uid"],
            },
        }
        (ready if conditions.get("Ready") == "True" else waiting).append(address)
        ports = ports or list(_ports(service, pod))
    if ready or waiting:
        parts = {"addresses": ready, "notReadyAddresses": waiting, "ports": ports}
        yield {name: part for name, part in parts.items() if part}


def _ports(service: Object, pod: Object) -> Iterator[Object]:
    by_name = {
        port.get("name"): port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
    }
    for port in service["spec"].get("ports") or []:
        target = port["targetPort"]
        number = by_name.get(target) if isinstance(target, str) else target
        if number is not None:
            named = {"name": port["name"]} if port.get("name") else {}
            yield {**named, "port": number, "protocol": port["protocol"]}
