"""``/healthz``, ``/readyz`` and ``/metrics``: for those who run the receiver. They name no internals."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from starters.receiver.answer import RefusedError
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.metrics import ReceiverMetrics
from starters.receiver.temporal import RETRY_AFTER, Temporal


def probe_routes(
    temporal: Temporal, configuration: ConfigurationFile, metrics: ReceiverMetrics
) -> list[BaseRoute]:
    """The three."""

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def ready(request: Request) -> Response:
        """Whether a webhook would be taken: Temporal answers, and there is a configuration to route by.

        A mistake in an edited deployment.yaml is told, but does not make the receiver unready: the
        configuration before it still counts, and without a receiver events would be lost.
        """
        await configuration.refresh()
        reasons, warnings = [], []
        try:
            await temporal.ask(_namespace)
        except RefusedError as error:
            reasons.append(error.answer.reason.removesuffix("; send it again"))
        except RPCError as error:
            reasons.append(f"Temporal answers {error.status.name}")
        if configuration.problem is not None:
            warnings.append(f"{configuration.problem} (see the log); the configuration before it counts")
        if temporal.problem is not None:
            # Events and alerts are taken all the same.
            warnings.append(temporal.problem)
        status = "unavailable" if reasons else "ready"
        return JSONResponse(
            {"status": status, "reasons": reasons, "warnings": warnings},
            status_code=503 if reasons else 200,
            headers={"Retry-After": str(RETRY_AFTER)} if reasons else {},
        )

    async def measured(request: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", measured)]


async def _namespace(client: Client) -> None:
    await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace), retry=False
    )
