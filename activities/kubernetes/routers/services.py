"""The Services that the routers send through: the stable one, kept to its side, and the canary's own.

A Service in front of an application usually selects the pods of both tracks. With a weighted router that
would give the canary traffic behind the router's back, so the selector is pinned to the stable track for as
long as there is a canary. The pin is marked with an annotation: only what we pinned do we ever unpin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from temporalio import activity

from activities.errors import INVALID_CONFIGURATION, NOT_FOUND, REFUSED, fail
from activities.kubernetes.api import FIELD_MANAGER, KubernetesApi, Object, pods, services
from activities.kubernetes.failures import StatusError
from activities.kubernetes.manifests import (
    MANAGED_BY_LABEL,
    PREFIX,
    annotations_of,
    is_ours,
    labels_of,
    match_labels,
)
from domain.workload import Track, WorkloadTarget

PIN: Final = f"{PREFIX}pinned-to-track"
TRACK_LABEL: Final = "track"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"

_PORT_FIELDS: Final = ("name", "port", "protocol", "targetPort", "appProtocol")
_NAMED: Final = 3
_TRIES: Final = 4


class Services:
    """Reads and changes the Services of a workload."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def stable(self, target: WorkloadTarget) -> Object:
        """The Service in front of the stable version; NotFound if there is none."""
        found = await self._find(target, target.service)
        if found is None:
            fail(
                NOT_FOUND,
                f"{_subject(target, target.service)} does not exist, but router {target.router.kind} sends "
                "through it; create it, or name another with workload.router.service",
            )
        return found

    async def keep_from(self, target: WorkloadTarget, canary: Object) -> None:
        """Make sure that the stable Service sends nothing to the canary's pods.

        Raises:
            ApplicationError: Refused; it does, and cannot be pinned without losing pods that serve.
        """

        async def change(service: Object) -> Object | None:
            selector = _selector(service)
            subject = _subject(target, target.service)
            if not selector:
                fail(
                    REFUSED,
                    f"{subject} has no selector, so it cannot be told from the canary's pods; "
                    "give it one, or name another with workload.router.service",
                )
            if not _selects(selector, labels_of(canary["spec"]["template"])):
                return None
            wanted = target.label_of(Track.STABLE)
            unlabelled = await self._unlabelled(target, selector, wanted)
            if unlabelled:
                more = f" and {len(unlabelled) - _NAMED} more" if len(unlabelled) > _NAMED else ""
                fail(
                    REFUSED,
                    f"{subject} selects the canary's pods too, and cannot be pinned to "
                    f"{TRACK_LABEL}={wanted}, which pods that serve do not carry "
                    f"({', '.join(unlabelled[:_NAMED])}{more}); deploy once without a canary, which puts the "
                    "label on them, or point workload.router.service at a Service of the stable pods alone",
                )
            return {
                "metadata": {"annotations": {PIN: wanted}},
                "spec": {"selector": {TRACK_LABEL: wanted}},
            }

        await self._change(lambda: self.stable(target), target, change)

    async def refuse_bypasses(self, target: WorkloadTarget, labels: Mapping[str, str], remedy: str) -> None:
        """Make sure that no other Service of the namespace sends to pods with `labels`.

        For canaries and for the sides of blue/green alike: a Service that selects by the label ``track`` has
        chosen on purpose, a headless one is for peers to find each other. Where the account may not list
        Services, that is logged, and it goes on.

        Raises:
            ApplicationError: Refused; one does, past what shares the traffic. `remedy` says how to end that.
        """
        try:
            listing = await self._api.list_all(services(target.namespace))
        except StatusError as error:
            if error.status != 403:
                raise
            activity.logger.warning(
                "Services may not be listed (RBAC: services, list): whether others send to the new pods is "
                "not known",
                extra={"namespace": target.namespace},
            )
            return
        names = sorted(
            found["metadata"]["name"]
            for found in listing.get("items") or []
            if found["metadata"]["name"] not in (target.service, target.canary_service)
            and _balances(found)
            and TRACK_LABEL not in _selector(found)
            and _selects(_selector(found), labels)
        )
        if names:
            fail(
                REFUSED,
                f"{_subject(target, ', '.join(names))} would send traffic to the new version's pods past "
                f"what shares it; {remedy}",
            )

    async def _unlabelled(
        self, target: WorkloadTarget, selector: Mapping[str, str], wanted: str
    ) -> list[str]:
        """Pods behind the Service that would lose their traffic if it selected one track."""
        text = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        listing = await self._api.list_all(pods(target.namespace), labelSelector=text)
        return sorted(
            pod["metadata"]["name"]
            for pod in listing.get("items") or []
            if not pod["metadata"].get("deletionTimestamp")
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            and labels_of(pod).get(TRACK_LABEL) not in (wanted, target.label_of(Track.CANARY))
        )

    async def open_to_both(self, target: WorkloadTarget) -> None:
        """For sharing by replicas: undo a pin of ours that a weighted router left behind.

        Raises:
            ApplicationError: Refused; somebody else made the Service select one track only.
        """
        try:
            found = await self._find(target, target.service)
        except StatusError as error:
            if error.status == 403:
                return  # sharing by replicas needs no right to look at Services
            raise
        if found is None:
            return
        wanted = _selector(found).get(TRACK_LABEL)
        if wanted is None or wanted == target.label_of(Track.CANARY):
            return
        if annotations_of(found).get(PIN) != wanted:
            fail(
                REFUSED,
                f"{_subject(target, target.service)} selects {TRACK_LABEL}={wanted} only, so a canary that "
                "shares by replicas would get no traffic; remove that from its selector, or set "
                "workload.router.kind to ingress_nginx or gateway_api",
            )
        await self.unpin(target)

    async def unpin(self, target: WorkloadTarget, labels: Mapping[str, str] | None = None) -> None:
        """Undo our pin, if there is one; with `labels` only if it would shut out pods that carry those."""

        async def change(service: Object) -> Object | None:
            pinned = annotations_of(service).get(PIN)
            if pinned is None or (labels is not None and labels.get(TRACK_LABEL) == pinned):
                return None
            if _selector(service).get(TRACK_LABEL) != pinned:
                return {"metadata": {"annotations": {PIN: None}}}  # somebody else chose another side since
            return {"metadata": {"annotations": {PIN: None}}, "spec": {"selector": {TRACK_LABEL: None}}}

        await self._change(lambda: self._find(target, target.service), target, change)

    async def _change(
        self,
        read: Callable[[], Awaitable[Object | None]],
        target: WorkloadTarget,
        change: Callable[[Object], Awaitable[Object | None]],
    ) -> None:
        """Change the Service as it was read, or read it again."""
        for left in reversed(range(_TRIES)):
            found = await read()
            patch = None if found is None else await change(found)
            if found is None or patch is None:
                return
            try:
                await self._api.merge(
                    services(target.namespace),
                    target.service,
                    patch,
                    resource_version=found["metadata"]["resourceVersion"],
                )
                return
            except StatusError as error:
                if error.status not in (404, 409) or not left:
                    raise

    async def offer_canary(self, target: WorkloadTarget, canary: Object) -> None:
        """Have a Service in front of the canary's pods alone, with the ports of the stable one.

        One that was made elsewhere is used as it is if it does so, and was named on purpose.
        """
        name = target.canary_service
        if name == target.service:
            fail(
                INVALID_CONFIGURATION,
                f"workload.router.canary_service {name!r} is the stable Service; name another",
            )
        selector = match_labels(canary)
        live = await self._find(target, name)
        if live is not None and not belongs_to(live, target):
            named = target.router.canary_service is not None
            if named and _is_canarys_alone(live, target, canary):
                return
            fail(
                REFUSED,
                f"{_subject(target, name)} was not made by {FIELD_MANAGER} for {target.deployment}; "
                + (
                    f"let its selector be {TRACK_LABEL}={target.label_of(Track.CANARY)} and the labels of "
                    "the canary's pods, or leave workload.router.canary_service out"
                    if named
                    else "rename or delete it, or name another with workload.router.canary_service"
                ),
            )
        stable = await self.stable(target)
        await self._api.apply(
            services(target.namespace),
            name,
            canary_service(target, stable, selector),
            force=target.force_conflicts,
        )

    async def delete_canary(self, target: WorkloadTarget) -> None:
        """Delete the canary's Service, if we made it."""
        live = await self._find(target, target.canary_service)
        if live is not None and belongs_to(live, target):
            await self._api.delete(services(target.namespace), target.canary_service, live["metadata"]["uid"])

    async def _find(self, target: WorkloadTarget, name: str) -> Object | None:
        return await self._api.find(services(target.namespace), name)


