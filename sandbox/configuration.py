"""deployment.yaml of the sandbox: the product's own defaults, with shorter times and local addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain import configuration
from domain.merging import overlay
from sandbox.sample import Flavour

APPLICATION = "erlsample"
APPROVER = "change.board@example.com"
SECOND_APPROVER = "release.board@example.com"
TECH_LEAD = "tech.lead@example.com"
DEVELOPER = "developer@example.com"
RECEIVER = "receiver"
"""The receiver's name as a signer of decisions."""
PROJECT = f"octo/{APPLICATION}"
"""At GitHub."""
LOGINS = {APPROVER: "board", SECOND_APPROVER: "release", TECH_LEAD: "lead", DEVELOPER: "dev"}
"""Person → login at GitHub."""


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
    preview: str = "3s"
    switched: str = "6s"
    scale_down_delay: str = "6s"

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
    services: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(namespace, Service) → port, of environments with blue/green"""
    prefix: str = APPLICATION
    """Of the namespaces: worlds that share a cluster keep apart by it."""
    github: tuple[str, str] | None = None
    """Addresses of GitHub's pages and of its API, where `PROJECT` is."""
    receiver_key: str | None = None
    """Public key that the receiver's decisions are checked by."""


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


def _overrides(places: Places, namespace: str) -> dict[str, Any]:
    """Where an environment's pods are probed, and where its versions say that they are well."""
    ports = {track: port for (of, track), port in places.fronts.items() if of == namespace}
    addresses = {"url": ports["stable"], "canary_url": ports.get("canary")}
    addresses |= {
        setting: places.services[namespace, service]
        for setting, service in (("url", APPLICATION), ("canary_url", f"{APPLICATION}-canary"))
        if (namespace, service) in places.services
    }
    workload: dict[str, Any] = {"template": _pod(ports["stable"])}
    if "canary" in ports:
        workload["canary_template"] = _pod(ports["canary"])
    sides = {side: _pod(ports[side]) for side in ("blue", "green") if side in ports}
    if sides:
        workload["side_templates"] = sides
    health = {s: f"http://127.0.0.1:{port}" for s, port in addresses.items() if port is not None}
    return {"workload": workload, "health": health}


def _blue_green(times: Times) -> dict[str, Any]:
    """A stage that switches instead of sharing."""
    return {
        "canary": None,
        "blue_green": {
            "preview_checks": times.preview,
            "watch": times.switched,
            "analysis_interval": times.analysis_interval,
            "scale_down_delay": times.scale_down_delay,
        },
    }


def _at_github(places: Places) -> dict[str, Any]:
    """Where the project is, and who people are there."""
    if places.github is None:
        return {}
    url, api_url = places.github
    return {
        "applications": {APPLICATION: {"project": PROJECT}},
        "git_hosts": {"github": {"url": url, "api_url": api_url}},
        "directory": {"accounts": {person: {"github": login} for person, login in LOGINS.items()}},
    }


def sandbox_configuration(
    places: Places, times: Times, flavour: Flavour, changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The contents of the sandbox's deployment.yaml.

    Args:
        changes: laid over it, for tests that need another policy; ``None`` switches off.
    """
    overrides = {}
    for environment in ("dev", "qa", "staging", "production"):
        namespace = namespace_of(environment, places.prefix)
        if (namespace, "stable") in places.fronts:
            overrides[environment] = _overrides(places, namespace)
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
    for environment, stage in described["environments"].items():
        if (namespace_of(environment, places.prefix), APPLICATION) in places.services:
            stage.update(_blue_green(times))
    if places.receiver_key is not None:
        # It has checked who they are: Slack's signature, and whose account it is.
        signer = {"public_key": places.receiver_key, "speaks_for": ["*"]}
        described["directory"]["signers"] = {RECEIVER: signer}
    return overlay(overlay(described, _at_github(places)), changes or {})
