"""What GitHub, GitLab, Slack, Alertmanager and PagerDuty send, signed as they sign it."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

PAYLOADS = Path(__file__).parents[2] / "payloads"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"

SECRETS = {
    "GITHUB_WEBHOOK_SECRET": "github-s3cret",
    "GITLAB_WEBHOOK_TOKEN": "gitlab-t0ken",
    "SLACK_SIGNING_SECRET": "slack-s3cret",
    "ALERTMANAGER_TOKEN": "alertmanager-t0ken",
    "PAGERDUTY_WEBHOOK_SECRET": "pagerduty-s3cret",
}
ENDPOINTS = ("github", "gitlab", "slack", "alertmanager", "pagerduty")

Headers = dict[str, str]
_numbers = itertools.count(1)


def _mac(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def github(
    body: bytes,
    *,
    event: str = "push",
    delivery: str | None = None,
    secret: str = SECRETS["GITHUB_WEBHOOK_SECRET"],
) -> Headers:
    return {
        "Content-Type": JSON,
        "User-Agent": "GitHub-Hookshot/test",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery or f"delivery-{next(_numbers)}",
        # GitHub sends the old one as well.
        "X-Hub-Signature": "sha1=" + hmac.new(secret.encode(), body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": "sha256=" + _mac(secret, body),
    }


def gitlab(
    body: bytes,
    *,
    event: str = "Tag Push Hook",
    delivery: str | None = None,
    secret: str = SECRETS["GITLAB_WEBHOOK_TOKEN"],
) -> Headers:
    return {
        "Content-Type": JSON,
        "X-Gitlab-Event": event,
        "X-Gitlab-Event-UUID": delivery or f"delivery-{next(_numbers)}",
        "X-Gitlab-Token": secret,
    }


def slack(body: bytes, *, at: float | None = None, secret: str = SECRETS["SLACK_SIGNING_SECRET"]) -> Headers:
    stamp = str(int(time.time() if at is None else at))
    return {
        "Content-Type": FORM,
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": "v0=" + _mac(secret, f"v0:{stamp}:".encode() + body),
    }


def alertmanager(body: bytes, *, secret: str = SECRETS["ALERTMANAGER_TOKEN"]) -> Headers:
    return {"Content-Type": JSON, "Authorization": f"Bearer {secret}"}


def pagerduty(body: bytes, *, secret: str = SECRETS["PAGERDUTY_WEBHOOK_SECRET"]) -> Headers:
    return {"Content-Type": JSON, "X-PagerDuty-Signature": "v1=" + _mac(secret, body)}


SIGN: dict[str, Callable[..., Headers]] = {
    "github": github,
    "gitlab": gitlab,
    "slack": slack,
    "alertmanager": alertmanager,
    "pagerduty": pagerduty,
}
PROOF = {
    "github": "X-Hub-Signature-256",
    "gitlab": "X-Gitlab-Token",
    "slack": "X-Slack-Signature",
    "alertmanager": "Authorization",
    "pagerduty": "X-PagerDuty-Signature",
}
"""The header without which nobody is believed."""


# What happened


def tag_pushed(project: str, tag: str) -> bytes:
    """A tag was pushed to GitHub: a release for production."""
    payload = json.loads((PAYLOADS / "github_push_tag_created_v0.0.1.json").read_text())
    payload["ref"] = f"refs/tags/{tag}"
    payload["repository"]["full_name"] = project
    return json.dumps(payload).encode()


def pushed_anew(body: bytes) -> bytes:
    """The same push to GitHub, done once more: it tells when."""
    payload = json.loads(body)
    payload["repository"]["pushed_at"] += 60
    return json.dumps(payload).encode()


def tag_pushed_to_gitlab(project: str, tag: str) -> bytes:
    payload = json.loads((PAYLOADS / "gitlab_tag_create.json").read_text())
    payload["ref"] = f"refs/tags/{tag}"
    payload["project"]["path_with_namespace"] = project
    return json.dumps(payload).encode()


def branch_pushed(project: str, branch: str, *, commit: str, path: str = "apps/shop.erl") -> bytes:
    """A commit was pushed to a branch at GitHub."""
    payload = json.loads((PAYLOADS / "github_push_master_commit.json").read_text())
    payload["ref"], payload["after"] = f"refs/heads/{branch}", commit
    payload["commits"][0] |= {"id": commit, "added": [], "removed": [], "modified": [path]}
    payload["head_commit"] = payload["commits"][0]
    payload["repository"]["full_name"] = project
    return json.dumps(payload).encode()


def pull_request(project: str, *, commit: str, action: str = "opened", base: str = "main") -> bytes:
    payload = json.loads((PAYLOADS / "github_pull_request_opened.json").read_text())
    payload["action"] = action
    payload["repository"]["full_name"] = project
    payload["pull_request"]["base"]["ref"] = base
    payload["pull_request"]["head"]["sha"] = commit
    payload["pull_request"]["head"]["repo"]["full_name"] = project
    return json.dumps(payload).encode()


def alerts(*fired: dict[str, str], status: str = "firing") -> bytes:
    """A notification of Alertmanager with these labels."""
    times = {"startsAt": "2026-02-02T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}
    document: dict[str, Any] = {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "erlmcp-deploy",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.com",
        "alerts": [
            {"status": status, "labels": labels, "annotations": {}, **times, "generatorURL": ""}
            for labels in fired
        ],
    }
    return json.dumps(document).encode()


def incident(event_type: str) -> bytes:
    return json.dumps(
        {
            "event": {
                "id": "01C4TTTM0000000000000000",
                "event_type": event_type,
                "resource_type": "incident",
                "occurred_at": "2026-02-02T12:00:00Z",
                "data": {"id": "PGR0VU2", "type": "incident"},
            }
        }
    ).encode()


def slash_command(text: str, *, user: str = "U0ADA") -> bytes:
    fields = {
        "command": "/deploy",
        "text": text,
        "user_id": user,
        "user_name": "ada",
        "team_id": "T0001",
        "channel_id": "C0001",
        "channel_name": "deployments",
        "response_url": "http://127.0.0.1:9/commands/1234",
        "trigger_id": "13345224609.738474920.8088930838d88f008e0",
    }
    return urlencode(fields).encode()


NOTHING_TO_DO = {
    "github": b'{"zen": "Design for failure."}',
    "gitlab": b'{"object_kind": "note"}',
    "slack": slash_command("help"),
    "alertmanager": alerts(status="resolved"),
    "pagerduty": incident("pagey.ping"),
}
"""Requests that every endpoint takes, and that start nothing."""


def nothing_to_do(endpoint: str) -> tuple[bytes, Headers]:
    """A request that is well made, and its headers."""
    body = NOTHING_TO_DO[endpoint]
    other_event = {"github": "ping", "gitlab": "Note Hook"}.get(endpoint)
    return body, SIGN[endpoint](body, **({"event": other_event} if other_event else {}))
