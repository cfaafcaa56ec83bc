"""The page: one HTML document that brings everything with it.

Its style and its script are named in the Content-Security-Policy by their digests; nothing else may run, and
nothing is loaded from elsewhere. All text is escaped by the template.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from starters.dashboard.overview import Overview
from starters.rendering.text import brief, clean

_HERE = Path(__file__).parent
_STYLE: Final = (_HERE / "page.css").read_text()
_SCRIPT: Final = (_HERE / "page.js").read_text()
_SOON = timedelta(hours=4)


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_TONES: Final = {
    "Completed": "good",
    "Failed": "bad",
    "Rejected": "bad",
    "Superseded": "quiet",
    "RollingBack": "bad",
    "Approval": "wait",
    "Pending": "wait",
    "Terminated": "bad",
    "Timed out": "bad",
    "Canceled": "quiet",
}
_GATES: Final = {
    "passed": ("✓", "good"),
    "failed": ("✕", "bad"),
    "warned": ("!", "wait"),
    "skipped": ("–", "quiet"),
    "running": ("●", "busy"),
}


def tone(state: str) -> str:
    """The colour of a state; it never stands without the word."""
    return "bad" if state.startswith("Roll-back") else _TONES.get(state, "busy")


def gate(outcome: str) -> tuple[str, str]:
    """Mark and colour of a gate's outcome."""
    return _GATES.get(outcome, ("?", "quiet"))


def moment(at: datetime) -> Markup:
    """A time in UTC, as people and as programs read it."""
    utc = at.astimezone(UTC)
    written = Markup('<time datetime="{}" title="{}">{}</time>')  # the values are escaped by format
    return written.format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{utc:%d %b %H:%M}"
    )


def percent(part: timedelta, whole: timedelta) -> int:
    return 100 if not whole else min(100, int(100 * (part / whole)))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"brief": brief, "moment": moment, "clean": clean}
    environment.globals |= {
        "tone": tone,
        "gate": gate,
        "percent": percent,
        "soon": lambda left: left < _SOON,
        "style": Markup(_STYLE),  # noqa: S704 - our own file
        "script": Markup(_SCRIPT),  # noqa: S704 - our own file
    }
    return environment


_TEMPLATE: Final = _environment().get_template("page.html.j2")


def render(overview: Overview | None, failure: str | None, now: datetime | None = None) -> str:
    """The page; with a `failure` it says so, and shows what was known before.

    Args:
        now: to which durations are told; by default the present.
    """
    values: dict[str, Any] = {"overview": overview, "failure": failure, "now": now or datetime.now(UTC)}
    return _TEMPLATE.render(values)
