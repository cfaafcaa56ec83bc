"""Dependency updates with real repositories, a real build worker, and GitHub's own protocols."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from activities.audit import AuditActivities
from activities.audit_sqlite import SqliteAuditStore, SqliteAuditTrail
from activities.builds import BuildActivities
from activities.dependencies import ADDRESS, DependencyActivities
from activities.dependency_plans import DependencyPlanActivities
from activities.github import GitHostActivities, PullRequestActivities
from activities.plans import PlanActivities
from activities.schedules import ScheduleActivities
from activities.validations import RivalActivities
from domain.audit_report import AuditQuery
from domain.dependency_update import DependencyUpdateStatus
from domain.schedules import ScheduledOutcome
from domain.validation import ValidationKind, ValidationRequest, ValidationStatus
from sandbox.github import APP_TOKEN, GitHubServer, PullRequest, Repository
from tests.activities.builds.service_repository import WORKER_ENVIRONMENT, commit_files, git
from workers.composition import activities_of, workflow_runner
from workflows.dependency_update import DependencyUpdateWorkflow
from workflows.effects import BUILDS_QUEUE, DEPLOYMENTS_QUEUE
from workflows.scheduled_event import ScheduledEventWorkflow
from workflows.validation import ValidationWorkflow

DEVELOPER = "dev@example.com"
BRANCH = "erlmcp-deploy/dependencies"
_numbers = itertools.count(1)


def lock(cowboy: str) -> str:
    return f'{{"1.2.0",\n[{{<<"cowboy">>,{{pkg,<<"cowboy">>,<<"{cowboy}">>}},0}}]}}.\n'


def program(*lines: str) -> str:
    return "\n".join(("#!/bin/sh", "set -e", *lines, ""))


FILES = {
    "rebar.lock": lock("2.9.0"),
    "README": "A service.\n",
    "update": program("sed -i s/2.9.0/2.10.0/ rebar.lock", "mkdir -p _build", "touch _build/junk"),
    "check": program("grep -q 2.11 rebar.lock && n=3 || n=0", 'echo "{\\"violations\\": $n}"'),
}


@dataclass
class House:
    """A worker with everything, and GitHub."""

    client: Client
    github: GitHubServer
    settings: Path
    audit: Path
    environment: dict[str, str]
    applications: dict[str, Any] = field(default_factory=dict)

    def configured(self, name: str, **application: Any) -> None:
        steps = {"compile": {"command": ["true"]}, "check": {"command": ["./check"]}}
        described = {"image": f"registry.example.com/{name}:{{version}}", "build": {"steps": steps}}
        self.applications[name] = {**described, **application}
        settings = {
            "applications": self.applications,
            "gates": {"style": {"conditions": {"violations": 0}, "steps": ["check"]}},
            "triggers": {"pr_validation": {"gates": ["style"]}},
            "directory": {
                "roles": {"tech_lead": ["tara@example.com"], "change_board": ["carla@example.com"]}
            },
            "environments": {
                **dict.fromkeys(("qa", "staging", "production")),
                "dev": {"required_gates": ["style"]},
            },
            "git_hosts": {"github": {"url": self.github.url, "api_url": self.github.api_url}},
        }
        draft = self.settings.with_suffix(".draft")
        draft.write_text(yaml.safe_dump(settings))
        draft.rename(self.settings)


@pytest.fixture(scope="module")
async def house(client: Client, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home = tmp_path_factory.mktemp("house")
    async with AsyncExitStack() as stack:
        github = await stack.enter_async_context(GitHubServer.start())
        http = await stack.enter_async_context(httpx.AsyncClient())
        store = await stack.enter_async_context(SqliteAuditStore.open(home / "audit.db"))
        settings = home / "deployment.yaml"
        environment = {**WORKER_ENVIRONMENT, "GITHUB_TOKEN": APP_TOKEN, "GITHUB_SERVER_URL": github.url}
        builds = BuildActivities(home / "builds", environment=environment)
        light = activities_of(
            PlanActivities(settings),
            DependencyPlanActivities(client, settings),
            ScheduleActivities(settings),
            RivalActivities(client),
            AuditActivities(store),
            GitHostActivities(http, settings, environment=environment),
            PullRequestActivities(http, settings, environment=environment),
        )
        heavy = activities_of(builds, DependencyActivities(home / "builds", environment=environment))
        workers = [
            Worker(
                client,
                task_queue=DEPLOYMENTS_QUEUE,
                workflows=[ValidationWorkflow, DependencyUpdateWorkflow, ScheduledEventWorkflow],
                workflow_runner=workflow_runner(),
                activities=light,
                max_heartbeat_throttle_interval=timedelta(milliseconds=100),
            ),
            *(
                Worker(
                    client,
                    task_queue=queue,
                    activities=heavy,
                    max_heartbeat_throttle_interval=timedelta(milliseconds=100),
                )
                for queue in (BUILDS_QUEUE, builds.own_queue)
            ),
        ]
        for worker in workers:
            await stack.enter_async_context(worker)
        yield House(client, github, settings, home / "audit.db", environment)


@dataclass
class Service:
    """An application with a repository on GitHub, and a developer's clone of it."""

    name: str
    house: House
    origin: Path
    clone: Path
    repository: Repository

    async def start(self) -> WorkflowHandle[Any, DependencyUpdateStatus]:
        return await self.house.client.start_workflow(
            "DependencyUpdateWorkflow",
            {"application": self.name, "actor": DEVELOPER},
            id=f"dependency-update:{self.name}",
            task_queue=DEPLOYMENTS_QUEUE,
            result_type=DependencyUpdateStatus,
        )

    async def updated(self) -> DependencyUpdateStatus:
        return await asyncio.wait_for((await self.start()).result(), 60)

    def configured(self, **dependencies: Any) -> None:
        self.house.configured(
            self.name,
            repository=f"{self.house.github.url}/acme/{self.name}.git",
            dependencies={"command": ["./update"], **dependencies},
        )

    def commit(self, files: dict[str, str], message: str) -> str:
        """What a developer pushes to main."""
        commit_files(self.clone, files, message)
        git(self.clone, "push", "--quiet", "origin", "main")
        return git(self.clone, "rev-parse", "main")

    def head(self, branch: str = BRANCH) -> str | None:
        return git(self.origin, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}") or None

    def show(self, what: str) -> str:
        return git(self.origin, "show", what)

    @property
    def pull_requests(self) -> list[PullRequest]:
        self.repository.refresh()
        return list(self.repository.pulls.values())


