"""Git over HTTP: real repositories, fetched from and pushed to with the tokens of the stand-in."""

import asyncio
import base64
import binascii
import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response


def token_of(request: Request) -> str | None:
    """The token that git sends as the password of a user of any name."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def pushes(request: Request) -> bool:
    """Whether the request is a part of a push, rather than of a fetch."""
    return "git-receive-pack" in (request.query_params.get("service"), request.url.path.rpartition("/")[2])


async def answer(request: Request, directory: Path, path: str, user: str) -> Response:
    """What git itself answers (``git http-backend``, a CGI program)."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROJECT_ROOT": str(directory),
        "PATH_INFO": f"/{path}",
        "QUERY_STRING": request.url.query,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_USER": user,
    }
    body = await request.body()
    environment["CONTENT_LENGTH"] = str(len(body))
    process = await asyncio.create_subprocess_exec(
        "git",
        "http-backend",
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate(body)
    head, _, content = output.partition(b"\r\n\r\n")
    fields = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")]
    headers = {name: value for name, _, value in fields if name.lower() != "status"}
    status = next((value for name, _, value in fields if name.lower() == "status"), "200")
    return Response(content, int(status.partition(" ")[0]), headers)
