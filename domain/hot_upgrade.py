"""Hot code upgrades of OTP releases, without a restart (spec: Core Principles, Zero-Downtime)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import semver
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from domain.durations import Interval
from domain.model import Model
from domain.workload import WorkloadObservation


def _checked_path(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no absolute path; write for example /opt/erlmcp")
    return path.rstrip("/") or "/"


ReleasePath = Annotated[str, AfterValidator(_checked_path)]
"""Where a release is unpacked: an absolute path, with ``bin/NAME`` under it."""

ReleaseName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]
"""An OTP release's name, as in ``bin/NAME``."""

EnvironmentVariables = dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str]


class NodeAccess(StrEnum):
    """How a node's release is reached: on the worker's own host, or inside a pod."""

    LOCAL = "local"
    POD = "pod"


class ReleaseNode(Model):
    """One running OTP release.

    Attributes:
        name: for people.
        access: ``local`` on the host of the worker, ``pod`` by ``exec`` into a pod.
        path: of the release on its host, with ``bin/NAME``.
        namespace: of the pod; by default the workload's.
        pod: its pod, for access ``pod``.
        container: of the pod; needed where it has several.
        health_url: of this node; by default the service's.
        environment: variables of this node, added to those of all.
    """

    name: str
    access: NodeAccess = NodeAccess.LOCAL
    path: ReleasePath
    namespace: str | None = None
    pod: str | None = None
    container: str | None = None
    health_url: str | None = None
    environment: EnvironmentVariables = {}

    @model_validator(mode="after")
    def _pods_are_named(self) -> ReleaseNode:
        if self.access is NodeAccess.POD and self.pod is None:
            raise ValueError(f"node {self.name!r} is reached through a pod; name it with `pod`")
        return self


class NoUpgradePath(StrEnum):
    """What is done where the release has no relup from the running version."""

    FAIL = "fail"
    RESTART = "restart"


class HotUpgradeSettings(Model):
    """A stage's ``hot_upgrade`` block: nodes are upgraded one after the other.

    Attributes:
        release: name of the release, as in ``bin/NAME``; by default the application's.
        nodes: the hosts; for pods, `pods` selects them instead.
        pods: label selector of the pods that are upgraded, in the workload's namespace.
        path: of the release inside those pods.
        container: of those pods; needed where they have several.
        health_url: of each of those pods; ``{ip}`` and ``{pod}`` are replaced. By default the service's.
        environment: the variables the node was started with (``RELX_COOKIE`` …), as the release's script
            fills the new version's configuration in from them; ``${NAME}`` is read from the worker's
            environment when it is used. Inside pods the container's own come first.
        no_upgrade_path: restart a node that cannot be upgraded hot, or fail.
        verify: how long each node is watched before its upgrade is made permanent.
        analysis_interval: between two measurements.
        timeout: of one command on a node.
    """

    release: ReleaseName | None = None
    nodes: tuple[ReleaseNode, ...] = ()
    pods: str | None = None
    path: ReleasePath = "/opt/{application}"
    container: str | None = None
    health_url: str | None = None
    environment: EnvironmentVariables = {}
    no_upgrade_path: NoUpgradePath = NoUpgradePath.FAIL
    verify: Interval = timedelta(minutes=2)
    analysis_interval: Interval = timedelta(seconds=10)
    timeout: Interval = timedelta(minutes=2)

    @model_validator(mode="after")
    def _nodes_are_known(self) -> HotUpgradeSettings:
        if bool(self.nodes) == (self.pods is not None):
            raise ValueError("name either `nodes` or `pods`, a label selector such as app=erlmcp")
        twice = [name for name, times in Counter(n.name for n in self.nodes).items() if times > 1]
        if twice:
            raise ValueError(f"two nodes are called {twice[0]!r}; give each node a name of its own")
        return self

    def target(self, node: ReleaseNode, application: str) -> NodeTarget:
        """How to speak to a node."""
        path = node.path.replace("{application}", application)
        return NodeTarget(
            node=node.model_copy(update={"path": path}),
            release=self.release or application,
            environment={**self.environment, **node.environment},
            timeout=self.timeout,
        )


class NodeTarget(Model):
    """A node, and how its release is spoken to."""

    node: ReleaseNode
    release: ReleaseName
    environment: EnvironmentVariables = {}
    timeout: Interval = timedelta(minutes=2)


class NodeQuery(Model):
    """Which nodes there are."""

    settings: HotUpgradeSettings
    application: str
    namespace: str


class NodeObservation(Model):
    """What a node says of itself.

    Attributes:
        running: whether it answers.
        version: the one that runs.
        permanent: the one it boots with.
        versions: all it knows, version → state (``permanent``, ``current``, ``old``, ``unpacked``).
    """

    running: bool
    version: str | None = None
    permanent: str | None = None
    versions: dict[str, str] = {}


class NodeVerb(StrEnum):
    UPGRADE = "upgrade"
    """``upgrade --no-permanent``: what a reboot would undo."""
    MAKE_PERMANENT = "make_permanent"
    DOWNGRADE = "downgrade"
    RESTART = "restart"
    """Make it the version to boot with, and reboot: the way without a relup."""


class NodeCommand(Model):
    """Bring a node to a version; what is so already is done.

    Attributes:
        artefact: the release tarball, unpacked on the node before an upgrade or restart; `digest` is checked.
    """

    key: str
    target: NodeTarget
    verb: NodeVerb
    version: str
    artefact: str | None = None
    digest: str | None = None


class NodeResult(StrEnum):
    DONE = "done"
    NO_PATH = "no_path"
    """No relup from the running version: the node is untouched."""
    FAILED = "failed"
    """The upgrade failed; the node restarts in its permanent version by itself."""


class NodeReport(Model):
    """What a command came to."""

    result: NodeResult
    reason: str = ""
    observed: NodeObservation = Field(default=NodeObservation(running=False))


def survey(name: str, nodes: Sequence[tuple[NodeTarget, NodeObservation]]) -> WorkloadObservation:
    """What runs on the nodes together, in the words of a workload.

    Its version is the one most nodes run, of several the oldest; `note` names the nodes that differ.
    """
    running = [(t.node.name, o.version) for t, o in nodes if o.running and o.version is not None]
    votes = Counter(version for _, version in running)
    most = max(votes.values(), default=0)
    version = _oldest([v for v, count in votes.items() if count == most])
    silent = [t.node.name for t, o in nodes if not o.running]
    others = [f"{node} runs {other}" for node, other in running if other != version]
    notes = [*others, *(f"{node} does not answer" for node in silent)]
    return WorkloadObservation(
        exists=bool(running),
        name=name,
        version=version,
        replicas=len(nodes),
        ready=len(running),
        note="; ".join(notes),
    )


def _oldest(versions: Sequence[str]) -> str | None:
    """By SemVer; what is none comes first."""
    valid = [v for v in versions if semver.Version.is_valid(v)]
    others = sorted(set(versions) - set(valid))
    return next(iter([*others, *sorted(valid, key=semver.Version.parse)]), None)
