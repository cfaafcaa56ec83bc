"""What a command is about and who gives it: application, environment, version, actor.

Everything a person can type wrongly is checked here, before the server is contacted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from activities.configuration import DEFAULT_PATH, VARIABLE, ConfigurationError, load_configuration
from domain.deployment import Actor, Name
from domain.model import Model
from domain.version import SemVer
from starters.errors import invalid_input, usage_error

ApplicationOption = Annotated[
    str | None,
    typer.Option(
        "--application",
        "-a",
        envvar="ERLMCP_DEPLOY_APPLICATION",
        show_default=False,
        help="Application in deployment.yaml; by default the only one there.",
    ),
]
ActorOption = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar=["ERLMCP_DEPLOY_ACTOR", "GITHUB_ACTOR"],
        show_default=False,
        help="Who acts, an e-mail address; by default git's user.email.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; diagnostics go to stderr.")
]
EnvironmentArgument = Annotated[
    str, typer.Argument(show_default=False, help="dev, qa, staging, production …")
]
OptionalEnvironment = Annotated[
    str | None, typer.Argument(show_default=False, help="dev, qa, staging, production …")
]
OptionalVersion = Annotated[
    str | None, typer.Argument(show_default=False, help="Semantic version, without a leading v.")
]
IdOption = Annotated[
    str | None,
    typer.Option("--id", show_default=False, help="Workflow id, in place of environment and version."),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the audit trail.")]


class Target(Model):
    """One version in one environment."""

    application: Name
    environment: Name
    version: SemVer

    def id_of(self, kind: str, *suffix: str) -> str:
        """The workflow id of a kind, e.g. ``deployment:erlmcp:staging:3.0.0``."""
        return ":".join((kind, self.application, self.environment, self.version, *suffix))

    @property
    def arguments(self) -> str:
        """How to name it on the command line."""
        return f"{self.environment} {self.version}"


class Place(Model):
    """One environment of one application."""

    application: Name
    environment: Name

    @property
    def workflow_id(self) -> str:
        return f"environment:{self.application}:{self.environment}"


def find_target(
    environment: str | None, version: str | None, application: str | None, workflow_id: str | None = None
) -> Target:
    """The target, from its names or from the id of one of its workflows.

    Raises:
        CommandError: something is missing or malformed (exit code 2).
    """
    if workflow_id is not None:
        if environment is not None or version is not None:
            raise usage_error("--id names the target already; leave environment and version out")
        return target_of(workflow_id)
    if environment is None or version is None:
        missing = "environment" if environment is None else "version"
        raise usage_error(f"{missing} is missing", remedy="give ENVIRONMENT VERSION, or --id")
    fields = {
        "application": default_application(application),
        "environment": environment,
        "version": version,
    }
    try:
        return Target.model_validate(fields)
    except ValidationError as error:
        raise invalid_input(error, Target) from None


def find_place(environment: str, application: str | None) -> Place:
    """The environment of an application; see `find_target`."""
    try:
        return Place(application=default_application(application), environment=environment)
    except ValidationError as error:
        raise invalid_input(error, Place) from None


def target_of(workflow_id: str) -> Target:
    """Read the target out of a workflow id such as ``approval:erlmcp:production:3.0.0:manual_approval``.

    Raises:
        CommandError: it is no such id (exit code 2).
    """
    kind, *names = workflow_id.split(":")
    if kind not in ("deployment", "approval", "canary", "rollback") or len(names) < 3:
        raise usage_error(
            f"--id is {workflow_id!r}: it names no deployment",
            remedy="write for example deployment:erlmcp:staging:3.0.0",
        )
    try:
        return Target(application=names[0], environment=names[1], version=names[2])
    except ValidationError as error:
        raise invalid_input(error, Target) from None


def gate_of(workflow_id: str) -> str | None:
    """The gate, if the id is an approval's."""
    kind, *names = workflow_id.split(":", 4)
    return names[3] if kind == "approval" and len(names) == 4 else None


def default_application(application: str | None) -> str:
    """The application: the one given, or the only one that is configured.

    Raises:
        CommandError: it cannot be known (exit code 2).
    """
    if application:
        return application
    try:
        known = sorted(load_configuration(os.environ.get(VARIABLE) or DEFAULT_PATH).applications)
    except ConfigurationError as error:
        found = str(error.problems[0])
    else:
        if len(known) == 1:
            return known[0]
        found = f"deployment.yaml describes {', '.join(known)}"
    raise usage_error(
        f"application is missing ({found})", remedy="give --application, or set ERLMCP_DEPLOY_APPLICATION"
    )


def require_actor(actor: str | None) -> str:
    """Who acts: the option, its variables, or git's user.

    Raises:
        CommandError: nobody can be named (exit code 2).
    """
    name = actor or _git_user()
    if not name:
        raise usage_error(
            "actor is missing: nobody would be responsible",
            remedy="give --actor you@example.com, or set ERLMCP_DEPLOY_ACTOR",
        )
    try:
        return TypeAdapter(Actor).validate_python(name)
    except ValidationError as error:
        raise usage_error(f"actor is {name[:80]!r}: {error.errors()[0]['msg']}") from None


def _git_user() -> str | None:
    if shutil.which("git") is None:
        return None
    answer = subprocess.run(["git", "config", "user.email"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def check_configured(application: str, environment: str) -> None:
    """Refuse names that the configuration does not have, where this machine has a valid one.

    What counts in the end is the worker's.

    Raises:
        CommandError: application or environment is unknown (exit code 2).
    """
    try:
        configuration = load_configuration(os.environ.get(VARIABLE) or DEFAULT_PATH)
    except ConfigurationError:
        return
    for kind, name, known in (
        ("application", application, configuration.applications),
        ("environment", environment, configuration.environments),
    ):
        if name not in known:
            raise usage_error(
                f"{kind} is {name!r}: deployment.yaml has none of that name",
                remedy=f"choose one of: {', '.join(sorted(known))}",
            )
