"""``erlmcp-deploy serve``: receive webhooks."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from activities.configuration import ConfigurationError
from starters.errors import usage_error
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.settings import SECRETS, ReceiverSettings, secrets_of
from workflows.conversion import explain

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8088,
    forwarded_allow_ips: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            metavar="ADDRESSES",
            help="Proxies whose X-Forwarded-For is believed: addresses or networks, separated by commas.",
        ),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged.")] = "INFO",
) -> None:
    """Receive webhooks of GitHub, GitLab, Slack, Alertmanager and PagerDuty.

    Each sender needs its secret in the environment; one that has none there is refused.

    Put a reverse proxy with TLS in front, and let it pass on POST /webhooks/… only.
    """
    # The web server and the client of Slack, which no other verb needs.
    from starters.receiver import serving  # noqa: PLC0415
    from starters.slack.socket_mode import APP_TOKEN  # noqa: PLC0415

    if not any(secrets_of(os.environ).values()) and not os.environ.get(APP_TOKEN):
        raise usage_error(
            "no secret is set, so nobody could be believed",
            remedy=f"set at least one of {', '.join(SECRETS.values())}, or {APP_TOKEN} for Socket Mode",
        )
    try:
        settings = ReceiverSettings()
    except ValidationError as error:
        raise usage_error(f"ERLMCP_DEPLOY_…: {explain(error, ReceiverSettings)}") from None
    try:
        configuration = ConfigurationFile(settings.config)
    except ConfigurationError as error:
        raise usage_error(
            str(error), remedy=f"correct it, then: erlmcp-deploy config validate {settings.config}"
        ) from None
    logging.basicConfig(
        level=log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    with serving.listen(host, port) as listener:
        asyncio.run(
            serving.serve(
                listener,
                settings,
                configuration,
                os.environ,
                host=host,
                forwarded_allow_ips=forwarded_allow_ips,
            )
        )
