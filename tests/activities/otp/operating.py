"""A node as deployment.yaml describes it, and the activities as a worker runs them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.otp import NodeActivities
from domain.build import ReleaseArtefact
from domain.hot_upgrade import (
    NodeCommand,
    NodeObservation,
    NodeReport,
    NodeTarget,
    NodeVerb,
    ReleaseNode,
)
from sandbox.otp import NAME, RunningNode

TIMEOUT = timedelta(seconds=40)
_CHECKOUT = Path(__file__).parents[3]


@dataclass
class Operator:
    """One node, with a worker that may command it. The worker has the cookie in its environment."""

    node: RunningNode
    packages: Mapping[str, ReleaseArtefact]
    activities: NodeActivities
    target: NodeTarget

    @classmethod
    def local(cls, node: RunningNode, packages: Mapping[str, ReleaseArtefact], **worker: str) -> Operator:
        target = NodeTarget(
            node=ReleaseNode(name="a", path=str(node.directory)),
            release=NAME,
            environment={**node.variables, "ERLSAMPLE_COOKIE": "${NODE_COOKIE}"},
            timeout=TIMEOUT,
        )
        activities = NodeActivities(environment={**worker_environment(node), **worker})
        return cls(node, packages, activities, target)

    def with_target(self, **changes: Any) -> Operator:
        target = self.target.model_copy(update=changes)
        return Operator(self.node, self.packages, self.activities, target)

    def order(self, verb: NodeVerb, version: str, **changes: Any) -> NodeCommand:
        package = self.packages[version]
        forward = verb in (NodeVerb.UPGRADE, NodeVerb.RESTART)
        given = {
            "key": f"{verb}-{version}",
            "artefact": package.uri if forward else None,
            "digest": package.digest if forward else None,
        }
        return NodeCommand(target=self.target, verb=verb, version=version, **{**given, **changes})

    async def carry_out(self, verb: NodeVerb, version: str, **changes: Any) -> NodeReport:
        order = self.order(verb, version, **changes)
        return await ActivityEnvironment().run(self.activities.command_node, order)

    async def insist(self, verb: NodeVerb, version: str, **changes: Any) -> NodeReport:
        """As the server does it: errors that allow it are tried again."""
        while True:
            try:
                return await self.carry_out(verb, version, **changes)
            except ApplicationError as error:
                if error.non_retryable:
                    raise

    async def observe(self) -> NodeObservation:
        return await ActivityEnvironment().run(self.activities.observe_node, self.target)


def worker_environment(node: RunningNode) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "NODE_COOKIE": node.cookie}


@contextmanager
def worker_process(order: NodeCommand, node: RunningNode) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of its own that carries an order out; it can be killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.activities.otp.worker_process", order.model_dump_json()],
        cwd=_CHECKOUT,
        env=worker_environment(node),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until_there(path: Path, text: str = "") -> None:
    """Wait for a file with this text in it."""
    async with asyncio.timeout(30):
        while not (path.exists() and text in path.read_text(errors="replace")):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
