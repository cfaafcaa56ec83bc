"""Handing the canary over to Flagger or Argo Rollouts, and watching theirs (spec: Canary Failed)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from domain.model import Message, Model
from domain.workload import WorkloadTarget


class Controller(StrEnum):
    """Who steers the canary instead of us."""

    FLAGGER = "flagger"
    ARGO_ROLLOUTS = "argo_rollouts"


class HandoverSettings(Model):
    """A stage's ``canary.handover`` block.

    Attributes:
        controller: whose custom resource is followed, in the workload's namespace.
        resource: its name; by default the Deployment's.
    """

    controller: Controller
    resource: str | None = None


class HandoverRequest(Model):
    """Give a version to the controller: it notices the change and begins.

    Attributes:
        key: names this hand-over; it is noted on the pods, so that the controller takes the same version up
            again after a failure, and so that its words on another revision are not taken for ours. A second
            request with the same key changes nothing.
        replicas: pods of the version, where no autoscaler decides.
        template: a pod template to run as it is (a roll-back) instead of the configured one.
    """

    key: str
    target: WorkloadTarget
    settings: HandoverSettings
    version: str
    image: str
    deployment_id: str
    commit: str | None = None
    artefact: str | None = None
    digest: str | None = None
    replicas: int = 1
    template: dict[str, Any] | None = None

    @property
    def resource(self) -> str:
        """Name of the controller's resource."""
        return self.settings.resource or self.target.deployment


class HandoverPhase(StrEnum):
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class HandoverReading(Model):
    """What the controller's resource says of the version.

    Attributes:
        phase: its phase, in our words; `said` in its own.
        weight: percent of the traffic on the version.
        reason: what it waits for, or why it ended so.
    """

    phase: HandoverPhase
    weight: int = 0
    said: str = ""
    reason: str = ""

    @property
    def ended(self) -> bool:
        return self.phase in (HandoverPhase.SUCCEEDED, HandoverPhase.FAILED)


class HandoverProgress(Message):
    """Told to the workflow (signal ``handover_changed``) while the controller goes on."""

    reading: HandoverReading


class HandoverVerb(StrEnum):
    """What people can say to a controller.

    ``resume`` also ends a pause that is a step of the controller's own; ``promote`` goes all the way at once,
    without the rest of its analysis; ``abort`` also brings the pod template of before back.
    """

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"


class HandoverCommand(Model):
    """A person's word, passed on to the controller in its own way.

    Attributes:
        key: a second command with the same key has no second effect.
    """

    key: str
    request: HandoverRequest
    verb: HandoverVerb
    reason: str = ""
