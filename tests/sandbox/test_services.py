"""The sandbox runs what the Deployments name, behind one fixed port for each track."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sandbox.asgi import serve
from sandbox.services import ARTEFACT_ANNOTATION, TRACK_LABEL, VERSION_LABEL, FrontStatus, ServiceRunner

_NAMESPACE = "sample-prod"


class Deployments:
    """The one call of an API server that the runner makes, over HTTP."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.up = True

    def apply(
        self, name: str, version: str, artefact: str, *, track: str = "stable", replicas: int = 1
    ) -> None:
        """Create or replace a Deployment."""
        labels = {"app": "erlsample", VERSION_LABEL: version, TRACK_LABEL: track}
        container = {"name": "erlsample", "image": f"erlsample:{version}"}
        self.items[name] = {
            "metadata": {"name": name, "creationTimestamp": "2026-01-05T12:00:00Z"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "erlsample", TRACK_LABEL: track}},
                "template": {
                    "metadata": {"labels": labels, "annotations": {ARTEFACT_ANNOTATION: artefact}},
                    "spec": {"containers": [container]},
                },
            },
        }

    async def answer(self, request: Request) -> JSONResponse:
        if not self.up:
            return JSONResponse({"kind": "Status", "code": 503}, 503)
        mine = request.path_params["namespace"] == _NAMESPACE
        selected = request.query_params["labelSelector"] == "app=erlsample"
        items = list(self.items.values()) if mine and selected else []
        return JSONResponse(
            {"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": {}, "items": items}
        )


@pytest.fixture
async def deployments(tmp_path: Path) -> AsyncIterator[Deployments]:
    deployments = Deployments()
    path = "/apis/apps/v1/namespaces/{namespace}/deployments"
    async with serve(Starlette(routes=[Route(path, deployments.answer)])) as url:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
        yield deployments


@pytest.fixture
async def runner(deployments: Deployments, tmp_path: Path) -> AsyncIterator[ServiceRunner]:
    async with _runner(tmp_path) as running:
        yield running


@asynccontextmanager
async def _runner(tmp_path: Path) -> AsyncIterator[ServiceRunner]:
    fronts = {(_NAMESPACE, "stable"): 0, (_NAMESPACE, "canary"): 0}
    async with ServiceRunner(
        tmp_path / "kubeconfig", "erlsample", fronts, tmp_path / "services", poll_interval=0.05
    ) as runner:
        yield runner


async def _until(
    runner: ServiceRunner, condition: Callable[[FrontStatus], bool], *, track: str = "stable"
) -> FrontStatus:
    async with asyncio.timeout(60):
        while True:
            for front in runner.status():
                if front.track == track and condition(front):
                    return front
            await asyncio.sleep(0.02)


async def _health(runner: ServiceRunner, track: str = "stable") -> tuple[int, str | None]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(runner.url(_NAMESPACE, track) + "/health")
    return answer.status_code, answer.json()["version"]


async def test_each_track_serves_the_version_that_its_deployment_names(
    runner: ServiceRunner, deployments: Deployments, python_releases: dict[str, str]
) -> None:
    # given nothing deployed: the fronts say so
    assert await _health(runner) == (503, None)

    # when stable and canary name two versions
    deployments.apply("erlsample", "1.0.0", python_releases["1.0.0"])
    deployments.apply("erlsample-canary", "1.1.0", python_releases["1.1.0"], track="canary")
    stable = await _until(runner, lambda front: front.serving)
    await _until(runner, lambda front: front.serving, track="canary")
    # then each front answers for its own
    assert await _health(runner) == (200, "1.0.0")
    assert await _health(runner, "canary") == (200, "1.1.0")

    # when stable changes and canary is scaled to zero
    deployments.apply("erlsample", "1.1.0", python_releases["1.1.0"])
    deployments.apply("erlsample-canary", "1.1.0", python_releases["1.1.0"], track="canary", replicas=0)
    promoted = await _until(runner, lambda front: front.serving and front.version == "1.1.0")
    await _until(runner, lambda front: front.version is None and not front.serving, track="canary")
    # then another process serves the same port, and the canary's front is closed
    assert promoted.port == stable.port
    assert promoted.pid != stable.pid
    assert await _health(runner) == (200, "1.1.0")
    assert await _health(runner, "canary") == (503, None)


