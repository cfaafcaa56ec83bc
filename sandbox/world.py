"""The whole outside world on loopback: Temporal, Kubernetes, services, metrics, Slack, a git repository and,
if it is asked for, GitHub in front of that.

`World` is what the demo and the end-to-end tests run in. Worker and receiver are processes of their own, as
in production, so that they can be killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
from kubernetes.aio import client
from ruamel.yaml import YAML

from domain.identity import SIGNING_KEY
from domain.signing import SigningKey
from sandbox.configuration import (
    APPLICATION,
    APPROVER,
    DEVELOPER,
    LOGINS,
    RECEIVER,
    SECOND_APPROVER,
    TECH_LEAD,
    Places,
    Times,
    namespace_of,
    sandbox_configuration,
)
from sandbox.github import Account, GitHubServer
from sandbox.kubernetes import Kubernetes, start_kubernetes
from sandbox.kubernetes.edge import Edge
from sandbox.metrics import MetricsServer, MetricsTarget, TrafficGenerator, start_metrics
from sandbox.processes import SupervisedProcess, free_port
from sandbox.sample import Flavour, create_repository
from sandbox.services import ServiceRunner
from sandbox.slack import SIGNING_SECRET, SlackServer, SlackUser
from sandbox.temporal import TemporalServer

CANARY_SERVICE = f"{APPLICATION}-canary"
CHECKOUT = Path(__file__).resolve().parent.parent
CHANNELS = ("deployments", "alerts", "incidents")
PEOPLE = tuple(
    SlackUser(id=f"U{number:08d}", email=email, name=email.partition("@")[0].replace(".", " ").title())
    for number, email in enumerate((APPROVER, SECOND_APPROVER, TECH_LEAD, DEVELOPER), 1)
)
"""Who is in the Slack workspace: the approvers, and a developer who may approve nothing."""
RECEIVER_SECRETS = {
    "GITHUB_WEBHOOK_SECRET": "sandbox-github-secret",
    "GITLAB_WEBHOOK_TOKEN": "sandbox-gitlab-token",
    "SLACK_SIGNING_SECRET": SIGNING_SECRET,
    "ALERTMANAGER_TOKEN": "sandbox-alertmanager-token",
    "PAGERDUTY_WEBHOOK_SECRET": "sandbox-pagerduty-secret",
}
"""What the senders of the sandbox sign with."""
_FOREIGN = ("SLACK_", "TEMPORAL_", "KUBE", "GITHUB_", "ERLMCP_DEPLOY_")
"""Variables of whoever starts the sandbox that would lead out of it."""
ERLANG = ("erl", "rebar3")


def erlang_is_installed() -> bool:
    return all(shutil.which(program) for program in ERLANG)


class World:
    """Everything a deployment meets. Use `World.start`.

    Attributes:
        variables: of worker, receiver and command lines, besides those that say where everything is.
        receiver_key: signs what the receiver passes on; deployment.yaml knows its public part.
    """

    def __init__(self, data_dir: Path, flavour: Flavour, times: Times, prefix: str) -> None:
        self.data_dir = data_dir
        self.prefix = prefix
        self.flavour = flavour
        self.times = times
        self.temporal: TemporalServer
        self.kubernetes: Kubernetes
        self.slack: SlackServer
        self.github: GitHubServer | None = None
        self.metrics: MetricsServer
        self.services: ServiceRunner
        self.traffic: TrafficGenerator
        self.worker: SupervisedProcess | None = None
        self.receiver: SupervisedProcess | None = None
        self.receiver_url = ""
        self.receiver_key = SigningKey.generate(RECEIVER)
        self.variables: dict[str, str] = {}
        self._fronts: dict[tuple[str, str], int] = {}
        self._service_fronts: dict[tuple[str, str], int] = {}
        self._routed: dict[tuple[str, str], int] = {}
        self._edges: dict[str, Edge] = {}
        self._kubeconfig: Path | None = None
        self._shares: client.AppsV1Api

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        data_dir: Path,
        *,
        flavour: Flavour = "python",
        times: Times | None = None,
        environments: Sequence[str] = ("production",),
        blue_green: Sequence[str] = (),
        routed: Sequence[str] = (),
        changes: Mapping[str, Any] | None = None,
        temporal: TemporalServer | None = None,
        kubernetes: Kubernetes | None = None,
        prefer: Literal["real", "emulator"] = "real",
        worker_kubeconfig: Path | None = None,
        prefix: str = APPLICATION,
        traffic_rate: float = 20,
        ui: bool = False,
        github: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> AsyncIterator[World]:
        """Start what is not given, write deployment.yaml, and start no worker yet.

        Args:
            blue_green: those of the environments that switch between two sides; their health and traffic go
                through the Service.
            routed: those whose traffic goes through the Service, which whoever tells the story creates, with
                an Ingress or HTTPRoute in front of it or without one.
            changes: laid over the sandbox's deployment.yaml; see `configure`.
            worker_kubeconfig: what the worker talks to instead of the API server (a proxy with faults).
            prefix: of the namespaces; worlds that share a cluster need different ones.
            github: start GitHub too; it has the people, and no repository yet.
            variables: see `World`; they win over the others.
        """
        world = cls(data_dir, flavour, times or Times(), prefix)
        world.variables = dict(variables or {})
        async with AsyncExitStack() as stack:
            if temporal is None:
                temporal = await stack.enter_async_context(TemporalServer.start(data_dir / "temporal", ui=ui))
            if kubernetes is None:
                kubernetes = await stack.enter_async_context(
                    start_kubernetes(data_dir / "kubernetes", prefer)
                )
            world.temporal, world.kubernetes = temporal, kubernetes
            world._kubeconfig = worker_kubeconfig or world.kubernetes.kubeconfig_path
            world.slack = await stack.enter_async_context(SlackServer.start(channels=CHANNELS, users=PEOPLE))
            if github:
                accounts = [Account(login, person) for person, login in LOGINS.items()]
                world.github = await stack.enter_async_context(GitHubServer.start(accounts))
            await world._start_services(stack, environments, blue_green, routed)
            await world._start_metrics(stack, environments[-1], traffic_rate)
            create_repository(world.repository, flavour)
            world.configure(changes)
            stack.push_async_callback(world.stop_worker)
            stack.push_async_callback(world.stop_receiver)
            yield world

    async def _start_services(
        self,
        stack: AsyncExitStack,
        environments: Sequence[str],
        blue_green: Sequence[str],
        routed: Sequence[str],
    ) -> None:
        tracks = [(self.namespace(e), track) for e in environments for track in ("stable", "canary")]
        tracks += [(self.namespace(e), side) for e in blue_green for side in ("blue", "green")]
        services = (APPLICATION, CANARY_SERVICE)
        self._fronts = {track: free_port() for track in tracks}
        self._service_fronts = {(self.namespace(e), s): free_port() for e in blue_green for s in services}
        self._routed = {(self.namespace(e), APPLICATION): free_port() for e in routed}
        self.services = await stack.enter_async_context(
            ServiceRunner(
                self.kubernetes.kubeconfig_path,
                APPLICATION,
                self._fronts,
                self.data_dir / "services",
                services=self._service_fronts | self._routed,
            )
        )

    async def _start_metrics(self, stack: AsyncExitStack, environment: str, traffic_rate: float) -> None:
        """A Prometheus over all fronts, and users of one environment."""
        targets = [
            MetricsTarget(f"127.0.0.1:{port}", {"namespace": namespace, "track": track}, APPLICATION)
            for (namespace, track), port in self._fronts.items()
        ]
        self.metrics = await stack.enter_async_context(
            start_metrics(targets, self.data_dir / "metrics", kubeconfig=self.kubernetes.kubeconfig_path)
        )
        api = client.ApiClient(await self.kubernetes.client_configuration())
        stack.push_async_callback(api.close)
        self._shares = client.AppsV1Api(api)
        namespace = self.namespace(environment)
        urls = {track: self.services.url(namespace, track) for track in ("stable", "canary")}
        if (namespace, APPLICATION) in self._service_fronts:
            urls = {"stable": self.services.service_url(namespace, APPLICATION)}
        if (namespace, APPLICATION) in self._routed:
            # As edges do, to the canary's pods themselves: they answer until they have ended.
            urls["stable"] = self.services.service_url(namespace, APPLICATION)
            self._edges[namespace] = Edge(api, namespace, APPLICATION, CANARY_SERVICE)
        self.traffic = await stack.enter_async_context(
            TrafficGenerator(urls, lambda: self.canary_share(namespace), traffic_rate)
        )

    def namespace(self, environment: str) -> str:
        return namespace_of(environment, self.prefix)

    async def canary_share(self, namespace: str) -> float:
        """The canary's share of the ready pods: what a Service would send it.

        In a routed environment it is the share of the canary's own Service.
        """
        if namespace in self._edges:
            return await self._edges[namespace].canary_share()
        ready = {}
        for track, name in (("stable", APPLICATION), ("canary", CANARY_SERVICE)):
            try:
                found = await self._shares.read_namespaced_deployment(name, namespace)
                ready[track] = (found.status.ready_replicas if found.status else 0) or 0
            except (client.ApiException, OSError):
                ready[track] = 0
        total = sum(ready.values())
        return ready["canary"] / total if total else 0.0

    @property
    def configuration(self) -> Path:
        return self.data_dir / "deployment.yaml"

    @property
    def home(self) -> Path:
        """The worker's home: audit trail, ledger, builds."""
        return self.data_dir / "worker"

    @property
    def repository(self) -> Path:
        return self.data_dir / "repository"

    def configure(self, changes: Mapping[str, Any] | None = None) -> None:
        """Write deployment.yaml: the sandbox's, with these changes laid over it (``None`` switches off).

        As people do who edit it, also while worker and receiver run; they read it again.
        """
        github = self.github
        places = Places(
            repository=self.repository,
            fronts=self._fronts,
            services=self._service_fronts,
            prometheus_url=self.metrics.url,
            slack_api_url=self.slack.api_url,
            prefix=self.prefix,
            github=None if github is None else (github.url, github.api_url),
            receiver_key=self.receiver_key.public_key,
        )
        described = sandbox_configuration(places, self.times, self.flavour, changes)
        draft = self.configuration.with_suffix(".new")  # nobody reads a half
        with draft.open("w") as file:
            YAML().dump(described, file)
        draft.replace(self.configuration)

    def environment(self) -> dict[str, str]:
        """The variables of a worker or a command line in this world."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
        return kept | {
            "PATH": path,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "TEMPORAL_ADDRESS": self.temporal.address,
            "ERLMCP_DEPLOY_CONFIG": str(self.configuration),
            "ERLMCP_DEPLOY_HOME": str(self.home),
            "ERLMCP_DEPLOY_APPLICATION": APPLICATION,
            "KUBECONFIG": str(self._kubeconfig),
            "SLACK_BOT_TOKEN": self.slack.token,
            "REBAR_CACHE_DIR": str(self._rebar_cache()),
            **self.variables,
        }

    def _rebar_cache(self) -> Path:
        """One for all worlds of a user, as Dialyzer's table takes long; the user's own stays as it is."""
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cache = base / "erlmcp-deploy" / "rebar3"
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError:
            return self.data_dir / "rebar3"
        return cache if os.access(cache, os.W_OK) else self.data_dir / "rebar3"

    async def start_worker(self, *, wait: bool = True, log_level: str = "INFO") -> None:
        """Start the worker process, and wait until it works."""
        log = self.data_dir / "worker.log"
        before = log.read_text().count("working on") if log.exists() else 0
        self.worker = await SupervisedProcess.start(
            [sys.executable, "-m", "workers", "--log-level", log_level],
            name="worker",
            log_file=log,
            env=self.environment(),
            cwd=CHECKOUT,
        )
        if wait:
            await self.worker.wait_until(lambda: _says(log, before), timeout=60)

    async def start_receiver(self, *, log_level: str = "INFO", **variables: str) -> str:
        """Start the webhook receiver, a process of its own, and let Slack's people reach it; its address.

        Args:
            variables: of its environment besides the senders' secrets and its own key.
        """
        if not self.receiver_url:  # it comes back where it was
            self.receiver_url = f"http://127.0.0.1:{free_port()}"
        kept = {k: v for k, v in self.environment().items() if k != "KUBECONFIG"}
        port = self.receiver_url.rpartition(":")[2]
        own = {**RECEIVER_SECRETS, SIGNING_KEY: self.receiver_key.environment_value}
        self.receiver = await SupervisedProcess.start(
            [sys.executable, "-m", "starters", "serve", "--port", port, "--log-level", log_level],
            name="receiver",
            log_file=self.data_dir / "receiver.log",
            env=own | kept | variables,
            cwd=CHECKOUT,
        )
        await self.receiver.wait_until(self._receives, timeout=60)
        self.slack.request_url = f"{self.receiver_url}/webhooks/slack"
        return self.receiver_url

    async def _receives(self) -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                return (await http.get(f"{self.receiver_url}/readyz")).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

    async def kill_receiver(self) -> None:
        """SIGKILL."""
        if self.receiver is not None:
            await self.receiver.kill()
            self.receiver = None

    async def stop_receiver(self) -> None:
        """SIGTERM, and wait."""
        if self.receiver is not None:
            await self.receiver.stop(grace=15)
            self.receiver = None

    async def kill_worker(self) -> None:
        """SIGKILL: the worker gets no chance to tidy up."""
        if self.worker is not None:
            await self.worker.kill()
            self.worker = None

    async def stop_worker(self) -> None:
        """SIGTERM, and wait."""
        if self.worker is not None:
            await self.worker.stop(grace=30)
            self.worker = None


async def _says(log: Path, before: int) -> bool:
    await asyncio.sleep(0)
    return log.exists() and log.read_text().count("working on") > before
