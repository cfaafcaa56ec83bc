"""``/deploy`` in Slack."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from domain.approval import DecisionMessage
from domain.deployment import Command, DeploymentState, DeploymentStatus
from domain.rollback import RollbackStatus
from sandbox.processes import free_port
from sandbox.slack import SlackUser
from starters.finding import describe
from tests.starters.conftest import Eventually
from tests.starters.slack.conftest import ANNA, BERT, HIDDEN, NINA, Office, Open, OpenDesk, signals_of
from tests.starters.world import ADA, BOB, World

STATE = SearchAttributeKey.for_keyword("DeploymentState")


async def _say(office: Office, text: str, user: SlackUser = ANNA) -> str:
    """Type a command; what the person is answered at once."""
    office.slack.patience = 30  # a busy machine proves nothing about the limit
    delivery = await office.slack.command("/deploy", text, user=user)
    assert delivery.acknowledged
    shown = office.slack.ephemerals[-1]
    assert (shown.user, shown.via) == (user.id, "answer")
    return shown.words


async def _waiting(
    office: Office, version: str = "3.0.0", state: str = "Testing", environment: str = "production"
) -> WorkflowHandle[Any, Any]:
    """A deployment for which no worker answers."""
    return await office.client.start_workflow(
        "Waiting",
        id=f"deployment:{office.application}:{environment}:{version}",
        task_queue="nobody-works-here",
        search_attributes=TypedSearchAttributes([SearchAttributePair(STATE, state)]),
    )


async def test_help_needs_nobody_and_names_every_word(open_office: Open) -> None:
    office: Office = await open_office()
    for text in ("", "help", "HELP me"):
        said = await _say(office, text, HIDDEN)
        assert all(f"/deploy {verb}" in said for verb in ("status", "pending", "approve", "rollback"))


MISTAKES = (
    ("aprove production 3.0.0", "Did you mean `/deploy approve ENV VERSION [comment…]`?"),
    ("<" * 5000, "There is no `&lt;&lt;"),
    ("approve production " + "&" * 5000, "Not understood: version"),
    ("<!channel>", "There is no `&lt;!channel&gt;`."),
    ("approve", "Missing: the environment"),
    ("approve production", "Missing: the version"),
    ("reject production 3.0.0", "Missing: the reason"),
    ("abort production 3.0.0", "Missing: the reason"),
    ("status prodction", "Did you mean `production`?"),
    ("status bakery/production", "There is no application `bakery`"),
    ("approve production latest", "is no semantic version"),
    ("approve production v3.0.0", "write 3.0.0"),
)


async def test_what_cannot_be_understood_is_answered_with_what_can(open_office: Open) -> None:
    office: Office = await open_office()

    for typed, answered in MISTAKES:
        assert answered in await _say(office, typed)

    assert {a.outcome for a in office.answers} == {"refused"}


async def test_with_several_applications_the_environment_names_one(open_office: Open) -> None:
    office: Office = await open_office()
    bakery = office.settings.applications[office.application].model_dump(mode="json", exclude_unset=True)
    office.configure(applications={"bakery": bakery})

    assert "`bakery/production`" in await _say(office, "status production")
    assert "Nothing was ever deployed to `production` of `bakery`" in await _say(
        office, "status bakery/production"
    )


@pytest.mark.parametrize("verb", ["approve", "reject"])
async def test_decisions_go_to_the_open_gate(office: Office, verb: str, eventually: Eventually) -> None:
    approval = await office.approval()
    await eventually(lambda: _listed(office, approval.id))

    said = await _say(office, f"{verb} production 3.0.0 looks <good> & well")

    assert "went to its open gate" in said
    [(signal, message)] = await approval.decisions()
    assert (signal, message.actor, message.comment) == (verb, ADA, "looks <good> & well")
    assert (message.gate, message.source) == ("manual_approval", "slack")
    assert message.reply_to == f"slack:{office.slack.channel_id('deployments')}:{ANNA.id}"


async def _listed(office: Office, workflow_id: str) -> bool:
    found = await office.client.count_workflows(f"WorkflowId = '{workflow_id}'")
    return found.count == 1


async def test_before_the_gate_opens_the_deployment_keeps_the_decision(
    open_office: Open, open_desk: OpenDesk
) -> None:
    office: Office = await open_office()
    deployment = await _waiting(office)

    said = await _say(office, "approve production 3.0.0")
    typed = await office.slack.command("/deploy", "approve production 3.0.0", user=BERT)
    office.desk = await open_desk(office)
    await office.slack.redeliver(typed)

    assert "counts when the gate opens" in said
    (verb, early), (_, first), (_, again) = await signals_of(deployment, DecisionMessage)
    assert (verb, early.actor, early.gate) == ("approve", ADA, None)
    assert (first.actor, first.id) == (BOB, again.id)
    assert first.id != early.id


async def test_without_a_deployment_there_is_nothing_to_decide(open_office: Open) -> None:
    office: Office = await open_office()
    assert "There is no deployment" in await _say(office, "approve production 9.9.9")
    assert "does not exist" in await _say(office, "abort production 9.9.9 why not")


async def test_strangers_order_nothing(open_office: Open) -> None:
    office: Office = await open_office()
    deployment = await _waiting(office)

    for text in ("approve production 3.0.0", "abort production 3.0.0 x", "status", "rollback production"):
        assert "directory.accounts" in await _say(office, text, HIDDEN)

    assert await signals_of(deployment, DecisionMessage) == []


async def test_only_operators_abort(open_office: Open) -> None:
    office: Office = await open_office()
    deployment = await _waiting(office)

    # given no operators, everybody with a role may
    refused = await _say(office, "abort production 3.0.0 it burns", NINA)
    assert "nina@example.com may not abort" in refused
    assert "`tech_lead`: bob@example.com" in refused
    await _say(office, "abort production 3.0.0 it burns", ANNA)
    # given operators, only they may
    office.configure(environments={"production": {"operators": ["tech_lead"]}})
    assert "may not abort" in await _say(office, "abort production 3.0.0 it <burns>", ANNA)
    assert "may not roll back" in await _say(office, "rollback production", ANNA)
    said = await _say(office, "abort production 3.0.0 it <burns>", BERT)

    assert "it &lt;burns&gt;" in said
    orders = await signals_of(deployment, Command)
    assert [(name, order.actor) for name, order in orders] == [("abort", ADA), ("abort", BOB)]


async def test_status_says_what_the_server_knows_when_no_worker_answers(open_office: Open) -> None:
    office: Office = await open_office()
    await _waiting(office, state="Monitoring")

    said = await _say(office, "status production 3.0.0")

    assert "last known state *Monitoring*" in said
    assert "no worker answers" in said


async def test_when_temporal_is_away_the_person_is_shown_that_it_failed_and_why(open_office: Open) -> None:
    office: Office = await open_office("http", address=f"127.0.0.1:{free_port()}")
    office.slack.patience = 30

    typed = await office.slack.command("/deploy", "abort production 3.0.0 now", user=ANNA)

    assert (typed.status, typed.acknowledged) == (503, False)
    assert "did not work" in (await office.slack.wait_for_ephemeral()).words


async def test_a_release_from_the_first_question_to_its_roll_back(
    open_office: Open, open_desk: OpenDesk, world: World, eventually: Eventually
) -> None:
    office: Office = await open_office()

    async def start(version: str) -> WorkflowHandle[Any, DeploymentStatus]:
        body = {"application": office.application, "environment": "production", "version": version}
        handle: WorkflowHandle[Any, DeploymentStatus] = await office.client.start_workflow(
            "DeploymentWorkflow",
            {**body, "actor": "dev@example.com"},
            id=f"deployment:{office.application}:production:{version}",
            task_queue="deployments",
            result_type=DeploymentStatus,
        )
        return handle

    async def waits_for_approval() -> bool:
        return f"`{office.application}` `1.0.0`" in await _say(office, "pending")

    # given a release that waits for people
    first = await start("1.0.0")
    await eventually(waits_for_approval)
    waiting = await _say(office, "status production 1.0.0")
    assert "*Approval*" in waiting
    assert "0 of 2 given" in waiting
    assert "http://temporal.example.com" in waiting
    # when they approve it, each in a command
    await _say(office, "approve production 1.0.0", ANNA)
    await _say(office, "approve production 1.0.0 ship it", BERT)
    assert (await first.result()).state == "Completed"
    assert "ended already: *Completed*" in await _say(office, "approve production 1.0.0", BERT)
    # and the next one too
    second = await start("2.0.0")
    for person in (ANNA, BERT):
        await _say(office, "approve production 2.0.0", person)
    await second.result()

    assert "`2.0.0` is live" in await _say(office, "status production")
    assert "`2.0.0` is live" in await _say(office, "status")
    # when an operator rolls it back
    ordered = await office.slack.command("/deploy", "rollback production customers complain", user=BERT)
    rollback_id = f"rollback:{office.application}:production:2.0.0"
    assert f"`{rollback_id}` started" in ordered.body["text"]

    rollback = office.client.get_workflow_handle(rollback_id, result_type=RollbackStatus)
    result = await rollback.result()
    assert (result.succeeded, result.actor, result.reason) == (True, BOB, "customers complain")
    assert "`1.0.0` is live" in await _say(office, "status production")
    assert office.application not in await _say(office, "pending")
    # and when the order is delivered again, to this receiver or another one, nothing more is rolled back
    assert (await office.slack.redeliver(ordered)).body == ordered.body
    office.desk = await open_desk(office)
    again = await office.slack.redeliver(ordered)
    assert f"Done already: this very command went to `{rollback_id}`" in again.body["text"]
    assert await describe(office.client, f"rollback:{office.application}:production:1.0.0") is None
    assert "`1.0.0` is live" in await _say(office, "status production")


async def test_an_order_to_a_deployment_that_is_delivered_again_rolls_nothing_else_back(
    open_office: Open, open_desk: OpenDesk, world: World, eventually: Eventually
) -> None:
    office: Office = await open_office()
    office.slack.patience = 30

    async def start(version: str) -> WorkflowHandle[Any, DeploymentStatus]:
        body = {"application": office.application, "environment": "dev", "version": version}
        handle: WorkflowHandle[Any, DeploymentStatus] = await office.client.start_workflow(
            "DeploymentWorkflow",
            {**body, "actor": "dev@example.com"},
            id=f"deployment:{office.application}:dev:{version}",
            task_queue="deployments",
            result_type=DeploymentStatus,
        )
        return handle

    # given two good versions, and a third that is being watched
    for version in ("1.0.0", "1.1.0"):
        await (await start(version)).result()
    world.monitoring.held.add(f"{office.application}: monitoring of 1.2.0")
    watched = await start("1.2.0")

    async def monitored() -> bool:
        status = await watched.query("status", result_type=DeploymentStatus)
        return status.state is DeploymentState.MONITORING

    await eventually(monitored)
    # when an operator has it rolled back
    ordered = await office.slack.command("/deploy", "rollback dev errors", user=BERT)
    assert "stops and rolls back" in ordered.body["text"]
    undone = (await watched.result()).rollback
    assert undone is not None
    assert undone.succeeded
    # then the same order at another receiver does nothing
    office.desk = await open_desk(office)
    again = await office.slack.redeliver(ordered)
    assert f"Done already: this very command went to `{watched.id}`" in again.body["text"]
    assert "`1.1.0` is live" in await _say(office, "status dev")
    # and a new one is a new one
    anew = await office.slack.command("/deploy", "rollback dev errors", user=BERT)
    assert f"`rollback:{office.application}:dev:1.1.0` started" in anew.body["text"]
