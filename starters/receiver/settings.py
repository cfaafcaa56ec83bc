"""What the receiver is told by its environment (design, section 4): limits, and the senders' secrets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from activities.configuration import DEFAULT_PATH

MEBIBYTE = 1024 * 1024
BODY_LIMITS = {
    "github": 25 * MEBIBYTE,
    "gitlab": 25 * MEBIBYTE,
    "slack": MEBIBYTE,
    "alertmanager": MEBIBYTE,
    "pagerduty": MEBIBYTE,
}
"""Endpoint → bytes of one request: what its sender sends at most, or far more than it sends."""

SECRETS: dict[str, str] = {
    "github": "GITHUB_WEBHOOK_SECRET",
    "gitlab": "GITLAB_WEBHOOK_TOKEN",
    "slack": "SLACK_SIGNING_SECRET",
    "alertmanager": "ALERTMANAGER_TOKEN",
    "pagerduty": "PAGERDUTY_WEBHOOK_SECRET",
}
"""Endpoint → the variable that holds its secret."""
PREVIOUS = "_PREVIOUS"
"""Ends the name of a second variable, whose secret is accepted too while the first one is being rotated."""


class ReceiverSettings(BaseSettings):
    """Limits of the receiver, each as ``ERLMCP_DEPLOY_…``.

    Attributes:
        config: path of deployment.yaml.
        body_limit: bytes of one request, where its endpoint has no smaller limit (`BODY_LIMITS`).
        body_timeout: that a sender has to send it.
        bodies_limit: bytes of all requests that are read or handled at a time, for each endpoint alone.
        connections_limit: connections at a time.
        allowed_hosts: names by which browsers reach the dashboard, with commas between; ``*`` is any.
    """

    model_config = SettingsConfigDict(env_prefix="ERLMCP_DEPLOY_", extra="ignore")

    config: Path = DEFAULT_PATH
    body_limit: int = Field(default=25 * MEBIBYTE, ge=1)
    body_timeout: timedelta = Field(default=timedelta(seconds=10), gt=timedelta(0))
    bodies_limit: int = Field(default=256 * MEBIBYTE, ge=1)
    connections_limit: int = Field(default=512, ge=1)
    allowed_hosts: str = ""


def secrets_of(environment: Mapping[str, str]) -> dict[str, tuple[bytes, ...]]:
    """Endpoint → its secrets, the current one first; none where nothing is set."""
    return {
        endpoint: tuple(
            value.encode()
            for name in (variable, variable + PREVIOUS)
            if (value := environment.get(name, "").strip())
        )
        for endpoint, variable in SECRETS.items()
    }
