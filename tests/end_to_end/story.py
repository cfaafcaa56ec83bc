"""A story: one world with a client, and words for what a test does in it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Replayer

from domain.audit import AuditEvent
from domain.deployment import DeploymentState, DeploymentStatus
from sandbox.configuration import APPLICATION, APPROVER, Times
from sandbox.kubernetes.fault_proxy import FaultProxy
from sandbox.world import CHECKOUT, World
from workers.composition import WORKFLOWS, workflow_runner

QUICK = Times(
    canary_step="2s",
    analysis_interval="1s",
    health_interval="500ms",
    health_timeout="30s",
    soak="2s",
    progress_deadline="30s",
)


class Ran(NamedTuple):
    """A command that has ended."""

    code: int | None
    output: str


@dataclass
class Story:
    """One world with a client, and words for what a test does in it."""

    world: World
    client: Client
    proxy: FaultProxy

    async def start(
        self, version: str, environment: str = "production", **request: Any
    ) -> WorkflowHandle[Any, Any]:
        body = {
            "application": APPLICATION,
            "environment": environment,
            "version": version,
            "actor": "developer@example.com",
            **request,
        }
        return await self.client.start_workflow(
            "DeploymentWorkflow",
            body,
            id=f"deployment:{APPLICATION}:{environment}:{version}",
            task_queue="deployments",
            result_type=DeploymentStatus,
        )

    def handle(self, workflow_id: str) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(workflow_id, result_type=DeploymentStatus)

    async def status(self, handle: WorkflowHandle[Any, Any]) -> DeploymentStatus:
        status: DeploymentStatus = await handle.query("status", result_type=DeploymentStatus)
        return status

    async def until(
        self,
        handle: WorkflowHandle[Any, Any],
        reached: Callable[[DeploymentStatus], bool],
        *,
        within: float = 90,
        every: float = 0.05,
    ) -> DeploymentStatus:
        """Ask for the status until it is as wanted."""
        give_up = time.monotonic() + within
        while True:
            status = await self.status(handle)
            if reached(status):
                return status
            if status.state.final or time.monotonic() > give_up:
                raise AssertionError(f"never came: {status.model_dump_json(indent=1)}")
            await asyncio.sleep(every)

    async def settled(self, *workflow_ids: str) -> None:
        """Wait until none of them has anything under way that a dying worker would hold up."""
        for workflow_id in workflow_ids:
            while (await self._described(workflow_id)).pending_activities:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

    async def _described(self, workflow_id: str) -> DescribeWorkflowExecutionResponse:
        return (await self.client.get_workflow_handle(workflow_id).describe()).raw_description

    async def approve(self, handle: WorkflowHandle[Any, Any], actor: str = APPROVER) -> None:
        await handle.signal("approve", {"actor": actor, "comment": "go ahead"})

    async def deploy(self, version: str, environment: str = "production") -> DeploymentStatus:
        """Start, approve in advance, and wait for the end."""
        handle = await self.start(version, environment)
        await self.approve(handle)
        return await result(handle)

    async def serves(self, environment: str = "production", requests: int = 5) -> set[str]:
        """The versions that answer where the stable track is asked."""
        url = self.world.services.url(self.world.namespace(environment))
        async with httpx.AsyncClient(timeout=5) as http:
            answers = [(await http.get(f"{url}/health")).json() for _ in range(requests)]
        return {str(answer.get("version")) for answer in answers}

    async def shown_state(self, handle: WorkflowHandle[Any, Any]) -> str:
        """The state the server shows, whether or not a worker lives."""
        described = await handle.describe()
        return str(described.search_attributes.get("DeploymentState", ["?"])[0])

    def audit(self) -> list[AuditEvent]:
        """All events of the audit trail, chain by chain."""
        with sqlite3.connect(f"file:{self.world.home / 'audit.db'}?mode=ro", uri=True) as db:
            rows = db.execute("SELECT event FROM events ORDER BY chain, sequence").fetchall()
        return [AuditEvent.model_validate_json(row[0]) for row in rows]

    def built(self) -> list[str]:
        """Versions whose artefact was published, once for each publishing."""
        journal = self.world.home / "builds" / "artefacts" / "journal.jsonl"
        return [json.loads(line)["version"] for line in journal.read_text().splitlines()]

    async def temporal_cli(self, *arguments: str) -> str:
        """The stock CLI; returns its output and asserts that it succeeded."""
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "temporal"),
            *arguments,
            "--address",
            self.world.temporal.address,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def erlmcp_deploy(self, *arguments: str, **variables: str) -> Ran:
        """The product's command line, a process of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "starters",
            *arguments,
            env=self.world.environment() | variables,
            cwd=CHECKOUT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return Ran(process.returncode, output.decode())

    async def replay_all(self) -> int:
        """Replay every workflow of this world against today's code; a difference fails."""
        replayer = Replayer(
            workflows=WORKFLOWS,
            workflow_runner=workflow_runner(),
            data_converter=self.client.data_converter,
        )
        replayed = 0
        async for execution in self.client.list_workflows():
            handle = self.client.get_workflow_handle(execution.id, run_id=execution.run_id)
            await replayer.replay_workflow(await handle.fetch_history())
            replayed += 1
        return replayed


async def result(handle: WorkflowHandle[Any, Any], within: float = 120) -> DeploymentStatus:
    """The final status."""
    ended: DeploymentStatus = await asyncio.wait_for(handle.result(), within)
    return ended


def states(status: DeploymentStatus) -> list[str]:
    return [str(t.state) for t in status.history]


HAPPY_PATH = [
    str(s)
    for s in (
        DeploymentState.PENDING,
        DeploymentState.VALIDATION,
        DeploymentState.BUILDING,
        DeploymentState.TESTING,
        DeploymentState.APPROVAL,
        DeploymentState.DEPLOYING,
        DeploymentState.VERIFYING,
        DeploymentState.MONITORING,
        DeploymentState.COMPLETED,
    )
]
