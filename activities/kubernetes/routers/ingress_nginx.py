"""ingress-nginx: a second Ingress whose annotations give the canary its share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from temporalio import activity

from activities.errors import NOT_FOUND, REFUSED, fail
from activities.kubernetes.api import FIELD_MANAGER, INGRESS_CLASSES, KubernetesApi, Object, ingresses
from activities.kubernetes.failures import StatusError
from activities.kubernetes.manifests import annotations_of
from activities.kubernetes.routers.services import Services, belongs_to, identity
from activities.kubernetes.routers.weighted import Shares, WeightedRouter
from activities.kubernetes.tracks import Tracks
from domain.workload import WorkloadTarget

_NGINX: Final = "nginx.ingress.kubernetes.io/"
CANARY: Final = f"{_NGINX}canary"
WEIGHT: Final = f"{_NGINX}canary-weight"
WEIGHT_TOTAL: Final = f"{_NGINX}canary-weight-total"
CLASS: Final = "kubernetes.io/ingress.class"

_CONTROLLER: Final = "ingress-nginx"
"""In the name of the controller: ``k8s.io/ingress-nginx``, or of a second one beside it such as
``k8s.io/internal-ingress-nginx``."""
_NOT_INHERITED: Final = (f"{_NGINX}load-balance", f"{_NGINX}upstream-hash-by")
"""Beginnings of the annotations that ingress-nginx does not take over from the stable Ingress by itself."""
_DEFAULT_TOTAL: Final = 100


class IngressNginxRouter(WeightedRouter):
    """Keeps ``{ingress}-canary`` beside the stable Ingress; weight 0 is an annotation, not an absence.

    Rights beside those on Deployments: services (get, list, create, patch, delete) and
    ingresses.networking.k8s.io (get, create, patch, delete), pods (list). And in the whole cluster:
    ingressclasses.networking.k8s.io (get), without which it is not known who serves the Ingress.
    """

    def __init__(self, tracks: Tracks, services: Services, api: KubernetesApi) -> None:
        super().__init__(tracks, services)
        self._api = api

    async def check(self, target: WorkloadTarget) -> None:
        stable = await self._stable(target)
        canary_ingress(stable, target, 0)
        await self._check_class(stable, target)
        live = await self._find(target, _canary_name(target))
        if live is not None and not belongs_to(live, target):
            fail(
                REFUSED,
                f"{_subject(target, _canary_name(target))} was not made by {FIELD_MANAGER} for "
                f"{target.deployment}; rename or delete it, as this name is the canary's and ingress-nginx "
                "takes one canary per rule",
            )

    async def _check_class(self, stable: Object, target: WorkloadTarget) -> None:
        """For another controller the canary's Ingress is one more Ingress, without any weight."""
        name = annotations_of(stable).get(CLASS) or stable["spec"].get("ingressClassName")
        if name is None:
            return
        try:
            found = await self._api.find(INGRESS_CLASSES, name)
        except StatusError as error:
            if error.status != 403:
                raise
            found = None
        if found is None:
            activity.logger.warning(
                "the IngressClass is not there, or may not be read (RBAC: ingressclasses, get), "
                "so it is not known whether ingress-nginx serves the Ingress",
                extra={"ingress_class": name, "ingress": _name(target)},
            )
            return
        controller = found["spec"].get("controller", "")
        if _CONTROLLER not in controller.rpartition("/")[2]:
            fail(
                REFUSED,
                f"{_subject(target, _name(target))} is of class {name}, which {controller} serves and not "
                "ingress-nginx, so canary annotations would mean nothing; name an Ingress of ingress-nginx "
                "with workload.router.ingress, or choose another workload.router.kind",
            )

    async def steer(self, target: WorkloadTarget, weight: int) -> str:
        await self.check(target)
        manifest = canary_ingress(await self._stable(target), target, weight)
        name = _canary_name(target)
        await self._api.apply(ingresses(target.namespace), name, manifest, force=target.force_conflicts)
        return ""

    async def take_away(self, target: WorkloadTarget) -> str:
        name = _canary_name(target)
        live = await self._find(target, name)
        if live is None:
            return ""
        if not belongs_to(live, target):
            return f"Ingress {name} was not made by {FIELD_MANAGER} and was left alone"
        if annotations_of(live).get(WEIGHT) != "0":
            # Not applied anew: the Ingress it was made after may be gone, or be somebody else's by now.
            change = {"metadata": {"annotations": {WEIGHT: "0"}}}
            try:
                await self._api.merge(ingresses(target.namespace), name, change)
            except StatusError as error:
                if error.status != 404:  # gone meanwhile
                    raise
        return ""

    async def shares(self, target: WorkloadTarget) -> Shares:
        live = await self._find(target, _canary_name(target))
        if live is None or not belongs_to(live, target):
            return Shares()
        notes = annotations_of(live)
        if notes.get(CANARY) != "true":
            return Shares((0.0,), f"Ingress {_canary_name(target)} is no longer marked as a canary")
        try:
            percent = 100 * int(notes.get(WEIGHT, "0")) / int(notes.get(WEIGHT_TOTAL, _DEFAULT_TOTAL))
        except (ValueError, ZeroDivisionError):
            # What ingress-nginx cannot read it takes for 0.
            return Shares((0.0,), f"Ingress {_canary_name(target)} has no readable weight")
        return Shares((percent,))

    async def clean(self, target: WorkloadTarget) -> None:
        live = await self._find(target, _canary_name(target))
        if live is not None and belongs_to(live, target):
            await self._api.delete(ingresses(target.namespace), _canary_name(target), live["metadata"]["uid"])

    async def _stable(self, target: WorkloadTarget) -> Object:
        found = await self._find(target, _name(target))
        if found is None:
            fail(
                NOT_FOUND,
                f"{_subject(target, _name(target))} does not exist, and the canary's repeats its rules; "
                "create it, or name another with workload.router.ingress",
            )
        return found

    async def _find(self, target: WorkloadTarget, name: str) -> Object | None:
        return await self._api.find(ingresses(target.namespace), name)


