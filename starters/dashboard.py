"""The dashboard: what runs, what waits for people, what is where."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from domain.configuration import Configuration
from starters.receiver.temporal import Temporal


def dashboard_routes(temporal: Temporal, configuration: Callable[[], Configuration]) -> list[BaseRoute]:
    """Its routes."""
    return []
