"""Blue/green on a cluster: a side comes up unseen, traffic moves whole, and never to a broken side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.errors import INVALID_CONFIGURATION, NOT_FOUND, REFUSED
from activities.kubernetes import ClusterConnection, KubernetesActivities
from activities.kubernetes.colours import ColourActivities
from domain.blue_green import Colours, SideScale, Switch
from domain.workload import Side, WorkloadTarget
from sandbox.kubernetes.access import ClusterAccess
from tests.activities.kubernetes.workload import (
    Onlooker,
    ProbedService,
    encoded,
    foreign_deployment,
    release,
    roll_out,
    rollout_of,
    run,
    target_in,
)

BLUE, GREEN = Side.BLUE, Side.GREEN


class Stage:
    """A workload with a Service in front, and words for what happens to it."""

    def __init__(
        self,
        target: WorkloadTarget,
        colours: ColourActivities,
        workloads: KubernetesActivities,
        onlooker: Onlooker,
    ) -> None:
        self.target = target
        self.colours = colours
        self.workloads = workloads
        self.onlooker = onlooker

    async def create_service(self, name: str = "erlmcp") -> None:
        """As the application's own manifests would have it."""
        body = {
            "metadata": {"name": name},
            "spec": {"selector": {"app": "erlmcp"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }
        await self.onlooker.ask("POST", self._path("services"), body)

    async def plain(self, version: str) -> None:
        assert (await roll_out(self.workloads, self.target, version)).complete

    async def bring_up(self, side: Side, version: str, **fields: Any) -> None:
        on = self.target.on(side)
        await run(self.colours.apply_side, release(on, version, key=f"{side}-{version}", **fields))
        assert (await run(self.workloads.watch_rollout, rollout_of(on, version))).complete

    async def elsewhere(self, name: str, **labels: str) -> None:
        """A Deployment that others have made, with pods that are ready."""
        body = foreign_deployment("v0.9.0")
        body["metadata"]["name"] = name
        for place in (
            body["spec"]["selector"]["matchLabels"],
            body["spec"]["template"]["metadata"]["labels"],
        ):
            place.update(labels)
        probe = self.target.template["spec"]["containers"][0]["readinessProbe"]["httpGet"]
        container = body["spec"]["template"]["spec"]["containers"][0]
        container["readinessProbe"] = {"httpGet": {**probe, "path": "/ready"}, "periodSeconds": 1}
        await self.onlooker.create_deployment(self.target.namespace, body)

    async def refused(self, side: Side, version: str) -> str:
        """Why a side does not come up; and it has not."""
        with pytest.raises(ApplicationError) as error:
            await run(self.colours.apply_side, release(self.target.on(side), version))
        assert error.value.type == REFUSED
        assert not (await self.observe()).on(side).exists
        return str(error.value)

    async def switch(self, to: Side | None, version: str, key: str = "", **fields: Any) -> Colours:
        switch = Switch(key=key or f"{to}-{version}", target=self.target, to=to, version=version, **fields)
        return await run(self.colours.switch_traffic, switch)

    async def scale(self, side: Side | None, replicas: int, **fields: Any) -> Colours:
        scale = SideScale(key="scale", target=self.target, side=side, replicas=replicas, **fields)
        return await run(self.colours.scale_side, scale)

    async def observe(self) -> Colours:
        return await run(self.colours.observe_colours, self.target)

    async def selector(self, name: str = "erlmcp") -> dict[str, str]:
        found = await self.onlooker.ask("GET", self._path(f"services/{name}"))
        return dict(found["spec"]["selector"])

    async def select_by_hand(self, **selector: str | None) -> None:
        body = {"spec": {"selector": selector}}
        path = self._path("services/erlmcp")
        await self.onlooker.ask("PATCH", path, body, content_type="application/merge-patch+json")

    async def served_by(self) -> set[str]:
        """The Deployments whose pods get traffic."""
        found = await self.onlooker.ask("GET", self._path("endpoints?fieldSelector=metadata.name%3Derlmcp"))
        subsets = [subset for each in found["items"] for subset in each.get("subsets", [])]
        pods = [a["targetRef"]["name"] for subset in subsets for a in subset.get("addresses", [])]
        return {pod.rsplit("-", 2)[0] for pod in pods}

    async def until_served_by(self, *deployments: str) -> None:
        async with asyncio.timeout(20):
            while await self.served_by() != set(deployments):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.1)

    def _path(self, rest: str) -> str:
        return f"/api/v1/namespaces/{self.target.namespace}/{rest}"


@pytest.fixture(params=["real"])
def cluster(request: pytest.FixtureRequest) -> ClusterAccess:
    """The real API server; the emulator only where a test asks for it too."""
    access: ClusterAccess = request.getfixturevalue(
        "control_plane" if request.param == "real" else "emulator"
    ).access
    return access


@pytest.fixture
async def colours(cluster: ClusterAccess) -> AsyncIterator[ColourActivities]:
    working = ColourActivities(ClusterConnection(kube_config=encoded(cluster)), patience=timedelta(seconds=2))
    yield working
    await working.close()


@pytest.fixture
def stage(
    namespace: str,
    service: ProbedService,
    colours: ColourActivities,
    activities: KubernetesActivities,
    onlooker: Onlooker,
) -> Stage:
    """A workload whose sides are probed at ``/blue`` and ``/green``."""
    templates = {
        side: {
            "spec": {"containers": [{"name": "erlmcp", "readinessProbe": {"httpGet": {"path": f"/{side}"}}}]}
        }
        for side in Side
    }
    target = target_in(namespace, service, replicas=1, side_templates=templates)
    return Stage(target, colours, activities, onlooker)


@pytest.mark.parametrize("cluster", ["real", "emulator"], indirect=True)
async def test_the_first_side_comes_up_unseen_and_takes_all_traffic_with_one_switch(stage: Stage) -> None:
    # given a version on the plain Deployment, behind a Service that selects all of the application's pods
    await stage.create_service()
    await stage.plain("1.0.0")
    await stage.until_served_by("erlmcp")
    assert (await stage.observe()).next_side is BLUE

    # when the next version is ready on the blue side, then it gets no traffic yet
    await stage.bring_up(BLUE, "1.1.0")
    before = await stage.observe()
    assert (before.active, before.blue.ready, before.held) == (None, 1, True)
    assert await stage.served_by() == {"erlmcp"}
    # and has an address of its own
    assert (await stage.selector("erlmcp-canary"))["track"] == "blue"

    # when the traffic is switched, then blue gets all of it, and both keep their pods
    after = await stage.switch(BLUE, "1.1.0", replacing=before.selector)
    assert (after.active, after.endpoints) == (BLUE, 1)
    assert await stage.served_by() == {"erlmcp-blue"}
    assert (after.plain.ready, after.serving.version, after.next_side) == (1, "1.1.0", GREEN)

    # and the way back is one switch too
    back = await stage.switch(None, "1.0.0")
    assert (back.active, await stage.served_by()) == (None, {"erlmcp"})


async def test_pods_without_a_track_are_labelled_before_a_side_comes_up(stage: Stage) -> None:
    # given a Deployment made elsewhere, whose pods have nothing but app=erlmcp
    await stage.elsewhere("erlmcp")
    await stage.create_service()
    await stage.until_served_by("erlmcp")

    # when a side is to come up, then it is refused: nothing that lasts would tell those pods from its own
    reason = await stage.refused(BLUE, "1.0.0")
    assert "have no label 'track'" in reason
    assert "deploy once without blue_green" in reason
    assert await stage.selector() == {"app": "erlmcp"}

    # and no sooner than the last of them has it
    labelled = {"metadata": {"labels": {"track": "stable"}}}
    namespace = stage.target.namespace
    await stage.onlooker.patch_deployment(namespace, {"spec": {"paused": True, "template": labelled}})
    assert "selects pods of Deployment erlmcp, which" in await stage.refused(BLUE, "1.0.0")
    await stage.onlooker.patch_deployment(namespace, {"spec": {"paused": False}})

    # when that is done, then a side comes up, with what was set up elsewhere
    await stage.plain("1.0.0")
    await stage.bring_up(BLUE, "1.1.0")
    assert await stage.served_by() == {"erlmcp"}
    mode = [{"name": "MODE", "value": "cluster"}]
    blue = await stage.onlooker.deployment(stage.target.namespace, "erlmcp-blue")
    assert blue["spec"]["template"]["spec"]["containers"][0]["env"] == mode

    # when it is given up, then the Service selects as it did before
    released = await run(stage.colours.release_traffic, stage.target)
    assert (released.held, released.blue.replicas, released.active) == (False, 0, None)
    assert await stage.selector() == {"app": "erlmcp"}
    assert await stage.served_by() == {"erlmcp"}

    # and a later side takes it over from the plain Deployment, not from the side before it
    await stage.bring_up(BLUE, "1.2.0")
    assert (await stage.switch(BLUE, "1.2.0")).active is BLUE
    await stage.bring_up(GREEN, "1.3.0")
    green = await stage.onlooker.deployment(stage.target.namespace, "erlmcp-green")
    assert green["spec"]["template"]["spec"]["containers"][0]["env"] == mode
    assert await stage.served_by() == {"erlmcp-blue"}


@pytest.mark.parametrize(("labels", "beside"), [({}, False), ({"track": "stable"}, True)])
async def test_pods_of_somebody_else_do_not_lose_their_traffic(
    stage: Stage, labels: dict[str, str], beside: bool
) -> None:
    # given a Service in front of pods that are not, or not all, the plain Deployment's
    await stage.create_service()
    await stage.elsewhere("legacy", **labels)
    if beside:
        await stage.plain("1.0.0")
    serving = {"legacy", "erlmcp"} if beside else {"legacy"}
    await stage.until_served_by(*serving)

    # when the first side is to come up, then it is refused, and they serve on
    reason = await stage.refused(BLUE, "1.1.0")
    assert "selects pods of Deployment legacy, which would lose their traffic" in reason
    assert await stage.selector() == {"app": "erlmcp"}
    assert await stage.served_by() == serving


async def test_pods_that_come_from_elsewhere_before_the_switch_keep_their_traffic_too(stage: Stage) -> None:
    # given a side that is ready, and somebody's pods that have come behind the Service meanwhile
    await stage.create_service()
    await stage.plain("1.0.0")
    await stage.bring_up(BLUE, "1.1.0")
    ready = await stage.observe()
    await stage.elsewhere("legacy", track="stable")
    await stage.until_served_by("erlmcp", "legacy")

    # when the traffic is to be switched, then it is refused; a way back would not be
    with pytest.raises(ApplicationError, match="selects pods of Deployment legacy") as error:
        await stage.switch(BLUE, "1.1.0", key="forth", replacing=ready.selector)
    assert error.value.type == REFUSED
    assert await stage.served_by() == {"erlmcp", "legacy"}
    assert (await stage.switch(BLUE, "1.1.0", key="back")).active is BLUE


async def test_a_side_that_serves_behind_a_wide_selector_keeps_its_traffic(stage: Stage) -> None:
    # given a side that serves, when the Service is written anew as it was before all this
    await stage.create_service()
    await stage.bring_up(BLUE, "1.0.0")
    await stage.switch(BLUE, "1.0.0")
    await stage.select_by_hand(track=None)

    # then it does not lose its traffic to a plain Deployment that has no pods
    assert "selects pods of Deployment erlmcp-blue" in await stage.refused(GREEN, "1.1.0")
    assert await stage.served_by() == {"erlmcp-blue"}


async def test_the_address_for_checks_is_not_the_one_for_traffic(stage: Stage) -> None:
    # given settings that name the main Service for the checks
    router = stage.target.router.model_copy(update={"canary_service": "erlmcp"})
    stage.target = stage.target.model_copy(update={"router": router})
    await stage.create_service()
    await stage.plain("1.0.0")

    # when a side is to come up, then that is said, and the traffic stays where it is
    with pytest.raises(ApplicationError, match=r"canary_service 'erlmcp' is the Service in front") as error:
        await run(stage.colours.apply_side, release(stage.target.on(BLUE), "1.1.0"))
    assert error.value.type == INVALID_CONFIGURATION
    assert await stage.selector() == {"app": "erlmcp"}


async def test_no_other_service_gives_a_side_traffic_before_its_time(stage: Stage) -> None:
    # given a second Service in front of all of the application's pods
    await stage.create_service()
    await stage.plain("1.0.0")
    await stage.create_service("internal")

    # when a side is to come up, then it is refused, and nothing was touched
    reason = await stage.refused(BLUE, "1.1.0")
    assert "Service internal" in reason
    assert "let its clients use Service erlmcp" in reason
    assert await stage.selector() == {"app": "erlmcp"}


async def test_traffic_never_goes_to_a_side_that_cannot_take_it(stage: Stage, service: ProbedService) -> None:
    await stage.create_service()
    await stage.bring_up(BLUE, "1.0.0")
    await stage.switch(BLUE, "1.0.0")

    async def refused(reason: str, side: Side | None, version: str) -> None:
        with pytest.raises(ApplicationError, match=reason) as error:
            await stage.switch(side, version, key=reason)
        assert (error.value.type, error.value.non_retryable) == (REFUSED, True)
        assert await stage.served_by() == {"erlmcp-blue"}

    # one that is not there
    await refused("does not exist", GREEN, "1.1.0")
    # one that runs something else
    await stage.bring_up(GREEN, "1.1.0")
    await refused("runs 1.1.0, not 1.2.0", GREEN, "1.2.0")
    # one whose pods are not well
    service.broken.add("/green")
    await _until_ready(stage, GREEN, 0)
    await refused("0 of 1 pods are ready", GREEN, "1.1.0")
    # one without pods
    await stage.scale(GREEN, 0)
    await refused("scaled to 0", GREEN, "1.1.0")
    # one whose pods the Service would not find
    service.broken.clear()
    await stage.scale(GREEN, 1)
    green = {"spec": {"selector": {"tier": "web"}}}
    await stage.onlooker.ask(
        "POST",
        f"/api/v1/namespaces/{stage.target.namespace}/services",
        {"metadata": {"name": "web"}, "spec": {**green["spec"], "ports": [{"port": 80}]}},
    )
    elsewhere = stage.target.model_copy(
        update={"router": stage.target.router.model_copy(update={"service": "web"})}
    )
    with pytest.raises(ApplicationError, match=r"selects tier=web, which the pods of .* do not have"):
        await run(
            stage.colours.switch_traffic, Switch(key="web", target=elsewhere, to=GREEN, version="1.1.0")
        )


async def _until_ready(stage: Stage, side: Side | None, pods: int) -> None:
    async with asyncio.timeout(20):
        while (await stage.observe()).on(side).ready != pods:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.1)