@pytest.fixture
def service(house: House, tmp_path: Path) -> Service:
    name = f"service-{next(_numbers)}"
    clone, origin = tmp_path / "clone", tmp_path / "origin.git"
    clone.mkdir()
    git(clone, "init", "--quiet", "--initial-branch=main", "--template=")
    commit_files(clone, FILES, "v1.0.0")
    git(tmp_path, "clone", "--quiet", "--bare", str(clone), str(origin))
    git(clone, "remote", "add", "origin", str(origin))
    repository = house.github.add_repository(f"acme/{name}", private=True)
    repository.serve(origin)
    made = Service(name, house, origin, clone, repository)
    made.configured()
    return made


async def test_an_update_is_proposed_with_what_the_gates_say(service: Service) -> None:
    handle = await service.start()
    status = await asyncio.wait_for(handle.result(), 60)

    assert (status.state, status.reason) == ("Completed", "pull request 1 opened; gates: 1 of 1 gates hold")
    # one commit of ours on the base, with the lock file and nothing else
    head = service.head()
    assert head is not None
    assert service.show(f"{head}:rebar.lock").strip() == lock("2.10.0").strip()
    assert git(service.origin, "log", "--format=%ce", f"main..{head}") == ADDRESS
    assert git(service.origin, "diff", "--name-only", "main", head) == "rebar.lock"
    # the pull request tells what changes, and what was measured
    [pull] = service.pull_requests
    assert (pull.branch, pull.base, pull.head, pull.labels) == (BRANCH, "main", head, ["dependencies"])
    assert pull.title == "chore(deps): update dependencies"
    assert "| cowboy | 2.9.0 | 2.10.0 |" in pull.body
    assert "| ✅ | style | violations 0 |" in pull.body
    # its commit carries the check that branch protection asks for
    [check] = service.repository.check_runs
    assert (check.head_sha, check.fields["name"], check.fields["conclusion"]) == (
        head,
        f"erlmcp-deploy / {service.name}",
        "success",
    )
    # and the trail has it all
    with SqliteAuditTrail.open(service.house.audit) as trail:
        events = [e.event for e in trail.query(AuditQuery(deployment=status.update_id))]
    assert [e.event_type for e in events if e.event_type != "dependency_update.transition"] == [
        "dependency_update.requested",
        "dependency_update.pushed",
        "dependency_update.proposed",
    ]
    # but the token is written down nowhere
    assert APP_TOKEN not in (await handle.fetch_history()).to_json()
    home = service.house.audit.parent
    files = [f for f in home.rglob("*") if f.is_file()]
    assert [f for f in files if APP_TOKEN.encode() in f.read_bytes()] == []
    assert not (home / "builds" / "dependency-updates" / service.name).exists(), "the work tree is gone"


