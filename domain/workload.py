"""The workload on Kubernetes: names, tracks, what is asked of it and what is seen of it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import Field

from domain.durations import Interval
from domain.model import Model
from domain.routing import RouterSettings


class Track(StrEnum):
    STABLE = "stable"
    CANARY = "canary"


class Side(StrEnum):
    """A side of a blue/green workload."""

    BLUE = "blue"
    GREEN = "green"


class ProbeSettings(Model):
    """A readiness or liveness probe of the container (Kubernetes httpGet).

    Attributes:
        path: that is asked for, on the container's port.
        period: between two requests.
        timeout: of one request.
        failure_threshold: failed requests in a row that count.
    """

    path: str
    period: Interval = timedelta(seconds=10)
    timeout: Interval = timedelta(seconds=5)
    failure_threshold: int = Field(default=3, ge=1)


class WorkloadSettings(Model):
    """How an application's Deployment looks.

    Attributes:
        deployment: its name; by default the application's.
        container: by default the application's name.
        port: of the container.
        replicas: pods of both tracks together.
        readiness: probe; pods that fail it get no traffic.
        liveness: probe; pods that fail it are restarted; ``null`` for none.
        progress_deadline: a roll-out that makes no progress for so long has failed.
        create_namespace: create the namespace if it is not there.
        template: merged (JSON merge patch) into the pod template of both tracks: resources, volumes, env …
        canary_template: merged into the canary's pod template only, after `template`.
        side_templates: ``blue`` and ``green``: merged into the pods of that side only, after `template`: so
            that the nodes of both do not form one Erlang cluster, for example.
        force_conflicts: take over fields that another field manager owns.
        router: what sends the canary its share of the traffic.
    """

    deployment: str | None = None
    container: str | None = None
    port: int = Field(default=8080, ge=1, le=65535)
    replicas: int = Field(default=3, ge=1)
    readiness: ProbeSettings = ProbeSettings(path="/ready")
    liveness: ProbeSettings | None = ProbeSettings(path="/live")
    progress_deadline: Interval = timedelta(minutes=10)
    create_namespace: bool = False
    template: dict[str, Any] = {}
    canary_template: dict[str, Any] = {}
    side_templates: dict[Side, dict[str, Any]] = {}
    force_conflicts: bool = True
    router: RouterSettings = RouterSettings()


class WorkloadTarget(WorkloadSettings):
    """A workload in one environment, with all names filled in.

    Attributes:
        side: which side of a blue/green workload is meant where the stable track is named.
    """

    application: str
    environment: str
    namespace: str
    deployment: str
    container: str
    side: Side | None = None

    def on(self, side: Side | None) -> WorkloadTarget:
        """The same workload, with another side as the stable track."""
        return self.model_copy(update={"side": side})

    def label_of(self, track: Track) -> str:
        """Value of the label ``track``: what a Service selects a track or side by."""
        return str(self.side) if self.side is not None and track is Track.STABLE else str(track)

    @property
    def service(self) -> str:
        """The Service in front of the stable version."""
        return self.router.service or self.deployment

    @property
    def canary_service(self) -> str:
        """The Service in front of the canary alone, for weighted routers."""
        return self.router.canary_service or f"{self.service}-canary"

    @property
    def canary_deployment(self) -> str:
        return f"{self.deployment}-canary"

    def name_of(self, track: Track) -> str:
        if track is Track.CANARY:
            return self.canary_deployment
        return self.deployment if self.side is None else f"{self.deployment}-{self.side}"


class WorkloadObservation(Model):
    """What the cluster says of one track.

    Attributes:
        exists: whether the Deployment is there.
        version: label ``app.kubernetes.io/version`` of the pod template, or the image's tag.
        revision: ``deployment.kubernetes.io/revision``.
        template: its pod template, kept so that a roll-back can restore exactly this. It goes into workflow
            history: secrets belong in a Secret that it refers to, not in the template.
        note: what else there is to say, such as that the Deployment was deleted.
    """

    exists: bool
    name: str
    version: str | None = None
    image: str | None = None
    revision: str | None = None
    replicas: int = 0
    ready: int = 0
    template: dict[str, Any] | None = None
    deployment_id: str | None = None
    note: str = ""


class ReleaseApply(Model):
    """Put a version on a track (server-side apply).

    Attributes:
        key: names the effect (workflow id and step); a second apply with the same key changes nothing.
        artefact: where the release tarball lies and its digest; noted on the pods.
        template: a pod template to run as it is (a gradual roll-back) instead of the configured one.
    """

    key: str
    target: WorkloadTarget
    track: Track
    version: str
    image: str
    replicas: int
    deployment_id: str
    commit: str | None = None
    artefact: str | None = None
    digest: str | None = None
    template: dict[str, Any] | None = None


class RolloutWatch(Model):
    """Wait until a track's roll-out is complete or has failed."""

    target: WorkloadTarget
    track: Track
    version: str
    replicas: int


class RolloutResult(Model):
    """How a roll-out ended."""

    complete: bool
    reason: str
    ready: int = 0


class WeightChange(Model):
    """Give the canary a share of the traffic, by the target's router (by replicas: of the pods)."""

    key: str
    target: WorkloadTarget
    weight: int = Field(ge=0, le=100)
    replicas: int


class WeightReading(Model):
    """What the router took: read back after setting.

    Attributes:
        weight: what it took.
        observed: percent that the router (by replicas: the ready pods) now gives the canary.
        stable: ready pods; `canary` the canary's.
        note: why it is not what was asked.
    """

    weight: int
    observed: float
    stable: int
    canary: int
    note: str = ""


class ReleaseQuery(Model):
    """Look for an earlier version in the workload's own revision history.

    Attributes:
        version: what to look for; none = the newest one that is not `excluding`.
    """

    target: WorkloadTarget
    version: str | None = None
    excluding: str | None = None


class Restore(Model):
    """Bring a track back to what was observed before."""

    key: str
    target: WorkloadTarget
    observation: WorkloadObservation
    replicas: int
    deployment_id: str
