"""A receiver over real HTTP, and a Temporal server of its own, so that no worker interferes unasked."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from sandbox.asgi import serve
from sandbox.temporal import TemporalServer
from starters.connection import unreachable
from starters.receiver.app import receiver_app
from starters.receiver.configuration import ConfigurationFile
from starters.receiver.metrics import ReceiverMetrics
from starters.receiver.settings import ReceiverSettings
from starters.receiver.slack import Desk
from starters.receiver.temporal import Temporal
from starters.slack.desk import SlackDesk
from tests.starters.receiver.senders import SECRETS
from tests.starters.world import DEPLOYMENT_YAML
from workflows.conversion import data_converter, data_converter_for

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TemporalServer]:
    async with TemporalServer.start(tmp_path_factory.mktemp("temporal"), ui=False) as running:
        yield running


@pytest.fixture(scope="session")
async def client(server: TemporalServer) -> Client:
    return await Client.connect(server.address, data_converter=data_converter)


@dataclass(frozen=True)
class Shop:
    """An application of one test.

    Attributes:
        project: where its source is, at GitHub or GitLab.
        configuration: its deployment.yaml.
    """

    application: str
    project: str
    configuration: Path

    def deployment(self, environment: str, version: str) -> str:
        return f"deployment:{self.application}:{environment}:{version}"


def make_shop(directory: Path) -> Shop:
    application = f"bookshop-{next(_numbers)}"
    project = f"octo/{application}"
    configuration = directory / "deployment.yaml"
    described = DEPLOYMENT_YAML.format(application=application)
    repository = "repository: https://git.example.com/shop.git"
    assert repository in described
    configuration.write_text(described.replace(repository, f"{repository}\n    project: {project}"))
    return Shop(application, project, configuration)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """One for all tests that only read its configuration."""
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def own_shop(tmp_path: Path) -> Shop:
    return make_shop(tmp_path)


@pytest.fixture
def version() -> str:
    """One that no other test deploys."""
    return f"1.{next(_numbers)}.0"


@dataclass(frozen=True)
class Receiver:
    """A receiver that listens.

    Attributes:
        http: a client with its address.
    """

    http: httpx.AsyncClient
    url: str

    async def post(self, endpoint: str, body: Any, headers: Mapping[str, str]) -> httpx.Response:
        return await self.http.post(f"/webhooks/{endpoint}", content=body, headers=headers)


@asynccontextmanager
async def receiving(
    address: str,
    configuration: Path,
    environment: Mapping[str, str] = SECRETS,
    *,
    namespace: str = "default",
    desk: Desk | None = None,
    **settings: Any,
) -> AsyncIterator[Receiver]:
    """Serve the receiver's application in this process, with Temporal at this address."""
    metrics = ReceiverMetrics()

    async def connect() -> Client:
        try:
            converter = data_converter_for(environment)
            return await Client.connect(address, namespace=namespace, data_converter=converter)
        except RuntimeError as error:
            raise unreachable(str(error)) from None

    temporal = Temporal(connect, measured=metrics.temporal_answered)
    file = ConfigurationFile(configuration)
    slack = SlackDesk(temporal, file, environment=environment)
    app = receiver_app(
        ReceiverSettings(config=configuration, **settings),
        environment,
        temporal=temporal,
        configuration=file,
        desk=desk or slack,
        metrics=metrics,
    )
    try:
        # No TLS here, so none of the time that reading all certificate authorities takes.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with serve(app) as url, httpx.AsyncClient(base_url=url, timeout=60, verify=tls) as http:
            yield Receiver(http, url)
    finally:
        await slack.close()
        await temporal.close()


Receiving = Callable[..., AbstractAsyncContextManager[Receiver]]


@pytest.fixture(scope="session")
async def receiver(server: TemporalServer, shop: Shop) -> AsyncIterator[Receiver]:
    async with receiving(server.address, shop.configuration) as running:
        yield running
