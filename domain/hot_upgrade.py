"""Hot code upgrades of OTP releases, without a restart (spec: Core Principles, Zero-Downtime)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from domain.durations import Interval
from domain.model import Model


class NodeAccess(StrEnum):
    """How a node's release is reached: on the worker's own host, or inside a pod."""

    LOCAL = "local"
    POD = "pod"


class ReleaseNode(Model):
    """One running OTP release.

    Attributes:
        name: for people.
        path: of the release on its host, with ``bin/NAME``.
        pod: its pod, for `NodeAccess.POD`; `namespace` and `container` say where.
        health_url: of this node; by default the service's.
    """

    name: str
    access: NodeAccess = NodeAccess.LOCAL
    path: str
    namespace: str | None = None
    pod: str | None = None
    container: str | None = None
    health_url: str | None = None


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
        environment: variables the release's script needs (``RELX_COOKIE`` …); ``${NAME}`` is read from the
            worker's environment when it is used.
        no_upgrade_path: restart a node that cannot be upgraded hot, or fail.
        verify: how long each node is watched before its upgrade is made permanent.
        analysis_interval: between two measurements.
        timeout: of one command on a node.
    """

    release: str | None = None
    nodes: tuple[ReleaseNode, ...] = ()
    pods: str | None = None
    path: str = "/opt/{application}"
    environment: dict[str, str] = {}
    no_upgrade_path: NoUpgradePath = NoUpgradePath.FAIL
    verify: Interval = timedelta(minutes=2)
    analysis_interval: Interval = timedelta(seconds=10)
    timeout: Interval = timedelta(minutes=2)


class NodeTarget(Model):
    """A node, and how its release is spoken to."""

    node: ReleaseNode
    release: str
    environment: dict[str, str] = {}
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
