"""The stage of the scenario table: the real workflows and watches, in a world that follows a script.

Each row plays on its own application. Prometheus and the service's health endpoints answer by the script of
their row and the number of the round; people and alerts act in the middle of a round, before it is answered.
Time is skipped by the server, so everything lasts as long as in production and nobody waits.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from aiohttp import web
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import TimeSkipper
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

from activities.audit import AuditActivities
from activities.audit_sqlite import SqliteAuditStore
from activities.configuration import parse_configuration
from activities.signatures import PlanSignatures
from activities.turns import TurnActivities
from activities.watching import WatchActivities
from domain.analysis import Watch
from domain.canary import CanaryRequest, CanaryStatus
from domain.configuration import Configuration
from domain.deployment import DeploymentRequest, DeploymentStatus
from domain.merging import merge
from domain.plan import DeploymentPlan, resolve_plan
from domain.watches import canary_watch
from domain.workload import (
    ReleaseApply,
    Restore,
    Track,
    WeightChange,
    WeightReading,
    WorkloadObservation,
    WorkloadTarget,
)
from tests.starters.world import BOB, EVE, Builds, Cluster, GitHost, Notices
from workers.composition import WORKFLOWS, activities_of, workflow_runner
from workflows.effects import BUILDS_QUEUE, DEPLOYMENTS_QUEUE

Stage = int | str
"""A weight of the canary, ``promoting``, ``verifying`` or ``monitoring``."""
Script = str | Mapping[Stage, str]
"""Answers in one stage, or in all: one for each round, the last one stays. ``1*19 9`` is 19 times 1, then 9.

