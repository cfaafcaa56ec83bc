"""``erlmcp-deploy config``: what deployment.yaml says, and whether it can be used."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from ruamel.yaml import YAML

from activities.configuration import DEFAULT_PATH, VARIABLE, ConfigurationError, load_configuration
from domain.configuration import Configuration
from domain.deployment import DeploymentRequest
from domain.plan import UnknownNameError, resolve_plan
from starters.configuration_schema import json_schema, reference
from starters.errors import ExitCode, usage_error
from starters.target import JsonOption

app = typer.Typer(name="config", help="Validate, describe and show deployment.yaml.", no_args_is_help=True)

FileArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]", help=f"The configuration; by default {VARIABLE}, else ./{DEFAULT_PATH}."
    ),
]


def configured_path(file: Path | None) -> Path:
    """The file a person names, or the environment does, or the one that lies here."""
    return file or Path(os.environ.get(VARIABLE) or DEFAULT_PATH)


@app.command()
def validate(file: FileArgument = None, *, as_json: JsonOption = False) -> None:
    """Check a configuration: exit code 0 if it can be used, 2 with every mistake if not."""
    path = configured_path(file)
    configuration = _load(path, as_json=as_json)
    if as_json:
        _print_json({"file": str(path), "valid": True, "problems": []})
        return
    applications = ", ".join(configuration.applications)
    typer.echo(f"{path}: valid; {applications} through {', '.join(configuration.environments)}")


@app.command()
def schema() -> None:
    """Print the JSON Schema (draft 2020-12) of the file, for editors and CI."""
    _print_json(json_schema())


@app.command(name="reference")
def print_reference() -> None:
    """Print every field as Markdown."""
    typer.echo(reference(), nl=False)


@app.command()
def show(
    file: FileArgument = None,
    *,
    application: Annotated[str | None, typer.Option("--application", "-a", help="Show its plan …")] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", "-e", help="… in this environment.")
    ] = None,
    version: Annotated[str, typer.Option(help="The version of the plan.")] = "1.0.0",
    actor: Annotated[
        str, typer.Option(help="Who asks in the plan; nobody approves what they ask for.")
    ] = "you",
    as_json: JsonOption = False,
) -> None:
    """Print the configuration with all defaults, or the plan of one application in one environment."""
    configuration = _load(configured_path(file), as_json=as_json)
    if (application is None) is not (environment is None):
        raise usage_error(
            "a plan needs both --application and --environment",
            remedy="name both, or neither for the whole configuration",
        )
    if application is None or environment is None:
        _print(configuration.model_dump(mode="json"), as_json=as_json)
        return
    try:
        request = DeploymentRequest(
            application=application, environment=environment, version=version, actor=actor
        )
        plan = resolve_plan(configuration, request)
    except ValidationError as error:
        fault = error.errors()[0]
        raise usage_error(f"--{fault['loc'][0]}: {fault['msg'].removeprefix('Value error, ')}") from None
    except UnknownNameError as error:
        raise usage_error(str(error)) from None
    _print(plan.model_dump(mode="json"), as_json=as_json)


def _load(path: Path, *, as_json: bool) -> Configuration:
    try:
        return load_configuration(path)
    except ConfigurationError as error:
        _refuse(path, error, as_json=as_json)


def _refuse(path: Path, error: ConfigurationError, *, as_json: bool) -> NoReturn:
    if as_json:
        problems = [p.model_dump(mode="json") for p in error.problems]
        _print_json({"file": str(path), "valid": False, "problems": problems})
    else:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        typer.echo(f"{path}: {len(error.problems)} problem(s)", err=True)
    raise typer.Exit(ExitCode.USAGE)


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(document)
        return
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    yaml.allow_unicode = True
    yaml.dump(document, sys.stdout)


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
