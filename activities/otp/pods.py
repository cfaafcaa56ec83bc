"""Releases inside pods: commands and files by ``exec`` through the Kubernetes API."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote

import aiohttp
from kubernetes.aio.stream import WsApiClient
from kubernetes.aio.stream.ws_client import ERROR_CHANNEL, STDERR_CHANNEL, STDIN_CHANNEL, STDOUT_CHANNEL

from activities.errors import INVALID_CONFIGURATION, REFUSED, UNAVAILABLE, fail
from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError, raise_typed
from activities.otp.hosts import OUTPUT_LIMIT, Answer, environment_of, out_of_time, redactor_of
from domain.hot_upgrade import NodeTarget

_CHUNK: Final = 32 * 1024
_PING_SECONDS: Final = 10.0
_WITH_ENVIRONMENT: Final = 'eval "$(dd bs=1 count="$1" 2>/dev/null)" && shift && exec "$@"'
"""The variables come through standard input: a command's arguments are seen by the API server's audit log.
``dd`` byte by byte, because ``head`` may read more than it was told, and a file may follow."""
_RECEIVE: Final = (
    """head -c "$2" >"$1.new" && [ "$(wc -c <"$1.new")" -eq "$2" ] && sync && mv -f "$1.new" "$1\""""
)


class PodHost:
    """A container. Commands see its own variables, and the target's above them."""

    def __init__(self, target: NodeTarget, worker: Mapping[str, str], connection: ClusterConnection) -> None:
        self._target = target
        self._connection = connection
        self._variables = {"TERM": "dumb", **environment_of(target, worker)}
        self._redactor = redactor_of(target, worker)

    async def run(self, *arguments: str) -> Answer:
        return await self._execute(arguments)

    async def put(self, source: Path, path: str) -> None:
        size = source.stat().st_size
        answer = await self._execute(("sh", "-c", _RECEIVE, "sh", path, str(size)), source)
        if answer.status != 0:
            fail(REFUSED, f"{self._subject}: {path} cannot be written: {answer.ending()}")

    @property
    def _subject(self) -> str:
        return f"exec into pod {self._target.node.namespace}/{self._target.node.pod}"

    async def _execute(self, arguments: tuple[str, ...], file: Path | None = None) -> Answer:
        header = "".join(f"export {n}={shlex.quote(v)}\n" for n, v in self._variables.items()).encode()
        command = ["sh", "-c", _WITH_ENVIRONMENT, "sh", str(len(header)), *arguments]
        try:
            async with (
                asyncio.timeout(self._target.timeout.total_seconds()),
                self._connect(command) as channel,
            ):
                # If sending breaks, so does receiving, which knows more about the reason.
                sending = asyncio.create_task(_send(channel, header, file))
                try:
                    return await self._receive(channel)
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        except TimeoutError:
            out_of_time(self._target, arguments[0])
        except aiohttp.WSServerHandshakeError as error:
            raise_typed(StatusError(status=error.status, message=error.message), self._subject)
        except (aiohttp.ClientError, OSError) as error:
            raise_typed(error, self._subject)

    @asynccontextmanager
    async def _connect(self, command: list[str]) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        node = self._target.node
        query = [("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
        query += [("command", part) for part in command]
        if node.container is not None:
            query.append(("container", node.container))
        namespace, pod = quote(node.namespace or "default", safe=""), quote(node.pod or "", safe="")
        configuration = await self._connection.load()
        client = WsApiClient(configuration, heartbeat=_PING_SECONDS)  # type: ignore[no-untyped-call]
        async with client as opened:
            prepared = await opened.param_serialize(
                "GET",
                f"/api/v1/namespaces/{namespace}/pods/{pod}/exec",
                query_params=query,
                auth_settings=["BearerToken"],
            )
            answer = await opened.call_api(*prepared, _preload_content=False)
            async with answer.response as channel:
                yield channel

    async def _receive(self, channel: aiohttp.ClientWebSocketResponse) -> Answer:
        output, ended = bytearray(), None
        async for message in channel:
            data = message.data
            if message.type is not aiohttp.WSMsgType.BINARY or not data:
                continue
            number, content = data[0], data[1:]
            if number in (STDOUT_CHANNEL, STDERR_CHANNEL) and len(output) < OUTPUT_LIMIT:
                output += content
            elif number == ERROR_CHANNEL:
                ended = json.loads(content)
                break
        if ended is None:
            self._not_run("the connection ended before the command did")
        return Answer(self._status(ended), self._redactor.text(output.decode(errors="replace")))

    def _status(self, status: dict[str, Any]) -> int:
        """The exit status in a ``metav1.Status``; anything else means that nothing was run."""
        if status.get("status") == "Success":
            return 0
        causes = (status.get("details") or {}).get("causes") or []
        code = next((str(c.get("message")) for c in causes if c.get("reason") == "ExitCode"), "")
        if not code.isdecimal():
            self._not_run(str(status.get("message"))[:300])
        return int(code)

    def _not_run(self, reason: str) -> NoReturn:
        said = f"{self._subject}: {reason}"
        if "executable file not found" in reason:
            remedy = "hot upgrades need sh, dd, head and sha256sum in the container"
            fail(INVALID_CONFIGURATION, f"{said}; {remedy}")
        fail(UNAVAILABLE, said)


async def _send(channel: aiohttp.ClientWebSocketResponse, header: bytes, file: Path | None) -> None:
    await channel.send_bytes(bytes([STDIN_CHANNEL]) + header)
    if file is None:
        return
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            await channel.send_bytes(bytes([STDIN_CHANNEL]) + chunk)