A number, ``nan`` and ``inf`` are that value, ``none`` is no data, ``2|3`` two series, ``fault`` HTTP 500,
``badquery`` what Prometheus says to a query it cannot read, ``hangup`` a broken connection. Health is ``ok``
or ``bad``. What a script does not mention is well.
"""

OLD, NEW = "1.0.0", "1.1.0"
STEPS = (10, 50, 100)
_PATIENCE_SECONDS = 240
_NAMESPACE, _TRACK = re.compile(r'namespace="([^"]+)"'), re.compile(r'track="(\w+)"')
_KNOWN = {
    "erlmcp_requests_total": "error_rate",
    "quantile(0.95": "latency_p95",
    "quantile(0.99": "latency_p99",
    "restarts_total": "crash_rate",
}
_WELL = {"error_rate": "1", "stable": "1", "latency_p95": "0.2", "latency_p99": "0.4", "health": "ok"}
_PEOPLE = {"actor": EVE}
_ALERT = {"name": "HighErrorRate", "severity": "critical"}


@dataclass(frozen=True)
class Act:
    """What somebody does in the middle of a round: a signal, or a ``look`` at the status."""

    stage: Stage
    number: int
    signal: str
    message: Mapping[str, str]


def at(stage: Stage, number: int, signal: str, **message: str) -> Act:
    return Act(stage, number, signal, {**(_ALERT if signal == "alert" else _PEOPLE), **message})


@dataclass(frozen=True)
class End:
    """How a scenario is to end.

    Attributes:
        state: of the workflow.
        stage: where it ended; `rounds` of it were begun.
        because: part of the reason.
    """

    state: str
    stage: Stage = 100
    trigger: str | None = None
    rounds: int | None = None
    because: str = ""


@dataclass(frozen=True)
class Row:
    """One scenario.

    Attributes:
        rate: error rate of the new version in percent; `stable` of the old one, beside it or before it.
        health: of the new version.
        other: scripts of other metrics by name.
        people: what people and alerts do meanwhile.
        watched: steps that are watched to their end; people promote the others in their first round.
        metrics: the application's own metrics by name, as deployment.yaml has them; `score` over them.
        production: changes to the environment's settings; `triggers` and `application` to theirs.
        whole: play the whole deployment instead of the canary alone.
    """

    name: str
    end: End
    rate: Script = ""
    stable: Script = ""
    health: Script = ""
    other: Mapping[str, Script] = field(default_factory=dict)
    people: tuple[Act, ...] = ()
    watched: tuple[int, ...] = STEPS
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    score: Mapping[str, float] | None = None
    production: Mapping[str, Any] = field(default_factory=dict)
    triggers: Mapping[str, Any] = field(default_factory=dict)
    application: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False

    @property
    def acts(self) -> list[Act]:
        promoted = {act.stage for act in self.people if act.signal == "promote"}
        unwatched = [step for step in STEPS if step not in (*self.watched, *promoted)]
        return [*self.people, *(at(step, 1, "promote") for step in unwatched)]

    def script(self, name: str, stage: Stage) -> list[str]:
        scripts = {**self.other, "error_rate": self.rate, "stable": self.stable, "health": self.health}
        script = scripts.get(name, "")
        text = script if isinstance(script, str) else script.get(stage, "")
        return [word for part in (text or well(name)).split() for word in _repeated(part)]


def well(name: str) -> str:
    """What a metric or health says when all is well."""
    return _WELL.get(name, "0")


def _repeated(part: str) -> list[str]:
    word, _, times = part.partition("*")
    return [word] * int(times or 1)


class Play:
    """One row as it is played."""

    def __init__(self, row: Row, application: str) -> None:
        self.row = row
        self.application = application
        self.stage: Stage = "starting"
        self.rounds: Counter[Stage] = Counter()
        self.effects: list[tuple[str, Any]] = []
        self.handle: WorkflowHandle[Any, Any] | None = None
        self.seen: dict[str, Any] = {}
        self.status: CanaryStatus | DeploymentStatus | None = None
        self._acts = row.acts

    @property
    def namespace(self) -> str:
        return f"{self.application}-production"

    async def begin_round(self, stage: Stage) -> None:
        """A round begins: what people do in it comes before its answers."""
        self.stage = stage
        self.rounds[stage] += 1
        for act in [a for a in self._acts if (a.stage, a.number) == (stage, self.rounds[stage])]:
            self._acts.remove(act)
            assert self.handle is not None
            if act.signal == "look":
                self.seen = await self.handle.query("status")
            else:
                await self.handle.signal(act.signal, dict(act.message))

    def answer(self, name: str) -> str:
        """What the script says to a question of this round."""
        if self.stage == "restored":
            return well(name)
        script = self.row.script(name, self.stage)
        return script[min(max(self.rounds[self.stage], 1), len(script)) - 1]


class Theatre:
    """All rows, and the world they are played in."""

    def __init__(self, client: Client) -> None:
        self._client = TimeSkipper(client).client
        self.url = ""
        self.notices = Notices()
        self.plays: dict[str, Play] = {}
        self.configurations: dict[str, Configuration] = {}

    async def play(self, row: Row) -> Play:
        """Play a row to its end; the result is the handle's."""
        play = Play(row, f"shop-{len(self.plays)}")
        self.plays[play.namespace] = play
        self.configurations[play.application] = configuration = parse_configuration(self._yaml(play))
        request = {
            "application": play.application,
            "environment": "production",
            "version": NEW,
            "actor": "developer@example.com",
        }
        if row.whole:
            play.handle = await self._client.start_workflow(
                "DeploymentWorkflow",
                request,
                id=f"deployment:{play.application}:production:{NEW}",
                task_queue=DEPLOYMENTS_QUEUE,
                result_type=DeploymentStatus,
                start_signal="approve",
                start_signal_args=[{"actor": BOB}],
            )
        else:
            plan = resolve_plan(configuration, DeploymentRequest.model_validate(request))
            play.handle = await self._client.start_workflow(
                "CanaryWorkflow",
                _canary(plan),
                id=f"canary:{play.application}:production:{NEW}",
                task_queue=DEPLOYMENTS_QUEUE,
                result_type=CanaryStatus,
            )
        try:
            play.status = await asyncio.wait_for(play.handle.result(), _PATIENCE_SECONDS)
        except TimeoutError:
            shown = await play.handle.query("status")
            raise AssertionError(f"{row.name}: it does not end: {play.rounds}, {shown}") from None
        return play

    def _yaml(self, play: Play) -> str:
        """The deployment.yaml of a row: production as it is by default, but for what the row changes."""
        row = play.row
        application = {
            "repository": "https://git.example.com/shop.git",
            "image": "registry.example.com/shop:{version}",
            "health": {
                "url": f"{self.url}/{play.namespace}",
                "canary_url": f"{self.url}/{play.namespace}",
                "paths": ["/health"],
            },
            "metrics": {"prometheus_url": self.url},
            "build": {"steps": {"compile": {"command": ["make"]}, "check": {"command": ["make", "check"]}}},
        }
        analysis: dict[str, Any] = {
            "metrics": {n: {"query": f"{n}{{{{{{selector}}}}}}", **m} for n, m in row.metrics.items()}
        }
        if row.score is not None:
            analysis["score"] = dict(row.score)
        production = {"compliance": "off", "min_approvals": 1, "monitoring": "standard"}
        document = {
            "applications": {play.application: merge({**application, "analysis": analysis}, row.application)},
            "environments": {
                "production": merge(production, row.production),
                "staging": {"compliance": "off"},
            },
            "automatic_rollback_triggers": dict(row.triggers),
            "gates": {
                "compile": {"steps": ["compile"]},
                **{name: {"steps": ["check"]} for name in ("test", "security", "performance")},
            },
            "directory": {"roles": {"change_board": [BOB], "tech_lead": [BOB]}},
        }
        return yaml.safe_dump(document)


