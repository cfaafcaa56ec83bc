"""Alerts of Alertmanager stop what is being rolled out where they fire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from domain.configuration import ApplicationSettings, Configuration, EnvironmentSettings
from domain.deployment import DeploymentState, DeploymentStatus
from sandbox.temporal import TemporalServer
from starters.following import NoAnswerError, ask_status
from starters.receiver.alertmanager import Place, alerts_by_place, application_of_alert
from tests.starters.conftest import Eventually
from tests.starters.receiver.conftest import Receiver, Shop, receiving
from tests.starters.receiver.senders import alertmanager, alerts, branch_pushed, github
from tests.starters.world import World, workers

COMMIT = "2b3c4d5e6f708192a3b4c5d6e7f8091011121314"


@pytest.fixture
async def receiver(server: TemporalServer, own_shop: Shop) -> AsyncIterator[Receiver]:
    async with receiving(server.address, own_shop.configuration) as running:
        yield running


async def send(
    receiver: Receiver, *fired: dict[str, str], status: str = "firing"
) -> tuple[int, dict[str, str]]:
    body = alerts(*fired, status=status)
    answer = await receiver.post("alertmanager", body, alertmanager(body))
    return answer.status_code, answer.json()


async def watched(
    receiver: Receiver, client: Client, world: World, shop: Shop, eventually: Eventually
) -> str:
    """A deployment to dev that is watched, and stays so; its workflow id."""
    body = branch_pushed(shop.project, "develop", commit=COMMIT)
    version = f"0.0.0-develop.g{COMMIT[:7]}"
    world.monitoring.held.add(f"{shop.application}: monitoring of {version}")
    answer = await receiver.post("github", body, github(body))
    workflow_id = shop.deployment("dev", version)
    assert answer.json()["workflow_id"] == workflow_id, answer.text

    async def monitored() -> bool:
        try:
            status = await ask_status(client, workflow_id, DeploymentStatus)
        except NoAnswerError:
            return False
        assert not status.state.final, status.reason
        return status.state is DeploymentState.MONITORING

    await eventually(monitored)
    return workflow_id


async def test_an_alert_rolls_back_what_is_watched(
    receiver: Receiver, client: Client, own_shop: Shop, tmp_path: Path, eventually: Eventually
) -> None:
    labels = {"alertname": "HighErrorRate", "severity": "critical"}
    async with workers(client, tmp_path) as world:
        # given a deployment that is being watched
        workflow_id = await watched(receiver, client, world, own_shop, eventually)

        # when an alert fires in its namespace
        status, answer = await send(receiver, {**labels, "namespace": f"{own_shop.application}-dev"})

        # then it is stopped
        assert status == 202
        assert answer["outcome"] == "signalled"
        assert answer["workflow_id"] == workflow_id
        assert f"HighErrorRate (critical): told to {workflow_id}" in answer["reason"]
        final = DeploymentStatus.model_validate(await client.get_workflow_handle(workflow_id).result())
        assert final.state is DeploymentState.FAILED
        assert final.reason == "alert HighErrorRate (critical)"

        # and when it is sent again, nobody is left to be told
        status, answer = await send(receiver, {**labels, "app": own_shop.application, "env": "dev"})
        assert status == 200
        assert f"no deployment of {own_shop.application} in dev runs" in answer["reason"]


async def test_an_alert_finds_what_runs_while_no_worker_answers(
    receiver: Receiver, client: Client, own_shop: Shop, tmp_path: Path, eventually: Eventually
) -> None:
    # given a deployment whose workers are away
    async with workers(client, tmp_path) as world:
        workflow_id = await watched(receiver, client, world, own_shop, eventually)
    place = {"application": own_shop.application, "environment": "dev"}

    # when an alert fires
    status, answer = await send(receiver, {"alertname": "Down", "severity": "page", **place})

    # then it is kept for them
    assert status == 202
    assert answer["workflow_id"] == workflow_id
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    signalled = [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]
    assert "alert" in signalled
    await client.get_workflow_handle(workflow_id).terminate()


async def test_an_alert_where_nothing_was_ever_deployed_is_told_to_nobody(
    receiver: Receiver, own_shop: Shop
) -> None:
    status, answer = await send(
        receiver, {"alertname": "Down", "namespace": f"{own_shop.application}-staging"}
    )

    assert status == 200
    assert answer["outcome"] == "ignored"
    assert answer["reason"] == f"Down (no severity): no deployment of {own_shop.application} in staging runs"


async def test_an_alert_that_is_over_stops_nothing(receiver: Receiver, own_shop: Shop) -> None:
    status, answer = await send(
        receiver, {"alertname": "Down", "namespace": f"{own_shop.application}-dev"}, status="resolved"
    )

    assert status == 200
    assert answer["reason"] == "nothing fires"


async def test_an_alert_about_something_else_says_why_nobody_was_told(receiver: Receiver) -> None:
    status, answer = await send(receiver, {"alertname": "DiskFull", "namespace": "kube-system"})

    assert status == 200
    assert answer["reason"] == "DiskFull: nothing that is configured runs in its namespace kube-system"


# Which application and environment an alert is about


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    """Two applications, each in a namespace of its own except in qa."""
    return Configuration(
        applications={
            name: ApplicationSettings(
                repository=f"https://git.example.com/octo/{name}.git",
                image=name,
                namespace="{application}-{environment}",
                namespaces={"qa": "testing"},
            )
            for name in ("shop", "cart")
        },
        environments={name: EnvironmentSettings() for name in ("dev", "qa", "staging")},
    )


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        ({"application": "shop", "environment": "staging"}, Place("shop", "staging")),
        ({"app": "cart", "env": "dev", "namespace": "shop-dev"}, Place("cart", "dev")),
        # The exporter's own service label says nothing.
        ({"service": "kube-state-metrics", "namespace": "shop-dev"}, Place("shop", "dev")),
        ({"service": "shop", "namespace": "testing"}, Place("shop", "qa")),
        ({"env": "staging", "namespace": "cart-staging"}, Place("cart", "staging")),
        ({"namespace": "shop-staging"}, Place("shop", "staging")),
    ],
)
def test_labels_name_the_place(configuration: Configuration, labels: dict[str, str], place: Place) -> None:
    assert application_of_alert(labels, configuration) == place


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({}, "none of its labels says which application"),
        ({"app": "shop"}, "none of its labels says which environment"),
        ({"namespace": "testing"}, "several run in its namespace testing: shop (qa), cart (qa)"),
        ({"namespace": "shop-moon"}, "nothing that is configured runs in its namespace shop-moon"),
        ({"app": "shop", "namespace": "cart-dev"}, "nothing that is configured"),
        ({"namespace": "x\n\x1b[2J"}, "namespace x \ufffd[2J"),
    ],
)
def test_labels_that_name_no_place_say_why(
    configuration: Configuration, labels: dict[str, str], reason: str
) -> None:
    found = application_of_alert(labels, configuration)

    assert isinstance(found, str)
    assert reason in found


def test_a_storm_of_alerts_becomes_one_signal_of_each_severity(configuration: Configuration) -> None:
    fired = [
        {"alertname": f"Alert{number}", "severity": severity, "namespace": "shop-dev"}
        for number in range(100)
        for severity in ("critical", "warning")
    ]

    found, unplaced = alerts_by_place(fired * 3, configuration)

    assert unplaced == []
    (told,) = found.values()
    assert [alert.severity for alert in told] == ["critical", "warning"]
    assert told[0].name == "Alert0, Alert1, Alert2, Alert3, Alert4 and 95 more"
