"""Buttons and modals of an approval become decisions in Temporal."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from domain.approval import Verb
from domain.identity import SIGNING_KEY, Signer
from domain.signing import SigningKey, identify, query_of, subject_of
from sandbox.asgi import serve
from sandbox.processes import free_port
from sandbox.slack import TEAM
from sandbox.slack.workspace import BOT, BOT_USER
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.slack import SlackEndpoint
from starters.receiver.webhook import Received
from tests.starters.slack.conftest import ANNA, BERT, GUEST, HIDDEN, Approval, Office, Open, OpenDesk
from tests.starters.world import ADA, BOB, DEPLOYMENT_YAML


async def test_approve_acts_at_once(office: Office) -> None:
    approval = await office.approval()
    card = await office.card(approval)

    click = await office.slack.click(card, "approval_approve", user=ANNA)

    assert click.acknowledged
    [(verb, message)] = await approval.decisions()
    assert (verb, message.actor, message.source, message.gate) == ("approve", ADA, "slack", "manual_approval")
    assert message.reply_to == f"slack:{office.slack.channel_id('approvals')}:{ANNA.id}"
    assert not message.emergency
    # and the person is told what they approved, whatever the message said
    told = await office.slack.wait_for_ephemeral()
    assert told.user == ANNA.id
    assert f"You approved `{office.application}` `3.0.0` for `production`" in told.words


@pytest.mark.parametrize("button", ["reject", "comment"])
async def test_reject_and_comment_ask_first(office: Office, button: str) -> None:
    approval = await office.approval()
    card = await office.card(approval)

    # when the button is pressed, nothing is decided yet
    assert (await office.slack.click(card, f"approval_{button}", user=ANNA)).acknowledged
    view = await office.slack.wait_for_view()
    assert view.callback_id == f"approval_{button}"
    assert json.loads(view.definition["private_metadata"]) == {
        "approval_id": approval.id,
        "gate": "manual_approval",
        "channel": office.slack.channel_id("approvals"),
    }
    assert await approval.decisions() == []

    # when it is sent without a word, Slack does not let it pass; blanks are refused by us
    with pytest.raises(ValueError, match="comment is required"):
        await office.slack.submit(view, {})
    await office.slack.submit(view, {"comment": "   \n"})
    assert "comment" in office.slack.views[0].errors
    assert await approval.decisions() == []

    # when it is filled in, it is sent and the modal closes
    assert (await office.slack.submit(view, {"comment": "the *disk* is <full>"})).acknowledged
    [(verb, message)] = await approval.decisions()
    assert (verb, message.actor, message.comment) == (button, ADA, "the *disk* is <full>")
    assert message.reply_to == f"slack:{office.slack.channel_id('approvals')}:{ANNA.id}"
    assert not office.slack.views[0].open


async def test_breaking_the_glass_warns_and_is_marked_as_an_emergency(open_office: Open) -> None:
    office: Office = await open_office()
    approval = await office.approval()
    card = await office.card(approval)

    await office.slack.click(card, "approval_break_glass", user=BERT)
    view = await office.slack.wait_for_view()
    assert "around the rules" in view.words
    await office.slack.submit(view, {"comment": "customers cannot log in"})

    [(verb, message)] = await approval.decisions()
    assert (verb, message.actor, message.emergency) == ("approve", BOB, True)
    assert message.comment == "customers cannot log in"


async def test_the_same_click_sent_twice_is_one_decision(office: Office, open_desk: OpenDesk) -> None:
    approval = await office.approval()
    card = await office.card(approval)

    click = await office.slack.click(card, "approval_approve", user=ANNA)
    assert (await office.slack.redeliver(click)).acknowledged
    other = await office.slack.click(card, "approval_approve", user=ANNA)
    assert other.acknowledged

    # this receiver remembers it, and another one makes the same decision of it
    first, second = [message.id for _, message in await approval.decisions()]
    desk = await open_desk(office)
    assert (await desk.take("interactive", click.payload)).status == 200
    assert [message.id for _, message in await approval.decisions()] == [first, second, first]
    assert first != second


async def test_the_same_modal_sent_twice_is_one_decision_and_a_click_opens_one_modal(
    office: Office, open_desk: OpenDesk
) -> None:
    approval = await office.approval()
    card = await office.card(approval)

    click = await office.slack.click(card, "approval_reject", user=ANNA)
    assert (await office.slack.redeliver(click)).acknowledged
    view = await office.slack.wait_for_view()
    sent = await office.slack.submit(view, {"comment": "no"})
    await office.slack.redeliver(sent)
    desk = await open_desk(office)
    for payload in (click.payload, sent.payload):
        assert (await desk.take("interactive", payload)).status == 200

    assert len(office.slack.views) == 1
    first, again = [message.id for _, message in await approval.decisions()]
    assert first == again
    assert office.slack.ephemerals == []


async def test_a_closed_approval_is_told_to_the_person_alone(office: Office) -> None:
    approval = await office.approval()
    card = await office.card(approval)
    await office.slack.click(card, "approval_reject", user=BERT)
    view = await office.slack.wait_for_view()
    await approval.handle.terminate()

    clicked = await office.slack.click(card, "approval_approve", user=ANNA)
    submitted = await office.slack.submit(view, {"comment": "no"})

    told = await office.slack.wait_for_ephemeral()
    assert clicked.acknowledged
    assert submitted.acknowledged
    assert (told.user, told.channel) == (ANNA.id, "approvals")
    assert "decided already" in told.words
    assert "decided already" in office.slack.views[0].words
    assert await approval.decisions() == []


async def test_people_without_a_name_here_decide_nothing(open_office: Open) -> None:
    office: Office = await open_office()
    approval = await office.approval()
    card = await office.card(approval)

    for stranger in (HIDDEN, GUEST):
        for button in ("approve", "reject"):
            click = await office.slack.click(card, f"approval_{button}", user=stranger)
            assert click.acknowledged

    told = await office.slack.wait_for_ephemeral(lambda e: e.user == HIDDEN.id)
    assert "directory.accounts" in told.words
    assert HIDDEN.id in told.words
    await office.slack.wait_for_ephemeral(lambda e: e.user == GUEST.id)
    assert office.slack.views == []
    assert await approval.decisions() == []


async def test_decisions_are_signed_with_the_receivers_key(open_office: Open) -> None:
    key = SigningKey.generate("receiver")
    office = await open_office("http", **{SIGNING_KEY: key.environment_value})
    approval = await office.approval()
    card = await office.card(approval)

    await office.slack.click(card, "approval_approve", user=ANNA)

    [(_, message)] = await approval.decisions()
    subject = subject_of("default", f"deployment:{office.application}:production:3.0.0")
    signers = {"receiver": Signer(public_key=key.public_key, speaks_for=("*",))}
    assert identify(query_of(subject, Verb.APPROVE, message, None), signers).verified
    forged = message.model_copy(update={"actor": BOB})
    assert not identify(query_of(subject, Verb.APPROVE, forged, None), signers).verified


@pytest.mark.parametrize("way", ["http", "socket"])
async def test_what_temporal_has_not_taken_is_not_acknowledged(open_office: Open, way: str) -> None:
    # given a Temporal server that is away
    office = await open_office(way, address=f"127.0.0.1:{free_port()}")
    approval = await office.approval()
    card = await office.card(approval)
    office.slack.patience = 30 if way == "http" else 1

    # when somebody decides, they are shown that it failed, and told why
    click = await office.slack.click(card, "approval_approve", user=ANNA)
    told = await office.slack.wait_for_ephemeral()

    assert not click.acknowledged
    assert "did not work" in told.words
    assert [a.status for a in office.answers] == ([503] if way == "http" else [])
    assert office.slack.acknowledgements == []
    assert await approval.decisions() == []


async def test_a_modal_that_temporal_did_not_take_stays_open(open_office: Open) -> None:
    away = await open_office("http", address=f"127.0.0.1:{free_port()}")
    approval = await away.approval()
    card = await away.card(approval)
    away.slack.patience = 30
    await away.slack.click(card, "approval_comment", user=ANNA)
    view = await away.slack.wait_for_view()

    failed = await away.slack.submit(view, {"comment": "half past three"})

    assert (failed.status, failed.acknowledged) == (503, False)
    assert away.slack.views[0].open


async def test_an_absent_slack_decides_nothing_and_the_next_click_does(office: Office) -> None:
    approval = await office.approval()
    card = await office.card(approval)
    office.slack.patience = 1

    office.slack.fail_next(status=500, method="users.info")
    failed = await office.slack.click(card, "approval_approve", user=ANNA)
    assert not failed.acknowledged
    assert "did not work" in (await office.slack.wait_for_ephemeral()).words
    assert await approval.decisions() == []

    office.slack.patience = 30
    assert (await office.slack.click(card, "approval_approve", user=ANNA)).acknowledged
    assert len(await approval.decisions()) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [("expired_trigger_id", "press the button again"), ("invalid_arguments", "invalid_arguments")],
)
async def test_a_window_that_slack_does_not_open_is_explained(
    open_office: Open, error: str, words: str
) -> None:
    office = await open_office("http")
    card = await office.card(await office.approval())
    office.slack.fail_next(error=error, method="views.open")

    await office.slack.click(card, "approval_reject", user=ANNA)

    assert words in (await office.slack.wait_for_ephemeral()).words


async def test_a_card_that_our_bot_did_not_post_decides_nothing(office: Office) -> None:
    # given a card that an incoming webhook of the app posted, with the buttons of another approval
    approval = await office.approval()
    forged = await office.card(approval, by_webhook=True)

    for button in ("approve", "break_glass"):
        assert (await office.slack.click(forged, f"approval_{button}", user=ANNA)).acknowledged
        told = await office.slack.wait_for_ephemeral(lambda e: e.user == ANNA.id)
        assert "not one of mine" in told.words

    assert office.slack.views == []
    assert await approval.decisions() == []


async def test_what_comes_twice_at_once_has_one_outcome(open_office: Open) -> None:
    # given a Temporal that takes nothing, and a Slack that lets us wait
    office = await open_office("http", address=f"127.0.0.1:{free_port()}")
    office.slack.latency = 0.1
    click = block_actions(office, await office.approval())

    replies = await asyncio.gather(*(office.desk.take("interactive", click) for _ in range(3)))

    # then none is acknowledged, and the next attempt is a new one
    assert [r.status for r in replies] == [503, 503, 503]
    assert office.calls("users.info") == 1
    assert (await office.desk.take("interactive", click)).status == 503


async def test_one_request_sent_twice_at_once_is_acknowledged_only_when_it_was_taken(
    open_office: Open, tmp_path: Path
) -> None:
    office = await open_office("http", address=f"127.0.0.1:{free_port()}")
    office.slack.latency = 0.1
    file = tmp_path / "deployment.yaml"
    file.write_text(DEPLOYMENT_YAML.format(application=office.application))
    endpoint = SlackEndpoint(office.desk, ConfigurationFile(file))
    body = urlencode({"payload": json.dumps(block_actions(office, await office.approval()))}).encode()
    headers = Headers({"content-type": "application/x-www-form-urlencoded", "x-slack-signature": "v0=1"})
    request = Received(headers, body, ip_address=None, user_agent=None, at=datetime.now(UTC))

    answers = await asyncio.gather(*(endpoint.take(request) for _ in range(2)))

    assert [a.status for a in answers] == [503, 503]


@pytest.mark.parametrize("where", ["http://127.0.0.1:{port}/x", "https://hooks.slack.com@127.0.0.1:{port}/x"])
async def test_nothing_is_sent_to_where_slack_is_not(open_office: Open, where: str) -> None:
    office: Office = await open_office()
    called: list[str] = []

    async def take(request: Request) -> Response:
        called.append(request.url.path)
        return Response()

    async with serve(Starlette(routes=[Route("/x", take, methods=["POST"])])) as url:
        port = url.rpartition(":")[2]
        click = block_actions(office, await office.approval()) | {"response_url": where.format(port=port)}
        assert (await office.desk.take("interactive", click)).status == 200
        await office.desk.close()

    assert called == []


async def test_a_response_url_leads_nowhere_else(open_office: Open) -> None:
    office: Office = await open_office(SLACK_BOT_TOKEN=None)
    called: list[str] = []

    async def redirect(request: Request) -> Response:
        called.append(request.url.path)
        return RedirectResponse("/internal", status_code=307)

    # given a Slack at whose address something redirects
    routes = [Route(path, redirect, methods=["POST"]) for path in ("/respond", "/internal")]
    async with serve(Starlette(routes=routes)) as url:
        office.configure(
            notification_channels={"slack": {"api_url": f"{url}/api/"}},
            directory={"accounts": {ADA: {"slack": ANNA.id}}},
        )
        click = block_actions(office, await office.approval()) | {"response_url": f"{url}/respond"}
        assert (await office.desk.take("interactive", click)).status == 200
        await office.desk.close()

    assert called == ["/respond"]


def block_actions(office: Office, approval: Approval) -> dict[str, Any]:
    """A press of "approve", as Slack describes it."""
    value = json.dumps({"approval_id": approval.id, "gate": "manual_approval"})
    return {
        "type": "block_actions",
        "user": {"id": ANNA.id, "team_id": TEAM},
        "team": {"id": TEAM},
        "channel": {"id": office.slack.channel_id("approvals")},
        "trigger_id": "1.2.3",
        "message": {"user": BOT_USER, "bot_id": BOT},
        "actions": [{"action_id": "approval_approve", "action_ts": "1.2", "value": value}],
    }


NO_APPROVALS = (
    "{}",
    "no json",
    '{"approval_id": "deployment:a:b:1.0.0", "gate": "g"}',
    '{"approval_id": "approval:a:b:latest:g", "gate": "g"}',
    '{"approval_id": "approval:a:b:1.0.0", "gate": "g"}',
    '{"approval_id": "approval:a:b:1.0.0:g", "gate": "other"}',
)


async def test_a_button_that_names_no_approval_is_refused(open_office: Open) -> None:
    office: Office = await open_office()
    pressed: dict[str, Any] = {
        "type": "block_actions",
        "user": {"id": ANNA.id, "team_id": "T0SANDBOX"},
    }

    for value in NO_APPROVALS:
        action = {"action_id": "approval_approve", "action_ts": "1.2", "value": value}
        reply = await office.desk.take("interactive", {**pressed, "actions": [action]})
        assert (reply.status, reply.answer.outcome) == (422, "invalid"), value


OTHER_FORMS: tuple[tuple[dict[str, str], int, str], ...] = (
    ({"payload": "not json"}, 400, "unreadable"),
    ({"payload": "[]"}, 400, "unreadable"),
    ({"payload": '{"type": "shortcut"}'}, 200, "ignored"),
    ({"payload": '{"type": "block_actions", "user": {"id": "U1"}}'}, 422, "invalid"),
    ({"payload": '{"type": "view_submission", "user": {"id": "U1"}, "view": {"id": "V"}}'}, 200, "ignored"),
    ({"ssl_check": "1", "token": "x"}, 200, "ignored"),
    ({"text": "status"}, 422, "invalid"),
)


async def test_what_is_not_for_us_is_told_apart(open_office: Open) -> None:
    office: Office = await open_office()

    for form, status, outcome in OTHER_FORMS:
        reply = await office.desk.handle(form)
        assert (reply.status, reply.answer.status, reply.answer.outcome) == (status, status, outcome), form
