"""The program as such: its verbs, its help, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.starters.world import CommandLine

VERBS = (
    "deploy", "rollback", "pending", "approve", "reject", "comment", "status", "watch", "pause", "resume",
    "promote", "abort", "freeze", "unfreeze", "worker", "demo", "audit", "config",
)  # fmt: skip


@pytest.fixture
def offline(tmp_path: Path) -> CommandLine:
    return CommandLine("127.0.0.1:1", "shop", tmp_path)


async def test_the_help_names_every_verb(offline: CommandLine) -> None:
    process = await offline.start("--help")
    out, _ = await process.communicate()

    assert process.returncode == 0
    for verb in VERBS:
        assert f" {verb} " in out.decode()


@pytest.mark.parametrize("verb", [v for v in VERBS if v not in ("worker", "demo")])
async def test_every_verb_has_help(offline: CommandLine, verb: str) -> None:
    answer = await offline(verb, "--help")

    assert answer.exit_code == 0
    assert f"erlmcp-deploy {verb}" in answer.stdout or f"root {verb}" in answer.stdout


async def test_a_misspelt_verb_is_a_usage_error_with_a_suggestion(offline: CommandLine) -> None:
    in_words = await offline("depoly", "dev", "1.0.0")
    as_json = await offline("depoly", "dev", "1.0.0", "--json")

    assert in_words.exit_code == as_json.exit_code == 2
    assert "Did you mean 'deploy'" in in_words.stderr
    assert json.loads(as_json.stdout)["error"]["exit_code"] == 2


async def test_the_exit_code_survives_the_end_of_the_program(offline: CommandLine) -> None:
    process = await offline.start("deploy", "dev", "latest")
    out, err = await process.communicate()

    assert process.returncode == 2
    assert out == b""
    assert b"version is 'latest': 'latest' is no semantic version" in err


async def test_a_failure_in_a_github_job_is_an_annotation(offline: CommandLine) -> None:
    answer = await offline("deploy", "dev", "latest", GITHUB_ACTIONS="true")

    assert "::error title=erlmcp-deploy::version is 'latest'" in answer.stderr


async def test_the_worker_takes_its_own_options(offline: CommandLine) -> None:
    answer = await offline("worker", "--role", "nonsense")

    assert answer.exit_code == 2
    assert "--role" in answer.stderr