def _canary(plan: DeploymentPlan) -> CanaryRequest:
    """What a deployment tells its canary."""
    settings = plan.settings.canary
    assert settings is not None
    return CanaryRequest(
        deployment_id=f"deployment:{plan.application}:production:{NEW}",
        actor="developer@example.com",
        target=plan.target,
        version=NEW,
        image=plan.image,
        replicas=plan.target.replicas,
        settings=settings,
        watch=canary_watch(plan, NEW),
        prometheus_url=plan.metrics.prometheus_url,
        abort_on_alerts=plan.settings.abort_on_alerts,
    )


class _Plans(PlanSignatures):
    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre

    @activity.defn
    async def resolve_deployment_plan(self, request: DeploymentRequest) -> DeploymentPlan:
        return resolve_plan(self._theatre.configurations[request.application], request)


class _Cluster(Cluster):
    """A cluster in memory that runs the old version, and writes down what is done to it."""

    def __init__(self, theatre: Theatre) -> None:
        super().__init__()
        self._theatre = theatre

    @activity.defn
    async def observe_workload(self, target: WorkloadTarget) -> WorkloadObservation:
        found = await super().observe_workload(target)
        if found.exists:
            return found
        return WorkloadObservation(
            exists=True, name=target.deployment, version=OLD, replicas=target.replicas, ready=target.replicas
        )

    @activity.defn
    async def apply_release(self, request: ReleaseApply) -> WorkloadObservation:
        play = self._theatre.plays[request.target.namespace]
        play.effects.append((f"apply {request.track}", request.version))
        if request.track is Track.STABLE:
            await play.begin_round("promoting")
        return await super().apply_release(request)

    @activity.defn
    async def set_weight(self, change: WeightChange) -> WeightReading:
        play = self._theatre.plays[change.target.namespace]
        play.effects.append(("weight", change.weight))
        if change.weight > 0:
            play.stage = change.weight
        return await super().set_weight(change)

    @activity.defn
    async def restore_workload(self, restore: Restore) -> WorkloadObservation:
        play = self._theatre.plays[restore.target.namespace]
        play.effects.append(("restore", restore.observation.version))
        play.stage = "restored"
        return await super().restore_workload(restore)

    @activity.defn
    async def remove_canary(self, target: WorkloadTarget) -> None:
        self._theatre.plays[target.namespace].effects.append(("remove", Track.CANARY))
        await super().remove_canary(target)