async def test_later_updates_are_under_the_same_pull_request(service: Service) -> None:
    await service.updated()
    first = service.head()
    # when there is nothing new, then it is the same commit
    again = await service.updated()
    assert again.reason == "pull request 1 brought up to date; gates: 1 of 1 gates hold"
    assert again.change is not None
    assert (again.change.commit, again.change.pushed, service.head()) == (first, False, first)
    # when the base has gone on, then the update is made of that
    base = service.commit({"README": "A better service.\n"}, "docs")
    rebased = await service.updated()
    assert rebased.change is not None
    assert rebased.change.pushed
    assert git(service.origin, "rev-parse", f"{BRANCH}^") == base
    [pull] = service.pull_requests
    assert pull.commits == [service.head()]
    # when somebody has updated by hand, then nothing is opened, and nothing closed
    base = service.commit({"rebar.lock": lock("2.10.0")}, "by-hand")
    nothing = await service.updated()
    assert nothing.state == "Completed"
    assert nothing.reason == f"nothing to update: ./update changes nothing on main ({base[:12]})"
    assert [(p.state, p.head) for p in service.pull_requests] == [("open", rebased.change.commit)]


async def test_gates_that_fail_are_shown_and_left_to_people(service: Service) -> None:
    service.commit({"update": program("sed -i s/2.9.0/2.11.0/ rebar.lock")}, "riskier")
    status = await service.updated()

    assert status.state == "Completed"
    assert status.reason == "pull request 1 opened; gates: gate style: violations is 3, wanted 0"
    [pull] = service.pull_requests
    assert "| ❌ | style | violations is 3, wanted 0 |" in pull.body


async def test_commits_of_others_are_never_overwritten(service: Service) -> None:
    await service.updated()
    git(service.clone, "fetch", "--quiet", "origin")
    git(service.clone, "checkout", "--quiet", "-b", "theirs", f"origin/{BRANCH}")
    commit_files(service.clone, {"README": "Adapted to cowboy 2.10.\n"}, "adapted")
    git(service.clone, "push", "--quiet", "origin", f"theirs:{BRANCH}")
    theirs = service.head()

    status = await service.updated()

    assert status.state == "Failed"
    assert status.reason is not None
    assert status.reason.startswith(f"branch {BRANCH} holds commits of others ({str(theirs)[:12]} by email@")
    assert service.head() == theirs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.house.github.revoke(APP_TOKEN), "GITHUB_TOKEN is not accepted"),
        (
            lambda s: s.house.configured(
                s.name, repository=str(s.origin), dependencies={"command": ["./update"]}
            ),
            "the repository names no project; set the application's `project` to owner/name",
        ),
        (lambda s: s.house.environment.pop("GITHUB_TOKEN"), "GITHUB_TOKEN is not set on the worker"),
    ],
)
async def test_where_no_pull_request_can_be_nothing_is_pushed(
    service: Service, change: Callable[[Service], Any], reason: str
) -> None:
    change(service)
    try:
        status = await service.updated()
    finally:
        service.house.environment["GITHUB_TOKEN"] = APP_TOKEN
        everything = ("checks", "contents", "pull_requests", "statuses")
        service.house.github.grant(APP_TOKEN, *everything, login="erlmcp-deploy[bot]", app=True)

    assert status.state == "Failed"
    assert (status.reason or "").startswith("there can be no pull request, so nothing was pushed: ")
    assert reason in (status.reason or "")
    assert service.head() is None


