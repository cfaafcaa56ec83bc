"""Secrets written in clear, where only their names belong: they come from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Path = tuple[str | int, ...]

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_VALUES = tuple(
    re.compile(pattern)
    for pattern in (
        r"hooks\.slack\.com/(services|workflows|triggers)/[^$]",
        r"\.webhook\.office\.com/[^$]|outlook\.office\.com/webhook/[^$]|logic\.azure\.com\S*[?&]sig=[^$]",
        r"\bxox[abeoprs]-[0-9A-Za-z-]{8,}",
        r"\bxapp-[0-9A-Za-z-]{8,}",
        r"\bgh[opsur]_[A-Za-z0-9]{20,}",
        r"\bgithub_pat_[A-Za-z0-9_]{20,}",
        r"\bglpat-[A-Za-z0-9_-]{16,}",
        r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.",
        r"://[^/\s:@$]*:[^/\s@$]+@",
    )
)
_NAME = re.compile(
    r"(?i)(^|[_-])(password|passwd|passphrase|secret|token|api_?key|(private|signing|access|secret|integration)_key"
    r"|webhook(_url)?|credentials?|cookie)$"
)
_CHANNELS = (
    ("notification_channels", "slack", "webhooks"),
    ("notification_channels", "teams", "webhook"),
    ("notification_channels", "pagerduty", "integration_key"),
)


class ClearSecret(NamedTuple):
    """Where a secret stands in clear, and what to write instead."""

    path: Path
    remedy: str


_RUN = frozenset({"steps", "release", "hot_upgrade", "before", "after"})
"""What runs commands: its ``environment`` holds free variables."""


def looks_secret(text: str) -> bool:
    """Whether a text has the form of a well-known token, key or address with a secret in it."""
    return any(pattern.search(text) for pattern in _VALUES)


def clear_secrets(settings: Any, path: Path = ()) -> Iterator[ClearSecret]:
    """Every place of the settings where a secret seems to stand in clear."""
    if isinstance(settings, str):
        if _is_clear(settings, path):
            yield ClearSecret(path, _remedy(path))
    elif isinstance(settings, Mapping):
        name, value = settings.get("name"), settings.get("value")
        if isinstance(name, str) and isinstance(value, str) and value and _NAME.search(name):
            yield ClearSecret((*path, "value"), _remedy(path))
            settings = {k: v for k, v in settings.items() if k != "value"}
        for key, inner in settings.items():
            yield from clear_secrets(inner, (*path, str(key)))
    elif isinstance(settings, Sequence):
        for index, inner in enumerate(settings):
            yield from clear_secrets(inner, (*path, index))


def _is_clear(text: str, path: Path) -> bool:
    if path[:3] in _CHANNELS:
        return _REFERENCE.search(text) is None
    if looks_secret(text):
        return True
    # Free variables of a step: the name tells.
    named = len(path) > 1 and path[-2] in ("environment", "options") and _RUN.intersection(path)
    return bool(named) and _REFERENCE.search(text) is None and _NAME.search(str(path[-1])) is not None


def _remedy(path: Path) -> str:
    if path[:1] == ("notification_channels",):
        return "write ${NAME} and set the variable NAME in the worker's environment"
    if path[-1:] == ("repository",):
        return "write the address without credentials; git takes them from the worker's environment"
    if "template" in path or "canary_template" in path:
        return "write valueFrom: {secretKeyRef: {name: …, key: …}} and keep the value in a Kubernetes Secret"
    if _RUN.intersection(path) and "environment" in path:
        return "write ${NAME} to hand on the variable NAME of the worker's environment"
    return "leave it out; secrets come from the worker's environment"
