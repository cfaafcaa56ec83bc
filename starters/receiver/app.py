"""The receiver as an ASGI application: which path leads where (design, section 4: HTTP)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from starters.codec_server import codec_routes
from starters.dashboard import dashboard_routes
from starters.dashboard.admission import Admission
from starters.receiver.alertmanager import AlertmanagerEndpoint
from starters.receiver.answer import Answer
from starters.receiver.body import Bodies
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.git_hosts import GITHUB, GITLAB, GitHostEndpoint
from starters.receiver.metrics import ReceiverMetrics
from starters.receiver.observation import Observed
from starters.receiver.pagerduty import PagerDutyEndpoint
from starters.receiver.probes import probe_routes
from starters.receiver.settings import BODY_LIMITS, ReceiverSettings, secrets_of
from starters.receiver.signatures import SCHEMES
from starters.receiver.slack import Desk, SlackEndpoint
from starters.receiver.temporal import Temporal
from starters.receiver.webhook import Endpoint, Webhook, respond

_LARGEST_AT_A_TIME = 64
"""Bodies of the largest size that an endpoint holds, if the limit of all its bodies is not reached before."""


def receiver_app(
    settings: ReceiverSettings,
    environment: Mapping[str, str],
    *,
    temporal: Temporal,
    configuration: ConfigurationFile,
    desk: Desk,
    metrics: ReceiverMetrics,
    host: str = "127.0.0.1",
) -> ASGIApp:
    """Webhooks, probes, codec server and dashboard.

    Args:
        host: what it listens on: browsers may call it by that name.

    Raises:
        ValueError: a key or token cannot be used; names it without its value.
    """
    endpoints: list[Endpoint] = [
        *(
            GitHostEndpoint(host, temporal, configuration, metrics.started(host.name))
            for host in (GITHUB, GITLAB)
        ),
        SlackEndpoint(desk, configuration),
        AlertmanagerEndpoint(temporal, configuration),
        PagerDutyEndpoint(),
    ]
    secrets = secrets_of(environment)
    webhooks: list[BaseRoute] = []
    for endpoint in endpoints:
        name = endpoint.name
        limit = min(settings.body_limit, BODY_LIMITS[name])
        together = min(settings.bodies_limit, _LARGEST_AT_A_TIME * limit)
        bodies = Bodies(limit, settings.body_timeout.total_seconds(), together)
        webhook = Webhook(endpoint, SCHEMES[name], secrets[name], bodies)
        # The bound method: Starlette takes an object that can be called for an ASGI application.
        webhooks.append(Route(f"/webhooks/{name}", webhook.__call__, methods=["POST"]))
    metrics.watch_configuration(lambda: configuration.problem is None)
    app = Starlette(
        routes=[
            *webhooks,
            *probe_routes(temporal, configuration, metrics),
            *codec_routes(environment),
            *dashboard_routes(
                temporal, configuration, Admission(environment, (host, *settings.allowed_hosts.split(",")))
            ),
        ],
        exception_handlers={HTTPException: _not_served, Exception: _broken},
    )
    app.router.redirect_slashes = False
    return Observed(app, metrics, frozenset(endpoint.name for endpoint in endpoints))


async def _not_served(request: Request, error: Exception) -> Response:
    """Unknown paths and wrong methods, in the words of the contract."""
    if not isinstance(error, HTTPException):
        raise error
    reason = {404: "there is nothing here", 405: f"{request.method[:20]} is not served here"}
    answer = Answer(error.status_code, "refused", reason.get(error.status_code, str(error.detail)))
    response = respond(request, answer)
    response.headers.update(error.headers or {})
    return response


async def _broken(request: Request, error: Exception) -> Response:
    """A defect of ours: the log has it, the sender does not."""
    return respond(request, Answer(500, "failed", "the receiver could not handle this; its log says why"))
