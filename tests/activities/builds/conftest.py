"""A build worker of the test's own, and repositories for it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from activities.builds import BuildActivities
from tests.activities.builds.service_repository import WORKER_ENVIRONMENT, commit_files, git


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Makes a repository with these files, tagged v1.0.0."""

    def make(files: Mapping[str, str]) -> Path:
        path = tmp_path / "service"
        path.mkdir()
        git(path, "init", "--quiet", "--initial-branch=main", "--template=")
        commit_files(path, files, "v1.0.0")
        return path

    return make


@pytest.fixture
def worker(tmp_path: Path) -> BuildActivities:
    return BuildActivities(tmp_path / "worker", environment=WORKER_ENVIRONMENT)
