"""Handing the canary over to Flagger or Argo Rollouts, and watching theirs (spec: Canary Failed)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from domain.model import Message, Model
from domain.workload import WorkloadTarget


class Controller(StrEnum):
    """Who steers the canary instead of us."""

    FLAGGER = "flagger"
    ARGO_ROLLOUTS = "argo_rollouts"


class HandoverSettings(Model):
    """A stage's ``canary.handover`` block.

    Attributes:
        controller: whose custom resource is followed.
        resource: its name; by default the Deployment's.
    """

    controller: Controller
    resource: str | None = None


class HandoverRequest(Model):
    """Give a version to the controller: it notices the change and begins.

    Attributes:
        key: a second request with the same key changes nothing.
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


class HandoverPhase(StrEnum):
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class HandoverReading(Model):
    """What the controller's resource says.

    Attributes:
        phase: its phase, in our words; `said` in its own.
        weight: percent of the traffic on the canary.
    """

    phase: HandoverPhase
    weight: int = 0
    said: str = ""
    reason: str = ""


class HandoverProgress(Message):
    """Told to the workflow (signal ``handover_changed``) while the controller goes on."""

    reading: HandoverReading


class HandoverVerb(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"


class HandoverCommand(Model):
    """A person's word, passed on to the controller in its own way."""

    key: str
    request: HandoverRequest
    verb: HandoverVerb
    reason: str = Field(default="")
