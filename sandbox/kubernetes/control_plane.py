"""The real Kubernetes control plane on loopback: etcd, API server, controllers, scheduler, hollow kubelet.

Nothing runs inside a pod, but everything else is the genuine article: a readiness probe with
`httpGet.host: 127.0.0.1` is really sent, so roll-outs, their deadlines and roll-backs are real.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from kubernetes.aio import client

from sandbox.kubernetes.access import ClusterAccess
from sandbox.kubernetes.certificates import (
    ServerCertificate,
    ServiceAccountKey,
    create_server_certificate,
    create_service_account_key,
)
from sandbox.processes import ProcessFailedError, SupervisedProcess, free_port

KUBERNETES_VERSION = "1.20.2"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubemark")
CONTROLLERS = (
    "deployment",
    "replicaset",
    "endpoint",
    "namespace",
    "garbagecollector",
    "podgc",
    "nodelifecycle",
    "disruption",
    "serviceaccount",
    "serviceaccount-token",
    "job",
    "cronjob",
)
START_TIMEOUT_SECONDS = 120.0
START_ATTEMPTS = 3
POLL_SECONDS = 0.1
NODE_NAME = "localhost"
POD_RANGE = "10.244.0.0/24"
INSTALL_HINT = (
    "run sandbox/kubernetes/build_control_plane.sh as root on Debian 12 "
    "(builds Kubernetes from Debian's source package, about 5 minutes)"
)


class ControlPlaneMissingError(RuntimeError):
    """The programs of the control plane are not on this machine; the text names them and the remedy."""


@dataclass(frozen=True, slots=True)
class ControlPlanePrograms:
    """Where the programs of the control plane are."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    scheduler: Path
    kubemark: Path

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> ControlPlanePrograms:
        """Find the programs in `KUBEBUILDER_ASSETS`, else in the cache; etcd may also come from `PATH`.

        Raises `ControlPlaneMissingError` with the names of what is missing and how to get it.
        """
        directory = assets_directory(environment)
        found = {name: shutil.which(name, path=str(directory)) for name in PROGRAMS}
        found["etcd"] = shutil.which("etcd", path=str(directory)) or shutil.which(
            "etcd", path=environment.get("PATH")
        )
        paths = {name: Path(path) for name, path in found.items() if path is not None}
        missing = sorted(found.keys() - paths.keys())
        if missing:
            raise ControlPlaneMissingError(f"{', '.join(missing)} not found in {directory}: {INSTALL_HINT}")
        return cls(
            etcd=paths["etcd"],
            apiserver=paths["kube-apiserver"],
            controller_manager=paths["kube-controller-manager"],
            scheduler=paths["kube-scheduler"],
            kubemark=paths["kubemark"],
        )


def assets_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """The directory that holds the programs: `KUBEBUILDER_ASSETS` (envtest's convention) or the cache."""
    if assets := environment.get("KUBEBUILDER_ASSETS"):
        return Path(assets)
    cache = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/")) / ".cache"
    return Path(cache) / "erlmcp-deploy" / "envtest" / KUBERNETES_VERSION


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane with one Ready node; made by `ControlPlane.start`."""

    access: ClusterAccess
    kubeconfig_path: Path
    data_dir: Path

    @classmethod
    @asynccontextmanager
    async def start(
        cls, data_dir: Path, *, programs: ControlPlanePrograms | None = None
    ) -> AsyncIterator[ControlPlane]:
        """Start all programs, wait until pods can be scheduled, and kill them when the context ends.

        `data_dir` gets the logs (`*.log`), the kubeconfig and the data of etcd. `ControlPlaneMissingError`
        is raised when a program is not installed; `ProcessFailedError`, with the tail of its log, when one
        does not come up.
        """
        programs = programs or ControlPlanePrograms.find()
        async with AsyncExitStack() as stack:
            yield await _start(programs, data_dir, stack)

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """The administrator's kubeconfig as a document."""
        return self.access.kubeconfig

    def client_configuration(self) -> client.Configuration:
        """A fresh `kubernetes.aio` configuration of the administrator."""
        return self.access.client_configuration()


async def _start(programs: ControlPlanePrograms, data_dir: Path, stack: AsyncExitStack) -> ControlPlane:
    # A free port can be taken by another process before the program binds it: then all starts afresh.
    attempt = 1
    while True:
        directory = data_dir if attempt == 1 else data_dir / f"attempt-{attempt}"
        async with AsyncExitStack() as attempt_stack:
            try:
                control_plane = await _start_once(programs, directory, attempt_stack)
            except ProcessFailedError as error:
                if attempt == START_ATTEMPTS or "address already in use" not in str(error):
                    raise
            else:
                await stack.enter_async_context(attempt_stack.pop_all())
                return control_plane
        attempt += 1


