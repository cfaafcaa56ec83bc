"""``keys new``: what it prints can be used as it is."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime

import pytest
import yaml
from temporalio.api.common.v1 import Payload
from typer.testing import CliRunner, Result

from activities.configuration import parse_configuration
from domain.approval import DecisionMessage, Verb
from domain.identity import SIGNING_KEY
from domain.signing import SigningKey, identify, query_of
from starters.cli import app
from workflows.confidentiality import ENCRYPTION_KEYS, EncryptionKeys

ADA = "ada@example.com"


def run(*arguments: str, **environment: str | None) -> Result:
    nothing = {"ERLMCP_DEPLOY_ACTOR": ADA, ENCRYPTION_KEYS: None, SIGNING_KEY: None}
    return CliRunner().invoke(app, ["keys", "new", *arguments], env={**nothing, **environment})


def recognised(value: str, configuration: str) -> bool:
    """Whether the secret signs what a worker with that configuration recognises."""
    key = SigningKey.from_environment({SIGNING_KEY: value})
    assert key is not None
    message = key.sign("deployment:a:b:1.0.0", Verb.REJECT, DecisionMessage(actor=ADA), datetime.now(UTC))
    described = yaml.safe_load(configuration) | {"environments": {"staging": None, "production": None}}
    described["directory"]["roles"] = {"tech_lead": [ADA]}
    signers = parse_configuration(json.dumps(described)).directory.signers
    return identify(query_of("deployment:a:b:1.0.0", Verb.REJECT, message, None), signers).verified


def test_a_signing_key_and_its_place_in_the_configuration() -> None:
    answer = run("signing", "--name", "ada-laptop")

    assert answer.exit_code == 0
    secret, _, block = answer.stdout.partition("\n\n")
    [line] = [line for line in secret.splitlines() if not line.startswith("#")]
    name, _, value = shlex.split(line)[0].partition("=")
    assert name == SIGNING_KEY
    assert value.startswith("ada-laptop:")
    assert recognised(value, block)
    assert answer.output.count(value) == 1
    assert yaml.safe_load(block)["directory"]["signers"]["ada-laptop"]["speaks_for"] == [ADA]


def test_a_signing_key_as_json() -> None:
    answer = run("signing", "--name", 'it\'s a "receiver"', "--speaks-for", "*", "--json")

    document = json.loads(answer.stdout)
    assert recognised(document["environment"][SIGNING_KEY], json.dumps(document["configuration"]))


def test_an_awkward_name_is_quoted() -> None:
    answer = run("signing", "--name", "it's #1: no", "--speaks-for", "*")
    fine = run("signing", "--name", "it's #1", "--speaks-for", "*")

    assert answer.exit_code == 2
    assert "without colon" in answer.stderr
    secret, _, block = fine.stdout.partition("\n\n")
    assert recognised(shlex.split(secret.splitlines()[-1])[0].partition("=")[2], block)


def test_an_encryption_key() -> None:
    answer = run("encryption", "--id", "2026")

    [line] = [line for line in answer.stdout.splitlines() if not line.startswith("#")]
    keys = EncryptionKeys.from_environment(dict([line.split("=", 1)]))
    assert keys is not None
    payload = Payload(data=b"secret")
    assert keys.decrypt(keys.encrypt(payload)) == payload
    assert keys.current == "2026"


def test_a_further_encryption_key_comes_with_the_order_of_a_rotation() -> None:
    first = json.loads(run("encryption", "--json").stdout)["environment"][ENCRYPTION_KEYS]

    answer = run("encryption", "--id", "next", **{ENCRYPTION_KEYS: first})

    value = answer.stdout.splitlines()[-1]
    rotated = EncryptionKeys.from_environment({ENCRYPTION_KEYS: f"{first},{value}"})
    assert rotated is not None
    assert rotated.current == first.partition(":")[0]
    assert first not in answer.output
    assert "1. Everywhere, behind the keys that are there" in answer.stdout


@pytest.mark.parametrize("name", ["a:b", "a,b", "-a", "ä"])
def test_a_key_id_must_fit_into_the_variable(name: str) -> None:
    answer = run("encryption", f"--id={name}")

    assert answer.exit_code == 2
    assert "--id is" in answer.stderr
    assert answer.stdout == ""
