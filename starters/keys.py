"""``keys``: make the keys that sign decisions and encrypt payloads (see docs/security.md)."""

from __future__ import annotations

import json
import os
import shlex
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from domain.identity import SIGNING_KEY
from domain.signing import SigningKey
from starters.errors import usage_error
from starters.rendering import print_json
from starters.target import ActorOption, JsonOption, require_actor
from workflows.confidentiality import ENCRYPTION_KEYS, EncryptionKeys, generate_key

app = typer.Typer(no_args_is_help=True, help="Keys that sign decisions and encrypt payloads.")
new = typer.Typer(no_args_is_help=True, help="Make a key. It is shown once, and stored nowhere.")
app.add_typer(new, name="new")


@new.command()
def signing(
    *,
    name: Annotated[
        str, typer.Option("--name", show_default=False, help="The signer's name in deployment.yaml.")
    ],
    speaks_for: Annotated[
        list[str] | None,
        typer.Option(
            "--speaks-for",
            show_default=False,
            help="A person it signs for, or * for a program that checks who they are; by default you. "
            "May be given several times.",
        ),
    ] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key that signs decisions: the secret for its holder, the public part for deployment.yaml."""
    people = speaks_for or [require_actor(actor)]
    try:
        key = SigningKey.generate(name)
    except ValueError as error:
        raise usage_error(str(error)) from None
    signers = {name: {"public_key": key.public_key, "speaks_for": people}}
    if as_json:
        print_json(
            {
                "environment": {SIGNING_KEY: key.environment_value},
                "configuration": {"directory": {"signers": signers}},
            }
        )
        return
    _print(
        f"""\
# The secret: for the environment of whoever signs as {name}. It is not shown again.
{SIGNING_KEY}={shlex.quote(key.environment_value)}

# The public part: for deployment.yaml, which the workers read.
directory:
  signers:
    {json.dumps(name)}:
      public_key: {json.dumps(key.public_key)}
      speaks_for: [{", ".join(map(json.dumps, people))}]
"""
    )


@new.command()
def encryption(
    *,
    key_id: Annotated[
        str | None,
        typer.Option(
            "--id", show_default=False, help="Names the key in what it encrypts; by default the time."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key that encrypts payloads: for the environment of workers, receivers and command lines."""
    name = key_id or datetime.now(UTC).strftime("%Y-%m-%d.%H%M%S")
    value = f"{name}:{generate_key()}"
    try:
        EncryptionKeys.from_environment({ENCRYPTION_KEYS: value})
    except ValueError as error:
        raise usage_error(f"--id is {name!r}: {error}") from None
    if as_json:
        print_json({"environment": {ENCRYPTION_KEYS: value}})
        return
    if not os.environ.get(ENCRYPTION_KEYS, "").strip():
        _print(
            f"""\
# The secret: for the environment of every worker, receiver and command line. It is not shown again.
{ENCRYPTION_KEYS}={value}
"""
        )
        return
    _print(
        f"""\
# The secret. It is not shown again.
#   1. Everywhere, behind the keys that are there: {ENCRYPTION_KEYS}=…,{name}:…
#   2. When every worker, receiver and command line has it: in front of them, so that it encrypts.
#   3. When the last workflow that an old key encrypted is past its retention: without the old key.
{value}
"""
    )


def _print(text: str) -> None:
    # Not through the console: it would break long lines.
    sys.stdout.write(text)
