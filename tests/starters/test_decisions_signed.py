"""Decisions from the command line are signed, if the person has a key."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

from domain.approval import DecisionMessage, DecisionRequest, Verb
from domain.identity import SIGNING_KEY, Identification, Signer
from domain.signing import SigningKey, identify, query_of, subject_of
from tests.starters.conftest import Eventually
from tests.starters.world import ADA, BOB, EVE, CommandLine, World
from workflows.conversion import data_converter

KEY = SigningKey.generate("ada-laptop")
SIGNERS = {"ada-laptop": Signer(public_key=KEY.public_key, speaks_for=(ADA,))}
SIGNED = {SIGNING_KEY: KEY.environment_value}


@pytest.fixture(autouse=True)
def directory(world: World) -> None:
    """The workers know Ada's key; those tests that need another directory say so."""
    world.identities.signers = dict(SIGNERS)


Opened = Callable[..., Awaitable[None]]


@pytest.fixture
def opened(cli: CommandLine, world: World, eventually: Eventually) -> Opened:
    """Carl's deployment of 1.0.0 to production waits for two of the change board."""

    async def open_gate(**production: Any) -> None:
        world.plans.changes[cli.application] = {"environments": {"production": production}}
        await cli("deploy", "production", "1.0.0", "--actor", "carl@example.com")

        async def pending() -> bool:
            answer = await cli("status", "production", "1.0.0", "--json")
            return bool(json.loads(answer.stdout).get("approval"))

        await eventually(pending)

    return open_gate


@pytest.fixture
async def waiting(cli: CommandLine, opened: Opened) -> CommandLine:
    await opened()
    return cli


