"""Recorded histories replay: a change that would break running deployments fails here."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from tests.workflows.record_histories import HISTORIES
from workers.composition import WORKFLOWS, workflow_runner
from workflows.conversion import data_converter

RECORDED = sorted(HISTORIES.glob("*.json.gz"))


def _history(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(_start(path)["workflowId"], gzip.decompress(path.read_bytes()).decode())


def _start(path: Path) -> dict[str, Any]:
    events = json.loads(gzip.decompress(path.read_bytes()))["events"]
    start: dict[str, Any] = events[0]["workflowExecutionStartedEventAttributes"]
    return start


def _type_of(path: Path) -> str:
    name: str = _start(path)["workflowType"]["name"]
    return name


def test_every_workflow_type_has_a_recorded_history() -> None:
    assert {_type_of(path) for path in RECORDED} == {w.__name__ for w in WORKFLOWS}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name.removesuffix(".json.gz"))
async def test_a_recorded_history_replays(path: Path) -> None:
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=workflow_runner(), data_converter=data_converter)
    await replayer.replay_workflow(_history(path))
