"""The way to the Temporal server, and what is said when it is barred (design, section 4: environment).

`temporalio.envconfig` reads TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS*, TEMPORAL_API_KEY and the
profiles of Temporal's own configuration file, so one setting serves this program and the stock CLI.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import ParamSpec

from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from domain import temporal_ui
from starters.errors import CommandError, ExitCode, usage_error
from workflows.confidentiality import UnreadablePayloadError
from workflows.conversion import data_converter_for

DEPLOYMENTS_QUEUE = "deployments"
DEFAULT_ADDRESS = "localhost:7233"
CONNECT_TIMEOUT = timedelta(seconds=10)
ANSWER_TIMEOUT = timedelta(seconds=5)
"""How long a worker may take to answer a query."""

TRANSIENT = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
        # What the server answers to a query while no worker polls.
        RPCStatusCode.FAILED_PRECONDITION,
    }
)
"""Answers that may be different in a moment."""

P = ParamSpec("P")


def profile() -> ClientConfigProfile:
    """The connection settings of the environment and of Temporal's configuration file.

    Raises:
        CommandError: they cannot be read (exit code 2).
    """
    try:
        return ClientConfigProfile.load()
    except (RuntimeError, ValueError, OSError) as error:
        raise usage_error(
            f"the Temporal connection settings cannot be read: {error}",
            remedy="correct the TEMPORAL_* variables or the file TEMPORAL_CONFIG_FILE names",
        ) from None


def server_address() -> str:
    """``host:port`` of the server that is used."""
    return profile().address or DEFAULT_ADDRESS


async def connect() -> Client:
    """A client with the product's data converter, which encrypts if the environment has keys.

    Raises:
        CommandError: the server does not answer, or the settings cannot be read.
    """
    try:
        converter = data_converter_for(os.environ)
    except ValueError as error:
        raise usage_error(str(error)) from None
    try:
        settings = profile().to_client_connect_config()
        settings.setdefault("target_host", DEFAULT_ADDRESS)
    except OSError as error:
        raise usage_error(
            f"a TLS file of the Temporal connection cannot be read: {error}",
            remedy="correct TEMPORAL_TLS_CLIENT_CERT_PATH, TEMPORAL_TLS_CLIENT_KEY_PATH or "
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
        ) from None
    try:
        return await Client.connect(
            **settings,
            data_converter=converter,
            connect_timeout=CONNECT_TIMEOUT,
            retry_config=RetryConfig(max_elapsed_time_millis=4000),
            runtime=quiet_runtime(),
        )
    except (RuntimeError, ValueError) as error:
        raise unreachable(_first_cause(str(error))) from None


@functools.cache
def quiet_runtime() -> Runtime:
    """Temporal's core would log to stdout, where the answer goes; failures are told in words anyway."""
    return Runtime(telemetry=TelemetryConfig(logging=None))


def unreachable(reason: str) -> CommandError:
    """The server does not answer: its address, and what to look at."""
    return CommandError(
        f"the Temporal server at {server_address()} does not answer: {reason}",
        remedy="start it (temporal server start-dev), or correct TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, "
        "TEMPORAL_TLS and TEMPORAL_API_KEY",
    )


def _first_cause(text: str) -> str:
    # With TLS 1.3 a client hears that its certificate is not accepted after the handshake, if at all.
    closed = "it closes the connection at once, as it does if it wants a client certificate, or another one"
    # The core's errors are nested debug output; people need the words of the operating system.
    known = {
        "Connection refused": "connection refused",
        "dns error": "the name cannot be resolved",
        "timed out": f"no connection within {CONNECT_TIMEOUT.total_seconds():g} s",
        "Timeout expired": f"no connection within {CONNECT_TIMEOUT.total_seconds():g} s",
        "deadline has elapsed": f"no connection within {CONNECT_TIMEOUT.total_seconds():g} s",
        "InvalidCertificate": "its TLS certificate is not trusted",
        "UnknownIssuer": "its TLS certificate is not trusted",
        "Unauthenticated": "the API key or certificate is not accepted",
        "invalid target URL": "the address is no host:port",
        "Unimplemented": "what answers there is no Temporal server",
        "hyper::Error": closed,
    }
    return next((words for mark, words in known.items() if mark.lower() in text.lower()), text[:200])


def explain_rpc(error: RPCError) -> CommandError:
    """The server's refusal in words."""
    if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
        return CommandError(
            f"the Temporal server at {server_address()} refuses: {error.message}",
            remedy="check TEMPORAL_API_KEY or the client certificate, and its rights on the namespace",
        )
    if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
        return unreachable(_first_cause(error.message))
    if error.status is RPCStatusCode.NOT_FOUND and "namespace" in error.message.lower():
        return CommandError(
            f"the Temporal server at {server_address()} has no such namespace: {error.message}",
            remedy="set TEMPORAL_NAMESPACE to one of: temporal operator namespace list",
        )
    if "search attribute" in error.message.lower():
        return CommandError(
            f"the namespace lacks a search attribute: {error.message}",
            remedy="start a worker once (erlmcp-deploy worker); it registers them or says how to",
        )
    return CommandError(f"the Temporal server at {server_address()} answers: {error.message}")


def command(function: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run an async command; SIGTERM (a cancelled CI job) is handled like Ctrl-C."""

    async def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            with suppress(RuntimeError, ValueError, NotImplementedError):  # not in the main thread
                loop.add_signal_handler(signal.SIGTERM, task.cancel)
        await function(*args, **kwargs)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            asyncio.run(guarded(*args, **kwargs))
        except RPCError as error:
            raise explain_rpc(error) from None
        except UnreadablePayloadError as error:
            raise CommandError(str(error)) from None
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise CommandError("interrupted", exit_code=ExitCode.INTERRUPTED) from None

    return run


def workflow_url(client_namespace: str, workflow_id: str, run_id: str | None = None) -> str | None:
    """The page of a workflow in Temporal's UI; none if its address is not known.

    TEMPORAL_UI_URL names it; the development server's and Temporal Cloud's are derived.
    """
    ui = os.environ.get(temporal_ui.VARIABLE)
    return temporal_ui.workflow_page(ui, server_address(), client_namespace, workflow_id, run_id)
