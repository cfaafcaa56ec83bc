"""Where the server is, where its UI is, and what is said when the settings are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from starters.connection import workflow_url
from tests.starters.world import CommandLine


@pytest.mark.parametrize(
    ("address", "ui", "url"),
    [
        ("localhost:7233", "", "http://localhost:8233/namespaces/default/workflows/deployment%3Aa%3Ab%3A1.0.0/r"),
        ("127.0.0.1:9000", "", "http://localhost:10000/namespaces/default/workflows/deployment%3Aa%3Ab%3A1.0.0/r"),
        ("shop.a1b2.tmprl.cloud:7233", "", "https://cloud.temporal.io/namespaces/default/workflows/deployment%3Aa%3Ab%3A1.0.0/r"),
        ("temporal.example.com:7233", "https://ui.example.com/", "https://ui.example.com/namespaces/default/workflows/deployment%3Aa%3Ab%3A1.0.0/r"),
        ("temporal.example.com:7233", "", None),
    ],
)  # fmt: skip
def test_the_ui_is_derived_or_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, ui: str, url: str | None
) -> None:
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)
    monkeypatch.setenv("TEMPORAL_UI_URL", ui)

    assert workflow_url("default", "deployment:a:b:1.0.0", "r") == url


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"TEMPORAL_PROFILE": "nowhere"}, 2, "Profile 'nowhere' not found"),
        ({"TEMPORAL_TLS_CLIENT_CERT_PATH": "/does/not/exist.pem"}, 2, "/does/not/exist.pem"),
        ({"TEMPORAL_ADDRESS": "nobody.invalid:7233"}, 1, "nobody.invalid:7233 does not answer"),
    ],
)
async def test_wrong_connection_settings_are_named(
    tmp_path: Path, variables: dict[str, str], code: int, said: str
) -> None:
    cli = CommandLine("127.0.0.1:1", "shop", tmp_path)

    answer = await cli("status", "dev", **variables)

    assert answer.exit_code == code
    assert said in answer.stderr
    assert answer.stdout == ""


async def test_an_api_key_is_never_shown(tmp_path: Path) -> None:
    cli = CommandLine("127.0.0.1:1", "shop", tmp_path)

    answer = await cli("status", "dev", "--json", TEMPORAL_API_KEY="hunter2-very-secret")

    assert answer.exit_code == 1
    assert "hunter2" not in answer.output


async def test_a_namespace_that_does_not_exist_is_named(cli: CommandLine) -> None:
    answer = await cli("status", "dev", TEMPORAL_NAMESPACE="elsewhere")

    assert answer.exit_code == 1
    assert "has no such namespace" in answer.stderr
    assert "TEMPORAL_NAMESPACE" in answer.stderr
