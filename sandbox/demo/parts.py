"""Which parts the demo uses, and why: real ones where they are installed, said so where not."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from sandbox.kubernetes.control_plane import ControlPlanePrograms
from sandbox.sample import Flavour
from sandbox.world import ERLANG, World
from starters.errors import usage_error

INSTALL_ERLANG = (
    "apt-get install erlang-dev erlang-tools erlang-reltool erlang-eunit erlang-common-test"
    " erlang-dialyzer rebar3"
)
INSTALL_PROMETHEUS = "apt-get install prometheus"
_APPLICATIONS = ("eunit", "common_test", "dialyzer", "tools", "reltool")
"""What the gates and the release need of Erlang/OTP; distributions pack them apart."""
_ASK_ERLANG = (
    'io:format("~s", [erlang:system_info(otp_release)]),'
    f'[io:format(" ~s", [A]) || A <- [{",".join(_APPLICATIONS)}], is_tuple(code:lib_dir(A))], halt().'
)


@dataclass(frozen=True)
class ServiceChoice:
    """Which flavour of the sample service is deployed, in words."""

    flavour: Flavour
    description: str


def choose_service(wanted: Flavour | None) -> ServiceChoice:
    """The Erlang service where it can be built, else the Python one.

    Raises:
        CommandError: Erlang was asked for and is not complete.
    """
    if wanted == "python":
        return ServiceChoice("python", f"{_PYTHON}; asked for with --flavour")
    release, missing = _erlang()
    if not missing:
        return ServiceChoice(
            "erlang",
            f"Erlang/OTP {release} with rebar3: eunit, Common Test, coverage, Dialyzer, xref, release",
        )
    reason = f"{', '.join(missing)} not installed"
    if wanted == "erlang":
        raise usage_error(f"--flavour erlang: {reason}", remedy=INSTALL_ERLANG)
    return ServiceChoice("python", f"{_PYTHON}; {reason} (Erlang: {INSTALL_ERLANG})")


_PYTHON = "the sample in Python, with tests, coverage, static checks and a release tarball"


def _erlang() -> tuple[str, list[str]]:
    """The release of Erlang/OTP, and what is missing."""
    missing = [program for program in ERLANG if shutil.which(program) is None]
    if "erl" in missing:
        return "", missing
    try:
        asked = subprocess.run(
            ["erl", "-noshell", "-eval", _ASK_ERLANG], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", [*missing, f"a working erl ({error})"]
    release, *absent = asked.stdout.split() or [""]
    return release, [*missing, *(f"Erlang's {name}" for name in absent)]


def check_kubernetes() -> None:
    """Raises `ControlPlaneMissingError`, which names what is missing and how to get it."""
    ControlPlanePrograms.find()


def describe(world: World, service: ServiceChoice) -> list[tuple[str, str]]:
    """Name and description of every part, as it runs now."""
    prometheus = (
        "Prometheus"
        if world.metrics.engine == "prometheus"
        else f"a stand-in that scrapes as Prometheus does (Prometheus: {INSTALL_PROMETHEUS})"
    )
    return [
        (
            "Temporal",
            f"a real server, TEMPORAL_ADDRESS={world.temporal.address}; its UI: {world.temporal.ui_url}",
        ),
        ("Kubernetes", world.kubernetes.describe().removeprefix("Kubernetes: ")),
        ("Service", service.description),
        ("Metrics", f"{prometheus}, at {world.metrics.url}; the traffic it measures is real HTTP"),
        ("Slack", "a stand-in on this machine that speaks Slack's API; nothing leaves the machine"),
        ("Worker", f"erlmcp-deploy worker, a process of its own (log: {world.data_dir / 'worker.log'})"),
    ]
