"""TLS, client certificates and API keys, by the settings that Temporal's own CLI reads too."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.temporal import TemporalServer
from tests.starters.fronts import Certificates, closed_door, tls_proxy
from tests.starters.world import CommandLine, World


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    directory = tmp_path / "certificates"
    directory.mkdir()
    return Certificates(directory)


async def test_a_client_certificate_opens_the_server(
    server: TemporalServer, certificates: Certificates, cli: CommandLine, world: World
) -> None:
    known = certificates.environment(authority=certificates.server, client=certificates.server)

    async with tls_proxy(server.address, certificates.context(mutual=True)) as address:
        answer = await cli("status", "dev", "1.0.0", **known, TEMPORAL_ADDRESS=address)

    # The server was asked, and knows no such deployment.
    assert answer.exit_code == 1
    assert f"there is no deployment:{cli.application}:dev:1.0.0" in answer.stderr


@pytest.mark.parametrize("client", [None, "stranger"])
async def test_without_the_right_client_certificate_it_stays_shut(
    server: TemporalServer, certificates: Certificates, cli: CommandLine, client: str | None
) -> None:
    shown = None if client is None else certificates.stranger
    unknown = certificates.environment(authority=certificates.server, client=shown)

    async with tls_proxy(server.address, certificates.context(mutual=True)) as address:
        answer = await cli("status", "dev", "1.0.0", **unknown, TEMPORAL_ADDRESS=address)

    assert answer.exit_code == 1
    assert "it closes the connection at once, as it does if it wants a client certificate" in answer.stderr
    assert "TEMPORAL_TLS" in answer.stderr


async def test_a_server_with_a_certificate_of_somebody_else_is_not_trusted(
    server: TemporalServer, certificates: Certificates, cli: CommandLine
) -> None:
    mistaken = certificates.environment(authority=certificates.stranger)

    async with tls_proxy(server.address, certificates.context(mutual=False)) as address:
        answer = await cli("status", "dev", "1.0.0", **mistaken, TEMPORAL_ADDRESS=address)

    assert answer.exit_code == 1
    assert "its TLS certificate is not trusted" in answer.stderr


async def test_a_server_without_tls_is_not_spoken_to_where_tls_is_asked_for(
    server: TemporalServer, cli: CommandLine
) -> None:
    answer = await cli("status", "dev", "1.0.0", TEMPORAL_TLS="true")

    assert answer.exit_code == 1
    assert "does not answer" in answer.stderr


async def test_the_api_key_is_sent_and_its_refusal_is_told(
    certificates: Certificates, cli: CommandLine
) -> None:
    seen: list[dict[str, str]] = []
    trusting = certificates.environment(authority=certificates.server)

    async with closed_door(certificates.context(mutual=False), seen) as address:
        answer = await cli(
            "status",
            "dev",
            "1.0.0",
            **trusting,
            TEMPORAL_ADDRESS=address,
            TEMPORAL_API_KEY="a-secret-key",
            TEMPORAL_NAMESPACE="shop.a1b2",
        )

    assert {request["authorization"] for request in seen} == {"Bearer a-secret-key"}
    assert answer.exit_code == 1
    assert "the API key or certificate is not accepted" in answer.stderr
    assert "a-secret-key" not in answer.output