async def test_the_side_that_serves_keeps_its_pods(stage: Stage) -> None:
    # given a side that serves, and somebody who looked at it before it did
    await stage.create_service()
    await stage.bring_up(BLUE, "1.0.0")
    seen = await stage.onlooker.deployment(stage.target.namespace, "erlmcp-blue")
    await stage.switch(BLUE, "1.0.0")

    # when it is to be scaled down, or to run something else, then that is refused
    with pytest.raises(ApplicationError, match="serves all traffic") as error:
        await stage.scale(BLUE, 0)
    assert error.value.type == REFUSED
    with pytest.raises(ApplicationError, match="serves all traffic"):
        await run(stage.colours.apply_side, release(stage.target.on(BLUE), "1.1.0"))

    # and who decided by what was before the switch comes too late
    path = f"/apis/apps/v1/namespaces/{stage.target.namespace}/deployments/erlmcp-blue"
    stale = {"metadata": {"resourceVersion": seen["metadata"]["resourceVersion"]}, "spec": {"replicas": 0}}
    with pytest.raises(AssertionError, match="the object has been modified"):
        await stage.onlooker.ask("PATCH", path, stale, content_type="application/merge-patch+json")
    assert (await stage.observe()).blue.replicas == 1


async def test_a_switch_is_done_once_and_a_persons_own_is_not_overruled(stage: Stage) -> None:
    await stage.create_service()
    await stage.plain("1.0.0")
    await stage.bring_up(BLUE, "1.1.0")
    decided = await stage.observe()

    # given a switch whose answer was lost, after which a person has switched back
    await stage.switch(BLUE, "1.1.0", key="once")
    await stage.select_by_hand(track="stable")
    await stage.until_served_by("erlmcp")

    # when it is tried again, then it changes nothing, and says who serves
    again = await stage.switch(BLUE, "1.1.0", key="once")
    assert again.active is None
    assert await stage.served_by() == {"erlmcp"}

    # and a switch that was decided on another state of the Service is refused
    await stage.select_by_hand(tier=None, app="erlmcp", zone="a")
    with pytest.raises(ApplicationError, match="somebody else has changed it meanwhile"):
        await stage.switch(BLUE, "1.1.0", key="other", replacing=decided.selector)


