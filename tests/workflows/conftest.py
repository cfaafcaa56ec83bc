"""The workflows on a real Temporal server, with the outside world behind their ports kept in memory."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

from activities.audit_sqlite import SqliteAuditTrail
from domain.audit import AuditEvent
from domain.audit_report import AuditQuery
from domain.deployment import DeploymentStatus
from domain.environment import EnvironmentRecord
from sandbox.temporal import TemporalServer
from tests.starters.world import World, connect, workers

_numbers = itertools.count(1)
DEVELOPER = "developer@example.com"


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with TemporalServer.start(tmp_path_factory.mktemp("temporal"), ui=False) as server:
        yield await connect(server.address)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
async def world(client: Client, home: Path) -> AsyncIterator[World]:
    async with workers(client, home) as running:
        yield running


@dataclass
class Shop:
    """One application of its own, and words for what happens to it."""

    name: str
    client: Client
    world: World
    home: Path

    def configured(self, **environment: Any) -> None:
        """What the production environment of this application says otherwise."""
        self.world.plans.changes[self.name] = {"environments": {"production": environment}}

    async def start(
        self, version: str, environment: str = "production", **request: Any
    ) -> WorkflowHandle[Any, DeploymentStatus]:
        body = {"application": self.name, "environment": environment, "version": version, "actor": DEVELOPER}
        return await self.client.start_workflow(
            "DeploymentWorkflow",
            {**body, **request},
            id=f"deployment:{self.name}:{environment}:{version}",
            task_queue="deployments",
            result_type=DeploymentStatus,
        )

    async def approve(self, handle: WorkflowHandle[Any, Any], *actors: str) -> None:
        for actor in actors or ("ada@example.com", "bob@example.com"):
            await handle.signal("approve", {"actor": actor, "comment": "fine"})

    async def deployed(self, version: str, environment: str = "production") -> DeploymentStatus:
        handle = await self.start(version, environment)
        await self.approve(handle)
        return await self.ended(handle)

    async def ended(self, handle: WorkflowHandle[Any, Any]) -> DeploymentStatus:
        status: DeploymentStatus = await asyncio.wait_for(handle.result(), 60)
        return status

    async def status(self, handle: WorkflowHandle[Any, Any]) -> DeploymentStatus:
        status: DeploymentStatus = await handle.query("status", result_type=DeploymentStatus)
        return status

    async def until(
        self, handle: WorkflowHandle[Any, Any], reached: Callable[[DeploymentStatus], bool]
    ) -> DeploymentStatus:
        """The first status that is so; one that is final ends it, unless that is what is waited for."""
        async with asyncio.timeout(60):
            while not reached(status := await self.status(handle)):
                assert not status.state.final, status.model_dump_json(indent=1)
                await asyncio.sleep(0.02)
        return status

    def child(self, kind: str, version: str, *suffix: str) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(":".join((kind, self.name, "production", version, *suffix)))

    async def environment(self, environment: str = "production") -> EnvironmentRecord:
        record: EnvironmentRecord = await self.place(environment).query(
            "status", result_type=EnvironmentRecord
        )
        return record

    def place(self, environment: str = "production") -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(f"environment:{self.name}:{environment}")

    def hold(self, subject: str) -> str:
        """Let a watch run until it is let go (`World.monitoring.held`)."""
        held = f"{self.name}: {subject}"
        self.world.monitoring.held.add(held)
        return held

    def fails(self, subject: str, reason: str) -> None:
        self.world.monitoring.failing[f"{self.name}: {subject}"] = reason

    def audit(self, deployment_id: str) -> list[AuditEvent]:
        with SqliteAuditTrail.open(self.home / "audit.db") as trail:
            return [e.event for e in trail.query(AuditQuery(deployment=deployment_id))]

    async def tamper_with_audit(self, deployment_id: str) -> None:
        """Change the head of a chain behind the store's back: it is not continued then."""
        # Not in this thread: the worker, which may be in the middle of a write, needs it to finish that.
        await asyncio.to_thread(self._tamper_with_audit, deployment_id)

    def _tamper_with_audit(self, deployment_id: str) -> None:
        with sqlite3.connect(self.home / "audit.db", timeout=30) as db:
            db.execute("BEGIN IMMEDIATE")  # the worker writes too
            guards = db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'heads'"
            )
            for (name,) in guards.fetchall():
                db.execute(f"DROP TRIGGER {name}")
            db.execute("UPDATE heads SET hash = 'tampered' WHERE chain = ?", (deployment_id,))


@pytest.fixture
def shop(client: Client, world: World, home: Path) -> Shop:
    return Shop(f"shop-{next(_numbers)}", client, world, home)
