"""The world the command line is tried in: a real Temporal server, the product's workflows, and ports to
build, cluster and monitoring that keep everything in memory and do as they are told.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker
from typer.testing import CliRunner, Result

from activities.audit import AuditActivities
from activities.audit_sqlite import SqliteAuditStore
from activities.configuration import parse_configuration
from activities.errors import FORBIDDEN, INVALID_CONFIGURATION, INVALID_INPUT, UNAVAILABLE, fail
from activities.signatures import (
    BuildSignatures,
    ColourSignatures,
    ConversationSignatures,
    DependencyPlanSignatures,
    FactsSignatures,
    FlagSignatures,
    GitHostSignatures,
    HookSignatures,
    IdentitySignatures,
    KubernetesSignatures,
    NotificationSignatures,
    PlanSignatures,
    ValidationSignatures,
    WatchSignatures,
)
from activities.turns import TurnActivities
from activities.validations import RivalActivities
from domain.analysis import HealthProbe, HealthReport, Watch, WatchOutcome, WatchVerdict
from domain.approval_card import ApprovalCard, PersonalAnswer
from domain.approval_facts import FactsQuery, LookedUp
from domain.blue_green import Colours, SideScale, Switch
from domain.build import (
    Checkout,
    CheckoutRequest,
    ReleaseArtefact,
    ReleaseRun,
    ReservationRequest,
    StepRun,
    Workspace,
)
from domain.checks import CheckReceipt, CheckRun
from domain.configuration import Configuration
from domain.dependency_plan import resolve_dependency_update
from domain.dependency_update import DependencyUpdatePlan, DependencyUpdateRequest
from domain.deployment import DeploymentRequest
from domain.evidence import ApprovalEvidence, EvidenceQuery
from domain.feature_flags import FlagChange, FlagReading
from domain.gates import StepReport
from domain.hooks import HookReport, HookRun
from domain.identity import Identification, IdentityQuery, Signer
from domain.merging import merge
from domain.notification import Notification, NotificationReceipt
from domain.plan import DeploymentPlan, UnknownNameError, resolve_plan
from domain.signing import identify
from domain.validation import ValidationPlan, ValidationRequest, ValidationStatus
from domain.validation_plan import UnfitGateError, resolve_validation_plan
from domain.workload import (
    ReleaseApply,
    ReleaseQuery,
    Restore,
    RolloutResult,
    RolloutWatch,
    Track,
    WeightChange,
    WeightReading,
    WorkloadObservation,
    WorkloadTarget,
)
from starters.cli import app
from starters.connection import DEPLOYMENTS_QUEUE
from tests.starters.updates import Schedules, Updates
from workers.composition import WORKFLOWS, activities_of, workflow_runner
from workflows.conversion import data_converter
from workflows.effects import BUILDS_QUEUE

ROOT = Path(__file__).parents[2]
ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"

DEPLOYMENT_YAML = """
applications:
  {application}:
    repository: https://git.example.com/shop.git
    image: registry.example.com/shop:{{version}}
    health:
      url: "http://{{application}}-{{environment}}.example.com"
      canary_url: "http://{{application}}-{{environment}}.example.com"
    metrics: {{prometheus_url: "http://prometheus.example.com"}}
    build:
      steps:
        compile: {{command: [make, compile]}}
        check: {{command: [make, check]}}
gates:
  compile: {{steps: [compile]}}
  test: {{steps: [check]}}
  security: {{steps: [check]}}
  performance: {{steps: [check]}}
environments:
  dev: {{soak_duration: 1s}}
  staging: {{compliance: "off"}}
  production:
    compliance: "off"
    min_approvals: 2
    canary: {{step_duration: 1s, analysis_interval: 1s}}
automatic_rollback_triggers:
  health_checks: {{check_interval: 1s}}
directory:
  roles:
    tech_lead: [bob@example.com]
    devops_engineer: [bob@example.com]
    change_board: [ada@example.com, bob@example.com, eve@example.com]
