"""The codec server: what Temporal's UI and CLI ask to read encrypted payloads, and to send them.

``POST …/codec/decode`` and ``…/encode`` speak Temporal's protocol (payloads as protobuf's JSON). Programs
show ``Authorization: Bearer TOKEN``. Browsers log in once, at ``GET …/codec``, with the token as password:
Temporal's UI then sends it along (its option "include cross-origin credentials").
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Callable, Mapping

from google.protobuf import json_format
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from temporalio.api.common.v1 import Payload, Payloads

from workflows.confidentiality import ENCRYPTED, EncryptionKeys, UnreadablePayloadError

TOKEN = "ERLMCP_DEPLOY_CODEC_TOKEN"  # noqa: S105 - the name of the variable
ORIGINS = "ERLMCP_DEPLOY_CODEC_ORIGINS"
"""Origins of Temporal's UI, as ``https://temporal.example.com,https://…``."""
PATH = "/codec"
LIMIT = 16 * 1024 * 1024
"""Bytes of a request; one event of a history has at most a fourth of it."""


def codec_routes(environment: Mapping[str, str]) -> list[BaseRoute]:
    """Its routes; none if payloads are not encrypted, or nobody is given a token to read them.

    Raises:
        ValueError: a setting cannot be used; names it, never its value if that is a secret.
    """
    keys, token = EncryptionKeys.from_environment(environment), environment.get(TOKEN, "").strip()
    if keys is None or not token:
        return []
    server = _CodecServer(keys, token)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=_origins(environment.get(ORIGINS, "")),
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "X-Namespace"],
        allow_credentials=True,
    )
    routes = [
        Route("/", server.log_in),
        Route("/decode", server.decode, methods=["POST"]),
        Route("/encode", server.encode, methods=["POST"]),
    ]
    return [Route(PATH, server.log_in), Mount(PATH, routes=routes, middleware=[cors])]


def _origins(value: str) -> list[str]:
    origins = [origin.strip().rstrip("/") for origin in value.split(",") if origin.strip()]
    for origin in origins:
        if not origin.startswith(("https://", "http://")) or origin.count("/") != 2 or "*" in origin:
            raise ValueError(
                f"{ORIGINS} has {origin!r}: write the origin of Temporal's UI, such as https://temporal.example.com"
            )
    return origins


class _CodecServer:
    def __init__(self, keys: EncryptionKeys, token: str) -> None:
        self._keys = keys
        self._token = token.encode()

    async def log_in(self, request: Request) -> Response:
        """Where a browser gets to know the password, which it sends by itself from then on."""
        if not permits(request, self._token):
            return unauthorized()
        return PlainTextResponse(
            "Temporal's UI can show encrypted payloads in this browser now: enter this address there as "
            "codec server, with the option to include cross-origin credentials.\n",
            headers={"Cache-Control": "no-store"},
        )

    async def decode(self, request: Request) -> Response:
        return await self._answer(request, self._decoded)

    async def encode(self, request: Request) -> Response:
        return await self._answer(request, self._keys.encrypt)

    def _decoded(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCRYPTED:
            return payload
        return self._keys.decrypt(payload)

    async def _answer(self, request: Request, convert: Callable[[Payload], Payload]) -> Response:
        if not permits(request, self._token):
            return unauthorized()
        body = await _body(request)
        if body is None:
            return _problem(413, f"the request is larger than {LIMIT} bytes")
        try:
            # Large ones take longer than the event loop of a webhook receiver should stand still.
            answer = await asyncio.to_thread(_converted, body, convert)
        except UnreadablePayloadError as error:
            return _problem(400, str(error))
        except (json_format.ParseError, UnicodeDecodeError, RecursionError):
            return _problem(400, 'the body is not {"payloads": […]} in the JSON of Temporal\'s payloads')
        return Response(answer, media_type="application/json", headers={"Cache-Control": "no-store"})


def permits(request: Request, token: bytes) -> bool:
    """Whether it shows the token, as ``Bearer`` or as the password of ``Basic``."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(credentials, validate=True).partition(b":")
        except ValueError:
            return False
        return hmac.compare_digest(password, token)
    return scheme.lower() == "bearer" and hmac.compare_digest(credentials.strip().encode(), token)


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMIT:
            return None
    return bytes(body)


def _converted(body: bytes, convert: Callable[[Payload], Payload]) -> str:
    payloads = json_format.Parse(body, Payloads(), ignore_unknown_fields=True)
    converted = Payloads(payloads=[convert(payload) for payload in payloads.payloads])
    return json_format.MessageToJson(converted, indent=None)


def unauthorized() -> Response:
    """401, which makes a browser ask for the token."""
    return JSONResponse(
        {"error": f"give the token that {TOKEN} has on the server"},
        status_code=401,
        headers={"WWW-Authenticate": 'Basic realm="erlmcp-deploy codec", charset="UTF-8"'},
    )


def _problem(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
