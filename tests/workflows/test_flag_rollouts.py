"""Feature flags as a step of a delivery: real activities on a real API, watches that do as they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.audit import AuditActivities
from activities.audit_sqlite import SqliteAuditStore
from activities.configuration import parse_configuration
from activities.kubernetes import ClusterConnection
from activities.kubernetes.flags import FlagActivities
from domain.analysis import WatchPolicy
from domain.build import ReleaseArtefact
from domain.delivery import DeliveryKind, DeliveryStatus, StepState
from domain.deployment import DeploymentRequest
from domain.feature_flags import FlagReading, FlagRollout, flag_in, share_of
from domain.merging import merge
from domain.plan import DeploymentPlan, resolve_plan
from domain.workload import WorkloadObservation
from sandbox.kubernetes.emulator import Emulator
from tests.activities.kubernetes.workload import Onlooker, encoded
from tests.starters.world import DEPLOYMENT_YAML
from workers.composition import activities_of
from workflows.delivering import Delivering
from workflows.failures import ProcessError
from workflows.feature_flags import FlagRollouts, kill_flags
from workflows.journal import Journal
from workflows.orders import Orders, Stop, StoppedError

REQUEST = DeploymentRequest(application="shop", environment="dev", version="1.1.0", actor="ada@example.com")
RELEASE = ReleaseArtefact(
    uri="file:///shop.tar.gz",
    digest="sha256:abc",
    size=1,
    image="registry.example.com/shop:1.1.0",
    commit="1a",
)
FLAGS = [
    {"flag": "search", "steps": [10, 100]},
    {"flag": "basket", "steps": [50, 100], "kill_on_rollback": False},
]
FLAG = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}


@workflow.defn
class OpeningFlags:
    """A delivery of nothing but flags; each watch ends as it is told."""

    @workflow.init
    def __init__(self, plan: DeploymentPlan) -> None:
        self._orders = Orders()
        self._watched: list[str] = []
        self._verdicts: list[str] = []
        self._delivery: DeliveryStatus | None = None

    @workflow.run
    async def run(self, plan: DeploymentPlan) -> str:
        journal = Journal(
            deployment_id=REQUEST.deployment_id,
            application=REQUEST.application,
            environment=REQUEST.environment,
            version=REQUEST.version,
            actor=REQUEST.actor,
        )
        course = Delivering(
            plan=plan,
            request=REQUEST,
            release=RELEASE,
            previous=WorkloadObservation(exists=False, name="shop"),
            begun=workflow.now(),
            journal=journal,
            obey=self._orders.obey,
            watch=self._watch,
            promotion=self._orders.promotion,
            unpaused=self._orders.unpaused,
            show=self._show,
        )
        try:
            await FlagRollouts(course).roll_out()
        except (ProcessError, StoppedError) as error:
            return str(error) or str(self._orders.stop)
        finally:
            await journal.settle()
        return "open"

    async def _watch(self, policy: WatchPolicy) -> None:
        self._watched.append(policy.subject)
        await self._orders.obey(workflow.wait_condition(lambda: bool(self._verdicts)))
        verdict = self._verdicts.pop()
        if verdict:
            raise ProcessError(verdict, trigger="error_rate")

    def _show(self, delivery: DeliveryStatus) -> None:
        self._delivery = delivery

    @workflow.signal
    def verdict(self, reason: str) -> None:
        self._verdicts.append(reason)

    @workflow.signal
    def abort(self) -> None:
        self._orders.halt(Stop("abort", "ada"))

    @workflow.query
    def watched(self) -> list[str]:
        return self._watched

    @workflow.query
    def delivery(self) -> DeliveryStatus | None:
        return self._delivery


@workflow.defn
class KillingFlags:
    """What a roll-back does first."""

    @workflow.run
    async def run(self, plan: DeploymentPlan) -> list[FlagReading]:
        return await kill_flags(plan, REQUEST.deployment_id, workflow.info().run_id)


@dataclass
class FlagStory:
    """A namespace with a ConfigMap of flags, and the processes on it."""

    client: Client
    onlooker: Onlooker
    namespace: str
    queue: str

    @property
    def plan(self) -> DeploymentPlan:
        described = yaml.safe_load(DEPLOYMENT_YAML.format(application="shop"))
        changes = {
            "applications": {"shop": {"namespaces": {"dev": self.namespace}}},
            "environments": {"dev": {"feature_flags": FLAGS}},
        }
        return resolve_plan(parse_configuration(json.dumps(merge(described, changes))), REQUEST)

    async def has(self, *flags: str) -> None:
        body = {
            "metadata": {"name": "feature-flags"},
            "data": {"flags.json": json.dumps({"flags": dict.fromkeys(flags, FLAG)}, indent=2)},
        }
        await self.onlooker.ask("POST", f"/api/v1/namespaces/{self.namespace}/configmaps", body)

    async def shares(self) -> dict[str, int | None]:
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/feature-flags"
        document = (await self.onlooker.ask("GET", path))["data"]["flags.json"]
        names = json.loads(document)["flags"]
        return {name: share_of(flag_in(document, name), FlagRollout(flag=name)) for name in names}

    async def open(self) -> WorkflowHandle[Any, str]:
        return await self.client.start_workflow(
            OpeningFlags.run, self.plan, id=f"opening-{uuid4()}", task_queue=self.queue
        )

    async def watching(self, handle: WorkflowHandle[Any, str], subject: str) -> None:
        async with asyncio.timeout(30):
            while (await handle.query(OpeningFlags.watched))[-1:] != [subject]:  # noqa: ASYNC110
                await asyncio.sleep(0.03)

    async def ended(self, handle: WorkflowHandle[Any, str]) -> str:
        return await asyncio.wait_for(handle.result(), 30)


@pytest.fixture
async def story(client: Client, emulator: Emulator, tmp_path: Path) -> AsyncIterator[FlagStory]:
    namespace = f"test-{uuid4().hex[:10]}"
    flags = FlagActivities(ClusterConnection(kube_config=encoded(emulator.access)))
    queue = f"flags-{namespace}"
    async with (
        SqliteAuditStore.open(tmp_path / "audit.db") as audit,
        Onlooker.at(emulator.access) as onlooker,
    ):
        await onlooker.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        async with Worker(
            client,
            task_queue=queue,
            workflows=[OpeningFlags, KillingFlags],
            # This module's own imports are not meant for the sandbox.
            workflow_runner=UnsandboxedWorkflowRunner(),
            activities=activities_of(flags, AuditActivities(audit)),
        ):
            yield FlagStory(client, onlooker, namespace, queue)
    await flags.close()


async def test_flags_are_opened_one_after_the_other_while_all_is_well(story: FlagStory) -> None:
    # given two flags that are off
    await story.has("search", "basket", "other")
    handle = await story.open()

    # when every step is well
    for name, share in (("search", 10), ("search", 100), ("basket", 50), ("basket", 100)):
        await story.watching(handle, f"flag {name} at {share}%")
        assert (await story.shares())[name] == share
        await handle.signal(OpeningFlags.verdict, "")

    # then both are open, each step is shown, and the other flag is as it was
    assert await story.ended(handle) == "open"
    assert await story.shares() == {"search": 100, "basket": 100, "other": 0}
    delivery = await handle.query(OpeningFlags.delivery)
    assert delivery is not None
    assert delivery.kind is DeliveryKind.ROLLING
    assert [(step.name, step.state) for step in delivery.steps] == [
        ("feature flag search at 10%", StepState.PASSED),
        ("feature flag search at 100%", StepState.PASSED),
        ("feature flag basket at 50%", StepState.PASSED),
        ("feature flag basket at 100%", StepState.PASSED),
    ]


@pytest.mark.parametrize("by_a_person", [False, True])
async def test_flags_are_switched_off_before_anything_else_is_done(
    story: FlagStory, by_a_person: bool
) -> None:
    # given one flag that is open and another that is half open
    await story.has("search", "basket")
    handle = await story.open()
    for name, share in (("search", 10), ("search", 100), ("basket", 50)):
        await story.watching(handle, f"flag {name} at {share}%")
        if name == "search":
            await handle.signal(OpeningFlags.verdict, "")

    # when it is not well, or somebody stops it
    if by_a_person:
        await handle.signal(OpeningFlags.abort)
    else:
        await handle.signal(OpeningFlags.verdict, "error_rate 9% > 5%")

    # then both are off when the process ends with its reason
    reason = await story.ended(handle)
    assert reason == ("aborted by ada" if by_a_person else "error_rate 9% > 5%")
    assert await story.shares() == {"search": 0, "basket": 0}


async def test_a_flag_that_is_open_already_is_neither_watched_nor_closed(story: FlagStory) -> None:
    # given a flag that an earlier release has opened, and another that is not there
    await story.has("search")
    path = f"/api/v1/namespaces/{story.namespace}/configmaps/feature-flags"
    document = json.dumps({"flags": {"search": {**FLAG, "defaultVariant": "on"}}})
    await story.onlooker.ask(
        "PATCH", path, {"data": {"flags.json": document}}, "application/merge-patch+json"
    )

    # when they are rolled out
    handle = await story.open()
    reason = await story.ended(handle)

    # then that fails at the second with the remedy, and the first is left as it was
    assert "no flag 'basket'; create it, or correct feature_flags in deployment.yaml" in reason
    assert await handle.query(OpeningFlags.watched) == []
    assert await story.shares() == {"search": 100}


async def test_a_roll_back_switches_off_what_has_a_kill_switch(story: FlagStory) -> None:
    # given two open flags, one of which may stay
    await story.has("search", "basket")
    handle = await story.open()
    for name, share in (("search", 10), ("search", 100), ("basket", 50), ("basket", 100)):
        await story.watching(handle, f"flag {name} at {share}%")
        await handle.signal(OpeningFlags.verdict, "")
    await story.ended(handle)

    # when the environment is rolled back, also twice
    for _ in range(2):
        killed = await story.client.execute_workflow(
            KillingFlags.run, story.plan, id=f"killing-{uuid4()}", task_queue=story.queue
        )

        # then the one is off, and its reading says so
        assert [(r.flag, r.exists, r.percentage, r.error) for r in killed] == [("search", True, 0, "")]
        assert await story.shares() == {"search": 0, "basket": 100}


async def test_a_kill_switch_that_fails_is_reported_and_holds_nothing_up(story: FlagStory) -> None:
    path = f"/api/v1/namespaces/{story.namespace}/configmaps"
    broken = {"metadata": {"name": "feature-flags"}, "data": {"flags.json": "flags: {search: {}}"}}
    await story.onlooker.ask("POST", path, broken)

    killed = await story.client.execute_workflow(
        KillingFlags.run, story.plan, id=f"killing-{uuid4()}", task_queue=story.queue
    )

    assert [(r.flag, r.percentage) for r in killed] == [("search", None)]
    assert "could not be switched off" in killed[0].error
    assert "no JSON" in killed[0].error