"""


class Plans(PlanSignatures, ValidationSignatures, DependencyPlanSignatures):
    """deployment.yaml, and what an application changes of it."""

    def __init__(self) -> None:
        self.changes: dict[str, dict[str, Any]] = {}

    @activity.defn
    async def resolve_deployment_plan(self, request: DeploymentRequest) -> DeploymentPlan:
        try:
            return resolve_plan(self.configuration(request.application), request)
        except UnknownNameError as error:
            fail(INVALID_INPUT, str(error))

    @activity.defn
    async def resolve_validation_plan(self, request: ValidationRequest) -> ValidationPlan:
        try:
            return resolve_validation_plan(self.configuration(request.application), request)
        except (UnknownNameError, UnfitGateError) as error:
            fail(INVALID_INPUT, str(error))

    @activity.defn
    async def resolve_dependency_update(self, request: DependencyUpdateRequest) -> DependencyUpdatePlan:
        try:
            return resolve_dependency_update(self.configuration(request.application), request)
        except UnknownNameError as error:
            fail(INVALID_INPUT, str(error))

    @activity.defn
    async def follow_validation(self, request: ValidationRequest) -> ValidationStatus:
        fail(INVALID_INPUT, "nobody else starts validations here")

    def configuration(self, application: str) -> Configuration:
        described = yaml.safe_load(DEPLOYMENT_YAML.format(application=application))
        return parse_configuration(json.dumps(merge(described, self.changes.get(application, {}))))


class Builds(BuildSignatures):
    """Every step measures what the gates want to hear, unless `measured` says otherwise.

    The steps of an application in `held` go on until it is let go.
    """

    def __init__(self) -> None:
        self.measured: dict[str, dict[str, bool | int | float | str]] = {}
        self.held: set[str] = set()

    @activity.defn
    async def reserve_workspace(self, request: ReservationRequest) -> Workspace:
        return Workspace(queue=BUILDS_QUEUE, worker="in-memory")

    @activity.defn
    async def check_out(self, request: CheckoutRequest) -> Checkout:
        return Checkout(
            path="in-memory",
            commit=(request.commit or "1a2b3c4d5e6f708192a3b4c5d6e7f80910111213").ljust(40, "0"),
            author="Ada",
            author_email=ADA,
            subject="a change",
            committed_at="2026-02-02T12:00:00Z",
        )

    @activity.defn
    async def run_step(self, run: StepRun) -> StepReport:
        facts: dict[str, bool | int | float | str] = {
            "errors": 0,
            "warnings": 0,
            "eunit_failures": 0,
            "ct_pass_rate": 1.0,
            "coverage": 91.3,
            "license_compliance": "pass",
            "high_vulnerabilities": 0,
            "critical_vulnerabilities": 0,
            "regression": 1.5,
            "p95_latency": 41.0,
            "error_rate": 0.01,
        }
        while run.application in self.held:
            activity.heartbeat()
            await asyncio.sleep(0.02)
        return StepReport(
            step=run.name, measured=True, measurements=facts | self.measured.get(run.application, {})
        )

    @activity.defn
    async def build_release(self, run: ReleaseRun) -> ReleaseArtefact:
        return ReleaseArtefact(
            uri=f"memory://{run.application}-{run.version}.tar.gz",
            digest="sha256:" + "0" * 64,
            size=1,
            image=run.image,
            commit=run.checkout.commit,
        )


class Cluster(KubernetesSignatures):
    """A cluster that does at once what it is asked."""

    def __init__(self) -> None:
        self.live: dict[tuple[str, Track], WorkloadObservation] = {}

    def version(self, namespace: str, track: Track = Track.STABLE) -> str | None:
        found = self.live.get((namespace, track))
        return None if found is None else found.version

    @activity.defn
    async def observe_workload(self, target: WorkloadTarget) -> WorkloadObservation:
        nothing = WorkloadObservation(exists=False, name=target.deployment)
        return self.live.get((target.namespace, Track.STABLE), nothing)

    @activity.defn
    async def apply_release(self, request: ReleaseApply) -> WorkloadObservation:
        observation = WorkloadObservation(
            exists=True,
            name=request.target.name_of(request.track),
            version=request.version,
            image=request.image,
            revision="1",
            replicas=request.replicas,
            ready=request.replicas,
            template={"spec": {"containers": [{"name": request.target.container, "image": request.image}]}},
        )
        self.live[request.target.namespace, request.track] = observation
        return observation

    @activity.defn
    async def watch_rollout(self, watch: RolloutWatch) -> RolloutResult:
        return RolloutResult(complete=True, reason="rolled out", ready=watch.replicas)

    @activity.defn
    async def set_weight(self, change: WeightChange) -> WeightReading:
        canary = round(change.replicas * change.weight / 100)
        return WeightReading(
            weight=change.weight, observed=change.weight, stable=change.replicas - canary, canary=canary
        )

    @activity.defn
    async def find_release(self, query: ReleaseQuery) -> WorkloadObservation:
        return WorkloadObservation(
            exists=True,
            name=query.target.deployment,
            version=query.version,
            image=f"registry.example.com/shop:{query.version}",
            revision="1",
            replicas=3,
            ready=3,
        )

    @activity.defn
    async def restore_workload(self, restore: Restore) -> WorkloadObservation:
        self.live[restore.target.namespace, Track.STABLE] = restore.observation
        return restore.observation

    @activity.defn
    async def remove_canary(self, target: WorkloadTarget) -> None:
        self.live.pop((target.namespace, Track.CANARY), None)


class Monitoring(WatchSignatures):
    """Finds everything well; a subject in `held` is watched until it is let go, one in `failing` fails.

    Subjects are those of the plan, such as ``monitoring of 1.0.0``, with the application before them.
    """

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.failing: dict[str, str] = {}

    @activity.defn
    async def check_health(self, probe: HealthProbe) -> HealthReport:
        return HealthReport(healthy=True)

    @activity.defn
    async def watch_release(self, watch: Watch) -> WatchVerdict:
        url = watch.policy.health.base_url if watch.policy.health is not None else ""
        application = url.removeprefix("http://").rpartition("-")[0]
        subject = f"{application}: {watch.policy.subject}"
        while subject not in self.failing and (watch.guard or subject in self.held):
            activity.heartbeat()
            await asyncio.sleep(0.05)
        if subject in self.failing:
            return WatchVerdict(
                outcome=WatchOutcome.FAILED, trigger="error_rate", reason=self.failing[subject]
            )
        return WatchVerdict(outcome=WatchOutcome.PASSED, reason="3 round(s), healthy")


class Sides(ColourSignatures):
    """No environment of these tests is blue/green: nothing runs on a side, and no side can be asked for."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @activity.defn
    async def observe_colours(self, target: WorkloadTarget) -> Colours:
        nothing = WorkloadObservation(exists=False, name=target.deployment)
        plain = self._cluster.live.get((target.namespace, Track.STABLE), nothing)
        return Colours(active=None, plain=plain, blue=nothing, green=nothing)

    @activity.defn
    async def apply_side(self, request: ReleaseApply) -> WorkloadObservation:
        fail(INVALID_INPUT, "there are no sides here")

    @activity.defn
    async def switch_traffic(self, switch: Switch) -> Colours:
        fail(INVALID_INPUT, "there are no sides here")

    @activity.defn
    async def scale_side(self, scale: SideScale) -> Colours:
        fail(INVALID_INPUT, "there are no sides here")

    @activity.defn
    async def release_traffic(self, target: WorkloadTarget) -> Colours:
        fail(INVALID_INPUT, "there are no sides here")