async def test_a_service_that_is_missing_is_named_or_made(stage: Stage) -> None:
    # given a workload that serves behind some other Service than the one that is configured
    await stage.plain("1.0.0")
    assert (await stage.observe()).service is False

    # when a side is to come up, then it is refused before anything is touched
    with pytest.raises(ApplicationError, match=r"workload\.router\.service") as error:
        await run(stage.colours.apply_side, release(stage.target.on(BLUE), "1.1.0"))
    assert error.value.type == NOT_FOUND
    assert not (await stage.observe()).blue.exists

    # but where nothing was before, the Service comes with the first side
    await stage.onlooker.ask(
        "DELETE", f"/apis/apps/v1/namespaces/{stage.target.namespace}/deployments/erlmcp"
    )
    await stage.bring_up(BLUE, "1.0.0")
    first = await stage.switch(BLUE, "1.0.0")
    assert (first.active, first.serving.version) == (BLUE, "1.0.0")
    assert await stage.selector() == {"app": "erlmcp", "track": "blue"}
    assert await stage.served_by() == {"erlmcp-blue"}


async def test_a_side_gets_its_pods_back_or_the_reason_why_not(stage: Stage, service: ProbedService) -> None:
    # given an old side that was scaled down after the switch
    await stage.create_service()
    await stage.bring_up(BLUE, "1.0.0")
    await stage.switch(BLUE, "1.0.0")
    await stage.bring_up(GREEN, "1.1.0")
    await stage.switch(GREEN, "1.1.0")
    assert (await stage.scale(BLUE, 0)).blue.replicas == 0

    # when it is wanted again, then its pods come back, without traffic, at the address for checks
    back = await stage.scale(BLUE, 1)
    assert (back.blue.ready, back.active) == (1, GREEN)
    assert (await stage.selector("erlmcp-canary"))["track"] == "blue"
    await stage.scale(BLUE, 0)

    # but if they do not get well, that is said, in the cluster's own words
    service.broken.add("/blue")
    with pytest.raises(ApplicationError, match=r"not come to 1 ready pods in 2s \[pod erlmcp-blue-") as error:
        await stage.scale(BLUE, 1, within=timedelta(seconds=2))
    assert error.value.type == REFUSED
    assert await stage.served_by() == {"erlmcp-green"}


async def test_a_recorded_template_comes_back_on_another_side(stage: Stage) -> None:
    # given a version that was replaced on its own side
    await stage.create_service()
    await stage.bring_up(BLUE, "1.0.0", digest="sha256:abc")
    await stage.switch(BLUE, "1.0.0")
    recorded = (await stage.observe()).serving
    assert recorded.template is not None

    # when its template is put on the other side
    await stage.bring_up(GREEN, "1.0.0", template=recorded.template)

    # then it is the same in all but the side, and still says where it comes from
    green = (await stage.onlooker.deployment(stage.target.namespace, "erlmcp-green"))["spec"]["template"]
    assert green["metadata"]["labels"]["track"] == "green"
    assert green["metadata"]["annotations"]["erlmcp-deploy/digest"] == "sha256:abc"
    probe = green["spec"]["containers"][0]["readinessProbe"]["httpGet"]
    assert probe["path"] == "/green"
    assert (await stage.switch(GREEN, "1.0.0")).active is GREEN
