"""The nodes of the sandbox: a local process for every track that a Deployment wants to run.

Nothing runs inside the pods of the sandbox's cluster. Instead each track (stable, canary, blue, green) of a
namespace has one fixed loopback port, its front, that forwards to the process of the release which the
track's Deployment names; the pods' readiness probes ask the front. So a probe, a rollout, a metric and a
rollback are as real as the release they run.

A Service has a front too, if it is asked for: each connection goes to the track of one of the pods in the
Service's Endpoints, as a cluster's proxies would have it. So a switch of its selector moves the traffic.

A Deployment names its release in its pod template: label ``app.kubernetes.io/version``, label ``track``
(``stable`` unless given), annotation ``erlmcp-deploy/artefact``, a ``file://`` URL of a release tarball with
``bin/APPLICATION foreground``. If several Deployments run one track, the youngest counts.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import random
import secrets
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import aiohttp
from kubernetes.aio import client, config

from sandbox.processes import ProcessFailedError, SupervisedProcess, free_port

VERSION_LABEL: Final = "app.kubernetes.io/version"
TRACK_LABEL: Final = "track"
ARTEFACT_ANNOTATION: Final = "erlmcp-deploy/artefact"

_LOOPBACK: Final = "127.0.0.1"
_LONGEST_BACKOFF: Final = 8.0  # seconds between restarts of a process that keeps ending
_LARGEST_HEAD: Final = 64 * 1024
_DRAIN_SECONDS: Final = 1.0  # a release that goes still answers those who have not heard of it
_log = logging.getLogger(__name__)

Track = tuple[str, str]  # namespace, track
Service = tuple[str, str]  # namespace, name


@dataclass(frozen=True)
class Release:
    """What a Deployment wants to run."""

    version: str
    artefact: str

    @property
    def directory(self) -> str:
        """A name that differs between releases of one version."""
        return f"{self.version}-{hashlib.sha256(self.artefact.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class FrontStatus:
    """One front as it stands now."""

    namespace: str
    track: str
    port: int
    version: str | None  # of the release that the Deployment names; None: nothing should run
    serving: bool
    pid: int | None
    restarts: int
    error: str | None


class ServiceRunner:
    """Keeps the processes equal to what the Deployments of ``application`` name.

    ``fronts`` maps (namespace, track) to the front's port, ``services`` (namespace, Service) to that of a
    Service; a port 0 is replaced by a free one. ``work_dir`` holds the unpacked releases and their logs. Use
    it with ``async with``; the fronts listen from then on.
    """

    def __init__(
        self,
        kubeconfig_path: Path,
        application: str,
        fronts: Mapping[Track, int],
        work_dir: Path,
        *,
        services: Mapping[Service, int] | None = None,
        poll_interval: float = 0.5,
    ) -> None:
        self._kubeconfig_path = kubeconfig_path
        self._application = application
        self._epmd = _PortMapper(work_dir)
        self._fronts = {
            track: _Front(application, track, port or free_port(), work_dir, self._epmd)
            for track, port in fronts.items()
        }
        self._services = {
            service: _ServiceFront(service[0], port or free_port(), self._fronts)
            for service, port in (services or {}).items()
        }
        self._poll_interval = poll_interval
        self._following: asyncio.Task[None] | None = None
        self._stack = contextlib.AsyncExitStack()

    def status(self) -> list[FrontStatus]:
        """All fronts in the order they were given."""
        return [front.status() for front in self._fronts.values()]

    def port(self, namespace: str, track: str = "stable") -> int:
        """The front's port."""
        return self._fronts[namespace, track].port

    def url(self, namespace: str, track: str = "stable") -> str:
        """The front's base URL, without a slash at the end."""
        return f"http://{_LOOPBACK}:{self.port(namespace, track)}"

    def service_url(self, namespace: str, name: str) -> str:
        """The base URL of a Service, without a slash at the end."""
        return f"http://{_LOOPBACK}:{self._services[namespace, name].port}"

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._epmd.stop)
            for front in self._fronts.values():
                await stack.enter_async_context(front)
            for service in self._services.values():
                await stack.enter_async_context(service)
            api = await config.new_client_from_config(str(self._kubeconfig_path))  # type: ignore[no-untyped-call]
            await stack.enter_async_context(api)
            self._following = asyncio.create_task(self._follow(client.AppsV1Api(api), client.CoreV1Api(api)))
            stack.push_async_callback(_cancel, self._following)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _follow(self, apps: client.AppsV1Api, core: client.CoreV1Api) -> None:
        """Polling, because it needs no care about expired watches and a restarted API server."""
        namespaces = sorted({namespace for namespace, _ in self._fronts})
        while True:
            for namespace in namespaces:
                try:
                    wanted = await self._wanted(apps, namespace)
                    for (of, name), service in self._services.items():
                        if of == namespace:
                            service.shares = await _shares(core, namespace, name)
                except (client.ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
                    # What runs keeps running while the API server is away.
                    _log.warning("cannot list the workloads of %s, trying again: %s", namespace, error)
                    continue
                for track, front in self._fronts.items():
                    if track[0] == namespace:
                        front.want(wanted.get(track[1]))
            await asyncio.sleep(self._poll_interval)

    async def _wanted(self, apps: client.AppsV1Api, namespace: str) -> dict[str, Release]:
        """The release of each track."""
        found = await apps.list_namespaced_deployment(
            namespace, label_selector=f"app={self._application}", _request_timeout=5
        )
        wanted = {}
        deployments = apps.api_client.sanitize_for_serialization(found.items)
        for deployment in sorted(deployments, key=lambda d: str(d["metadata"]["creationTimestamp"])):
            metadata = deployment["spec"]["template"].get("metadata", {})
            labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
            if deployment["spec"].get("replicas", 1) == 0:
                continue
            if VERSION_LABEL not in labels or ARTEFACT_ANNOTATION not in annotations:
                _log.warning(
                    "Deployment %s/%s names no release: its pod template needs label %s and annotation %s",
                    *(namespace, deployment["metadata"]["name"], VERSION_LABEL, ARTEFACT_ANNOTATION),
                )
                continue
            release = Release(labels[VERSION_LABEL], annotations[ARTEFACT_ANNOTATION])
            wanted[labels.get(TRACK_LABEL, "stable")] = release
        return wanted


class _Front:
    """One port and the process behind it."""

    def __init__(
        self, application: str, track: Track, port: int, work_dir: Path, epmd: "_PortMapper"
    ) -> None:
        self.port = port
        self._application = application
        self._track = track
        self._directory = work_dir.joinpath(*track)
        self._epmd = epmd
        self._release: Release | None = None
        self._process: SupervisedProcess | None = None
        self._backend: int | None = None  # port of the process, while it takes connections
        self._starts = 0
        self._restarts = 0
        self._error: str | None = None
        self._running: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._forwarding: set[asyncio.Task[None]] = set()  # asyncio itself may forget them
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(
            self.forward, _LOOPBACK, self.port, limit=_LARGEST_HEAD, backlog=128
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.want(None, drain=False)
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    def status(self) -> FrontStatus:
        namespace, track = self._track
        return FrontStatus(
            namespace=namespace,
            track=track,
            port=self.port,
            version=self._release.version if self._release else None,
            serving=self._backend is not None,
            pid=self._process.pid if self._process and self._process.running else None,
            restarts=self._restarts,
            error=self._error,
        )

    def want(self, release: Release | None, *, drain: bool = True) -> None:
        """Run ``release`` from now on; the process of another one ends beside its start.

        If nothing follows it, it answers a little longer, as a pod does that is being removed.
        """
        if release == self._release:
            return
        drain = drain and release is None
        if self._running is not None:
            ending = asyncio.create_task(self._end(self._running, drain=drain))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        if not drain:
            self._backend = None
        self._release, self._process = release, None
        self._restarts, self._error = 0, None
        self._running = asyncio.create_task(self._run(release)) if release else None

    async def _end(self, running: asyncio.Task[None], *, drain: bool) -> None:
        if drain:
            await asyncio.sleep(_DRAIN_SECONDS)
            if self._release is None:
                self._backend = None
        await _cancel(running)

    async def _run(self, release: Release) -> None:
        """Keep one process of the release running, until cancelled."""
        backoff = 0.5
        while True:
            try:
                process, port = await self._start(release)
            except (OSError, tarfile.TarError, ProcessFailedError, ValueError) as error:
                self._failed(release, str(error))
            else:
                try:
                    await self._serve(release, process, port)
                    backoff = 0.5
                except ProcessFailedError as error:
                    self._failed(release, str(error))
                finally:
                    await process.stop(grace=3)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LONGEST_BACKOFF)
            self._restarts += 1

    async def _serve(self, release: Release, process: SupervisedProcess, port: int) -> None:
        """Forward to the process from the moment it takes connections until it ends."""
        self._process = process
        try:
            await process.wait_until(lambda: _takes_connections(port), timeout=60)
            self._backend, self._error = port, None
            _log.info("%s/%s serves %s", *self._track, release.version)
            status = await process.wait()
            self._failed(release, f"process ended with status {status}; last lines:\n{process.log_tail(5)}")
        finally:
            if self._process is process:  # else the front already runs another release
                self._backend = None

    def _failed(self, release: Release, why: str) -> None:
        if release == self._release:
            self._error = why
        _log.warning("%s/%s cannot serve %s: %s", *self._track, release.version, why)

    async def _start(self, release: Release) -> tuple[SupervisedProcess, int]:
        self._starts += 1  # a directory for each: an ending process may still use the one before
        root = self._directory / f"{release.directory}-{self._starts}"
        await asyncio.to_thread(_unpack, release.artefact, root)
        port = free_port()
        prefix = self._application.upper().replace("-", "_")
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(root),  # nothing of the user's home, and nothing else of this environment
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PYTHON": sys.executable,
            f"{prefix}_IP": _LOOPBACK,
            f"{prefix}_PORT": str(port),
            f"{prefix}_NODE": f"{self._application}-{port}@localhost",
            f"{prefix}_COOKIE": secrets.token_hex(16),
        }
        if runtime := next(root.glob("erts-*"), None):
            environ |= await self._epmd.environ(runtime / "bin" / "epmd")
        process = await SupervisedProcess.start(
            [root / "bin" / self._application, "foreground"],
            name=f"{self._application} {release.version}",
            log_file=root.with_name(f"{root.name}.log"),
            env=environ,
            cwd=root,
        )
        return process, port

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if (task := asyncio.current_task()) is not None:
            self._forwarding.add(task)
            task.add_done_callback(self._forwarding.discard)
        try:
            if self._backend is not None:
                with contextlib.suppress(OSError):
                    back_reader, back_writer = await asyncio.open_connection(_LOOPBACK, self._backend)
                    with contextlib.closing(back_writer):
                        await asyncio.gather(_pipe(reader, back_writer), _pipe(back_reader, writer))
                    return
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
            writer.write(self._unavailable())
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _unavailable(self) -> bytes:
        release = self._release.version if self._release else None
        body = json.dumps({"status": "unavailable", "version": release, "error": self._error}).encode()
        head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