async def _start_once(programs: ControlPlanePrograms, data_dir: Path, stack: AsyncExitStack) -> ControlPlane:
    data_dir.mkdir(parents=True, exist_ok=True)
    client_port, peer_port, secure_port, kubelet_port, kubelet_read_only_port = (
        free_port() for _ in range(5)
    )
    etcd_url = f"http://127.0.0.1:{client_port}"
    certificate = create_server_certificate(data_dir / "pki")
    service_account_key = create_service_account_key(data_dir / "pki")
    access = ClusterAccess(
        name="sandbox",
        server=f"https://127.0.0.1:{secure_port}",
        token=secrets.token_hex(16),
        certificate_authority=certificate.authority,
    )
    kubeconfig = access.write_kubeconfig(data_dir / "kubeconfig")

    started: list[SupervisedProcess] = []

    async def run(program: Path, *arguments: str) -> None:
        process = await SupervisedProcess.start(
            [program, *arguments], name=program.name, log_file=data_dir / f"{program.name}.log"
        )
        # The data is throw-away, so nothing waits for a graceful end.
        stack.push_async_callback(process.kill)
        started.append(process)

    await run(
        programs.etcd,
        f"--data-dir={data_dir / 'etcd'}",
        f"--listen-client-urls={etcd_url}",
        f"--advertise-client-urls={etcd_url}",
        f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
    )
    await run(
        programs.apiserver,
        *_apiserver_flags(certificate, service_account_key, _tokens(access, data_dir), etcd_url, secure_port),
    )
    async with (
        httpx.AsyncClient(base_url=access.server, verify=access.ssl_context(), trust_env=False) as http,
        client.ApiClient(access.client_configuration()) as api,
    ):
        await _poll(lambda: _serves(http), started, "did not become ready")
        await run(
            programs.controller_manager,
            f"--kubeconfig={kubeconfig}",
            f"--service-account-private-key-file={service_account_key.private_key}",
            "--leader-elect=false",
            "--port=0",
            "--secure-port=0",
            f"--controllers={','.join(CONTROLLERS)}",
            "--node-monitor-period=1s",  # how soon the node's not-ready taint goes
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )
        await run(
            programs.scheduler,
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--port=0",
            "--secure-port=0",
        )
        await _register_node(api)
        await run(
            programs.kubemark,
            "--morph=kubelet",
            f"--name={NODE_NAME}",
            f"--kubeconfig={kubeconfig}",
            f"--kubelet-port={kubelet_port}",
            f"--kubelet-read-only-port={kubelet_read_only_port}",
        )
        await _poll(lambda: _schedules(api), started, "did not get a Ready node")
    return ControlPlane(access=access, kubeconfig_path=kubeconfig, data_dir=data_dir)


def _tokens(access: ClusterAccess, data_dir: Path) -> Path:
    """The file by which the API server knows the administrator."""
    path = data_dir / "tokens.csv"
    path.touch(mode=0o600)
    path.write_text(f'{access.token},admin,admin,"system:masters"\n', encoding="utf-8")
    return path


def _apiserver_flags(
    certificate: ServerCertificate,
    service_account_key: ServiceAccountKey,
    tokens: Path,
    etcd_url: str,
    port: int,
) -> list[str]:
    return [
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        "--insecure-port=0",
        f"--tls-cert-file={certificate.certificate}",
        f"--tls-private-key-file={certificate.private_key}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={service_account_key.public_key}",
        f"--service-account-signing-key-file={service_account_key.private_key}",
        "--disable-admission-plugins=ServiceAccount",
        "--kubelet-preferred-address-types=Hostname",
    ]


async def _poll(
    ready: Callable[[], Awaitable[bool]], processes: list[SupervisedProcess], failure: str
) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            while not await ready():
                for process in processes:
                    if not process.running:
                        raise ProcessFailedError(
                            f"{process.name} ended with status {process.returncode}; "
                            f"end of {process.log_file}:\n{process.log_tail()}"
                        )
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        tails = "\n".join(f"== {process.log_file}\n{process.log_tail()}" for process in processes)
        raise ProcessFailedError(
            f"the control plane {failure} within {START_TIMEOUT_SECONDS:.0f} s\n{tails}"
        ) from None


async def _serves(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).is_success
    except httpx.TransportError:
        return False


async def _register_node(api: client.ApiClient) -> None:
    """Register the node before its kubelet: with a pod range it reports Ready at once, else after 10 s."""
    node = client.V1Node(
        metadata=client.V1ObjectMeta(name=NODE_NAME),
        spec=client.V1NodeSpec(pod_cidr=POD_RANGE, pod_cidrs=[POD_RANGE]),
    )
    await client.CoreV1Api(api).create_node(node)


async def _schedules(api: client.ApiClient) -> bool:
    try:
        node = await client.CoreV1Api(api).read_node(NODE_NAME)
    except client.ApiException as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return False
        raise
    if node.status is None or node.spec is None:
        return False
    conditions = {condition.type: condition.status for condition in node.status.conditions or []}
    return conditions.get("Ready") == "True" and not node.spec.taints
