"""Connections on which nothing comes: they end, and keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox.processes import free_port
from starters.receiver.connections import bounded_connections, say_seldom

HALF = b"POST /echo HTTP/1.1\r\nHost: x\r\n"


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


@contextlib.asynccontextmanager
async def listening(limit: int, patience: float) -> AsyncIterator[int]:
    port = free_port()
    app = Starlette(routes=[Route("/echo", echo, methods=["POST"])])
    protocol = bounded_connections(limit, patience)
    server = uvicorn.Server(
        uvicorn.Config(app, http=protocol, port=port, lifespan="off", ws="none", log_config=None)
    )
    serving = asyncio.create_task(server._serve())
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield port
    finally:
        server.should_exit = True
        await serving


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def begin(port: int, words: bytes = HALF) -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    await writer.drain()
    return reader, writer


async def rest(connection: Connection) -> bytes:
    """What comes until the other side closes."""
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(connection[0].read(), 20)
    return b""


async def test_headers_that_never_end_do_not_keep_a_connection() -> None:
    async with listening(limit=10, patience=0.2) as port:
        silent, half = await begin(port, b""), await begin(port)
        served = await begin(port, HALF + b"Content-Length: 0\r\n\r\n" + HALF)

        # then all are closed, the one that was served after its answer
        assert await rest(silent) == b""
        assert await rest(half) == b""
        assert (await rest(served)).startswith(b"HTTP/1.1 200")


async def test_a_request_that_is_being_read_is_not_cut_short() -> None:
    async with listening(limit=10, patience=0.1) as port:
        reader, writer = await begin(port, HALF + b"Content-Length: 5\r\nConnection: close\r\n\r\nab")
        assert await rest(await begin(port)) == b""  # others have come and gone meanwhile
        assert await rest(await begin(port)) == b""
        writer.write(b"cde")

        assert (await rest((reader, writer))).endswith(b"abcde")


async def test_whoever_asks_gets_the_place_of_one_that_says_nothing() -> None:
    async with listening(limit=5, patience=60) as port:
        # given more connections than there may be, on which no request comes
        idle = [await begin(port) for _ in range(12)]

        # when others ask
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"http://127.0.0.1:{port}/echo", content=b"hello")

        # then they are answered, and those that came first are gone
        assert answer.text == "hello"
        for connection in idle[:7]:
            assert await rest(connection) == b""


async def test_while_all_are_being_served_the_next_is_asked_to_come_again() -> None:
    async with listening(limit=2, patience=60) as port:
        busy = [await begin(port, HALF + b"Content-Length: 2\r\n\r\na") for _ in range(2)]
        refused = b""
        while not refused.startswith(b"HTTP/1.1 503"):
            refused = await rest(await begin(port, b""))
        assert b"Retry-After: 5" in refused

        for reader, writer in busy:
            writer.write(b"b")
            assert (await reader.readuntil(b"ab")).startswith(b"HTTP/1.1 200")


async def test_running_out_of_files_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    loop, handle = asyncio.get_running_loop(), say_seldom()
    with caplog.at_level(logging.ERROR):
        for _ in range(1000):
            handle(
                loop,
                {
                    "message": "socket.accept() out of system resource",
                    "exception": OSError(24, "Too many open files"),
                },
            )
        handle(loop, {"message": "something else"})

    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "no further connection can be accepted",
        "something else",
    ]
