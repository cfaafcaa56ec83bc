"""What a worker is told by its environment (design, section 4)."""

from __future__ import annotations

import os
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_home() -> Path:
    """Where a worker keeps its files, by the XDG convention."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "erlmcp-deploy"


class Role(StrEnum):
    """What a worker process does: workflows and light effects, builds, or both."""

    ALL = "all"
    DEPLOYMENTS = "deployments"
    BUILDS = "builds"


class WorkerSettings(BaseSettings):
    """Settings of a worker process, each as ``ERLMCP_DEPLOY_…``. Secrets are read where they are used.

    Attributes:
        config: path of deployment.yaml.
        home: audit trail, effects ledger, build workspaces and artefacts.
        concurrent_builds: build activities at a time; a build wants a core or two.
        heartbeat_throttle: the longest a running watch may take to hear of a cancellation.
        cached_workflows: workflows kept in memory; those beyond it are replayed when they wake.
    """

    model_config = SettingsConfigDict(env_prefix="ERLMCP_DEPLOY_", extra="ignore")

    config: Path = Path("deployment.yaml")
    home: Path = Field(default_factory=default_home)
    concurrent_activities: int = Field(default=100, ge=1)
    concurrent_builds: int = Field(default=4, ge=1)
    cached_workflows: int = Field(default=1000, ge=0)
    graceful_shutdown: timedelta = timedelta(seconds=20)
    heartbeat_throttle: timedelta = timedelta(seconds=1)

    @property
    def audit_store(self) -> Path:
        return self.home / "audit.db"

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.db"

    @property
    def hooks(self) -> Path:
        return self.home / "hooks"

    @property
    def builds(self) -> Path:
        return self.home / "builds"