class Hooks(HookSignatures):
    """Notes what was run; the names in `failing` fail as often as they say, those in `broken` cannot run."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.runs: list[HookRun] = []
        self.failing: dict[str, int] = {}

    @activity.defn
    async def run_hook(self, run: HookRun) -> HookReport:
        self.runs.append(run)
        if run.hook.name in self.broken:
            fail(INVALID_CONFIGURATION, "no access to a Kubernetes cluster is configured")
        left = self.failing.get(run.hook.name, 0)
        self.failing[run.hook.name] = left - 1
        return HookReport(succeeded=left <= 0, reason="exit status 1" if left > 0 else "")


class Flags(FlagSignatures):
    """Feature flags by namespace and name, in percent."""

    def __init__(self) -> None:
        self.shares: dict[tuple[str, str], int] = {}
        self.history: list[tuple[str, str, int]] = []

    @activity.defn
    async def set_flag(self, change: FlagChange) -> FlagReading:
        self.shares[change.namespace, change.rollout.flag] = change.percentage
        self.history.append((change.namespace, change.rollout.flag, change.percentage))
        return FlagReading(exists=True, percentage=change.percentage, state="ENABLED")


class Notices(NotificationSignatures, ConversationSignatures):
    """What people were told: notifications, approvals as they are shown now, and words for one person."""

    def __init__(self) -> None:
        self.sent: list[Notification] = []
        self.cards: dict[str, list[ApprovalCard]] = {}
        self.answers: list[PersonalAnswer] = []
        self.down: set[str] = set()
        """Applications of which nothing can be told."""

    def _reach(self, key: str) -> None:
        if any(f":{application}:" in key for application in self.down):
            fail(UNAVAILABLE, "Slack is down")

    @activity.defn
    async def notify(self, notification: Notification) -> NotificationReceipt:
        self._reach(notification.key)
        self.sent.append(notification)
        return NotificationReceipt()

    @activity.defn
    async def show_approval(self, card: ApprovalCard) -> NotificationReceipt:
        self._reach(card.key)
        self.cards.setdefault(card.approval.id, []).append(card)
        return NotificationReceipt()

    @activity.defn
    async def answer_person(self, answer: PersonalAnswer) -> NotificationReceipt:
        self.answers.append(answer)
        return NotificationReceipt()


class GitHost(FactsSignatures, GitHostSignatures):
    """Pull requests by commit, and what was published of validations."""

    def __init__(self) -> None:
        self.evidence: dict[str, ApprovalEvidence] = {}
        self.checks: list[CheckRun] = []
        self.facts = LookedUp()
        self.refuses: set[str] = set()

    @activity.defn
    async def look_up_facts(self, query: FactsQuery) -> LookedUp:
        return self.facts

    @activity.defn
    async def find_approval_evidence(self, query: EvidenceQuery) -> ApprovalEvidence:
        nothing = ApprovalEvidence(reason=f"no pull request brought {query.commit}")
        return self.evidence.get(query.application, nothing)

    @activity.defn
    async def publish_check(self, check: CheckRun) -> CheckReceipt:
        if check.project in self.refuses:
            fail(FORBIDDEN, f"{check.project} is not to be written by this token")
        self.checks.append(check)
        return CheckReceipt(published=True, reference=str(len(self.checks)))


class Identities(IdentitySignatures):
    """Knows the signers in `signers`, and really checks their signatures."""

    def __init__(self) -> None:
        self.signers: dict[str, Signer] = {}
        self.held: set[str] = set()
        """Applications whose signatures take until they are let go."""

    @activity.defn
    async def verify_identity(self, query: IdentityQuery) -> Identification:
        while any(f":{application}:" in query.subject for application in self.held):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return identify(query, self.signers, datetime.now(UTC))


@dataclass
class World:
    """Everything outside, in memory."""

    builds: Builds
    cluster: Cluster
    monitoring: Monitoring
    notices: Notices
    plans: Plans
    hooks: Hooks
    flags: Flags
    git_host: GitHost
    identities: Identities
    updates: Updates


@asynccontextmanager
async def workers(client: Client, data_dir: Path) -> AsyncIterator[World]:
    """The product's workflows on both queues, with this world behind them."""
    world = World(
        builds=Builds(),
        cluster=Cluster(),
        monitoring=Monitoring(),
        notices=Notices(),
        plans=Plans(),
        hooks=Hooks(),
        flags=Flags(),
        git_host=GitHost(),
        identities=Identities(),
        updates=Updates(),
    )
    async with SqliteAuditStore.open(data_dir / "audit.db") as store:
        turns, audit = TurnActivities(client, DEPLOYMENTS_QUEUE), AuditActivities(store)
        deployments = Worker(
            client,
            task_queue=DEPLOYMENTS_QUEUE,
            workflows=WORKFLOWS,
            workflow_runner=workflow_runner(),
            activities=activities_of(
                turns,
                audit,
                world.plans,
                world.cluster,
                Sides(world.cluster),
                world.monitoring,
                world.notices,
                world.hooks,
                world.flags,
                world.git_host,
                world.identities,
                world.updates,
                Schedules(world.plans.configuration),
                RivalActivities(client),
            ),
            max_heartbeat_throttle_interval=timedelta(milliseconds=100),
        )
        builds = Worker(
            client,
            task_queue=BUILDS_QUEUE,
            activities=activities_of(world.builds, world.updates),
            max_heartbeat_throttle_interval=timedelta(milliseconds=100),
        )
        async with deployments, builds:
            yield world


