"""Secrets in clear are found wherever they stand; names of variables are none."""

from __future__ import annotations

from typing import Any

import pytest

from domain.secrets import clear_secrets


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (
            {"notification_channels": {"slack": {"webhooks": {"alerts": "http://127.0.0.1:1/x"}}}},
            "notification_channels.slack.webhooks.alerts",
        ),
        (
            {"notification_channels": {"pagerduty": {"integration_key": "R0ABC"}}},
            "notification_channels.pagerduty.integration_key",
        ),
        ({"notification_channels": {"teams": {"webhook": ""}}}, "notification_channels.teams.webhook"),
        ({"applications": {"a": {"repository": "https://u:pw@example.com/r"}}}, "applications.a.repository"),
        ({"a": ["x", "ghp_" + "a" * 36]}, "a.1"),
        ({"a": "https://hooks.slack.com/services/T0/B0/xyz"}, "a"),
        ({"a": "xoxb-123456789012-abc"}, "a"),
        ({"a": "AKIA" + "A" * 16}, "a"),
        ({"a": "-----BEGIN RSA PRIVATE KEY-----"}, "a"),
        ({"steps": {"s": {"environment": {"HEX_API_KEY": "abc"}}}}, "steps.s.environment.HEX_API_KEY"),
        ({"template": {"env": [{"name": "DB_PASSWORD", "value": "x"}]}}, "template.env.0.value"),
    ],
)
def test_found(settings: dict[str, Any], path: str) -> None:
    found = list(clear_secrets(settings))

    assert [".".join(map(str, f.path)) for f in found] == [path]
    assert found[0].remedy


@pytest.mark.parametrize(
    "settings",
    [
        {"notification_channels": {"slack": {"webhooks": {"alerts": "${SLACK_ALERTS_WEBHOOK}"}}}},
        {"notification_channels": {"slack": {"webhooks": {"alerts": "https://chat.example.com/${TOKEN}"}}}},
        {"repository": "git@example.com:shop.git"},
        {"repository": "https://example.com/shop.git"},
        {"repository": "ssh://git@example.com:22/shop.git"},
        {"steps": {"s": {"environment": {"HEX_API_KEY": "${HEX_API_KEY}", "TOKEN_FILE": "/run/token"}}}},
        {
            "template": {
                "env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]
            }
        },
        {"template": {"volumes": [{"name": "tls", "secret": {"secretName": "erlmcp-tls"}}]}},
        {"description": "no password here: really"},
        {"channels": {"alerts": "#alerts"}},
    ],
)
def test_names_and_references_are_no_secrets(settings: dict[str, Any]) -> None:
    assert list(clear_secrets(settings)) == []
