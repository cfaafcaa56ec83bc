"""``erlmcp-deploy serve``: what it refuses to start with, what it logs, and how it stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from sandbox.temporal import TemporalServer
from tests.starters.receiver.conftest import Shop
from tests.starters.receiver.processes import run, serving, variables
from tests.starters.receiver.senders import SECRETS, alertmanager, github, tag_pushed


async def test_without_any_secret_it_does_not_listen(server: TemporalServer, shop: Shop) -> None:
    code, said = await run(variables(server.address, shop.configuration, secrets={}))

    assert code == 2
    assert "no secret is set" in said
    for name in SECRETS:
        assert name in said.replace("\n", "")


async def test_with_a_configuration_that_cannot_be_used_it_does_not_listen(
    server: TemporalServer, own_shop: Shop
) -> None:
    own_shop.configuration.write_text("environments: {production: {approval: nobody}}\n")

    code, said = await run(variables(server.address, own_shop.configuration))

    assert code == 2
    assert "deployment.yaml" in said
    assert "erlmcp-deploy config validate" in said


async def test_on_a_port_that_is_taken_it_does_not_listen(server: TemporalServer, shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = await run(variables(server.address, shop.configuration), "--port", str(port))

    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "--port" in said


async def test_it_answers_what_it_has_begun_before_it_stops(
    server: TemporalServer, shop: Shop, version: str, tmp_path: Path
) -> None:
    body = tag_pushed(shop.project, f"v{version}")
    headers = "".join(f"{name}: {value}\r\n" for name, value in github(body).items())
    head = f"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    environment = variables(server.address, shop.configuration)
    async with serving(environment, tmp_path / "receiver.log") as (process, url):
        # given a request that is not complete yet
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode() + body[:-10])
        await writer.drain()
        async with httpx.AsyncClient() as http:
            while "in_flight 2.0" not in (await http.get(f"{url}/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

        # when the receiver is to stop
        os.kill(process.pid, signal.SIGTERM)
        while await accepts(parts.hostname, parts.port):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

        # then the request still gets its answer
        writer.write(body[-10:])
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 202")
        assert b"server:" not in answer.split(b"\r\n\r\n")[0].lower()
        assert json.loads(answer.split(b"\r\n\r\n")[1])["workflow_id"] == shop.deployment(
            "production", version
        )
        # and the process ends well
        assert await process.wait() == 0


async def accepts(host: str | None, port: int | None) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def lines(log: Path) -> list[dict[str, Any]]:
    """What was logged of requests."""
    marked = [line.split(": ", 1)[1] for line in log.read_text().splitlines() if "observation: {" in line]
    return [json.loads(line) for line in marked]


@pytest.mark.parametrize(("trusted", "remote"), [((), "127.0.0.1"), (("127.0.0.1",), "192.0.2.7")])
async def test_each_request_is_one_line_in_the_log_without_secrets(
    server: TemporalServer,
    shop: Shop,
    version: str,
    tmp_path: Path,
    *,
    trusted: tuple[str, ...],
    remote: str,
) -> None:
    log = tmp_path / "receiver.log"
    options = [word for address in trusted for word in ("--forwarded-allow-ips", address)]
    forged = b'{"zen": "what-was-sent"}'
    headers = {
        **github(forged, secret="a-guess", delivery="d-\x1b[2J1"),
        "X-Forwarded-For": "192.0.2.7",
        "User-Agent": "a-browser",
    }
    tag = tag_pushed(shop.project, f"v{version}")
    async with (
        serving(variables(server.address, shop.configuration), log, *options) as (_, url),
        httpx.AsyncClient(base_url=url) as http,
    ):
        # when requests come that are refused, and one that is not
        await http.post("/webhooks/github?token=in-the-query", content=forged, headers=headers)
        token = alertmanager(b"{}", secret="another-guess")
        await http.post("/webhooks/alertmanager", content=b"{}", headers=token)
        await http.post("/webhooks/github", content=b" " * 30_000_000, headers=headers)
        await http.post("/webhooks/github", content=tag, headers=github(tag))
        await http.get("/healthz")

    # then each is one line, but the probe, which nobody wants to read of
    refused, unknown, large, started = lines(log)
    assert refused["endpoint"] == "github"
    assert refused["status"] == 401
    assert refused["remote"] == remote
    assert refused["delivery"] == "d-\ufffd[2J1"
    assert "does not match the body" in refused["reason"]
    assert unknown["endpoint"] == "alertmanager"
    assert large["status"] == 413
    assert started["status"] == 202
    assert started["workflow_id"] == shop.deployment("production", version)
    written = log.read_text()
    signatures = (headers["X-Hub-Signature-256"][7:], headers["X-Hub-Signature"][5:])
    sent = ("what-was-sent", "in-the-query", "a-guess", "another-guess", "\x1b")
    for secret in (*SECRETS.values(), *signatures, *sent):
        assert secret not in written
