"""The dashboard: what runs, what waits for people, what is where (design, section 4: GET /).

It only reads, and it shows no secret; who reaches the port may read it, unless payloads are encrypted: then
it takes the token of the codec server (`Admission`). Many viewers cost Temporal as much as one: a picture is
made at most every `FRESH` seconds, and all who ask meanwhile get the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from temporalio.service import RPCError

from activities.configuration import ConfigurationError
from domain.configuration import Configuration
from starters.dashboard.admission import Admission
from starters.dashboard.gathering import Gathering, Results
from starters.dashboard.overview import Overview
from starters.dashboard.page import SECURITY_HEADERS, render
from starters.receiver.answer import RefusedError
from starters.receiver.temporal import RETRY_AFTER, Temporal

FRESH = 2.0
LIMIT = 8.0
"""Seconds until it is said that Temporal does not answer; the processes themselves have less."""


@dataclass(frozen=True)
class Picture:
    """What can be shown at the moment.

    Attributes:
        overview: the last one there was; none if there has never been one.
        failure: why it is not of now.
    """

    overview: Overview | None
    failure: str | None
    taken: float

    @property
    def status(self) -> int:
        blind = self.overview is None or self.overview.blind
        return 503 if self.failure is not None or blind else 200


class Dashboard:
    """Keeps one picture for all viewers.

    Args:
        configuration: deployment.yaml as it is now.
        admission: who may look at it.
        fresh: seconds a picture is shown to everybody.
    """

    def __init__(
        self,
        temporal: Temporal,
        configuration: Callable[[], Configuration],
        admission: Admission,
        fresh: float,
    ) -> None:
        self._admission = admission
        self._temporal = temporal
        self._configuration = configuration
        self._fresh = fresh
        self._results = Results()
        self._picture: Picture | None = None
        self._taking: asyncio.Task[Picture] | None = None

    async def picture(self) -> Picture:
        """The picture of now; whoever asks while it is taken waits for the same one."""
        picture = self._picture
        if picture is not None and time.monotonic() - picture.taken < self._fresh:
            return picture
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._take())
        # A viewer who goes away must not take the picture from the others.
        return await asyncio.shield(self._taking)

    async def _take(self) -> Picture:
        configuration, problem = await asyncio.to_thread(self._read_configuration)
        overview = None if self._picture is None else self._picture.overview
        failure = None
        try:
            overview = await self._temporal.ask(
                lambda client: Gathering(client, configuration, self._results).overview(), limit=LIMIT
            )
        except RefusedError as refusal:
            failure = refusal.answer.reason.removesuffix("; send it again")
        except RPCError as error:
            failure = f"Temporal answers: {error.message}"
        else:
            if problem is not None:
                overview = overview.model_copy(update={"problems": (problem, *overview.problems)})
        self._picture = Picture(overview, failure, time.monotonic())
        return self._picture

    def _read_configuration(self) -> tuple[Configuration | None, str | None]:
        try:
            return self._configuration(), None
        except ConfigurationError as error:
            count = len(error.problems)
            return None, (
                f"deployment.yaml cannot be used ({count} mistake(s), see erlmcp-deploy config validate): "
                "environments that were never used, soak times and who may decide are left out"
            )

    async def page(self, request: Request) -> Response:
        if (refusal := self._admission.refusal(request)) is not None:
            return refusal
        picture = await self.picture()
        return HTMLResponse(
            render(picture.overview, picture.failure), picture.status, headers=_headers(picture)
        )

    async def api(self, request: Request) -> Response:
        if (refusal := self._admission.refusal(request)) is not None:
            return refusal
        picture = await self.picture()
        body = {
            "failure": picture.failure,
            "overview": None if picture.overview is None else picture.overview.model_dump(mode="json"),
        }
        return JSONResponse(body, picture.status, headers=_headers(picture))


def _headers(picture: Picture) -> dict[str, str]:
    again = {"Retry-After": str(RETRY_AFTER)} if picture.status == 503 else {}
    return {**SECURITY_HEADERS, **again}


def dashboard_routes(
    temporal: Temporal,
    configuration: Callable[[], Configuration],
    admission: Admission,
    *,
    fresh: float = FRESH,
) -> list[BaseRoute]:
    """``GET /`` for people, ``GET /api/overview`` for programs.

    Both answer 503 while Temporal, or every worker, does not answer, with what was known before.
    """
    dashboard = Dashboard(temporal, configuration, admission, fresh)
    return [
        Route("/", dashboard.page, methods=["GET"]),
        Route("/api/overview", dashboard.api, methods=["GET"]),
    ]
