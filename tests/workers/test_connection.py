"""The worker's way to Temporal: the settings of the command line, and what is said when they are wrong."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from sandbox.temporal import TemporalServer
from workers.connection import connect
from workflows.confidentiality import ENCRYPTED, ENCRYPTION_KEYS, ENCRYPTION_REQUIRED, generate_key


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("TEMPORAL_", "ERLMCP_DEPLOY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({ENCRYPTION_KEYS: "a:" + base64.b64encode(b"secret").decode()}, "key 'a' has 6 bytes"),
        ({ENCRYPTION_REQUIRED: "true"}, "ERLMCP_DEPLOY_ENCRYPTION_KEYS is not set"),
        ({"TEMPORAL_PROFILE": "nowhere"}, "Profile 'nowhere' not found"),
        ({"TEMPORAL_TLS_CLIENT_CERT_PATH": "/does/not/exist.pem"}, "/does/not/exist.pem"),
    ],
)
async def test_settings_that_cannot_be_used_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(RuntimeError, match="the connection to Temporal cannot be set up") as raised:
        await connect()

    assert said in str(raised.value)
    assert "c2VjcmV0" not in str(raised.value)


async def test_a_worker_encrypts_if_its_environment_has_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with TemporalServer.start(tmp_path, ui=False) as server:
        monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
        plain = await connect()
        monkeypatch.setenv(ENCRYPTION_KEYS, f"a:{generate_key()}")
        encrypting = await connect()

    [clear] = await plain.data_converter.encode(["word"])
    [sealed] = await encrypting.data_converter.encode(["word"])
    assert clear.data == b'"word"'
    assert sealed.metadata["encoding"] == ENCRYPTED
    assert await encrypting.data_converter.decode([clear, sealed]) == ["word", "word"]
