"""What is read: bodies that are too large, too slow or no bodies at all, and paths that are none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from temporalio.client import Client

from sandbox.temporal import TemporalServer
from starters.slack.desk import SlackReply
from tests.starters.receiver.conftest import Receiver, Shop, receiving
from tests.starters.receiver.senders import (
    ENDPOINTS,
    FORM,
    SIGN,
    alerts,
    github,
    incident,
    nothing_to_do,
    slack,
    slash_command,
    tag_pushed,
)

JSON_ENDPOINTS = tuple(name for name in ENDPOINTS if name != "slack")


def is_refused(answer: httpx.Response, status: int, reason: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["outcome"] == "refused"
    assert reason in answer.json()["reason"]


async def raw(receiver: Receiver, request: bytes, *, end: bool = False) -> bytes:
    """Send bytes and read to the end of the connection, or of the first answer."""
    parts = urlsplit(receiver.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    if end:
        writer.write_eof()
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    writer.close()
    return head + body


# Size


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(
    server: TemporalServer, shop: Shop, endpoint: str
) -> None:
    body = b" " * 200_000
    headers = SIGN[endpoint](body)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    async with receiving(server.address, shop.configuration, body_limit=100_000) as receiver:
        announced = await receiver.post(endpoint, body, headers)
        in_chunks = await receiver.post(endpoint, chunks(), headers)

        for answer in (announced, in_chunks):
            is_refused(answer, 413, "larger than 100000 bytes")
        # and it goes on to serve
        assert (await receiver.post(endpoint, *nothing_to_do(endpoint))).status_code == 200


async def test_an_announced_length_alone_is_enough_to_refuse(server: TemporalServer, shop: Shop) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in github(b"").items())
    request = f"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 99999999999\r\n\r\n"

    async with receiving(server.address, shop.configuration) as receiver:
        answer = await raw(receiver, request.encode())

    assert answer.startswith(b"HTTP/1.1 413")


async def test_large_bodies_of_strangers_do_not_fill_the_memory(server: TemporalServer, shop: Shop) -> None:
    # given senders who keep large bodies coming, and never end
    held = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b" " * 60_000
        await held.wait()

    body = b" " * 60_000
    async with receiving(server.address, shop.configuration, bodies_limit=100_000) as receiver:
        first = asyncio.create_task(receiver.post("github", endless(), github(body)))

        # when others come
        async def refused_for_now() -> httpx.Response:
            while True:
                answer = await receiver.post("github", body, github(body))
                if answer.status_code == 503:
                    return answer

        answer = await refused_for_now()

        # then they are asked to come again, which works once there is room
        assert answer.headers["Retry-After"] == "5"
        held.set()
        is_refused(await first, 400, "no JSON")
        is_refused(await receiver.post("github", body, github(body)), 400, "no JSON")


async def test_who_floods_one_endpoint_shuts_nobody_out_of_another(
    server: TemporalServer, shop: Shop
) -> None:
    # given somebody unknown who fills all the room there is for GitHub
    held = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b" " * 90_000
        await held.wait()

    async with receiving(server.address, shop.configuration, bodies_limit=100_000) as receiver:
        large = b" " * 90_000
        flood = asyncio.create_task(receiver.post("github", endless(), github(b"", secret="a-guess")))
        while (await receiver.post("github", large, github(large))).status_code != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

        # then all others have theirs
        for endpoint in ENDPOINTS:
            if endpoint != "github":
                body, headers = nothing_to_do(endpoint)
                padded = body if endpoint == "slack" else body + b" " * 20_000
                if endpoint != "slack":
                    headers |= SIGN[endpoint](padded)
                    headers |= {"X-Gitlab-Event": "Note Hook"} if endpoint == "gitlab" else {}
                assert (await receiver.post(endpoint, padded, headers)).status_code == 200
        held.set()
        assert (await flood).status_code == 401


@pytest.mark.parametrize("endpoint", ["slack", "alertmanager", "pagerduty"])
async def test_who_sends_little_may_not_send_much(receiver: Receiver, endpoint: str) -> None:
    body = b" " * (1024 * 1024 + 1)

    is_refused(await receiver.post(endpoint, body, SIGN[endpoint](body)), 413, "larger than 1048576 bytes")


async def test_a_body_that_comes_too_slowly_is_given_up(server: TemporalServer, shop: Shop) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in github(b"").items())
    request = f"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 100\r\n\r\n{{"

    async with receiving(server.address, shop.configuration, body_timeout="PT0.2S") as receiver:
        answer = await raw(receiver, request.encode())

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"not complete after 0.2 s" in answer
    assert b"connection: close" in answer.lower()


async def test_a_sender_that_hangs_up_in_the_middle_starts_nothing(
    receiver: Receiver, client: Client, shop: Shop, version: str
) -> None:
    body = tag_pushed(shop.project, f"v{version}")
    headers = "".join(f"{name}: {value}\r\n" for name, value in github(body).items())
    head = f"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    parts = urlsplit(receiver.url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(head.encode() + body[:-1])
    writer.close()
    await writer.wait_closed()

    # the same release, whole, is the first of its kind
    answer = await receiver.post("github", body, github(body))
    assert answer.status_code == 202


# Form


@pytest.mark.parametrize("endpoint", JSON_ENDPOINTS)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b'{"a": 1} x', "no JSON"),
        (b'{"a": NaN}', "no JSON"),
        (b'{"a": "\xff"}', "no JSON"),
        (b'{"a": "\\ud800"}', "no JSON"),
        (b"[1, 2]", "no object"),
        (b"null", "no object"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b'{"a": ' + b"1" * 10_000 + b"}", ""),
    ],
)
async def test_what_is_no_json_object_is_refused(
    receiver: Receiver, endpoint: str, body: bytes, reason: str
) -> None:
    answer = await receiver.post(endpoint, body, SIGN[endpoint](body))

    if reason:
        is_refused(answer, 400, reason)
    else:
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (None, "Content-Type is missing"),
        ("", "Content-Type is missing"),
        ("text/plain", "Content-Type is 'text/plain'"),
        ("application/json; charset=utf-16", "utf-16"),
        ("multipart/form-data; boundary=x", "multipart/form-data"),
    ],
)
async def test_another_type_of_body_is_refused(
    receiver: Receiver, endpoint: str, kind: str | None, reason: str
) -> None:
    body, headers = nothing_to_do(endpoint)
    if endpoint in ("github", "gitlab"):
        # An event of no interest is not even parsed.
        body = b'{"ref": "refs/tags/v1.0.0"}'
        headers = SIGN[endpoint](body)
    del headers["Content-Type"]

    answer = await receiver.post(endpoint, body, headers | ({} if kind is None else {"Content-Type": kind}))

    is_refused(answer, 400, reason)


@pytest.mark.parametrize(
    ("endpoint", "header", "required"),
    [
        ("github", "X-GitHub-Event", True),
        ("github", "X-GitHub-Delivery", False),
        ("gitlab", "X-Gitlab-Event", True),
    ],
)
async def test_a_header_that_is_missing_or_doubled_is_named(
    receiver: Receiver, endpoint: str, header: str, required: bool
) -> None:
    body = b"{}"
    headers = SIGN[endpoint](body)

    if required:
        missing = {name: value for name, value in headers.items() if name != header}
        is_refused(await receiver.post(endpoint, body, missing), 400, f"{header} is missing")
    doubled = [*headers.items(), (header, "another")]
    answer = await receiver.http.post(f"/webhooks/{endpoint}", content=body, headers=doubled)
    is_refused(answer, 400, f"{header} is there 2 times")


async def test_a_delivery_of_gitlab_is_named_by_either_of_two_headers(receiver: Receiver, shop: Shop) -> None:
    body = b"{}"
    headers = SIGN["gitlab"](body, event="Note Hook")
    uuid = headers.pop("X-Gitlab-Event-UUID")

    answer = await receiver.post("gitlab", body, {**headers, "Idempotency-Key": uuid})
    assert answer.status_code == 200
    is_refused(
        await receiver.post("gitlab", body, {**headers, "Idempotency-Key": "two words"}),
        400,
        "no delivery id",
    )


async def test_a_delivery_that_has_no_name_is_known_by_its_bytes(
    receiver: Receiver, shop: Shop, version: str
) -> None:
    body = tag_pushed(shop.project, f"v{version}")
    headers = {name: value for name, value in github(body).items() if name != "X-GitHub-Delivery"}

    first, second = [await receiver.post("github", body, headers) for _ in range(2)]

    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json()["outcome"] == "duplicate"


async def test_github_may_send_a_form(receiver: Receiver, shop: Shop, version: str) -> None:
    body = urlencode({"payload": tag_pushed(shop.project, f"v{version}").decode()}).encode()

    answer = await receiver.post("github", body, {**github(body), "Content-Type": FORM})

    assert answer.status_code == 202
    assert answer.json()["workflow_id"] == shop.deployment("production", version)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"payload", "no form"),
        (b"", "no field payload"),
        (b"load=%7B%7D", "no field payload"),
        (b"payload=%7B%7D&payload=%7B%7D", "more than once"),
        (b"payload=%FF", "not UTF-8"),
        (b"payload=%5B%5D", "no object"),
        (b"payload=%7B", "no JSON"),
        (b"&".join(b"a%d=1" % n for n in range(500)), "no form"),
    ],
)
async def test_a_form_that_is_none_is_refused(receiver: Receiver, body: bytes, reason: str) -> None:
    answer = await receiver.post("github", body, {**github(body), "Content-Type": FORM})

    is_refused(answer, 400, reason)


@pytest.mark.parametrize(
    "body",
    [
        b"payload=%7B",
        b"payload=" + b"%7B%22a%22:" * 5_000,
        b"text=%FF",
        b"command=/deploy&command=/deploy",
        b"nothing",
    ],
)
async def test_a_form_of_slack_that_is_none_is_refused(receiver: Receiver, body: bytes) -> None:
    is_refused(await receiver.post("slack", body, slack(body)), 400, "")


# What is understood, but cannot be used


@pytest.mark.parametrize(
    ("endpoint", "body", "reason"),
    [
        ("github", b'{"ref": 1}', "ref is 1"),
        ("gitlab", b'{"ref": "refs/tags/v1.0.0", "after": null}', "after is null"),
        ("alertmanager", b'{"version": "3", "alerts": []}', "version"),
        (
            "alertmanager",
            b'{"version": "4", "alerts": [{"status": "lost", "labels": {}}]}',
            "alerts.0.status",
        ),
        ("alertmanager", b"{}", "alerts"),
        ("pagerduty", b'{"messages": []}', "use version 3 webhooks"),
    ],
)
async def test_an_event_that_cannot_be_used_is_told_why(
    receiver: Receiver, endpoint: str, body: bytes, reason: str
) -> None:
    is_refused(await receiver.post(endpoint, body, SIGN[endpoint](body)), 422, reason)


async def test_an_interaction_of_slack_that_cannot_be_used_is_told_why(receiver: Receiver) -> None:
    body = urlencode({"payload": json.dumps({"type": "block_actions"})}).encode()

    answer = await receiver.post("slack", body, slack(body))

    assert answer.status_code == 422
    assert "block_actions" in answer.json()["reason"]


# What starts nothing


@pytest.mark.parametrize(
    ("event_type", "reason"),
    [
        ("pagey.ping", "the webhook works"),
        ("incident.triggered", "disaster recovery is not served by this version"),
        ("service.updated", "only incidents"),
    ],
)
async def test_pagerduty_is_answered_and_starts_nothing(
    receiver: Receiver, event_type: str, reason: str
) -> None:
    body = incident(event_type)
    answer = await receiver.post("pagerduty", body, SIGN["pagerduty"](body))

    assert answer.status_code == 200
    assert answer.json()["outcome"] == "ignored"
    assert reason in answer.json()["reason"]


async def test_slack_verifies_the_address_of_its_events(receiver: Receiver) -> None:
    body = b'{"type": "url_verification", "challenge": "3eZbrw1aB"}'
    answer = await receiver.post("slack", body, {**slack(body), "Content-Type": "application/json"})

    assert answer.status_code == 200
    assert answer.json() == {"challenge": "3eZbrw1aB"}


# Defects


class BrokenDesk:
    """Has a defect that nobody has found yet."""

    async def handle(self, form: Mapping[str, str]) -> SlackReply:
        raise KeyError(form["text"])


async def test_a_defect_is_told_without_its_details(server: TemporalServer, shop: Shop) -> None:
    body = slash_command("a-word")
    async with receiving(server.address, shop.configuration, desk=BrokenDesk()) as receiver:
        for _ in range(2):  # what failed is no replay when it comes again
            answer = await receiver.post("slack", body, slack(body))
            assert answer.status_code == 500
            assert answer.json()["outcome"] == "failed"
            assert "a-word" not in answer.text
        assert (await receiver.http.get("/healthz")).status_code == 200


# Paths


@pytest.mark.parametrize("path", ["/webhooks/svn", "/webhooks/github/", "/webhooks", "/%2e%2e/etc/passwd"])
async def test_an_unknown_path_is_told_in_json(receiver: Receiver, path: str) -> None:
    is_refused(await receiver.http.post(path, content=b"{}"), 404, "nothing here")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_another_method_is_told_in_json(receiver: Receiver, endpoint: str, method: str) -> None:
    answer = await receiver.http.request(method, f"/webhooks/{endpoint}")

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    if method != "HEAD":
        assert answer.json()["outcome"] == "refused"


async def test_every_answer_is_careful_with_browsers(receiver: Receiver) -> None:
    body = alerts(status="resolved")
    for answer in (
        await receiver.post("alertmanager", body, SIGN["alertmanager"](body)),
        await receiver.post("github", b"{}", {}),
        await receiver.http.get("/healthz"),
        await receiver.http.get("/nothing"),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
