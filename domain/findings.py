"""What is wrong with a configuration, said so that it can be put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

from domain.secrets import Path


class Finding(NamedTuple):
    """One thing that is wrong: where, what stands there, why it is wrong, and what to do.

    `value` is none where it is absent, or must not be shown.
    """

    path: Path
    value: Any
    message: str
    remedy: str


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy for a name nobody knows: the one that was probably meant, else all there are."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose one of: {', '.join(choices)}" if choices else "there is nothing to choose from"
