"""The sample repositories and their releases."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.sample import VERSIONS, Flavour, create_repository


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[Flavour, Path]:
    """The sample repository in both flavours."""
    directory = tmp_path_factory.mktemp("repositories")
    flavours: tuple[Flavour, ...] = ("erlang", "python")
    return {flavour: create_repository(directory / flavour, flavour) for flavour in flavours}


@pytest.fixture(scope="session")
def python_releases(
    repositories: dict[Flavour, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """URLs of the Python release tarballs by version, built by their own release gate."""
    tree = _clone(repositories["python"], tmp_path_factory.mktemp("python") / "tree")
    releases = {}
    for version in VERSIONS:
        _output(["git", "checkout", "--quiet", f"v{version}"], tree)
        built = json.loads(_output([sys.executable, "gates/release"], tree))
        releases[version] = (tree / built["artefact"]).as_uri()
    return releases


@pytest.fixture(scope="session")
def erlang_tree(repositories: dict[Flavour, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the Erlang flavour at 1.2.0 with its release built."""
    tree = _clone(repositories["erlang"], tmp_path_factory.mktemp("erlang") / "tree")
    _output(["git", "checkout", "--quiet", "v1.2.0"], tree)
    _output(["rebar3", "tar"], tree)
    return tree


def _clone(repository: Path, target: Path) -> Path:
    _output(["git", "clone", "--quiet", str(repository), str(target)], repository)
    return target


def _output(command: list[str], cwd: Path) -> str:
    environ = os.environ | {"TERM": "dumb"}
    return subprocess.run(command, cwd=cwd, env=environ, check=True, capture_output=True, text=True).stdout