def canary_ingress(stable: Object, target: WorkloadTarget, weight: int) -> Object:
    """The Ingress that gives the canary `weight` percent wherever the stable one leads to its Service.

    Paths to other Services are left out: what the canary does not serve has no canary.
    """
    spec = stable["spec"]
    rules = [canary for rule in spec.get("rules") or [] if (canary := _canary_rule(rule, target)) is not None]
    repeated: dict[str, Any] = {field: spec[field] for field in ("ingressClassName", "tls") if field in spec}
    if _leads_to(spec.get("defaultBackend"), target.service):
        repeated["defaultBackend"] = _backend(spec["defaultBackend"], target)
    if rules:
        repeated["rules"] = rules
    elif "defaultBackend" not in repeated:
        fail(
            NOT_FOUND,
            f"{_subject(target, _name(target))} has no path to Service {target.service}; "
            "name the Ingress with workload.router.ingress, or the Service with workload.router.service",
        )
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": _canary_name(target),
            "namespace": target.namespace,
            "labels": identity(target),
            "annotations": _annotations(annotations_of(stable), target, weight),
        },
        "spec": repeated,
    }


def _annotations(stable: Mapping[str, str], target: WorkloadTarget, weight: int) -> dict[str, str]:
    kept = {key: value for key, value in stable.items() if key == CLASS or key.startswith(_NOT_INHERITED)}
    total = stable.get(WEIGHT_TOTAL)
    if total is None:
        return {**kept, CANARY: "true", WEIGHT: str(weight)}
    if not total.isdecimal() or int(total) < _DEFAULT_TOTAL:
        fail(
            REFUSED,
            f"{_subject(target, _name(target))} has {WEIGHT_TOTAL}: {total!r}; "
            "a whole number of 100 or more is needed",
        )
    return {
        **kept,
        CANARY: "true",
        WEIGHT: str(round(weight * int(total) / _DEFAULT_TOTAL)),
        WEIGHT_TOTAL: total,
    }


def _canary_rule(rule: Mapping[str, Any], target: WorkloadTarget) -> dict[str, Any] | None:
    paths = [
        {**path, "backend": _backend(path["backend"], target)}
        for path in (rule.get("http") or {}).get("paths") or []
        if _leads_to(path["backend"], target.service)
    ]
    return {**rule, "http": {"paths": paths}} if paths else None


def _leads_to(backend: Mapping[str, Any] | None, service: str) -> bool:
    return bool(backend) and ((backend or {}).get("service") or {}).get("name") == service


def _backend(backend: Mapping[str, Any], target: WorkloadTarget) -> dict[str, Any]:
    return {**backend, "service": {**backend["service"], "name": target.canary_service}}


def _name(target: WorkloadTarget) -> str:
    return target.router.ingress or target.deployment


def _canary_name(target: WorkloadTarget) -> str:
    return f"{_name(target)}-canary"


def _subject(target: WorkloadTarget, name: str) -> str:
    return f"Ingress {name} in namespace {target.namespace}"
