"""What all tests share: the Kubernetes fixtures, and the rule for parts that are not installed."""

import os
import shutil
import signal

import pytest

pytest_plugins = ["sandbox.kubernetes.pytest_plugin"]

_INSTALL_ERLANG = (
    "apt-get install --no-install-recommends erlang-dev erlang-tools erlang-reltool erlang-eunit"
    " erlang-common-test erlang-dialyzer rebar3"
)


def pytest_configure() -> None:
    """Programs under test must hear SIGINT, to which a shell makes its background jobs deaf."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs Erlang where there is none; where skips are forbidden, fail."""
    missing = [program for program in ("erl", "rebar3") if shutil.which(program) is None]
    if item.get_closest_marker("erlang") is None or not missing:
        return
    reason = f"{' and '.join(missing)} not on PATH: {_INSTALL_ERLANG}"
    if os.environ.get("CI_FORBID_SKIPS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
