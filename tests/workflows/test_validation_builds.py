"""A validation with a real repository, a real build worker and the real plan."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from activities.audit import AuditActivities
from activities.audit_sqlite import SqliteAuditStore
from activities.builds import BuildActivities
from activities.plans import PlanActivities
from activities.validations import RivalActivities
from domain.validation import ValidationKind, ValidationRequest, ValidationStatus
from tests.activities.builds.service_repository import WORKER_ENVIRONMENT, commit_files, git
from workers.composition import activities_of, workflow_runner
from workflows.effects import BUILDS_QUEUE, DEPLOYMENTS_QUEUE
from workflows.validation import ValidationWorkflow

SETTINGS = """
applications:
  service:
    repository: {repository}
    image: registry.example.com/service:{{version}}
    build: {{steps: {{compile: {{command: ["true"]}}, check: {{command: [./check]}}}}}}
gates: {{style: {{conditions: {{violations: 0}}, steps: [check]}}}}
directory: {{roles: {{tech_lead: [tara@example.com], change_board: [carla@example.com]}}}}
environments: {{qa: null, staging: null, production: null, dev: {{required_gates: [style]}}}}
"""


def check(violations: int) -> dict[str, str]:
    """A program of the repository that measures."""
    return {"check": f"#!/bin/sh\necho '{{\"violations\": {violations}}}'\n"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "service"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main", "--template=")
    commit_files(path, check(0), "v1.0.0")
    git(path, "checkout", "--quiet", "-b", "feature/cart")
    commit_files(path, check(2), "cart")
    return path


async def test_the_very_commit_is_measured(client: Client, repository: Path, tmp_path: Path) -> None:
    settings = tmp_path / "deployment.yaml"
    settings.write_text(SETTINGS.format(repository=repository))
    builds = BuildActivities(tmp_path / "worker", environment=WORKER_ENVIRONMENT)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteAuditStore.open(tmp_path / "audit.db"))
        light = activities_of(PlanActivities(settings), RivalActivities(client), AuditActivities(store))
        workers = [
            Worker(
                client,
                task_queue=DEPLOYMENTS_QUEUE,
                workflows=[ValidationWorkflow],
                workflow_runner=workflow_runner(),
                activities=light,
            ),
            *(
                Worker(client, task_queue=queue, activities=activities_of(builds))
                for queue in (BUILDS_QUEUE, builds.own_queue)
            ),
        ]
        for worker in workers:
            await stack.enter_async_context(worker)

        good = await validated(client, git(repository, "rev-parse", "main"), "main")
        bad = await validated(client, git(repository, "rev-parse", "feature/cart"), "feature/cart")
        gone = await validated(client, "f" * 40, "main")

    assert (good.state, good.reason) == ("Completed", "1 of 1 gates hold")
    assert good.built is not None
    assert good.built.commit == git(repository, "rev-parse", "main")
    assert (bad.state, bad.reason) == ("Failed", "gate style: violations is 2, wanted 0")
    assert gone.state == "Failed"
    assert "f" * 40 in (gone.reason or ""), "a commit that is not there is named"


async def validated(client: Client, commit: str, branch: str) -> ValidationStatus:
    request = ValidationRequest(
        application="service",
        commit=commit,
        kind=ValidationKind.CI,
        actor="dev@example.com",
        ref=f"refs/heads/{branch}",
    )
    return await client.execute_workflow(
        ValidationWorkflow.run, request, id=request.validation_id, task_queue=DEPLOYMENTS_QUEUE
    )