async def connect(address: str) -> Client:
    return await Client.connect(address, data_converter=data_converter)


class CommandLine:
    """``erlmcp-deploy`` as one person uses it, for an application of its own."""

    def __init__(self, address: str, application: str, directory: Path, actor: str = ADA) -> None:
        self.application = application
        config = directory / "deployment.yaml"
        config.write_text(DEPLOYMENT_YAML.format(application=application))
        self.environment: dict[str, str | None] = {
            "TEMPORAL_ADDRESS": address,
            "TEMPORAL_UI_URL": "http://temporal.example.com",
            "TEMPORAL_CONFIG_FILE": str(directory / "temporal.toml"),
            "ERLMCP_DEPLOY_CONFIG": str(config),
            "ERLMCP_DEPLOY_ACTOR": actor,
            "ERLMCP_DEPLOY_APPLICATION": None,
            "GITHUB_ACTIONS": None,
            "GITHUB_ACTOR": None,
            "COLUMNS": "100",
        }

    async def __call__(self, *arguments: str, **environment: str | None) -> Result:
        """Run it in this process, one at a time: the runner exchanges the process's own streams."""
        return await asyncio.to_thread(
            CliRunner().invoke, app, list(arguments), env={**self.environment, **environment}
        )

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Run it as a program."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "starters",
            *arguments,
            cwd=ROOT,
            env=self._variables(environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    def _variables(self, changes: Mapping[str, str]) -> dict[str, str]:
        merged = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def id_of(self, kind: str, environment: str, version: str, *suffix: str) -> str:
        return ":".join((kind, self.application, environment, version, *suffix))
