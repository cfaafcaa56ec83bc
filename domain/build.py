"""Builds: where they run, what they check out and what they leave."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from domain.durations import Duration, Interval
from domain.model import Model

Tool = Literal[
    "rebar3.compile",
    "rebar3.eunit",
    "rebar3.ct",
    "rebar3.cover",
    "rebar3.dialyzer",
    "rebar3.xref",
    "repository.documents",
]


class StepDefinition(Model):
    """One measured step: a built-in tool, or a command of the repository that prints one JSON object.

    Attributes:
        tool: a built-in adapter; its measurements are listed in docs/configuration.md.
        command: an argument list run in the checkout; its JSON object on standard output is the measurement.
        options: for the tool (e.g. ``changelog: CHANGELOG.md``).
        environment: additional variables for the process; secrets do not belong here, but ``${NAME}``
            hands on the worker's own variable of that name.
        timeout: the step's process group is killed after it.
    """

    tool: Tool | None = None
    command: tuple[str, ...] = ()
    options: dict[str, str] = {}
    environment: dict[str, str] = {}
    timeout: Interval = timedelta(minutes=15)

    @model_validator(mode="after")
    def _one_of_both(self) -> StepDefinition:
        if (self.tool is None) == (not self.command):
            raise ValueError(
                "a step has either a tool or a command; write one of them, "
                "and tool: null to replace a default's tool by a command"
            )
        return self


class ReleaseDefinition(Model):
    """How the release is made: ``rebar3 tar``, or a command that leaves a file.

    Attributes:
        tool: ``rebar3.release`` makes a tarball; ``null`` with a `command`.
        command: an argument list run in the checkout.
        artefact: glob in the checkout of the file a command leaves; ``{version}`` is replaced.
        publish: a command that publishes the image and prints ``{"image": "…"}``; without it the image is
            named by the application's ``image`` template. It finds ARTEFACT, DIGEST, VERSION and IMAGE in
            its environment, and may run again after a crash.
        environment: as in `StepDefinition`, for all of these commands.
        profile: of rebar3.
        timeout: of the release and of publishing it.
    """

    tool: Literal["rebar3.release"] | None = "rebar3.release"
    command: tuple[str, ...] = ()
    artefact: str = "_build/prod/rel/*/*-{version}.tar.gz"
    profile: str = "prod"
    publish: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    timeout: Interval = timedelta(minutes=20)


class BuildDefinition(Model):
    """The measured steps by name, and the release.

    Attributes:
        steps: name → step; gates name the steps they judge.
        release: how the release is made.
    """

    steps: dict[str, StepDefinition] = {}
    release: ReleaseDefinition = ReleaseDefinition()


class Workspace(Model):
    """A build worker's own queue and checkout: everything after the reservation runs there."""

    queue: str
    worker: str


class ReservationRequest(Model):
    deployment_id: str


class CheckoutRequest(Model):
    """Check out one commit.

    Attributes:
        run: the workflow's run id; separate runs never share a work tree.
        reference: a tag, branch or commit.
        since: a tag or commit; who wrote what came after it is looked up (`Checkout.authors`).
    """

    application: str
    repository: str
    reference: str
    commit: str | None = None
    version: str
    run: str
    since: str | None = None


class Checkout(Model):
    """A work tree of exactly one commit on the build worker.

    Attributes:
        authors: email addresses of who wrote, or helped to write, what this version brings.
    """

    path: str
    commit: str
    author: str
    author_email: str
    subject: str
    committed_at: str
    tag: str | None = None
    authors: tuple[str, ...] = ()


class StepRun(Model):
    """Run one step in a checkout."""

    name: str
    step: StepDefinition
    checkout: Checkout
    application: str
    version: str
    previous_version: str | None = None
    timeout: Duration


class ReleaseRun(Model):
    """Build the release of a checkout and keep it under its digest.

    Attributes:
        upgrade_from: the version that running nodes are upgraded from without a restart: the release gets a
            relup from it, if its applications have the appups.
    """

    release: ReleaseDefinition
    checkout: Checkout
    application: str
    version: str
    image: str
    upgrade_from: str | None = None


class ReleaseArtefact(Model):
    """A built release: where it is kept, its digest (``sha256:…``), and the image that carries it.

    Attributes:
        note: what it lacks: why it has no relup.
    """

    uri: str
    digest: str
    size: Annotated[int, Field(ge=0)]
    image: str
    commit: str
    note: str = ""
