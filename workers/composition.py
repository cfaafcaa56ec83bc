"""Puts a worker together."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.audit import AuditActivities
from activities.audit_sqlite import SqliteAuditStore
from activities.builds import BuildActivities
from activities.configuration import load_configuration
from activities.conversations import ConversationActivities
from activities.dependencies import DependencyActivities
from activities.dependency_plans import DependencyPlanActivities
from activities.facts import FactsActivities
from activities.github import GitHostActivities, PullRequestActivities
from activities.hooks import HookActivities
from activities.identity import IdentityActivities
from activities.kubernetes import ClusterConnection, KubernetesActivities
from activities.kubernetes.colours import ColourActivities
from activities.kubernetes.flags import FlagActivities
from activities.kubernetes.handover import HandoverActivities
from activities.kubernetes.hooks import HookJobs
from activities.ledger import EffectsLedger
from activities.notifications import NotificationActivities
from activities.otp import NodeActivities
from activities.plans import PlanActivities
from activities.schedules import ScheduleActivities
from activities.slack import SlackChannel
from activities.turns import TurnActivities
from activities.validations import RivalActivities
from activities.watching import WatchActivities
from domain.configuration import Configuration
from workers.settings import Role, WorkerSettings
from workflows.approval import ApprovalWorkflow
from workflows.canary import CanaryWorkflow
from workflows.dependency_update import DependencyUpdateWorkflow
from workflows.deployment import DeploymentWorkflow
from workflows.effects import BUILDS_QUEUE, DEPLOYMENTS_QUEUE
from workflows.environment import EnvironmentWorkflow
from workflows.rollback import RollbackWorkflow
from workflows.scheduled_event import ScheduledEventWorkflow
from workflows.validation import ValidationWorkflow

logger = logging.getLogger(__name__)

WORKFLOWS = (
    DeploymentWorkflow,
    ApprovalWorkflow,
    CanaryWorkflow,
    RollbackWorkflow,
    EnvironmentWorkflow,
    ValidationWorkflow,
    DependencyUpdateWorkflow,
    ScheduledEventWorkflow,
)
PASSED_THROUGH = ("domain", "activities", "pydantic", "pydantic_core", "annotated_types", "semver")
"""Modules that the workflow sandbox does not load anew: immutable models and declarations."""


def workflow_runner() -> SandboxedWorkflowRunner:
    """The sandbox of workflow code, with the models passed through."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    )


def activities_of(*implementations: object) -> list[Callable[..., Any]]:
    """All methods of the objects that are activities."""
    return [
        method
        for implementation in implementations
        for name in dir(implementation)
        if not name.startswith("__")
        and hasattr(method := getattr(implementation, name), "__temporal_activity_definition")
    ]


def _say_what_is_not_served(configuration: Configuration, settings: WorkerSettings) -> None:
    """Settings this version reads and does not act on must not pass for working."""
    channels, storage = configuration.notification_channels, configuration.audit_storage
    unserved = [
        name
        for name, wanted in (
            ("teams", channels.teams.enable),
            ("pagerduty", bool(channels.pagerduty.integration_key)),
            ("email", any(channels.email.recipients.values())),
        )
        if wanted
    ]
    if unserved:
        logger.warning("notifications go to Slack only; not served by this version: %s", ", ".join(unserved))
    if storage.primary.type != "sqlite":
        logger.warning(
            "audit events are kept in %s only; not served by this version: %s, %s",
            settings.audit_store,
            storage.primary.type,
            storage.backup.type,
        )


@asynccontextmanager
async def compose(
    client: Client,
    settings: WorkerSettings,
    role: Role = Role.ALL,
    environment: Mapping[str, str] = os.environ,
) -> AsyncIterator[list[Worker]]:
    """The workers of one process, not yet running; clients and stores are closed at the end.

    Raises:
        ConfigurationError: deployment.yaml cannot be used.
    """
    configuration = load_configuration(settings.config)
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        workers = []
        if role in (Role.ALL, Role.DEPLOYMENTS):
            _say_what_is_not_served(configuration, settings)
            store = await stack.enter_async_context(SqliteAuditStore.open(settings.audit_store))
            ledger = await stack.enter_async_context(EffectsLedger.open(settings.ledger))
            http = await stack.enter_async_context(httpx.AsyncClient())
            connection = ClusterConnection.from_environment(environment)
            cluster = KubernetesActivities(connection)
            watching = WatchActivities(http, connection, environment)
            jobs, colours = HookJobs(connection), ColourActivities(connection)
            handover, flags = HandoverActivities(connection), FlagActivities(connection)
            nodes = NodeActivities(connection, environment)
            for holder in (cluster, watching, jobs, colours, handover, flags, nodes):
                stack.push_async_callback(holder.close)
            slack = SlackChannel(
                configuration.notification_channels.slack,
                ledger,
                environment=environment,
                production=[n for n, e in configuration.environments.items() if e.production],
                directory=configuration.directory,
            )
            workers.append(
                Worker(
                    client,
                    task_queue=DEPLOYMENTS_QUEUE,
                    workflows=WORKFLOWS,
                    workflow_runner=workflow_runner(),
                    activities=activities_of(
                        PlanActivities(settings.config),
                        TurnActivities(client, DEPLOYMENTS_QUEUE),
                        RivalActivities(client),
                        cluster,
                        watching,
                        colours,
                        handover,
                        flags,
                        nodes,
                        HookActivities(settings.hooks, ledger, jobs, environment=environment),
                        NotificationActivities([slack]),
                        ConversationActivities([slack]),
                        FactsActivities(client, settings.config, environment=environment),
                        IdentityActivities(settings.config),
                        GitHostActivities(http, settings.config, environment=environment),
                        PullRequestActivities(http, settings.config, environment=environment),
                        DependencyPlanActivities(client, settings.config),
                        ScheduleActivities(settings.config),
                        AuditActivities(store),
                    ),
                    max_concurrent_activities=settings.concurrent_activities,
                    max_cached_workflows=settings.cached_workflows,
                    max_heartbeat_throttle_interval=settings.heartbeat_throttle,
                    default_heartbeat_throttle_interval=settings.heartbeat_throttle,
                    graceful_shutdown_timeout=settings.graceful_shutdown,
                )
            )
        if role in (Role.ALL, Role.BUILDS):
            builds, dependencies = BuildActivities(settings.builds), DependencyActivities(settings.builds)
            workers += [
                Worker(
                    client,
                    task_queue=queue,
                    activities=activities_of(builds, dependencies),
                    max_concurrent_activities=settings.concurrent_builds,
                    max_heartbeat_throttle_interval=settings.heartbeat_throttle,
                    default_heartbeat_throttle_interval=settings.heartbeat_throttle,
                    graceful_shutdown_timeout=settings.graceful_shutdown,
                )
                for queue in (BUILDS_QUEUE, builds.own_queue)
            ]
        yield workers