async def updates(client: Client, workflow_id: str) -> list[DecisionRequest]:
    """The decisions that were sent to a gate, as they arrived."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    found = []
    for event in history.events:
        attributes = event.workflow_execution_update_accepted_event_attributes
        payloads = attributes.accepted_request.input.args.payloads
        found += await data_converter.decode(payloads, [DecisionRequest]) if payloads else []
    return found


async def signals(handle: WorkflowHandle[object, object], name: str) -> list[DecisionMessage]:
    history = await handle.fetch_history()
    found = []
    for event in history.events:
        attributes = event.workflow_execution_signaled_event_attributes
        if attributes.signal_name == name:
            found += await data_converter.decode(attributes.input.payloads, [DecisionMessage])
    return found


async def verified(
    client: Client, deployment_id: str, verb: Verb, message: DecisionMessage
) -> Identification:
    begun = (await client.get_workflow_handle(deployment_id).describe()).start_time
    subject = subject_of(client.namespace, deployment_id)
    return identify(query_of(subject, verb, message, begun), SIGNERS, begun + timedelta(hours=1))


async def test_a_decision_at_an_open_gate_is_signed(waiting: CommandLine, client: Client) -> None:
    gate = waiting.id_of("approval", "production", "1.0.0", "manual_approval")
    deployment = waiting.id_of("deployment", "production", "1.0.0")

    # when Ada decides with her key, by the names of the deployment and by the gate's id
    first = await waiting("comment", "production", "1.0.0", "-m", "é", **SIGNED)
    second = await waiting("reject", "--id", gate, "-m", "no", "--json", **SIGNED)

    # then what arrives verifies for this deployment
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert json.loads(second.stdout)["outcome"] == "counted"
    comment, reject = await updates(client, gate)
    assert (comment.source, comment.actor, reject.gate) == ("cli", ADA, "manual_approval")
    assert await verified(client, deployment, Verb.COMMENT, comment) == Identification(
        verified=True, signer="ada-laptop"
    )
    assert (await verified(client, deployment, Verb.REJECT, reject)).verified
    assert not (await verified(client, deployment, Verb.APPROVE, reject)).verified


async def test_a_decision_without_a_key_is_not_signed(waiting: CommandLine, client: Client) -> None:
    await waiting("approve", "production", "1.0.0", "--actor", BOB, **{SIGNING_KEY: None})

    [approve] = await updates(client, waiting.id_of("approval", "production", "1.0.0", "manual_approval"))
    assert (approve.proof, approve.at) == (None, None)


async def test_an_early_decision_is_signed_for_the_deployment(
    cli: CommandLine, world: World, client: Client
) -> None:
    # given a version that waits for its turn, because another one is being watched
    held = f"{cli.application}: monitoring of 1.0.0"
    world.monitoring.held.add(held)
    await cli("deploy", "dev", "1.0.0", "--actor", EVE)
    await cli("deploy", "dev", "1.1.0", "--actor", EVE)
    deployment = cli.id_of("deployment", "dev", "1.1.0")

    # when Ada approves before there is a gate
    early = await cli("approve", "dev", "1.1.0", "--break-glass", "-m", "fire", "--json", **SIGNED)

    # then her signature is kept with it
    assert json.loads(early.stdout)["outcome"] == "kept"
    [message] = await signals(client.get_workflow_handle(deployment), "approve")
    assert message.emergency
    assert (await verified(client, deployment, Verb.APPROVE, message)).verified
    world.monitoring.held.discard(held)
    await cli("watch", "dev", "1.1.0")


async def test_breaking_the_glass_needs_a_reason(cli: CommandLine) -> None:
    answer = await cli("approve", "production", "1.0.0", "--break-glass", "-m", " ")

    assert answer.exit_code == 2
    assert "breaking the glass needs a reason" in answer.stderr


async def test_an_emergency_approval_is_told_where_it_is_not_provided_for(waiting: CommandLine) -> None:
    answer = await waiting(
        "approve", "production", "1.0.0", "--break-glass", "-m", "the site is down", **SIGNED
    )

    assert answer.exit_code == 1
    assert "refused: " in answer.stderr
    assert "emergency" in answer.stderr


async def test_an_emergency_approval_counts_where_it_is_provided_for(
    cli: CommandLine, opened: Opened
) -> None:
    # given an environment whose glass two people of the board may break
    await opened(approvals={"emergency_roles": ["change_board"]})

    # when they do
    for person, reason in ((ADA, "fire"), (BOB, "yes")):
        key = SIGNED if person == ADA else {SIGNING_KEY: None}
        answer = await cli(
            "approve", "production", "1.0.0", "--break-glass", "-m", reason, "--actor", person, **key
        )
        assert answer.exit_code == 0

    # then it goes on, and how is kept
    final = json.loads((await cli("watch", "production", "1.0.0", "--json")).stdout)
    assert final["state"] == "Completed"
    votes = [d for d in final["approval"]["received_approvals"] if d["emergency"]]
    assert [(d["actor"], d["verified"], d["comment"]) for d in votes] == [
        (ADA, True, "fire"),
        (BOB, False, "yes"),
    ]


async def test_a_key_that_cannot_be_used_stops_the_command_and_is_not_shown(waiting: CommandLine) -> None:
    answer = await waiting("approve", "production", "1.0.0", **{SIGNING_KEY: "ada:c2VjcmV0"})

    assert answer.exit_code == 2
    assert "ERLMCP_DEPLOY_SIGNING_KEY is not NAME:KEY" in answer.stderr
    assert "c2VjcmV0" not in answer.output
    status = json.loads((await waiting("status", "production", "1.0.0", "--json")).stdout)
    assert status["approval"]["received_approvals"] == []


async def test_a_signature_that_does_not_verify_is_refused_with_the_reason(
    waiting: CommandLine, world: World
) -> None:
    # given a directory that does not name Ada's key any more
    world.identities.signers.clear()

    answer = await waiting("approve", "production", "1.0.0", **SIGNED)

    assert answer.exit_code == 1
    assert "refused: " in answer.stderr
    assert "the signer 'ada-laptop' is not known" in answer.stderr
    # and the same decision without a signature counts here, as one that nobody has verified
    again = await waiting("approve", "production", "1.0.0", "--json", **{SIGNING_KEY: None})
    [approval] = json.loads(again.stdout)["approval"]["received_approvals"]
    assert (approval["actor"], approval["verified"]) == (ADA, False)


async def test_where_identities_must_be_verified_only_signed_decisions_count(
    cli: CommandLine, opened: Opened
) -> None:
    await opened(require_verified_identity=True)

    signed = await cli("approve", "production", "1.0.0", "--json", **SIGNED)
    unsigned = await cli("approve", "production", "1.0.0", "--actor", BOB, **{SIGNING_KEY: None})
    in_his_name = await cli("approve", "production", "1.0.0", "--actor", BOB, **SIGNED)

    [approval] = json.loads(signed.stdout)["approval"]["received_approvals"]
    assert (approval["actor"], approval["verified"]) == (ADA, True)
    assert (unsigned.exit_code, in_his_name.exit_code) == (1, 1)
    assert "signed" in unsigned.stderr
    assert "the signer 'ada-laptop' does not speak for bob@example.com" in in_his_name.stderr
