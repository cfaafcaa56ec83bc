"""Temporal's UI: where the page of a workflow is."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

VARIABLE = "TEMPORAL_UI_URL"
"""The environment variable that names the UI's base address."""


def workflow_page(
    ui: str | None, address: str, namespace: str, workflow_id: str, run_id: str | None = None
) -> str | None:
    """The page of a workflow; none if the UI's address is not known.

    Args:
        ui: base address of the UI; without it, the development server's and Temporal Cloud's are derived.
        address: ``host:port`` of the Temporal server.
    """
    base = (ui or "").strip().rstrip("/") or _derived(address)
    if not base:
        return None
    page = f"{base}/namespaces/{quote(namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"
    return page if run_id is None else f"{page}/{quote(run_id, safe='')}"


def _derived(address: str) -> str | None:
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if host in ("localhost", "127.0.0.1", "::1") and port is not None:
        return f"http://localhost:{port + 1000}"
    if host.endswith((".tmprl.cloud", ".api.temporal.io")):
        return "https://cloud.temporal.io"
    return None
