"""The codec server: what Temporal's UI and CLI ask to read encrypted payloads."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.routing import BaseRoute


def codec_routes(environment: Mapping[str, str]) -> list[BaseRoute]:
    """Its routes; none if payloads are not encrypted."""
    return []
