"""Container restarts as kube-state-metrics shows them, which the sandbox's cluster does not run."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
from kubernetes.aio import client, config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox.asgi import serve
from sandbox.metrics.target import MetricsTarget

_NAME: Final = "kube_pod_container_status_restarts_total"
_TIMEOUT: Final = 0.8  # seconds; a scrape waits 0.9


@contextlib.asynccontextmanager
async def export_restarts(kubeconfig: Path) -> AsyncIterator[MetricsTarget]:
    """Serve the restarts of all pods of a cluster; the API server is asked at every scrape."""
    api = await config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
    pods = client.CoreV1Api(api)

    async def metrics(_: Request) -> Response:
        try:
            listed = await pods.list_pod_for_all_namespaces(_request_timeout=_TIMEOUT)
        except (client.ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            return PlainTextResponse(f"cannot list the pods: {type(error).__name__}", status_code=503)
        found = api.sanitize_for_serialization(listed.items)
        return PlainTextResponse("\n".join([f"# TYPE {_NAME} counter", *_lines(found), ""]))

    async with api, serve(Starlette(routes=[Route("/metrics", metrics)])) as url:
        yield MetricsTarget(url.removeprefix("http://"), job="kube-state-metrics")


def _lines(pods: list[Any]) -> Iterator[str]:
    for pod in pods:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for container in pod.get("status", {}).get("containerStatuses") or []:
            labels = f'namespace="{namespace}",pod="{name}",container="{container["name"]}"'
            yield f"{_NAME}{{{labels}}} {container.get('restartCount', 0)}"
