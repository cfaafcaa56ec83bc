"""Validations: the gates are held against a commit, and its pull request shows what they say."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from activities.audit_sqlite import SqliteAuditTrail
from domain.audit import AuditEvent
from domain.audit_report import AuditQuery
from domain.checks import CheckRun
from domain.validation import ValidationStatus
from tests.starters.world import World

_numbers = itertools.count(1)
OLD, NEW, NEWEST = "a" * 40, "b" * 40, "c" * 40
DEVELOPER = "developer@example.com"


@dataclass
class Repository:
    """One application whose commits are validated."""

    name: str
    client: Client
    world: World
    home: Path

    async def start(
        self, commit: str, kind: str = "pull_request", **request: Any
    ) -> WorkflowHandle[Any, ValidationStatus]:
        body = {"application": self.name, "commit": commit, "kind": kind, "actor": DEVELOPER, **request}
        return await self.client.start_workflow(
            "ValidationWorkflow",
            body,
            id=f"validation:{self.name}:{commit}:{kind}",
            task_queue="deployments",
            result_type=ValidationStatus,
        )

    async def pull_request(
        self, commit: str, number: int = 7, **request: Any
    ) -> WorkflowHandle[Any, ValidationStatus]:
        about: dict[str, Any] = {
            "ref": "feature/cart",
            "project": f"acme/{self.name}",
            "pull_request": number,
        }
        return await self.start(commit, **about, **request)

    async def validated(self, commit: str, kind: str = "ci", **request: Any) -> ValidationStatus:
        return await self.ended(await self.start(commit, kind, **request))

    async def ended(self, handle: WorkflowHandle[Any, ValidationStatus]) -> ValidationStatus:
        return await asyncio.wait_for(handle.result(), 30)

    async def until(
        self,
        handle: WorkflowHandle[Any, ValidationStatus],
        reached: Callable[[ValidationStatus], bool],
    ) -> None:
        async with asyncio.timeout(30):
            while not reached(await handle.query("status", result_type=ValidationStatus)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def tested(self, handle: WorkflowHandle[Any, ValidationStatus]) -> None:
        """Wait until its tests run."""
        await self.until(handle, lambda s: bool(s.gates) and s.gates[0].outcome == "running")

    def hold_steps(self) -> None:
        self.world.builds.held.add(self.name)

    def let_go(self) -> None:
        self.world.builds.held.discard(self.name)

    def checks(self, commit: str) -> list[CheckRun]:
        checks = self.world.git_host.checks
        return [c for c in checks if c.project == f"acme/{self.name}" and c.commit == commit]

    def audit(self, commit: str, kind: str = "pull_request") -> list[AuditEvent]:
        with SqliteAuditTrail.open(self.home / "audit.db") as trail:
            chain = f"validation:{self.name}:{commit}:{kind}"
            return [e.event for e in trail.query(AuditQuery(deployment=chain))]


@pytest.fixture
def repository(client: Client, world: World, home: Path) -> Repository:
    return Repository(f"service-{next(_numbers)}", client, world, home)


async def refused(handle: WorkflowHandle[Any, Any]) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), 30)
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause


def outcomes(status: ValidationStatus) -> dict[str, str]:
    return {gate.name: str(gate.outcome) for gate in status.gates}


# The straight path


async def test_a_pull_request_is_held_against_every_gate_and_shows_it(repository: Repository) -> None:
    ended = await repository.ended(await repository.pull_request(OLD))

    assert (ended.state, ended.reason) == ("Completed", "4 of 4 gates hold")
    assert outcomes(ended) == dict.fromkeys(("compile", "test", "security", "performance"), "passed")
    assert ended.built is not None
    running, passed = repository.checks(OLD)
    assert (running.state, passed.state) == ("running", "passed")
    assert running.name == passed.name == f"erlmcp-deploy / {repository.name}"
    assert running.key == passed.key, "the same check is brought up to date"
    assert "| ✅ | test |" in passed.summary


async def test_a_gate_that_fails_fails_the_validation_and_tells_the_numbers(repository: Repository) -> None:
    repository.world.builds.measured[repository.name] = {"coverage": 71.5, "high_vulnerabilities": 2}

    ended = await repository.ended(await repository.pull_request(OLD))

    assert ended.state == "Failed"
    assert ended.reason == (
        "gate test: coverage is 71.5, wanted >= 80%; gate security: high_vulnerabilities is 2, wanted 0"
    )
    final = repository.checks(OLD)[-1]
    assert (final.state, final.title) == ("failed", "failed: test, security")


async def test_what_does_not_compile_is_not_tested(repository: Repository) -> None:
    repository.world.builds.measured[repository.name] = {"errors": 3}

    ended = await repository.validated(OLD)

    assert (ended.state, ended.reason) == ("Failed", "gate compile: errors is 3, wanted == 0")
    assert outcomes(ended) == {"compile": "failed"}


async def test_only_the_named_gates_are_held_against_it(repository: Repository) -> None:
    repository.world.builds.measured[repository.name] = {"coverage": 0.0}

    ended = await repository.validated(OLD, gates=["compile", "security_scan"])

    assert ended.passed
    assert outcomes(ended) == {"compile": "passed", "security": "passed"}


async def test_a_validation_needs_no_turn_and_runs_beside_a_deployment(repository: Repository) -> None:
    await repository.client.start_workflow(
        "EnvironmentWorkflow",
        {"application": repository.name, "environment": "dev", "holder": None},
        id=f"environment:{repository.name}:dev",
        task_queue="deployments",
    )
    freeze = {"actor": DEVELOPER, "reason": "holidays"}
    await repository.client.get_workflow_handle(f"environment:{repository.name}:dev").signal("freeze", freeze)

    assert (await repository.validated(OLD, "nightly")).passed


async def test_it_is_audited_in_a_chain_of_its_own(repository: Repository) -> None:
    await repository.ended(await repository.pull_request(OLD, gates=["compile"]))

    events = repository.audit(OLD)

    assert [e.event_type for e in events if e.event_type != "check.published"] == [
        "validation.requested",
        "validation.transition",
        "gate.evaluated",
        "validation.transition",
        "validation.transition",
    ]
    assert [e.details["to_state"] for e in events if e.event_type == "validation.transition"] == [
        "Building",
        "Testing",
        "Completed",
    ]
    assert {e.environment for e in events} == {"pull_request"}
    assert {e.version for e in events} == {"0.0.0-feature-cart.gaaaaaaa"}


async def test_it_is_found_by_its_search_attributes(repository: Repository) -> None:
    repository.world.builds.measured[repository.name] = {"errors": 1}
    handle = await repository.start(OLD, "nightly")
    await repository.ended(handle)

    described = await handle.describe()

    shown = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    assert shown["Environment"] == "nightly"
    assert shown["DeploymentState"] == "Failed"
    assert shown["Application"] == repository.name


# Bad input


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"gates": ["compile", "smoke"]},
            "'smoke' is neither a gate nor a build step; choose of: all_quality",
        ),
        ({"gates": ["manual_approval"]}, "gate 'manual_approval' is decided by people"),
        ({"commit_": 1}, "commit_ is not a field of ValidationRequest; did you mean commit?"),
        ({"pull_request": 0}, "pull_request is 0"),
    ],
)
async def test_bad_input_fails_at_once_with_one_clear_message(
    repository: Repository, request_: dict[str, Any], message: str
) -> None:
    handle = await repository.start(OLD, "ci", **request_)

    error = await refused(handle)

    assert (error.type, error.non_retryable) == ("InvalidInput", True)
    assert message in error.message


async def test_a_pull_request_that_cannot_be_validated_says_why(repository: Repository) -> None:
    handle = await repository.pull_request(OLD, gates=["smoke"])

    await refused(handle)

    (check,) = repository.checks(OLD)
    assert check.state == "failed"
    assert "'smoke' is neither a gate nor a build step" in check.title


async def test_another_id_would_let_it_run_twice(repository: Repository) -> None:
    handle = await repository.client.start_workflow(
        "ValidationWorkflow",
        {"application": repository.name, "commit": OLD, "kind": "ci", "actor": DEVELOPER},
        id=f"validation:{repository.name}:mine",
        task_queue="deployments",
    )

    error = await refused(handle)

    assert f"--workflow-id validation:{repository.name}:{OLD}:ci" in error.message


# Newer commits


async def test_a_newer_commit_of_the_pull_request_ends_the_older_one(repository: Repository) -> None:
    repository.hold_steps()
    older = await repository.pull_request(OLD)
    await repository.tested(older)

    newer = await repository.pull_request(NEW)
    superseded = await repository.ended(older)

    assert superseded.state == "Superseded"
    assert superseded.reason == f"superseded by {newer.id}"
    assert repository.checks(OLD)[-1].state == "cancelled"
    assert outcomes(superseded) == {"compile": "skipped"}, "what still ran has said nothing"
    repository.let_go()
    assert (await repository.ended(newer)).passed


async def test_an_older_commit_that_comes_late_gives_way(repository: Repository) -> None:
    repository.hold_steps()

    def event(commit: str, minute: int) -> dict[str, Any]:
        return {
            "id": commit[:4],
            "type": "pr",
            "source": "webhook",
            "actor": DEVELOPER,
            "timestamp": f"2026-02-02T12:{minute:02}:00Z",
            "git_ref": "refs/heads/feature/cart",
            "commit_sha": commit,
        }

    newer = await repository.pull_request(NEW, event=event(NEW, 10))
    await repository.tested(newer)

    late = await repository.pull_request(OLD, event=event(OLD, 5))

    assert (await repository.ended(late)).reason == f"superseded by {newer.id}"
    repository.let_go()
    assert (await repository.ended(newer)).passed


async def test_two_that_do_not_see_each_other_at_first_end_with_one_verdict(repository: Repository) -> None:
    # Both are started at the same moment; visibility may not know either when the other looks.
    repository.hold_steps()
    handles = await asyncio.gather(repository.pull_request(OLD), repository.pull_request(NEW))
    await asyncio.gather(*(repository.until(h, lambda s: s.state != "Pending") for h in handles))
    repository.let_go()

    ended = await asyncio.gather(*(repository.ended(h) for h in handles))

    assert sorted(str(e.state) for e in ended) == ["Completed", "Superseded"]


async def test_other_pull_requests_and_other_kinds_go_on(repository: Repository) -> None:
    repository.hold_steps()
    same_commit = await repository.start(OLD, "nightly")
    other = await repository.pull_request(NEW, number=8)
    await asyncio.gather(repository.tested(same_commit), repository.tested(other))

    newest = await repository.pull_request(NEWEST, number=7)
    await repository.tested(newest)
    repository.let_go()

    ended = await asyncio.gather(*(repository.ended(h) for h in (same_commit, other, newest)))
    assert all(e.passed for e in ended)


# Ends


async def test_a_cancelled_validation_ends_cleanly(repository: Repository) -> None:
    repository.hold_steps()
    handle = await repository.pull_request(OLD)
    await repository.tested(handle)

    await handle.cancel()
    ended = await repository.ended(handle)
    repository.let_go()

    assert (ended.state, ended.reason) == ("Failed", "cancelled by a cancellation request")
    assert repository.checks(OLD)[-1].state == "cancelled"
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_a_git_host_that_refuses_changes_no_verdict(repository: Repository) -> None:
    repository.world.git_host.refuses.add(f"acme/{repository.name}")

    ended = await repository.ended(await repository.pull_request(OLD))

    assert ended.passed
    told = [e for e in repository.audit(OLD) if e.event_type == "check.published"]
    assert [e.status for e in told] == ["failed", "failed"]
    assert "is not to be written by this token" in told[0].reason
