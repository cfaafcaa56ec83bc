"""deployment.yaml of the sandbox: the product's own defaults, with shorter times and local addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain import configuration
from domain.merging import merge
from sandbox.sample import Flavour

APPLICATION = "erlsample"
APPROVER = "change.board@example.com"
SECOND_APPROVER = "release.board@example.com"
TECH_LEAD = "tech.lead@example.com"


@dataclass(frozen=True)
class Times:
    """The waits of a deployment. Whoever shortens them says so (see `shortened`)."""

    canary_step: str = "6s"
    analysis_interval: str = "2s"
    health_interval: str = "1s"
    health_timeout: str = "60s"
    window: str = "5s"
    soak: str = "6s"
    progress_deadline: str = "40s"
    approval: str = "72h"

    def shortened(self) -> list[tuple[str, str, str]]:
        """Setting, its value in the specification, its value here."""
        return [
            ("canary step", "10m", self.canary_step),
            ("analysis interval", "30s", self.analysis_interval),
            ("health check interval", "30s", self.health_interval),
            ("roll-out without progress fails after", "10m", self.progress_deadline),
            ("roll-back must be healthy within", "5m", self.health_timeout),
            ("window of error rate and latency", "5m", self.window),
            ("monitoring of production", "1h", self.soak),
        ]


@dataclass(frozen=True)
class Places:
    """Where the parts of the sandbox are."""

    repository: Path
    fronts: Mapping[tuple[str, str], int]
    """(namespace, track) → port"""
    prometheus_url: str | None
    slack_api_url: str
    prefix: str = APPLICATION
    """Of the namespaces: worlds that share a cluster keep apart by it."""


def namespace_of(environment: str, prefix: str = APPLICATION) -> str:
    return f"{prefix}-{environment}"


def _command(name: str) -> dict[str, Any]:
    return {"command": [f"gates/{name}"]}


def _build(flavour: Flavour) -> dict[str, Any]:
    documents = {"documents": {"tool": "repository.documents"}}
    measured = {name: _command(name) for name in ("security", "licence", "format", "performance")}
    if flavour == "erlang":
        tools = {
            "compile": "rebar3.compile",
            "eunit": "rebar3.eunit",
            "ct": "rebar3.ct",
            "coverage": "rebar3.cover",
            "dialyzer": "rebar3.dialyzer",
            "xref": "rebar3.xref",
        }
        return {"steps": {n: {"tool": t} for n, t in tools.items()} | measured | documents}
    steps = {n: _command(n) for n in ("compile", "test", "static")} | measured | documents
    release = {"tool": None, "command": ["gates/release"], "artefact": "dist/*-{version}.tar.gz"}
    return {"steps": steps, "release": release}


def _pod(port: int) -> dict[str, Any]:
    """Nothing runs in the sandbox's pods: their readiness is asked of the local process in their place."""
    probe = {"httpGet": {"path": "/ready", "host": "127.0.0.1", "port": port}, "periodSeconds": 1}
    return {"spec": {"containers": [{"name": APPLICATION, "readinessProbe": probe}]}}


def sandbox_configuration(
    places: Places, times: Times, flavour: Flavour, changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The contents of the sandbox's deployment.yaml.

    Args:
        changes: merged over it (RFC 7396), for tests that need another policy.
    """
    overrides = {}
    for environment in ("dev", "qa", "staging", "production"):
        namespace = namespace_of(environment, places.prefix)
        stable, canary = places.fronts.get((namespace, "stable")), places.fronts.get((namespace, "canary"))
        if stable is None:
            continue
        overrides[environment] = {
            "workload": {
                "template": _pod(stable),
                **({"canary_template": _pod(canary)} if canary is not None else {}),
            },
            "health": {
                "url": f"http://127.0.0.1:{stable}",
                **({"canary_url": f"http://127.0.0.1:{canary}"} if canary is not None else {}),
            },
        }
    application = {
        "repository": str(places.repository),
        "image": f"registry.example.com/{APPLICATION}:{{version}}",
        "namespace": namespace_of("{environment}", places.prefix),
        "workload": {
            "replicas": 4,
            "liveness": None,
            "progress_deadline": times.progress_deadline,
            "create_namespace": True,
        },
        "health": {"url": "http://127.0.0.1:1"},
        "metrics": {
            "prometheus_url": places.prometheus_url,
            "error_rate": configuration.ERROR_RATE_QUERY.replace("erlmcp_", f"{APPLICATION}_"),
            "latency_p95": configuration.LATENCY_P95_QUERY.replace("erlmcp_", f"{APPLICATION}_"),
            "latency_p99": configuration.LATENCY_P99_QUERY.replace("erlmcp_", f"{APPLICATION}_"),
            "no_data": "ignore",
            "error_limit": 10,
        },
        "build": _build(flavour),
        "overrides": overrides,
    }
    python = flavour == "python"
    described: dict[str, Any] = {
        "applications": {"erlmcp": None, APPLICATION: application},
        "triggers": {"pr_validation": None},
        "gates": {
            "test": {"steps": ["test"] if python else ["eunit", "ct", "coverage"]},
            "manual_approval": {"timeout": times.approval},
        },
        "environments": {
            "dev": {"soak_duration": times.soak},
            "qa": {"soak_duration": times.soak},
            "staging": {"soak_duration": times.soak},
            "production": {
                "soak_duration": times.soak,
                "canary": {"step_duration": times.canary_step, "analysis_interval": times.analysis_interval},
                "rollback": {"timeout": times.health_timeout},
            },
        },
        "automatic_rollback_triggers": {
            "health_checks": {"check_interval": times.health_interval, "timeout": times.health_timeout},
            "error_rate": {"window": times.window},
            "latency": {"window": times.window},
        },
        "notification_channels": {
            "slack": {"api_url": places.slack_api_url},
        },
        "directory": {
            "roles": {
                "change_board": [APPROVER, SECOND_APPROVER],
                "tech_lead": [TECH_LEAD],
                "devops_engineer": ["devops@example.com"],
            }
        },
    }
    return merge(described, changes) if changes else described