def canary_service(target: WorkloadTarget, stable: Object, selector: Mapping[str, str]) -> Object:
    """The Service in front of the canary's pods; headless if the stable one is."""
    spec: dict[str, Any] = {
        "selector": dict(selector),
        "ports": [
            {field: port[field] for field in _PORT_FIELDS if field in port}
            for port in stable["spec"].get("ports") or []
        ],
    }
    if stable["spec"].get("clusterIP") == "None":
        spec["clusterIP"] = "None"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": target.canary_service,
            "namespace": target.namespace,
            "labels": identity(target),
        },
        "spec": spec,
    }


def identity(target: WorkloadTarget) -> dict[str, str]:
    """The labels by which we know what we made for this workload."""
    return {
        "app": target.application,
        INSTANCE_LABEL: target.deployment,
        MANAGED_BY_LABEL: FIELD_MANAGER,
    }


def belongs_to(found: Object, target: WorkloadTarget) -> bool:
    """Whether we made an object, and for this workload: two can share an Ingress or a route."""
    return is_ours(found) and labels_of(found).get(INSTANCE_LABEL) == target.deployment


def _selector(service: Object) -> dict[str, str]:
    return dict(service["spec"].get("selector") or {})


def _balances(service: Object) -> bool:
    """Whether it spreads traffic over the pods it selects."""
    spec = service["spec"]
    return (
        bool(spec.get("selector")) and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName"
    )


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


def _is_canarys_alone(service: Object, target: WorkloadTarget, canary: Object) -> bool:
    selector, labels = _selector(service), labels_of(canary["spec"]["template"])
    stable = {**labels, TRACK_LABEL: target.label_of(Track.STABLE)}
    return bool(selector) and _selects(selector, labels) and not _selects(selector, stable)


def _subject(target: WorkloadTarget, name: str) -> str:
    return f"Service {name} in namespace {target.namespace}"