async def test_a_change_of_other_files_than_those_that_are_committed_is_told(service: Service) -> None:
    service.configured(paths=["mix.lock"])
    status = await service.updated()
    assert status.reason == (
        "./update changes rebar.lock, which is not among dependencies.paths (mix.lock): add it"
    )
    assert service.head() is None


async def test_a_cancelled_update_stops_at_once_and_pushes_nothing(service: Service, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    service.commit({"update": program(f"touch {begun}", "sleep 300")}, "slow")
    handle = await service.start()
    async with asyncio.timeout(30):
        while not begun.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await handle.cancel()
    status = await asyncio.wait_for(handle.result(), 30)

    assert (status.state, status.cancelled) == ("Failed", True)
    assert status.reason == "cancelled by a cancellation request"
    assert service.head() is None


async def test_a_validation_that_the_event_of_the_push_started_is_waited_for(
    service: Service, tmp_path: Path
) -> None:
    # given an update whose check waits for us
    go = tmp_path / "go"
    slow = program(f"while ! test -e {go}; do sleep 0.1; done", "echo '{\"violations\": 0}'")
    go.touch()
    service.commit({"check": slow}, "slow-check")
    await service.updated()
    commit = service.head()
    assert commit is not None
    # when the receiver has started the validation of its commit before the update does
    go.unlink()
    theirs = ValidationRequest(
        application=service.name, commit=commit, kind=ValidationKind.PULL_REQUEST, actor="octocat"
    )
    other: WorkflowHandle[Any, ValidationStatus] = await service.house.client.start_workflow(
        ValidationWorkflow.run, theirs, id=theirs.validation_id, task_queue=DEPLOYMENTS_QUEUE
    )
    handle = await service.start()
    async with asyncio.timeout(30):
        while (await handle.query("status", result_type=DependencyUpdateStatus)).state != "Testing":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    go.touch()
    # then its result is taken
    status = await asyncio.wait_for(handle.result(), 30)
    assert status.reason == "pull request 1 brought up to date; gates: 1 of 1 gates hold"
    assert (await other.result()).actor == "octocat"
    assert [g.name for g in status.gates] == ["style"]


async def test_a_night_validates_the_newest_commit_of_the_default_branch(service: Service) -> None:
    commit = service.commit({"README": "Tonight's.\n"}, "tonight")
    outcome = await service.house.client.execute_workflow(
        "ScheduledEventWorkflow",
        {"application": service.name, "rule": "nightly_builds", "cron": "0 2 * * *"},
        id=f"schedule:{service.name}:nightly_builds-2026-11-23T02:00:00Z",
        task_queue=DEPLOYMENTS_QUEUE,
        result_type=ScheduledOutcome,
    )
    assert (outcome.state, outcome.reason) == ("Completed", "1 of 1 gates hold")
    assert (outcome.branch, outcome.commit) == ("main", commit)
    assert outcome.started == f"validation:{service.name}:{commit}:nightly"


async def test_an_application_that_nobody_configured_is_refused(house: House, service: Service) -> None:
    with pytest.raises(WorkflowFailureError) as failure:
        await house.client.execute_workflow(
            "DependencyUpdateWorkflow",
            {"application": "nobody", "actor": DEVELOPER},
            id="dependency-update:nobody",
            task_queue=DEPLOYMENTS_QUEUE,
        )
    assert "application 'nobody' is not in deployment.yaml" in str(failure.value.cause)