class _Prompter(Interceptor):
    """Tells each play that a round of its watch begins."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _PromptedActivity(next, self._theatre)


class _PromptedActivity(ActivityInboundInterceptor):
    def __init__(self, following: ActivityInboundInterceptor, theatre: Theatre) -> None:
        super().__init__(following)
        self._theatre = theatre

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        watch = input.args[0] if input.args else None
        if isinstance(watch, Watch) and not _only_waits(watch):
            kind, application, *_ = (activity.info().workflow_id or "").split(":")
            play = self._theatre.plays[f"{application}-production"]
            if kind == "canary":
                await play.begin_round(play.stage)
            elif kind == "deployment":
                verifying = watch.policy.subject.startswith("verification")
                await play.begin_round("verifying" if verifying else "monitoring")
        return await super().execute_activity(input)


def _only_waits(watch: Watch) -> bool:
    """Whether this attempt is the one that waits for the first round."""
    new = watch.tally is None and not activity.info().heartbeat_details
    return new and watch.policy.initial_delay > timedelta(0)


def _stage_door(theatre: Theatre) -> web.Application:
    """Prometheus' HTTP API, and the health endpoints of every application."""

    async def query(request: web.Request) -> web.Response:
        form = await request.post()
        promql = str(form["query"])
        namespace, track = _NAMESPACE.search(promql), _TRACK.search(promql)
        assert namespace is not None, promql
        play = theatre.plays[namespace[1]]
        name = next((n for part, n in _KNOWN.items() if part in promql), promql.partition("{")[0])
        beside = isinstance(play.stage, int) and track is not None and track[1] == "stable"
        return _metric(request, play.answer("stable" if beside or "time" in form else name))

    async def health(request: web.Request) -> web.Response:
        good = theatre.plays[request.match_info["namespace"]].answer("health") == "ok"
        return web.json_response({"status": "healthy" if good else "unhealthy"}, status=200 if good else 503)

    application = web.Application()
    application.router.add_post("/api/v1/query", query)
    application.router.add_get("/{namespace}/health", health)
    return application


def _metric(request: web.Request, word: str) -> web.Response:
    if word == "fault":
        return web.Response(status=500, text="out of memory")
    if word == "badquery":
        said = {"status": "error", "errorType": "bad_data", "error": "parse error: unexpected end of input"}
        return web.json_response(said, status=400)
    if word == "hangup":
        assert request.transport is not None
        request.transport.abort()
    values = [] if word == "none" else word.split("|")
    result = [
        {"metric": {"pod": f"shop-{n}"}, "value": [1435781451.781, _prometheus_number(value)]}
        for n, value in enumerate(values)
    ]
    return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


def _prometheus_number(word: str) -> str:
    return {"nan": "NaN", "inf": "+Inf"}.get(word, word)


@asynccontextmanager
async def theatre(client: Client, data_dir: Path) -> AsyncIterator[Theatre]:
    """Workers with the product's workflows and its own watches, in the scripted world."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        store = await stack.enter_async_context(SqliteAuditStore.open(data_dir / "audit.db"))
        world = Theatre(client)
        runner = web.AppRunner(_stage_door(world), access_log=None, shutdown_timeout=0.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        world.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        watching = WatchActivities(http)
        stack.push_async_callback(watching.close)
        activities = activities_of(
            _Plans(world),
            _Cluster(world),
            watching,
            TurnActivities(client, DEPLOYMENTS_QUEUE),
            AuditActivities(store),
            world.notices,
            GitHost(),
        )
        deployments = Worker(
            client,
            task_queue=DEPLOYMENTS_QUEUE,
            workflows=WORKFLOWS,
            workflow_runner=workflow_runner(),
            activities=activities,
            interceptors=[_Prompter(world)],
            max_heartbeat_throttle_interval=timedelta(seconds=2),
        )
        await stack.enter_async_context(deployments)
        await stack.enter_async_context(
            Worker(client, task_queue=BUILDS_QUEUE, activities=activities_of(Builds()))
        )
        yield world