class _ServiceFront:
    """The port of a Service: shares connections out over the tracks of the pods behind it."""

    def __init__(self, namespace: str, port: int, fronts: Mapping[Track, _Front]) -> None:
        self.port = port
        self.shares: Counter[str] = Counter()
        self._namespace = namespace
        self._fronts = fronts
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(
            self._forward, _LOOPBACK, self.port, limit=_LARGEST_HEAD, backlog=128
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tracks = [track for track in self.shares.elements() if (self._namespace, track) in self._fronts]
        if not tracks:
            writer.close()  # a Service without pods refuses connections
            return
        track = random.choice(tracks)  # noqa: S311 - one pod is as good as another
        await self._fronts[self._namespace, track].forward(reader, writer)


async def _shares(core: client.CoreV1Api, namespace: str, service: str) -> Counter[str]:
    """How many ready pods of each track a Service has; none if it does not exist."""
    try:
        found = await core.read_namespaced_endpoints(service, namespace, _request_timeout=5)
    except client.ApiException as error:
        if error.status == 404:
            return Counter()
        raise
    pods = await core.list_namespaced_pod(namespace, _request_timeout=5)
    tracks = {
        pod["metadata"]["name"]: pod["metadata"].get("labels", {}).get(TRACK_LABEL, "stable")
        for pod in core.api_client.sanitize_for_serialization(pods.items)
    }
    subsets = core.api_client.sanitize_for_serialization(found.subsets or [])
    names = [a.get("targetRef", {}).get("name") for subset in subsets for a in subset.get("addresses", [])]
    return Counter(tracks[name] for name in names if name in tracks)


class _PortMapper:
    """The name server of Erlang nodes, started with the first of them and only for this runner."""

    def __init__(self, work_dir: Path) -> None:
        self._log_file = work_dir / "epmd.log"
        self._port = free_port()
        self._process: SupervisedProcess | None = None
        self._starting = asyncio.Lock()

    async def environ(self, program: Path) -> dict[str, str]:
        """Variables that make a node use it; starts it if it does not run."""
        async with self._starting:
            if self._process is None or not self._process.running:
                self._process = await SupervisedProcess.start(
                    [program, "-port", str(self._port), "-address", _LOOPBACK],
                    name="epmd",
                    log_file=self._log_file,
                    env={},
                )
                await self._process.wait_until(lambda: _takes_connections(self._port), timeout=10)
        return {"ERL_EPMD_PORT": str(self._port), "ERL_EPMD_ADDRESS": _LOOPBACK}

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()


def _unpack(artefact: str, root: Path) -> None:
    """Unpack anew: a release writes into its directory, and the file may have been built again."""
    url = urlsplit(artefact)
    if url.scheme != "file" or url.netloc not in ("", "localhost"):
        raise ValueError(f"annotation {ARTEFACT_ANNOTATION} is {artefact!r}: give a file:///…tar.gz URL")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with tarfile.open(unquote(url.path)) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(root, filter="data")
        else:  # Python before 3.11.4, such as Debian's; what is unpacked here is executed anyway
            archive.extractall(root)  # noqa: S202


async def _takes_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(_LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end or an error of either side."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_LARGEST_HEAD):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
            return
    writer.close()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
