"""Who is believed: every sender must prove who it is, over the bytes as they came."""

from __future__ import annotations

import time

import httpx
import pytest

from sandbox.temporal import TemporalServer
from tests.starters.receiver.conftest import Receiver, Shop, receiving
from tests.starters.receiver.senders import (
    ENDPOINTS,
    NOTHING_TO_DO,
    PROOF,
    SECRETS,
    SIGN,
    nothing_to_do,
    slack,
    slash_command,
)

VARIABLE = dict(zip(ENDPOINTS, SECRETS, strict=True))


def is_refused(answer: httpx.Response, status: int, reason: str) -> None:
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert document["outcome"] == "refused"
    assert document["workflow_id"] is None
    assert reason in document["reason"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_sender_with_the_secret_is_believed(receiver: Receiver, endpoint: str) -> None:
    answer = await receiver.post(endpoint, *nothing_to_do(endpoint))

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_without_proof_nobody_is_believed(receiver: Receiver, endpoint: str) -> None:
    body, headers = nothing_to_do(endpoint)
    del headers[PROOF[endpoint]]

    is_refused(await receiver.post(endpoint, body, headers), 401, PROOF[endpoint])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_request_that_was_forged_with_another_secret_is_refused(
    receiver: Receiver, endpoint: str
) -> None:
    body = NOTHING_TO_DO[endpoint]

    is_refused(await receiver.post(endpoint, body, SIGN[endpoint](body, secret="guessed")), 401, "")


@pytest.mark.parametrize("endpoint", ["github", "slack", "pagerduty"])
async def test_a_body_that_was_changed_or_cut_short_on_the_way_is_refused(
    receiver: Receiver, endpoint: str
) -> None:
    body, headers = nothing_to_do(endpoint)

    for tampered in (body[:-1], body + b" ", body.replace(b"e", b"f", 1), b""):
        is_refused(await receiver.post(endpoint, tampered, headers), 401, "does not match the body")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "proof", ["", "=", "sha256=", "v0=zz", "v1=", "Bearer", "Basic Og==", "sha256=" + "A" * 64, "\xff\xfe"]
)
async def test_a_proof_that_is_none_is_refused(receiver: Receiver, endpoint: str, proof: str) -> None:
    body, headers = nothing_to_do(endpoint)
    answer = await receiver.http.post(
        f"/webhooks/{endpoint}",
        content=body,
        headers=[
            (name.encode(), value.encode("latin-1"))
            for name, value in {**headers, PROOF[endpoint]: proof}.items()
        ],
    )

    is_refused(answer, 401, "")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_two_proofs_are_none(receiver: Receiver, endpoint: str) -> None:
    body, headers = nothing_to_do(endpoint)
    twice = [*headers.items(), (PROOF[endpoint], "another")]

    answer = await receiver.http.post(f"/webhooks/{endpoint}", content=body, headers=twice)

    is_refused(answer, 400, f"{PROOF[endpoint]} is there 2 times")


async def test_sha1_does_not_count_at_github(receiver: Receiver) -> None:
    body, headers = nothing_to_do("github")
    del headers["X-Hub-Signature-256"]
    assert headers["X-Hub-Signature"].startswith("sha1=")

    is_refused(await receiver.post("github", body, headers), 401, "SHA-1 is not accepted")


@pytest.mark.parametrize("minutes", [-6, 6])
async def test_a_request_of_slack_that_is_not_of_now_is_refused(receiver: Receiver, minutes: int) -> None:
    body = slash_command("help")
    headers = slack(body, at=time.time() + 60 * minutes)

    is_refused(await receiver.post("slack", body, headers), 401, "not of the last 300 s")


async def test_a_timestamp_of_slack_that_was_changed_is_refused(receiver: Receiver) -> None:
    body = slash_command("help")
    headers = slack(body, at=time.time() - 200)

    renewed = {**headers, "X-Slack-Request-Timestamp": str(int(time.time()))}
    is_refused(await receiver.post("slack", body, renewed), 401, "does not match the body")
    nonsense = {**headers, "X-Slack-Request-Timestamp": "-1"}
    is_refused(await receiver.post("slack", body, nonsense), 401, "is no time")


async def test_a_request_of_slack_that_is_replayed_is_not_carried_out_again(receiver: Receiver) -> None:
    body = slash_command("help")
    headers = slack(body)
    assert (await receiver.post("slack", body, headers)).status_code == 200

    again = await receiver.post("slack", body, headers)

    assert again.status_code == 200
    assert again.json()["outcome"] == "duplicate"


async def test_any_of_several_signatures_of_pagerduty_may_be_the_right_one(receiver: Receiver) -> None:
    body, headers = nothing_to_do("pagerduty")
    right, other = headers["X-PagerDuty-Signature"], "v1=" + "0" * 64

    for value in (f"{other},{right}", f"{right}, {other}", f"v2=unknown,{right}"):
        answer = await receiver.post("pagerduty", body, {**headers, "X-PagerDuty-Signature": value})
        assert answer.status_code == 200, value


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_secret_is_exchanged_without_losing_a_request(
    server: TemporalServer, shop: Shop, endpoint: str
) -> None:
    body, headers = nothing_to_do(endpoint)
    variable = VARIABLE[endpoint]
    rotating = {variable: "the-new-one", f"{variable}_PREVIOUS": SECRETS[variable]}

    async with receiving(server.address, shop.configuration, rotating) as receiver:
        assert (await receiver.post(endpoint, body, headers)).status_code == 200
    async with receiving(server.address, shop.configuration, {variable: "the-new-one"}) as receiver:
        assert (await receiver.post(endpoint, body, headers)).status_code == 401


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_sender_without_a_configured_secret_is_refused_and_told_which(
    server: TemporalServer, shop: Shop, endpoint: str
) -> None:
    variable = VARIABLE[endpoint]
    environment = {name: value for name, value in SECRETS.items() if name != variable} | {variable: "  "}
    body = NOTHING_TO_DO[endpoint]

    async with receiving(server.address, shop.configuration, environment) as receiver:
        answer = await receiver.post(endpoint, body, SIGN[endpoint](body))

    is_refused(answer, 401, f"{variable} is not set here")


async def test_a_token_may_end_in_a_byte_that_is_a_space_elsewhere(
    server: TemporalServer, shop: Shop
) -> None:
    token = "passw\u00e0"  # in UTF-8 its last byte is A0
    environment = {**SECRETS, "GITLAB_WEBHOOK_TOKEN": token}
    headers = {"Content-Type": "application/json", "X-Gitlab-Event": "Note Hook"}
    async with receiving(server.address, shop.configuration, environment) as receiver:
        for given, status in ((token.encode(), 200), (token.encode()[:-1], 401)):
            proof = [(b"X-Gitlab-Token", given), *((n.encode(), v.encode()) for n, v in headers.items())]
            answer = await receiver.http.post("/webhooks/gitlab", content=b"{}", headers=proof)
            assert answer.status_code == status
