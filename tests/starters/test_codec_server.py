"""The codec server: who may read payloads, and that Temporal's own CLI reads and sends them through it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from starlette.applications import Starlette
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import DataConverter

from sandbox.asgi import serve
from sandbox.processes import find_program
from sandbox.temporal import TemporalServer
from starters.codec_server import LIMIT, ORIGINS, TOKEN, codec_routes
from workflows.confidentiality import ENCRYPTION_KEYS, EncryptionKeys, generate_key
from workflows.conversion import data_converter_for

UI = "https://temporal.example.com"
ENVIRONMENT = {
    ENCRYPTION_KEYS: f"new:{generate_key()},old:{generate_key()}",
    TOKEN: "let-me-read",
    ORIGINS: f"{UI}, https://other.example.com/",
}
BEARER = {"Authorization": "Bearer let-me-read"}
REASON = "the customer of the secret project waits"


def keys_of(environment: dict[str, str]) -> EncryptionKeys:
    keys = EncryptionKeys.from_environment(environment)
    assert keys is not None
    return keys


KEYS = keys_of(ENVIRONMENT)


@pytest.fixture
async def codec() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(Starlette(routes=codec_routes(ENVIRONMENT))) as url,
        httpx.AsyncClient(base_url=f"{url}/codec") as client,
    ):
        yield client


def body(*payloads: Payload) -> dict[str, Any]:
    document: dict[str, Any] = json_format.MessageToDict(Payloads(payloads=payloads))
    return document


def plain(text: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(text).encode())


async def test_what_is_encoded_can_be_decoded_and_is_not_readable_between(codec: httpx.AsyncClient) -> None:
    encoded = await codec.post("/encode", json=body(plain("one"), plain("two")), headers=BEARER)
    decoded = await codec.post("/decode", json=encoded.json(), headers={**BEARER, "X-Namespace": "default"})

    assert encoded.status_code == decoded.status_code == 200
    sealed = json_format.ParseDict(encoded.json(), Payloads()).payloads
    assert [(p.metadata["encoding"], p.metadata["encryption-key-id"]) for p in sealed] == [
        (b"binary/encrypted", b"new")
    ] * 2
    assert b"one" not in sealed[0].data
    assert decoded.json() == body(plain("one"), plain("two"))
    assert decoded.headers["Cache-Control"] == "no-store"


async def test_payloads_of_an_older_key_and_unencrypted_ones_are_shown(codec: httpx.AsyncClient) -> None:
    old = keys_of({ENCRYPTION_KEYS: ENVIRONMENT[ENCRYPTION_KEYS].partition(",")[2]})

    answer = await codec.post("/decode", json=body(old.encrypt(plain("one")), plain("two")), headers=BEARER)

    assert answer.json() == body(plain("one"), plain("two"))


async def test_a_payload_of_an_unknown_key_is_named(codec: httpx.AsyncClient) -> None:
    foreign = keys_of({ENCRYPTION_KEYS: f"elsewhere:{generate_key()}"})

    answer = await codec.post("/decode", json=body(foreign.encrypt(plain("one"))), headers=BEARER)

    assert answer.status_code == 400
    assert "'elsewhere'" in answer.json()["error"]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "let-me-read",
        "Bearer",
        "Bearer let-me-rea",
        "Bearer let-me-read!",
        "Bearer lét-me-read",
        "Basic let-me-read",
        "Basic " + base64.b64encode(b"let-me-read:").decode(),
        "Digest let-me-read",
    ],
)
@pytest.mark.parametrize("path", ["/decode", "/encode", ""])
async def test_who_does_not_know_the_token_gets_nothing(
    codec: httpx.AsyncClient, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization.encode()}

    request = body(KEYS.encrypt(plain("one")))
    answer = await (
        codec.post(path, json=request, headers=headers) if path else codec.get(path, headers=headers)
    )

    assert answer.status_code == 401
    assert "payloads" not in answer.text


async def test_a_browser_logs_in_with_the_token_as_password(codec: httpx.AsyncClient) -> None:
    asked = await codec.get("")
    logged_in = await codec.get("", auth=("anybody", "let-me-read"))
    shown = await codec.post(
        "/decode",
        json=body(KEYS.encrypt(plain("one"))),
        auth=("anybody", "let-me-read"),
        headers={"Origin": UI},
    )

    assert asked.headers["WWW-Authenticate"].startswith("Basic ")
    assert logged_in.status_code == 200
    assert shown.json() == body(plain("one"))
    assert shown.headers["Access-Control-Allow-Origin"] == UI
    assert shown.headers["Access-Control-Allow-Credentials"] == "true"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [(UI, True), ("https://other.example.com", True), ("https://evil.example.com", False), ("null", False)],
)
async def test_only_the_named_origins_may_read_from_a_browser(
    codec: httpx.AsyncClient, origin: str, allowed: bool
) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-namespace,authorization",
    }
    preflight = await codec.options("/decode", headers={"Origin": origin, **asked})
    answer = await codec.post("/decode", json=body(plain("one")), headers={"Origin": origin, **BEARER})

    assert (preflight.status_code == 200) is allowed
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"payloads": 1}',
        b"[" * 100_000,
    ],
)
async def test_what_is_no_request_is_refused(codec: httpx.AsyncClient, content: bytes) -> None:
    answer = await codec.post("/decode", content=content, headers=BEARER)

    assert answer.status_code == 400
    assert "the body is not" in answer.json()["error"]


async def test_a_request_that_is_too_large_is_refused_before_it_has_come(codec: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2 * LIMIT // 65536):
            yield b"x" * 65536

    try:
        answer = await codec.post("/decode", content=endless(), headers=BEARER)
    except httpx.TransportError:  # it may hang up while we are still sending
        return
    assert answer.status_code == 413


@pytest.mark.parametrize("missing", [ENCRYPTION_KEYS, TOKEN])
def test_without_keys_or_token_there_is_no_codec_server(missing: str) -> None:
    assert codec_routes({name: value for name, value in ENVIRONMENT.items() if name != missing}) == []
    assert codec_routes({**ENVIRONMENT, missing: " "}) == []


@pytest.mark.parametrize(
    "origins", ["*", "https://*.example.com", "temporal.example.com", "https://a/b", "null"]
)
def test_origins_that_cannot_be_meant_are_refused(origins: str) -> None:
    with pytest.raises(ValueError, match=ORIGINS):
        codec_routes({**ENVIRONMENT, ORIGINS: origins})


# Temporal's own CLI


@pytest.fixture
async def encrypted(server: TemporalServer) -> WorkflowHandle[Any, Any]:
    """An encrypted workflow; nobody works on it."""
    client = await Client.connect(server.address, data_converter=data_converter_for(ENVIRONMENT))
    return await client.start_workflow(
        "DeploymentWorkflow",
        {"application": "shop", "reason": REASON},
        id="deployment:secret:dev:1.0.0",
        task_queue="nobody",
        memo={"delivery": REASON},
        static_summary=REASON,
    )


async def temporal(server: TemporalServer, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        find_program("temporal", install="pip install 'erlmcp-deploy[sandbox]'"),
        *arguments,
        "--address",
        server.address,
        env={**os.environ, "TEMPORAL_CONFIG_FILE": os.devnull},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode()


async def test_the_temporal_cli_shows_and_sends_payloads_through_it(
    server: TemporalServer, encrypted: WorkflowHandle[Any, Any], codec: httpx.AsyncClient
) -> None:
    through = ["--codec-endpoint", str(codec.base_url).rstrip("/"), "--codec-auth", "Bearer let-me-read"]
    try:
        # given that without it nothing is readable
        show = ["workflow", "show", "--detailed", "--workflow-id", encrypted.id]
        assert REASON not in await temporal(server, *show)
        assert REASON not in await temporal(server, "workflow", "describe", "--workflow-id", encrypted.id)

        # then it is with it, and with the token only
        assert REASON in await temporal(server, *show, *through)
        assert REASON in await temporal(
            server, "workflow", "describe", "--workflow-id", encrypted.id, *through
        )
        assert REASON not in await temporal(server, *show, *through[:3], "Bearer guessed")

        # when a signal is sent through it
        message = json.dumps({"actor": "ada@example.com", "comment": "a secret comment"})
        signal = [
            "workflow",
            "signal",
            "--workflow-id",
            encrypted.id,
            "--name",
            "approve",
            "--input",
            message,
        ]
        await temporal(server, *signal, *through)

        # then it comes in encrypted
        history = await encrypted.fetch_history()
        [sent] = [
            e.workflow_execution_signaled_event_attributes for e in history.events if e.event_type == 26
        ]
        assert sent.input.payloads[0].metadata["encoding"] == b"binary/encrypted"
        converter: DataConverter = data_converter_for(ENVIRONMENT)
        assert await converter.decode(sent.input.payloads) == [json.loads(message)]
    finally:
        await encrypted.terminate()
