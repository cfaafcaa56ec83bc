"""A kubelet that executes: the API server hands ``exec`` on to it, and it runs the command on this host.

The hollow kubelet of the sandbox cannot. A pod of this one has no container: its release lies in a directory
of this host, and its variables are given.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from sandbox.kubernetes.certificates import create_server_certificate
from sandbox.kubernetes.control_plane import ControlPlane
from tests.activities.kubernetes.workload import Onlooker

_STDIN, _STDOUT, _STDERR, _ERROR = range(4)
_MERGE = "application/merge-patch+json"
_PROTOCOL = "v4.channel.k8s.io"


@dataclass
class ExecutingKubelet:
    """One node of the cluster, and what was executed in its pods.

    Attributes:
        variables: pod → its container's environment.
        addresses: address of every ``exec`` that came, arguments and all.
        cut: pods whose connections are cut as soon as the command runs.
    """

    onlooker: Onlooker
    namespace: str
    node: str
    variables: dict[str, Mapping[str, str]] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def joined(
        cls, control_plane: ControlPlane, namespace: str, directory: Path
    ) -> AsyncIterator[ExecutingKubelet]:
        """A node of this name in the cluster, until the end."""
        async with Onlooker.at(control_plane.access) as onlooker:
            kubelet = cls(onlooker, namespace, f"node-of-{namespace}")
            application = web.Application()
            application.router.add_get("/exec/{namespace}/{pod}/{container}", kubelet._execute)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
            await runner.setup()
            certificate = create_server_certificate(directory)
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.ssl_context()).start()
            await onlooker.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
            await kubelet._join(runner.addresses[0][1])
            try:
                yield kubelet
            finally:
                await onlooker.ask("DELETE", f"/api/v1/nodes/{kubelet.node}")
                await onlooker.ask("DELETE", f"/api/v1/namespaces/{namespace}")
                await runner.cleanup()

    async def _join(self, port: int) -> None:
        node = {"metadata": {"name": self.node}, "spec": {"unschedulable": True}}
        await self.onlooker.ask("POST", "/api/v1/nodes", node)
        status = {
            "addresses": [{"type": "Hostname", "address": "localhost"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        await self.onlooker.ask("PATCH", f"/api/v1/nodes/{self.node}/status", {"status": status}, _MERGE)

    async def add_pod(self, name: str, variables: Mapping[str, str], *, ready: bool = True) -> None:
        self.variables[name] = variables
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        body = {
            "metadata": {"name": name, "labels": {"app": "erlsample"}},
            "spec": {"nodeName": self.node, "containers": [{"name": "erlsample", "image": "erlsample"}]},
        }
        await self.onlooker.ask("POST", pods, body)
        status: dict[str, Any] = {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }
        await self.onlooker.ask("PATCH", f"{pods}/{name}/status", {"status": status}, _MERGE)

    async def _execute(self, request: web.Request) -> web.WebSocketResponse:
        pod = request.match_info["pod"]
        self.addresses.append(str(request.rel_url))
        channel = web.WebSocketResponse(protocols=(_PROTOCOL,))
        await channel.prepare(request)
        process = await asyncio.create_subprocess_exec(
            *request.query.getall("command"),
            env=dict(self.variables[pod]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        feeding = asyncio.create_task(_feed(channel, process))
        if pod in self.cut:
            await asyncio.sleep(0.1)
            transport = request.transport
            assert transport is not None
            transport.abort()
        await asyncio.gather(
            _pass_on(process.stdout, channel, _STDOUT), _pass_on(process.stderr, channel, _STDERR)
        )
        code = await process.wait()
        feeding.cancel()
        with contextlib.suppress(ConnectionError):
            await channel.send_bytes(bytes([_ERROR]) + json.dumps(_status(code)).encode())
            await channel.close()
        return channel


async def _feed(channel: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    """What comes on channel 0 is the command's input; it has no end, as with a real exec over websockets."""
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        async for message in channel:
            if message.type is WSMsgType.BINARY and message.data[:1] == bytes([_STDIN]):
                process.stdin.write(message.data[1:])
                await process.stdin.drain()


async def _pass_on(stream: asyncio.StreamReader | None, channel: web.WebSocketResponse, number: int) -> None:
    assert stream is not None
    while chunk := await stream.read(65_536):
        with contextlib.suppress(ConnectionError):
            await channel.send_bytes(bytes([number]) + chunk)


def _status(code: int) -> dict[str, Any]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
