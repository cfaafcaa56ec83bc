"""Updates on the build worker: what cannot be done is told apart from what may be done in a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.dependencies import DependencyActivities
from activities.errors import CONFLICT, INVALID_CONFIGURATION, NOT_FOUND, REFUSED, UNAVAILABLE
from domain.dependency_update import BranchQuery, DependencyChange, DependencySettings, DependencyUpdateRun
from tests.activities.builds.service_repository import WORKER_ENVIRONMENT, commit_files, git

BRANCH = "erlmcp-deploy/dependencies"
SECRET = "hunter2-hunter2"


class Project:
    """A repository, and a worker that updates it."""

    def __init__(self, directory: Path) -> None:
        self.clone, self.origin = directory / "clone", directory / "origin.git"
        self.clone.mkdir()
        git(self.clone, "init", "--quiet", "--initial-branch=trunk", "--template=")
        files = {"rebar.lock": "old\n", "src/a": "a\n", ".gitignore": "_build\n"}
        commit_files(self.clone, files, "v1.0.0")
        git(directory, "clone", "--quiet", "--bare", str(self.clone), str(self.origin))
        git(self.clone, "remote", "add", "origin", str(self.origin))
        environment = {**WORKER_ENVIRONMENT, "HEX_API_KEY": SECRET}
        self.worker = DependencyActivities(directory / "worker", environment=environment)

    async def update(self, *script: str, **settings: object) -> DependencyChange:
        """Run the lines of a shell script as the command."""
        known = {"command": ["sh", "-c", "\n".join(script)], **settings}
        run = DependencyUpdateRun(
            application="shop",
            repository=str(self.origin),
            settings=DependencySettings.model_validate(known),
        )
        change: DependencyChange = await ActivityEnvironment().run(self.worker.update_dependencies, run)
        return change

    async def refused(self, *script: str, **settings: object) -> tuple[str | None, str]:
        with pytest.raises(ApplicationError) as failure:
            await self.update(*script, **settings)
        return failure.value.type, failure.value.message

    def files(self, reference: str = BRANCH) -> list[str]:
        return git(self.origin, "diff", "--name-only", "trunk", reference).split()

    @property
    def has_branch(self) -> bool:
        return bool(git(self.origin, "for-each-ref", f"refs/heads/{BRANCH}"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


async def test_the_default_branch_is_what_the_repository_says(project: Project) -> None:
    head = await ActivityEnvironment().run(
        project.worker.find_branch_head, BranchQuery(repository=str(project.origin))
    )
    assert (head.branch, head.commit) == ("trunk", git(project.clone, "rev-parse", "trunk"))
    with pytest.raises(ApplicationError, match="has no branch 'main'") as failure:
        await ActivityEnvironment().run(
            project.worker.find_branch_head, BranchQuery(repository=str(project.origin), branch="main")
        )
    assert failure.value.type == NOT_FOUND


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["rebar.lock"], ["rebar.lock"]),
        (["rebar.lock", "deps"], ["deps/new", "rebar.lock"]),
        ([], ["rebar.lock", "src/a"]),
        (["src"], ["src/a"]),
    ],
)
async def test_what_is_named_is_committed(project: Project, paths: list[str], expected: list[str]) -> None:
    script = ("echo new > rebar.lock", "rm src/a", "mkdir deps _build", "touch deps/new _build/junk 'od d'")
    change = await project.update(*script, paths=paths)
    assert list(change.files) == sorted(expected) == sorted(project.files())


async def test_the_command_gets_no_secret_of_the_worker(project: Project) -> None:
    await project.update('echo "key=$HEX_API_KEY" > rebar.lock')
    assert git(project.origin, "show", f"{BRANCH}:rebar.lock") == "key="


async def test_a_command_that_fails_is_tried_again_and_its_words_are_told(project: Project) -> None:
    kind, reason = await project.refused("echo hex.pm is down >&2", "exit 1")
    assert kind == UNAVAILABLE
    assert reason.endswith("ended with status 1: hex.pm is down")
    kind, reason = await project.refused("sleep 30", timeout="1s")
    assert (kind, "did not end within 1s: raise dependencies.timeout" in reason) == (REFUSED, True)
    kind, reason = await project.refused(command=["no-such-tool"])
    assert (kind, "no-such-tool is not installed" in reason) == (INVALID_CONFIGURATION, True)
    assert not project.has_branch


async def test_a_push_beside_ours_is_not_overwritten(project: Project) -> None:
    # somebody pushes to the branch while the command runs
    race = f"git -C {project.clone} push --quiet origin trunk:{BRANCH}"
    kind, _ = await project.refused(race, "echo new > rebar.lock")
    assert kind == CONFLICT
    assert project.files() == []


async def test_a_branch_that_is_protected_is_told(project: Project) -> None:
    hook = project.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no pushes today >&2\nexit 1\n")
    hook.chmod(0o755)
    kind, reason = await project.refused("echo new > rebar.lock")
    assert kind == REFUSED
    assert "declines the push" in reason


async def test_the_branch_that_is_updated_is_not_overwritten(project: Project) -> None:
    kind, reason = await project.refused("echo new > rebar.lock", branch="trunk")
    assert kind == INVALID_CONFIGURATION
    assert "dependencies.branch 'trunk' is the branch that is updated" in reason