async def test_a_crashed_process_is_started_again(
    runner: ServiceRunner, deployments: Deployments, python_releases: dict[str, str]
) -> None:
    deployments.apply("erlsample", "1.0.0", python_releases["1.0.0"])
    before = await _until(runner, lambda front: front.serving)
    assert before.pid is not None

    os.kill(before.pid, 9)

    after = await _until(runner, lambda front: front.serving and front.pid != before.pid)
    assert after.restarts == 1
    assert await _health(runner) == (200, "1.0.0")


async def test_processes_outlive_an_outage_of_the_api_server(
    runner: ServiceRunner, deployments: Deployments, python_releases: dict[str, str]
) -> None:
    deployments.apply("erlsample", "1.0.0", python_releases["1.0.0"])
    before = await _until(runner, lambda front: front.serving)

    deployments.up = False
    await asyncio.sleep(0.2)
    assert await _health(runner) == (200, "1.0.0")

    deployments.apply("erlsample", "1.1.0", python_releases["1.1.0"])
    deployments.up = True
    after = await _until(runner, lambda front: front.serving and front.version == "1.1.0")
    assert after.pid != before.pid


@pytest.mark.parametrize(
    "artefact", ["file:///nowhere/erlsample.tar.gz", "https://example.com/erlsample.tar.gz"]
)
async def test_a_release_that_cannot_be_started_is_named_in_the_status(
    runner: ServiceRunner, deployments: Deployments, artefact: str
) -> None:
    deployments.apply("erlsample", "9.0.0", artefact)

    front = await _until(runner, lambda front: front.error is not None)

    assert front.error is not None
    assert artefact.removeprefix("file://") in front.error
    assert await _health(runner) == (503, "9.0.0")


async def test_no_process_is_left_when_the_runner_ends(
    deployments: Deployments, python_releases: dict[str, str], tmp_path: Path
) -> None:
    deployments.apply("erlsample", "1.0.0", python_releases["1.0.0"])
    async with _runner(tmp_path) as runner:
        front = await _until(runner, lambda front: front.serving)
        assert front.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(front.pid, 0)
    with pytest.raises(httpx.ConnectError):
        await _health(runner)


async def _goes_bad_after_twenty_bumps(runner: ServiceRunner) -> None:
    async with httpx.AsyncClient(base_url=runner.url(_NAMESPACE)) as http:
        assert [(await http.get("/bump")).status_code for _ in range(20)] == [200] * 20
        assert (await http.get("/health")).status_code == 200

        assert [(await http.get("/bump")).status_code for _ in range(3)] == [500] * 3
        assert (await http.get("/health")).status_code == 503
        assert (await http.get("/ready")).status_code == 200
        metrics = (await http.get("/metrics")).text
    assert 'erlsample_requests_total{status="200",version="1.2.0"} 20\n' in metrics
    assert 'erlsample_requests_total{status="500",version="1.2.0"} 3\n' in metrics
    for bound in ("0.5", "10", "30", "+Inf"):
        assert f'erlsample_request_duration_seconds_bucket{{le="{bound}",version="1.2.0"}} 23\n' in metrics


async def test_1_2_0_passes_its_gates_and_goes_bad_in_service(
    runner: ServiceRunner, deployments: Deployments, python_releases: dict[str, str]
) -> None:
    deployments.apply("erlsample", "1.2.0", python_releases["1.2.0"])
    await _until(runner, lambda front: front.serving)
    await _goes_bad_after_twenty_bumps(runner)


@pytest.mark.erlang
async def test_an_otp_release_is_served_the_same_way(
    runner: ServiceRunner, deployments: Deployments, erlang_tree: Path
) -> None:
    [package] = erlang_tree.glob("_build/default/rel/erlsample/*.tar.gz")
    deployments.apply("erlsample", "1.2.0", package.as_uri())
    await _until(runner, lambda front: front.serving)
    await _goes_bad_after_twenty_bumps(runner)
