"""Gateway API: the weights of the backends of an HTTPRoute."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from activities.errors import NOT_FOUND, REFUSED, UNAVAILABLE, fail
from activities.kubernetes.api import GATEWAY_API, KubernetesApi, Object, http_routes
from activities.kubernetes.failures import StatusError
from activities.kubernetes.routers.backends import LARGEST, Backends
from activities.kubernetes.routers.services import Services
from activities.kubernetes.routers.weighted import Shares, WeightedRouter
from activities.kubernetes.tracks import Tracks
from domain.workload import WorkloadTarget

_CONFIRMATION: Final = timedelta(seconds=30)
"""How long a controller may take to report on a change."""
_SETTLING: Final = timedelta(seconds=2)
"""How long a controller may go on refusing: it can learn of the route before it learns of the Service."""
_TRIES: Final = 4
_PLURAL: Final = "httproutes"
_CONDITIONS: Final = ("Accepted", "ResolvedRefs")


@dataclass(frozen=True, slots=True)
class Report:
    """What the controllers say of a generation of a route.

    Attributes:
        heard: whether any reports on the route at all.
        silent: those that have not taken this generation yet.
        refused: who refuses it, and why.
    """

    heard: bool = False
    silent: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.silent and not self.refused


class GatewayApiRouter(WeightedRouter):
    """Keeps the canary's Service among the backends of every rule that leads to the stable one.

    At weight 0 the route is what it was before. Rights beside those on Deployments: services (get, list,
    create, patch, delete), pods (list), httproutes.gateway.networking.k8s.io (get, list, watch, patch).
    """

    def __init__(self, tracks: Tracks, services: Services, api: KubernetesApi) -> None:
        super().__init__(tracks, services)
        self._api = api

    async def check(self, target: WorkloadTarget) -> None:
        version = await self._api.served_version(GATEWAY_API, _PLURAL)
        if version is None:
            fail(
                NOT_FOUND,
                f"{_subject(target)}: the cluster serves no HTTPRoutes; install the Gateway API, or choose "
                "another workload.router.kind",
            )
        found = await self._api.find(http_routes(target.namespace, version), _name(target))
        if found is None:
            fail(
                NOT_FOUND,
                f"{_subject(target)} does not exist; create it, or name another with "
                "workload.router.http_route",
            )
        backends, rules = _backends(target), _rules(found)
        mentions = [backends.mentions(rule) for rule in rules]
        if not any(mentions) and not backends.shares(rules):
            fail(
                NOT_FOUND,
                f"{_subject(target)} has no rule that sends to Service {target.service}; name the route with "
                "workload.router.http_route, or the Service with workload.router.service",
            )
        if max(mentions) > 1:
            fail(
                REFUSED,
                f"{_subject(target)}: rule {mentions.index(max(mentions))} sends to Service {target.service} "
                "more than once, so its weight cannot be divided; name it once in each rule",
            )

    async def steer(self, target: WorkloadTarget, weight: int) -> str:
        await self.check(target)
        collection = await self._collection(target)
        changed = await self._write(collection, target, weight)
        if changed is None:
            fail(NOT_FOUND, f"{_subject(target)} was deleted meanwhile")
        report = await self._confirmed(collection, target, changed)
        if report.refused:
            await self._write(collection, target, 0)
            fail(
                REFUSED,
                f"{_subject(target)} with the canary at {weight}% is refused: {'; '.join(report.refused)}; "
                "the canary was taken out of it again",
            )
        if report.silent:
            fail(
                UNAVAILABLE,
                f"{_subject(target)}: {', '.join(report.silent)} did not take the canary's weight {weight} "
                f"within {_limit(target).total_seconds():.0f} s",
            )
        return (
            "" if report.heard else "no controller reports on the HTTPRoute; its weights were only read back"
        )

    async def take_away(self, target: WorkloadTarget) -> str:
        collection = await self._collection(target)
        changed = await self._write(collection, target, 0)
        if changed is None:
            return ""
        report = await self._confirmed(collection, target, changed)
        if report.good:
            return ""
        # Who asks for 0 has given the canary up: it goes even if the controller is not heard of.
        said = (*(f"{name} has not confirmed it" for name in report.silent), *report.refused)
        return f"HTTPRoute {_name(target)} leads to the stable side alone, but {'; '.join(said)}"

    async def shares(self, target: WorkloadTarget) -> Shares:
        found = await self._api.find(await self._collection(target), _name(target))
        if found is None:
            return Shares()
        percents = _backends(target).shares(_rules(found))
        differ = len(set(map(round, percents))) > 1
        listed = ", ".join(f"{percent:.0f}%" for percent in percents)
        return Shares(percents, f"the rules give {listed}" if differ else "")

    async def clean(self, target: WorkloadTarget) -> None:
        """Nothing here is ours: at weight 0 the route is as it was."""

    async def _write(self, collection: str, target: WorkloadTarget, weight: int) -> Object | None:
        """The route with the canary at a weight, changed as it was read; none if there is no route."""
        left = _TRIES
        while True:
            found = await self._api.find(collection, _name(target))
            if found is None:
                return None
            rules = _backends(target).steered(_rules(found), weight)
            coarse = _backends(target).imprecise(rules, weight)
            if weight > 0 and coarse is not None:
                fail(
                    REFUSED,
                    f"{_subject(target)}: weights of rule {coarse} are too far apart; the canary's {weight}% "
                    f"of Service {target.service} is no whole number, and the Gateway API takes at most "
                    f"{LARGEST}; let the largest weight be {LARGEST // 100} or less",
                )
            if rules == _rules(found):
                return found
            left -= 1
            try:
                return await self._api.merge(
                    collection,
                    _name(target),
                    {"spec": {"rules": rules}},
                    resource_version=found["metadata"]["resourceVersion"],
                )
            except StatusError as error:
                if error.status not in (404, 409) or not left:
                    raise

    async def _confirmed(self, collection: str, target: WorkloadTarget, changed: Object) -> Report:
        """Wait until every controller that reports on the route has taken this generation, or refuses it."""
        generation: int = changed["metadata"]["generation"]
        report = judge(changed, generation)
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(_limit(target).total_seconds()) as limit,
                aclosing(self._api.follow(collection, _name(target))) as states,
            ):
                async for state in states:
                    report = judge(state, generation) if state is not None else Report()
                    if report.good:
                        return report
                    soon = loop.time() + _SETTLING.total_seconds()
                    if report.refused and not report.silent and soon < (limit.when() or 0):
                        limit.reschedule(soon)
        except TimeoutError:
            pass
        return report

    async def _collection(self, target: WorkloadTarget) -> str:
        version = await self._api.served_version(GATEWAY_API, _PLURAL)
        return http_routes(target.namespace, version or "v1")


def judge(route: Object, generation: int) -> Report:
    """What the controllers report of a generation of a route; a parent without conditions is silent."""
    silent: list[str] = []
    refused: list[str] = []
    for parent in _parents(route):
        conditions = {c["type"]: c for c in parent.get("conditions") or [] if c["type"] in _CONDITIONS}
        name = _parent_name(parent)
        # A controller that does not count generations can only be taken at its word.
        behind = [c for c in conditions.values() if c.get("observedGeneration", generation) < generation]
        if not conditions or behind:
            silent.append(name)
            continue
        refused.extend(
            f"{name}: {kind} is {condition['status']}, {condition.get('reason', '')}: "
            f"{condition.get('message', '')}".rstrip(": ")
            for kind, condition in conditions.items()
            if condition["status"] != "True"
        )
    return Report(bool(_parents(route)), tuple(silent), tuple(refused))


def _parents(route: Object) -> list[dict[str, Any]]:
    return list((route.get("status") or {}).get("parents") or [])


def _parent_name(parent: dict[str, Any]) -> str:
    reference = parent.get("parentRef") or {}
    section = f"/{reference['sectionName']}" if reference.get("sectionName") else ""
    return f"Gateway {reference.get('name', '?')}{section} ({parent.get('controllerName', 'unknown')})"


def _rules(route: Object) -> list[dict[str, Any]]:
    return list((route.get("spec") or {}).get("rules") or [])


def _backends(target: WorkloadTarget) -> Backends:
    return Backends(stable=target.service, canary=target.canary_service, namespace=target.namespace)


def _limit(target: WorkloadTarget) -> timedelta:
    return min(_CONFIRMATION, target.progress_deadline)


def _name(target: WorkloadTarget) -> str:
    return target.router.http_route or target.deployment


def _subject(target: WorkloadTarget) -> str:
    return f"HTTPRoute {_name(target)} in namespace {target.namespace}"
