"""What holds where deployment.yaml says nothing: the specification's YAML blocks, and erlmcp.

The specification says nothing of the application itself, of dev's and production's monitoring time and
of compliance modes; those values are the design's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.merging import overlay
from domain.triggers import ALL_GATES, TARGETS

_TRIGGERS: dict[str, Any] = {
    "dev_deployment": {
        "trigger": {
            "event": "push",
            "branches": ["feature/*", "develop"],
            "paths": ["apps/**", "config/**"],
        },
        "action": "deploy_dev",
        "approval": "none",
    },
    "staging_deployment": {
        "trigger": {"event": "push", "branches": ["main"], "paths": ["apps/**", "config/**"]},
        "action": "deploy_staging",
        "approval": "automatic",
    },
    "pr_validation": {
        "trigger": {
            "event": "pull_request",
            "types": ["opened", "synchronize", "reopened"],
            "branches": ["main"],
        },
        "action": "validate_pr",
        "gates": ["compile", "eunit", "ct", "dialyzer", "coverage", "security_scan"],
    },
    "pr_merge": {
        "trigger": {"event": "pull_request", "types": ["closed"], "branches": ["main"]},
        "action": "promote_to_staging",
        "condition": "merged == true",
    },
    "production_release": {
        "trigger": {"event": "push", "tags": ["v*.*.*", "v*.*.*-*"]},
        "action": "deploy_production",
        "gates": ["all_quality_gates", "staging_soak_complete", "manual_approval"],
    },
    "adhoc_deployment": {
        "trigger": {
            "event": "workflow_dispatch",
            "inputs": {
                "environment": {
                    "description": "Target environment",
                    "required": True,
                    "type": "choice",
                    "options": ["dev", "staging", "production"],
                },
                "version": {"description": "Version to deploy", "required": True},
                "skip_tests": {
                    "description": "Skip tests (emergency only)",
                    "type": "boolean",
                    "default": False,
                },
            },
        },
        "action": "deploy_environment",
    },
    "nightly_builds": {
        "trigger": {"event": "schedule", "cron": "0 2 * * *"},
        "action": "nightly_validation",
    },
    "dependency_updates": {
        "trigger": {"event": "schedule", "cron": "0 6 * * 1"},
        "action": "dependency_update",
    },
}

_GATES: dict[str, Any] = {
    "compile": {
        "type": "automated",
        "condition": "errors == 0",
        "steps": ["compile"],
        "timeout": "5m",
        "on_failure": "block",
    },
    "test": {
        "type": "automated",
        "conditions": {"eunit_failures": 0, "ct_pass_rate": 1.0, "coverage": ">= 80%"},
        "steps": ["eunit", "ct", "coverage"],
        "timeout": "15m",
        "on_failure": "block",
    },
    "security": {
        "type": "automated",
        "conditions": {
            "high_vulnerabilities": 0,
            "critical_vulnerabilities": 0,
            "license_compliance": "pass",
        },
        "steps": ["security", "licence"],
        "timeout": "10m",
        "on_failure": "block",
    },
    "performance": {
        "type": "automated",
        "conditions": {"regression": "< 10%", "p95_latency": "< 500ms", "error_rate": "< 0.1%"},
        "steps": ["performance"],
        "timeout": "20m",
        "on_failure": "warn",
    },
    "manual_approval": {
        "type": "manual",
        "approvers": {"staging": ["tech_lead", "devops_engineer"], "production": ["change_board"]},
        "timeout": "72h",
        "on_timeout": "reject",
    },
}

_PRE_DEPLOYMENT: dict[str, Any] = {
    "code_quality": [
        {"dialyzer_clean": True},
        {"xref_undefined": 0},
        {"format_violations": 0},
        {"warnings_as_errors": True},
    ],
    "test_coverage": [
        {"line_coverage": ">= 80%"},
        {"branch_coverage": ">= 75%"},
        {"function_coverage": ">= 90%"},
    ],
    "security": [
        {"dependency_scan": "pass"},
        {"sast_scan": "pass"},
        {"secrets_scan": "pass"},
        {"license_compliance": "pass"},
    ],
    "documentation": [
        {"all_public_docs": True},
        {"changelog_updated": True},
        {"migration_guide": "exists_if_breaking"},
    ],
    "operational": [
        {"health_checks_defined": True},
        {"metrics_configured": True},
        {"alert_rules_updated": True},
        {"runbook_exists": True},
    ],
}

_POST_DEPLOYMENT: dict[str, Any] = {
    "health": [{"endpoint_response": 200}, {"readiness_check": "pass"}, {"liveness_check": "pass"}],
    "functionality": [{"smoke_tests": "pass"}, {"integration_tests": "pass"}, {"contract_tests": "pass"}],
    "performance": [{"baseline_comparison": "pass"}, {"load_test": "pass"}, {"stress_test": "pass"}],
    "observability": [
        {"metrics_reporting": True},
        {"trace_sampling": "configured"},
        {"log_forwarding": "active"},
    ],
}

_ENVIRONMENTS: dict[str, Any] = {
    "dev": {
        "auto_deploy": True,
        "required_gates": ["compile"],
        "rollback_strategy": "immediate",
        "monitoring": "basic",
        "soak_duration": "5m",
        "compliance": "off",
    },
    "qa": {
        "auto_deploy": True,
        "required_gates": ["compile", "test", "security"],
        "rollback_strategy": "on_failure",
        "monitoring": "standard",
        "soak_duration": "1h",
        "compliance": "report",
    },
    "staging": {
        "auto_deploy": True,
        "required_gates": ["compile", "test", "security", "performance"],
        "approval": "tech_lead",
        "rollback_strategy": "automatic",
        "monitoring": "full",
        "soak_duration": "24h",
        "compliance": "enforce",
    },
    "production": {
        "auto_deploy": False,
        "required_gates": ["compile", "test", "security", "performance", "manual_approval"],
        "approval": "change_board",
        "rollback_strategy": "automatic",
        "monitoring": "full",
        "soak_duration": "1h",
        "compliance": "enforce",
        "production": True,
        "canary": {
            "initial_percentage": 10,
            "increment_steps": [10, 50, 100],
            "step_duration": "10m",
            "rollback_threshold": 5,
        },
    },
}

_ROLLBACK_TRIGGERS: dict[str, Any] = {
    "health_checks": {"consecutive_failures": 3, "check_interval": "30s", "timeout": "5m"},
    "error_rate": {"threshold": 5, "window": "5m", "comparison": "baseline"},
    "latency": {"p95_threshold": "10s", "p99_threshold": "30s", "window": "5m"},
    "crash_rate": {"threshold": 1, "window": "2m"},
    "canary_failure": {"error_rate_increase": 50, "rollback_to": "stable_version"},
}

_PROMOTIONS: list[dict[str, Any]] = [
    {"from_env": "dev", "to_env": "qa", "required_checks": ["compile"]},
    {
        "from_env": "qa",
        "to_env": "staging",
        "minimum_soak": "1h",
        "required_checks": ["compile", "test", "security"],
        "error_budget": 0.05,
    },
    {
        "from_env": "staging",
        "to_env": "production",
        "minimum_soak": "24h",
        "required_checks": ["compile", "test", "security", "performance"],
        "error_budget": 0.05,
        "manual_review": True,
    },
]

_NOTIFICATIONS: dict[str, Any] = {
    "slack": {
        "webhooks": {
            "deployments": "${SLACK_DEPLOYMENTS_WEBHOOK}",
            "alerts": "${SLACK_ALERTS_WEBHOOK}",
            "incidents": "${SLACK_INCIDENTS_WEBHOOK}",
        },
        "channels": {"deployment_updates": "#deployments", "alerts": "#alerts", "critical": "#incidents"},
    },
    "teams": {"webhook": "${TEAMS_WEBHOOK}", "enable": True},
    "pagerduty": {
        "integration_key": "${PAGERDUTY_KEY}",
        "severity_mapping": {"critical": "critical", "high": "error", "medium": "warning", "low": "info"},
    },
    "email": {"recipients": {"deployment": ["devops@example.com"], "incidents": ["oncall@example.com"]}},
}

_AUDIT_STORAGE: dict[str, Any] = {
    "primary": {"type": "elasticsearch", "index": "erlmcp-deployment-audit", "retention": "7y"},
    "backup": {
        "type": "s3",
        "bucket": "erlmcp-audit-logs",
        "prefix": "deployment/",
        "retention": "permanent",
    },
    "immutable": True,
    "tamper_evident": True,
}

_RECOVERY_TRIGGERS: dict[str, Any] = {
    "regional_outage": {
        "detection": "health_check_failure >= 50%",
        "scope": "region",
        "action": "activate_dr_region",
    },
    "complete_failure": {
        "detection": "all_endpoints_down >= 5m",
        "scope": "global",
        "action": "emergency_procedures",
    },
    "data_corruption": {
        "detection": "data_integrity_check == failed",
        "scope": "database",
        "action": "restore_from_backup",
    },
    "security_incident": {
        "detection": "security_breach_detected",
        "scope": "system",
        "action": "security_protocol",
    },
}

_STEPS: dict[str, Any] = {
    "compile": {"tool": "rebar3.compile"},
    "eunit": {"tool": "rebar3.eunit"},
    "ct": {"tool": "rebar3.ct"},
    "coverage": {"tool": "rebar3.cover"},
    "dialyzer": {"tool": "rebar3.dialyzer"},
    "xref": {"tool": "rebar3.xref"},
    "documents": {"tool": "repository.documents"},
    "security": {"command": ["gates/security"]},
    "licence": {"command": ["gates/licence"]},
    "performance": {"command": ["gates/performance"]},
    "format": {"command": ["gates/format"]},
}

_ERLMCP: dict[str, Any] = {
    "repository": "https://github.com/banyan-platform/erlmcp.git",
    "tag": "v{version}",
    "image": "ghcr.io/banyan-platform/erlmcp:{version}",
    "namespace": "{application}-{environment}",
    "namespaces": {
        "dev": "erlmcp-dev",
        "qa": "erlmcp-qa",
        "staging": "erlmcp-staging",
        "production": "erlmcp-prod",
        "dr": "erlmcp-dr",
    },
    "workload": {"deployment": "erlmcp", "container": "erlmcp", "port": 8080},
    "health": {
        "url": "http://erlmcp.{namespace}.svc:8080",
        "canary_url": "http://erlmcp-canary.{namespace}.svc:8080",
        "paths": ["/health", "/ready", "/live"],
    },
    "metrics": {"prometheus_url": "http://prometheus.monitoring.svc:9090"},
    "build": {"steps": _STEPS},
}

DEFAULTS: dict[str, Any] = {
    "version": 1,
    "applications": {"erlmcp": _ERLMCP},
    "environments": _ENVIRONMENTS,
    "gates": _GATES,
    "triggers": _TRIGGERS,
    "pre_deployment_compliance": _PRE_DEPLOYMENT,
    "post_deployment_compliance": _POST_DEPLOYMENT,
    "automatic_rollback_triggers": _ROLLBACK_TRIGGERS,
    "promotions": _PROMOTIONS,
    "notification_channels": _NOTIFICATIONS,
    "audit_storage": _AUDIT_STORAGE,
    "disaster_recovery_triggers": _RECOVERY_TRIGGERS,
    "directory": {"roles": {}},
}
"""The configuration of an empty deployment.yaml."""


def defaults_for(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings of a file are laid over (`domain.merging.overlay`).

    The application erlmcp holds until the file describes another or removes it; and where the file removes
    an environment, what the defaults say of that environment goes with it.
    """
    defaults = DEFAULTS
    described = settings.get("applications")
    if isinstance(described, Mapping) and described and described.get("erlmcp") is None:
        # Its steps go with it; pull requests are held against the gates that stay.
        triggers = overlay(DEFAULTS["triggers"], {"pr_validation": {"gates": [ALL_GATES]}})
        defaults = {**defaults, "applications": {}, "triggers": triggers}
    environments = settings.get("environments")
    removed = (
        {n for n, e in environments.items() if e is None} if isinstance(environments, Mapping) else set()
    )
    return _without(defaults, removed) if removed else defaults


def _without(defaults: dict[str, Any], environments: set[str]) -> dict[str, Any]:
    def kept(named: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in named.items() if name not in environments}

    triggers = {n: t for n, t in defaults["triggers"].items() if TARGETS.get(t["action"]) not in environments}
    offered = triggers["adhoc_deployment"]["trigger"]["inputs"]["environment"]["options"]
    options = {"options": [o for o in offered if o not in environments]}
    triggers = overlay(triggers, {"adhoc_deployment": {"trigger": {"inputs": {"environment": options}}}})
    manual = defaults["gates"]["manual_approval"]
    return {
        **defaults,
        "applications": {
            name: {**application, "namespaces": kept(application["namespaces"])}
            for name, application in defaults["applications"].items()
        },
        "triggers": triggers,
        "gates": {**defaults["gates"], "manual_approval": {**manual, "approvers": kept(manual["approvers"])}},
        "promotions": [p for p in defaults["promotions"] if not environments & {p["from_env"], p["to_env"]}],
    }
