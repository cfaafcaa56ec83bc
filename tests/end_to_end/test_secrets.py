"""No secret that the product is given comes out of it again; and with encryption, nothing people say does."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload

from domain.identity import SIGNING_KEY
from domain.merging import overlay
from sandbox.configuration import APPLICATION, APPROVER, DEVELOPER
from sandbox.github import APP_TOKEN as GITHUB_TOKEN
from sandbox.slack import APP_TOKEN, BOT_TOKEN, SIGNING_SECRET
from starters.codec_server import TOKEN as CODEC_TOKEN
from tests.end_to_end.conftest import StartStory
from tests.end_to_end.project import LOGIN, Project
from tests.end_to_end.slack import BOARD, card_of, taken
from tests.end_to_end.story import Story, result
from tests.starters.receiver.senders import alertmanager, alerts
from workflows.confidentiality import ENCRYPTION_KEYS, EncryptionKeys, generate_key

COMMENT = "the customers of the secret project wait for it"
GIVEN = {
    "GITHUB_TOKEN": GITHUB_TOKEN,
    "GITHUB_WEBHOOK_SECRET": "github-webhook-s3cret",
    "GITLAB_WEBHOOK_TOKEN": "gitlab-webhook-t0ken",
    "SLACK_BOT_TOKEN": BOT_TOKEN,
    "SLACK_APP_TOKEN": APP_TOKEN,
    "SLACK_SIGNING_SECRET": SIGNING_SECRET,
    "SLACK_DEPLOYMENTS_WEBHOOK": "https://hooks.slack.example.com/services/T0/B0/deployments-s3cret",
    "SLACK_ALERTS_WEBHOOK": "https://hooks.slack.example.com/services/T0/B0/alerts-s3cret",
    "SLACK_INCIDENTS_WEBHOOK": "https://hooks.slack.example.com/services/T0/B0/incidents-s3cret",
    "ALERTMANAGER_TOKEN": "alertmanager-t0ken",
    "PAGERDUTY_WEBHOOK_SECRET": "pagerduty-webhook-s3cret",
    "PAGERDUTY_KEY": "pagerduty-integration-k3y",
    "TEAMS_WEBHOOK": "https://teams.example.com/webhook/teams-s3cret",
    "HEX_API_KEY": "hex-api-k3y",
    "COSIGN_KEY": "cosign-pr1vate-key",
    "COSIGN_PASSWORD": "cosign-passw0rd",
    CODEC_TOKEN: "codec-t0ken",
    ENCRYPTION_KEYS: f"story:{generate_key()}",
}
CHANGES: dict[str, Any] = {
    "applications": {
        APPLICATION: {
            "workload": {"replicas": 1},
            "build": {
                "steps": {
                    # A step that is trusted with a secret, and careless with it.
                    "compile": {
                        "command": [
                            "sh",
                            "-c",
                            'echo "signing in with $HEX_API_KEY" >&2; exec gates/compile',
                        ],
                        "environment": {"HEX_API_KEY": "${HEX_API_KEY}"},
                    }
                }
            },
        }
    },
    "environments": {
        "production": {
            "required_gates": ["compile", "manual_approval"],
            "compliance": "off",
            "canary": None,
            "soak_duration": "1s",
            "require_verified_identity": True,
        }
    },
}


@pytest.fixture(scope="module")
async def story(start_story: StartStory) -> AsyncIterator[Story]:
    async with start_story(changes=CHANGES, github=True, variables=GIVEN, worker=False) as story:
        world = story.world
        kubeconfig = base64.b64encode(story.proxy.kubeconfig_path.read_bytes()).decode()
        world.variables |= {"KUBE_CONFIG": kubeconfig, SIGNING_KEY: world.receiver_key.environment_value}
        await world.start_worker(log_level="DEBUG")
        await world.start_receiver(log_level="DEBUG")
        await world.slack.wait_for_connections(1)
        yield story


@pytest.fixture(scope="module")
async def answers(story: Story) -> list[str]:
    """What the receiver answered while a release went to production, and a bad one came back from there."""
    project = Project(story.world, unpublished=("v1.1.0", "v1.2.0"))
    answers = [await _released(story, project, "1.1.0", "Completed")]
    watched = {"environments": {"production": {"soak_duration": "60s"}}}
    story.world.configure(overlay(CHANGES, watched))
    return [*answers, await _released(story, project, "1.2.0", "Failed"), *await _knocked(story)]


async def _released(story: Story, project: Project, version: str, state: str) -> str:
    """A tag is pushed, and the board approves it in Slack with a comment."""
    commit = project.push_tag(f"v{version}")
    told = await project.tell_push(f"refs/tags/v{version}", before=None, after=commit, by=LOGIN)
    await card_of(story.world, version)
    approve = f"approve production {version} {COMMENT}"
    typed = await taken(story.world, await story.world.slack.command("/deploy", approve, user=BOARD))
    ended = await result(story.handle(told.json()["workflow_id"]))
    assert ended.state == state, ended.reason
    assert state == "Completed" or ended.rollback is not None
    return f"{told.text} {typed.body}"


async def _knocked(story: Story) -> list[str]:
    """People without the right word, and whoever may look."""
    url, body = story.world.receiver_url, alerts({"alertname": "Any", "namespace": "elsewhere"})
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        answers = [
            await http.post(
                "/webhooks/alertmanager",
                content=body,
                headers=alertmanager(body, secret=GIVEN["ALERTMANAGER_TOKEN"]),
            ),
            await http.post("/webhooks/github", content=body),
            await http.post("/codec/decode", content=body),
            *[await http.get(path) for path in ("/readyz", "/metrics", "/healthz")],
        ]
    return [f"{answer.headers} {answer.text}" for answer in answers]


async def test_what_is_secret_stays_secret(story: Story, answers: list[str]) -> None:
    # Given everything that was stored, written, sent or shown meanwhile
    world = story.world
    shown = await story.erlmcp_deploy("status", "production", "1.1.0")
    places = {
        **{name: text async for name, text in _histories(story)},
        "the worker's log": _text_of(world.data_dir, "worker.log"),
        "the receiver's log": _text_of(world.data_dir, "receiver.log"),
        "the audit trail": _text_of(world.home, "audit.db*"),
        "the ledger": _text_of(world.home, "ledger.db*"),
        "check-outs, artefacts and logs of builds": _text_of(world.home / "builds", "**/*"),
        "Temporal's database": _text_of(world.data_dir / "temporal", "*"),
        "the receiver's answers": "\n".join(answers),
        "the command line": shown.output,
        "Slack": repr([world.slack.messages, world.slack.ephemerals, world.slack.views]),
        "the cluster": repr([write.body for write in story.proxy.writes]),
    }
    # Then there is something to be seen in each of them
    marks = ("1.1.0", "1.2.0", "working on deployments")
    assert [place for place, text in places.items() if not any(mark in text for mark in marks)] == []
    assert "signing in with ***" in places["check-outs, artefacts and logs of builds"]
    # And no secret is
    secrets = {**world.variables, "the token of KUBE_CONFIG": story.proxy.access.token}
    secrets |= {name: secrets[name].partition(":")[2] for name in (ENCRYPTION_KEYS, SIGNING_KEY)}
    found = [(name, place) for name in secrets for place, text in places.items() if secrets[name] in text]
    assert found == []
    assert len(secrets) >= 20


@pytest.mark.usefixtures("answers")
async def test_what_people_say_is_for_those_with_the_key(story: Story) -> None:
    store = story.world.data_dir / "temporal"
    approval = f"approval:{APPLICATION}:production:1.1.0:manual_approval"
    # Given that people see what they said
    ended = await story.status(story.handle(f"deployment:{APPLICATION}:production:1.1.0"))
    assert ended.approval is not None
    assert [(d.actor, d.comment) for d in ended.approval.received_approvals] == [(APPROVER, COMMENT)]
    # Then Temporal's database has the workflow, and neither words nor people
    stored = _text_of(store, "*")
    assert approval in stored
    assert [said for said in (COMMENT, APPROVER, DEVELOPER) if said in stored] == []
    # And the stock CLI reads them through the codec server only
    show = ("workflow", "show", "--detailed", "--workflow-id", approval)
    codec = ("--codec-endpoint", f"{story.world.receiver_url}/codec", "--codec-auth")
    assert COMMENT not in await story.temporal_cli(*show)
    assert COMMENT in await story.temporal_cli(*show, *codec, f"Bearer {GIVEN[CODEC_TOKEN]}")
    # While what somebody sends past it is in clear: the places above were the right ones to look at
    environment = f"environment:{APPLICATION}:production"
    await story.temporal_cli(
        "workflow", "signal", "--workflow-id", environment, "--name", "freeze",
        "--input", json.dumps({"actor": "somebody@example.com", "reason": COMMENT}),
    )  # fmt: skip
    assert COMMENT in _text_of(store, "*")


# Where to look


async def _histories(story: Story) -> AsyncIterator[tuple[str, str]]:
    """Of every workflow what the server hands out, as it is and decoded."""
    keys = EncryptionKeys.from_environment(GIVEN)
    assert keys is not None
    async for listed in story.client.list_workflows():
        handle = story.client.get_workflow_handle(listed.id, run_id=listed.run_id)
        described = json_format.MessageToDict((await handle.describe()).raw_description)
        document = [json.loads((await handle.fetch_history()).to_json()), described]
        decoded = [text for payload in _payloads(document) for text in _decoded(payload, keys)]
        assert decoded
        yield f"the history of {listed.id}", "\n".join([json.dumps(document), *decoded])


def _payloads(node: Any) -> Iterator[Payload]:
    if isinstance(node, list):
        for part in node:
            yield from _payloads(part)
    elif isinstance(node, dict):
        if isinstance(node.get("metadata"), dict) and "encoding" in node["metadata"]:
            yield json_format.ParseDict(node, Payload(), ignore_unknown_fields=True)
        else:
            yield from _payloads(list(node.values()))


def _decoded(payload: Payload, keys: EncryptionKeys) -> Iterator[str]:
    if payload.metadata["encoding"] == b"binary/encrypted":
        payload = keys.decrypt(payload)
    yield payload.data.decode(errors="replace")


def _text_of(directory: Path, pattern: str) -> str:
    """All files that match, binary ones too, each with its name."""
    files = [path for path in sorted(directory.glob(pattern)) if path.is_file()]
    assert files
    return "\n".join(f"{path} {path.read_bytes().decode(errors='replace')}" for path in files)
