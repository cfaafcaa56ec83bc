"""The receiver lacks a key that the workers have: what needs none goes on, and the rest says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from domain.environment import EnvironmentRecord
from sandbox.temporal import TemporalServer
from starters.following import NoAnswerError, ask_status
from tests.starters.conftest import Eventually
from tests.starters.receiver.conftest import Shop, receiving
from tests.starters.receiver.senders import alertmanager, alerts, github, tag_pushed
from tests.starters.world import ADA, workers
from workflows.confidentiality import ENCRYPTION_KEYS, generate_key
from workflows.conversion import data_converter_for


async def test_an_alert_is_told_although_nothing_can_be_decrypted(
    server: TemporalServer, own_shop: Shop, tmp_path: Path, eventually: Eventually
) -> None:
    # given workers who encrypt, with a key that the receiver does not have, and a deployment of theirs
    keys = {ENCRYPTION_KEYS: f"new:{generate_key()}"}
    theirs = await Client.connect(server.address, data_converter=data_converter_for(keys))
    application = own_shop.application
    async with workers(theirs, tmp_path):
        deployment = await theirs.start_workflow(
            "DeploymentWorkflow",
            {"application": application, "environment": "production", "version": "1.0.0", "actor": ADA},
            id=own_shop.deployment("production", "1.0.0"),
            task_queue="deployments",
        )

        async def has_the_turn() -> bool:
            try:
                place = f"environment:{application}:production"
                return (await ask_status(theirs, place, EnvironmentRecord)).holder is not None
            except (NoAnswerError, RPCError):
                return False

        await eventually(has_the_turn)
        async with receiving(server.address, own_shop.configuration) as receiver:
            assert (await receiver.http.get("/readyz")).json()["warnings"] == []

            # when an alert fires
            labels = {"alertname": "Down", "severity": "critical"}
            body = alerts({**labels, "application": application, "environment": "production"})
            while True:  # the list of what runs is a moment behind
                answer = await receiver.post("alertmanager", body, alertmanager(body))
                if answer.status_code != 200:
                    break
                await asyncio.sleep(0.05)

            # then it is told all the same, and those who run the receiver learn what is wrong
            assert answer.status_code == 202, answer.text
            assert answer.json()["workflow_id"] == deployment.id
            ready = await receiver.http.get("/readyz")
            assert ready.status_code == 200
            (warning,) = ready.json()["warnings"]
            assert ENCRYPTION_KEYS in warning


async def test_what_must_be_decrypted_is_to_be_sent_again(
    server: TemporalServer, own_shop: Shop, version: str
) -> None:
    # given a run that has ended, whose memo only the workers can read
    keys = {ENCRYPTION_KEYS: f"new:{generate_key()}"}
    theirs = await Client.connect(server.address, data_converter=data_converter_for(keys))
    started = await theirs.start_workflow(
        "DeploymentWorkflow",
        id=own_shop.deployment("production", version),
        task_queue="nobody-works-here",
        memo={"delivery": "github:an-earlier-one"},
    )
    await started.terminate()
    body = tag_pushed(own_shop.project, f"v{version}")

    async with receiving(server.address, own_shop.configuration) as receiver:
        answer = await receiver.post("github", body, github(body))

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert ENCRYPTION_KEYS in answer.json()["reason"]
    assert "an-earlier-one" not in answer.text
