"""The defaults are the specification's YAML blocks, value for value."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from domain.configuration import Configuration
from domain.defaults import DEFAULTS
from domain.durations import parse_duration

_FILE = Path(__file__).with_name("spec_blocks.yaml")
_TITLES = re.findall(r"^--- # (.+)$", _FILE.read_text(), flags=re.MULTILINE)
_BLOCKS: dict[str, dict[str, Any]] = dict(
    zip(_TITLES, YAML(typ="safe", pure=True).load_all(_FILE.read_text()), strict=True)
)

TRIGGERS = {
    "Dev Deployment (Automatic)": "dev_deployment",
    "Staging Deployment (Semi-Automatic)": "staging_deployment",
    "PR Validation (Quality Gate)": "pr_validation",
    "PR Merge (Deployment Trigger)": "pr_merge",
    "Production Release": "production_release",
    "Ad-hoc Deployment": "adhoc_deployment",
    "Nightly Builds": "nightly_builds",
    "Dependency Updates": "dependency_updates",
}
GATES = [t for t in _TITLES if t.endswith("Gate")]
WHOLE = [t for t in _TITLES if t not in TRIGGERS and t not in GATES]


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration.model_validate(DEFAULTS)


def assert_says(read: Any, written: Any, where: str) -> int:
    """Everything that is written in the specification was read as such; how many values that were."""
    if isinstance(written, dict):
        keys = {str(k): v for k, v in written.items()}
        for key in keys:
            present = hasattr(read, key) if isinstance(read, BaseModel) else key in read
            assert present, f"{where}.{key} is not among the defaults"
        if isinstance(read, dict):
            assert set(read) == set(keys), f"{where} has more entries than the specification"
        return sum(
            assert_says(getattr(read, k) if isinstance(read, BaseModel) else read[k], v, f"{where}.{k}")
            for k, v in keys.items()
        )
    if isinstance(written, list):
        assert len(read) == len(written), where
        return sum(
            assert_says(r, w, f"{where}.{i}") for i, (r, w) in enumerate(zip(read, written, strict=True))
        )
    expected = parse_duration(written) if isinstance(read, timedelta) else written
    assert read == expected, f"{where}: the specification says {written!r}, the defaults {read!r}"
    assert isinstance(expected, bool) is isinstance(read, bool), where
    return 1


def test_every_block_of_the_specification_is_compared() -> None:
    assert len(_BLOCKS) == 20
    assert {*TRIGGERS, *GATES, *WHOLE} == set(_TITLES)


@pytest.mark.parametrize("title", TRIGGERS)
def test_trigger_blocks(configuration: Configuration, title: str) -> None:
    block, rule = _BLOCKS[title], configuration.triggers[TRIGGERS[title]]

    compared = assert_says(rule, block, title)

    assert compared >= 2


@pytest.mark.parametrize("title", GATES)
def test_gate_blocks(configuration: Configuration, title: str) -> None:
    block = dict(_BLOCKS[title])
    name = block.pop("name")

    assert assert_says(configuration.gates[name], block, title) >= 4


@pytest.mark.parametrize("title", WHOLE)
def test_configuration_blocks(configuration: Configuration, title: str) -> None:
    assert assert_says(configuration, _BLOCKS[title], title) >= 8


def test_nothing_is_added_to_what_the_specification_names(configuration: Configuration) -> None:
    assert set(configuration.triggers) == set(TRIGGERS.values())
    assert set(configuration.gates) == {_BLOCKS[t]["name"] for t in GATES}
    assert list(configuration.environments) == ["dev", "qa", "staging", "production"]


def test_where_the_specification_is_silent_the_design_speaks(configuration: Configuration) -> None:
    environments = configuration.environments

    assert environments["dev"].soak_duration == timedelta(minutes=5)
    assert environments["production"].soak_duration == timedelta(hours=1)
    assert [n for n, e in environments.items() if e.production] == ["production"]
    assert {n: str(e.compliance) for n, e in environments.items()} == {
        "dev": "off",
        "qa": "report",
        "staging": "enforce",
        "production": "enforce",
    }
    assert [(p.from_env, p.to_env, p.minimum_soak) for p in configuration.promotions] == [
        ("dev", "qa", timedelta(0)),
        ("qa", "staging", timedelta(hours=1)),
        ("staging", "production", timedelta(hours=24)),
    ]
    erlmcp = configuration.applications["erlmcp"]
    assert erlmcp.namespaces["production"] == "erlmcp-prod"
    assert erlmcp.workload.port == 8080
    assert erlmcp.health is not None
    assert erlmcp.health.paths == ("/health", "/ready", "/live")
    assert {g: d.steps for g, d in configuration.gates.items() if d.steps} == {
        "compile": ("compile",),
        "test": ("eunit", "ct", "coverage"),
        "security": ("security", "licence"),
        "performance": ("performance",),
    }
