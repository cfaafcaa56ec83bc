"""Running the receiver: listen, answer, and stop without dropping what is being handled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from starters.connection import server_address
from starters.errors import CommandError, usage_error
from starters.receiver.app import receiver_app
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.connections import bounded_connections, possible_connections, say_seldom
from starters.receiver.metrics import ReceiverMetrics
from starters.receiver.settings import SECRETS, ReceiverSettings, secrets_of
from starters.receiver.temporal import Temporal
from starters.slack.desk import SlackDesk
from starters.slack.socket_mode import APP_TOKEN, run_socket_mode

logger = logging.getLogger(__name__)

GRACE = 10
"""Seconds that requests have to be answered once a stop is asked for."""
SOCKET_MODE_GRACE = 4.0
"""Seconds that Socket Mode has for the same: more than an interaction may take, and than Slack waits."""
_BACKLOG = 2048
_ACCEPTED_AT_ONCE = 64


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn would end the process by the signal, and not with exit code 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """asyncio accepts as many connections at once as may wait; more may wait than have descriptors."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)


class _Stop:
    """What SIGTERM and SIGINT ask for.

    Attributes:
        asked: finish what has begun.
        now: do not wait for anybody, as a second signal says.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()

    def ask(self) -> None:
        if self.asked.is_set():
            self.now.set()
        self.asked.set()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        CommandError: the address is not ours, or not free.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server((address[0], int(address[1])), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            remedy="free the port, or choose another one with --host and --port",
        ) from None


async def serve(
    listener: socket.socket,
    settings: ReceiverSettings,
    configuration: ConfigurationFile,
    environment: Mapping[str, str],
    *,
    host: str,
    forwarded_allow_ips: str | None,
) -> None:
    """Answer until SIGTERM or SIGINT; a second one does not wait for anybody.

    Args:
        host: the name or address it listens on, as it was given.
    """
    asyncio.get_running_loop().set_exception_handler(say_seldom())
    metrics = ReceiverMetrics()
    temporal = Temporal(measured=metrics.temporal_answered)
    stop = _Stop()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(temporal.close)
        try:
            desk = SlackDesk(temporal, configuration, environment=environment)
            stack.push_async_callback(desk.close)
            app = receiver_app(
                settings,
                environment,
                temporal=temporal,
                configuration=configuration,
                desk=desk,
                metrics=metrics,
                host=host,
            )
        except ValueError as error:  # a key or another setting that cannot be used, named without its value
            raise usage_error(str(error)) from None
        _say_who_may_call(environment)
        await stack.enter_async_context(_beside(configuration.follow(), "following deployment.yaml"))
        if environment.get(APP_TOKEN):
            socket_mode = run_socket_mode(desk, environment, configuration, stop.asked)
            beside = _beside(socket_mode, "Slack's Socket Mode", stop)
            await stack.enter_async_context(beside)
        connections = possible_connections(settings.connections_limit)
        await _answer(app, listener, stop, connections, forwarded_allow_ips)


def _say_who_may_call(environment: Mapping[str, str]) -> None:
    secrets = secrets_of(environment)
    logger.info("Temporal is at %s", server_address())
    logger.info("accepted: webhooks of %s", ", ".join(n for n, s in secrets.items() if s) or "nobody")
    missing = [SECRETS[name] for name, given in secrets.items() if not given]
    if missing:
        logger.info("webhooks of others are refused, as these are not set: %s", ", ".join(missing))


async def _answer(
    app: ASGIApp, listener: socket.socket, stop: _Stop, connections: int, forwarded_allow_ips: str | None
) -> None:
    server = _Server(
        uvicorn.Config(
            app,
            http=bounded_connections(connections),
            backlog=_ACCEPTED_AT_ONCE,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=forwarded_allow_ips is not None,
            forwarded_allow_ips=forwarded_allow_ips,
            timeout_graceful_shutdown=GRACE,
        )
    )

    def signalled() -> None:
        stop.ask()
        server.should_exit = True
        server.force_exit = stop.now.is_set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    host, port = listener.getsockname()[:2]
    logger.info("listening on http://%s:%s", f"[{host}]" if ":" in host else host, port)
    await server.serve(sockets=[listener])
    logger.info("stopped")


@contextlib.asynccontextmanager
async def _beside(
    work: Coroutine[Any, Any, None], name: str, stop: _Stop | None = None
) -> AsyncIterator[None]:
    """Work in the background; what breaks it is told, and does not end the receiver.

    Args:
        stop: work that ends by itself when this is asked for is given time to.
    """

    async def guarded() -> None:
        try:
            await work
        except CommandError as error:
            logger.error("%s ended: %s; %s", name, error, error.remedy)
        except Exception:
            logger.exception("%s ended", name)

    task = asyncio.create_task(guarded(), name=name)
    try:
        yield
    finally:
        if stop is not None and stop.asked.is_set():
            hurry = asyncio.create_task(stop.now.wait())
            await asyncio.wait({task, hurry}, timeout=SOCKET_MODE_GRACE, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
