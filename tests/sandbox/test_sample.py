"""The sample repository: its commits are fixed and its gates measure."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox.sample import VERSIONS, Flavour, SampleRepositoryError, create_repository

_GATES = ("compile", "static", "test", "security", "licence", "format", "performance")
_FLAVOURS: tuple[Flavour, ...] = ("erlang", "python")


def _run(command: Sequence[str], cwd: Path) -> str:
    environ = os.environ | {"TERM": "dumb"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _checkout(repository: Path, target: Path, version: str) -> Path:
    _run(["git", "clone", "--quiet", "--branch", f"v{version}", str(repository), str(target)], repository)
    return target


def _gate(tree: Path, name: str) -> dict[str, Any]:
    """What a gate printed: one JSON object and nothing else."""
    python = "python3" in (tree / "gates" / name).read_text().splitlines()[0]
    measured: dict[str, Any] = json.loads(_run([*([sys.executable] * python), f"gates/{name}"], tree))
    return measured


@pytest.mark.parametrize("flavour", _FLAVOURS)
def test_commits_are_the_same_on_every_machine(
    repositories: dict[Flavour, Path], tmp_path: Path, flavour: Flavour
) -> None:
    again = create_repository(tmp_path / "again", flavour)

    tags = ("git", "for-each-ref", "--format=%(refname:short) %(objecttype) %(objectname)", "refs/tags")
    first = _run(tags, repositories[flavour]).splitlines()
    assert _run(tags, again).splitlines() == first
    assert [line.split()[:2] for line in first] == [[f"v{v}", "tag"] for v in VERSIONS]
    assert _run(["git", "status", "--porcelain"], again) == ""


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(SampleRepositoryError, match="neither empty nor a git repository"):
        create_repository(tmp_path)


@pytest.mark.parametrize("flavour", _FLAVOURS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_tag_documents_itself(
    repositories: dict[Flavour, Path], tmp_path: Path, flavour: Flavour, version: str
) -> None:
    tree = _checkout(repositories[flavour], tmp_path / "tree", version)

    assert (tree / "VERSION").read_text().strip() == version
    assert f"\n## [{version}] - 2026-" in (tree / "CHANGELOG.md").read_text()
    for required in (f"docs/migrations/{version}.md", "docs/runbook.md", "ops/alerts.yml", "LICENSE"):
        assert (tree / required).stat().st_size > 0
    modules = list((tree / "src").glob("*.erl"))
    assert bool(modules) is (flavour == "erlang")
    assert [m.name for m in modules if not m.read_text().startswith("%% @doc ")] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_passes_every_gate_in_python(
    repositories: dict[Flavour, Path], tmp_path: Path, version: str
) -> None:
    tree = _checkout(repositories["python"], tmp_path / "tree", version)

    measured = {key: value for name in _GATES for key, value in _gate(tree, name).items()}

    for key in (
        "errors",
        "warnings",
        "static_findings",
        "xref_undefined",
        "eunit_failures",
        "format_violations",
    ):
        assert measured[key] == 0, key
    for key in ("high_vulnerabilities", "critical_vulnerabilities", "error_rate"):
        assert measured[key] == 0, key
    for key in ("dependency_scan", "sast_scan", "secrets_scan", "license_compliance"):
        assert measured[key] == "pass", key
    assert measured["ct_pass_rate"] == 1.0
    assert measured["line_coverage"] >= 80
    assert measured["branch_coverage"] >= 75
    assert measured["function_coverage"] >= 90
    assert measured["p95_latency"] > 0


def test_a_release_has_the_same_bytes_wherever_it_is_built(
    repositories: dict[Flavour, Path], tmp_path: Path
) -> None:
    built = [_gate(_checkout(repositories["python"], tmp_path / name, "1.1.0"), "release") for name in "ab"]
    assert built[0] == built[1]
    assert built[0]["artefact"] == "dist/erlsample-1.1.0.tar.gz"


def test_the_gates_find_what_is_wrong(repositories: dict[Flavour, Path], tmp_path: Path) -> None:
    # given a tree with one fault of each kind
    tree = _checkout(repositories["python"], tmp_path / "tree", "1.0.0")
    secret = "password" + ' = "correct horse"'
    (tree / "src/erlsample/bad.py").write_text(
        f"import os\nimport json\n\n{secret}\n\n\ndef _run(command):\t\n"
        "    if command:\n        return os.system(command)\n    return nowhere\n"
    )
    (tree / "src/erlsample/worse.py").write_text("def broken(:\n")
    (tree / "requirements.lock").write_text("PyYAML==5.3.1\n")
    test = tree / "tests/test_unit.py"
    test.write_text(test.read_text().replace("counter.bump(), 1)", "counter.bump(), 2)"))

    # then each gate measures it
    assert _gate(tree, "compile")["errors"] == 1
    (tree / "src/erlsample/worse.py").unlink()
    static = _gate(tree, "static")
    assert (static["static_findings"], static["xref_undefined"], static["all_public_docs"]) == (2, 1, False)
    security = _gate(tree, "security")
    assert (security["high_vulnerabilities"], security["critical_vulnerabilities"]) == (1, 2)
    assert (security["sast_scan"], security["secrets_scan"], security["dependency_scan"]) == ("fail",) * 3
    assert _gate(tree, "licence")["license_compliance"] == "fail"
    assert _gate(tree, "format")["format_violations"] == 2
    tested = _gate(tree, "test")
    assert tested["eunit_failures"] == 1
    assert tested["line_coverage"] < 96  # the new module is not tested


@pytest.mark.erlang
def test_1_2_0_passes_every_gate_in_erlang(erlang_tree: Path) -> None:
    _run(["rebar3", "do", "eunit,", "ct,", "xref"], erlang_tree)
    names = ("coverage", "security", "licence", "format", "performance")
    measured = {key: value for name in names for key, value in _gate(erlang_tree, name).items()}

    for key in ("high_vulnerabilities", "critical_vulnerabilities", "format_violations", "error_rate"):
        assert measured[key] == 0, key
    assert measured["license_compliance"] == "pass"
    assert measured["line_coverage"] >= 80
    assert measured["clause_coverage"] >= 75
    assert measured["function_coverage"] >= 90
    assert _run(["git", "status", "--porcelain"], erlang_tree) == ""


@pytest.mark.erlang
def test_the_security_gate_finds_what_is_wrong_in_erlang(
    repositories: dict[Flavour, Path], tmp_path: Path
) -> None:
    tree = _checkout(repositories["erlang"], tmp_path / "tree", "1.0.0")
    source = "-module(bad).\n-export([f/1]).\nf(X) -> os:cmd(X), list_to_atom(X), binary_to_term(X).\n"
    (tree / "src/bad.erl").write_text(source)
    (tree / "config/vm.args.src").write_text("-setcookie fixed\n")
    (tree / "rebar.lock").write_text('{"1.2.0",[{<<"plug">>,{pkg,<<"plug">>,<<"1.3.0">>},0}]}.\n[].\n')

    found = _gate(tree, "security")

    counts = [found[f"{severity}_vulnerabilities"] for severity in ("critical", "high", "medium")]
    assert counts == [1, 3, 1]
    assert (found["sast_scan"], found["secrets_scan"], found["dependency_scan"]) == ("fail",) * 3
    assert _gate(tree, "licence")["license_compliance"] == "fail"
