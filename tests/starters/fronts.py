"""What stands in front of a Temporal server elsewhere: TLS, client certificates, API keys."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import trustme

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class Certificates:
    """A server's authority, a certificate it gave to a client, and one of somebody else.

    Paths of files, as Temporal's settings name them.
    """

    directory: Path
    server: trustme.CA = field(default_factory=trustme.CA)
    stranger: trustme.CA = field(default_factory=trustme.CA)

    def environment(
        self, *, authority: trustme.CA, client: trustme.CA | None = None
    ) -> dict[str, str | None]:
        """The settings of a client that trusts an authority, and shows a certificate of another."""
        found: dict[str, str | None] = {
            "TEMPORAL_TLS": "true",
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH": self._file(authority.cert_pem),
        }
        if client is not None:
            issued = client.issue_cert("worker@example.com")
            found["TEMPORAL_TLS_CLIENT_CERT_PATH"] = self._file(issued.cert_chain_pems[0])
            found["TEMPORAL_TLS_CLIENT_KEY_PATH"] = self._file(issued.private_key_pem)
        return found

    def context(self, *, mutual: bool) -> ssl.SSLContext:
        """The server's; `mutual` demands a certificate of its own authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.issue_cert("127.0.0.1").configure_cert(context)
        context.set_alpn_protocols(["h2"])
        if mutual:
            self.server.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _file(self, blob: trustme.Blob) -> str:
        path = self.directory / f"{len(list(self.directory.iterdir()))}.pem"
        blob.write_to_path(path)
        return str(path)


@contextlib.asynccontextmanager
async def tls_proxy(address: str, context: ssl.SSLContext) -> AsyncIterator[str]:
    """Ends TLS in front of a server; the address where it listens."""
    host, _, port = address.partition(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, upstream[1]), _copy(upstream[0], writer))

    async with _listening(forward, context) as listening:
        yield listening


@contextlib.asynccontextmanager
async def closed_door(context: ssl.SSLContext, seen: list[dict[str, str]]) -> AsyncIterator[str]:
    """A server that accepts nobody's API key, and notes the headers it was sent."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    seen.append({_text(name): _text(value) for name, value in event.headers})
                    refusal = {
                        ":status": "200",
                        "content-type": "application/grpc",
                        "grpc-status": "16",
                        "grpc-message": "unknown API key",
                    }
                    connection.send_headers(event.stream_id, list(refusal.items()), end_stream=True)
            writer.write(connection.data_to_send())
            await writer.drain()
        writer.close()

    async with _listening(refuse, context) as listening:
        yield listening


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


@contextlib.asynccontextmanager
async def _listening(connected: Connected, context: ssl.SSLContext) -> AsyncIterator[str]:
    open_connections: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(connected(reader, writer))
        open_connections.add(task)
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await task

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)
