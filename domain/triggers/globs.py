"""Globs of branches, tags and paths (spec: ``feature/*``, ``apps/**``, ``v*.*.*``).

Text is compared segment by segment, segments being what slashes separate, and always as a whole:

- ``*`` is any text within one segment, also none: ``feature/*`` takes ``feature/a``, not ``feature/a/b``.
  Dots and dashes are text: ``v*.*.*`` takes every tag with a v in front and two dots or more, so
  ``v1.2.3`` and ``v1.2.3-rc.1``, and ``v1.2.3.4`` as well: whether the rest is a version is another question.
- ``?`` is one character within a segment.
- ``**`` as a segment is any number of segments: ``apps/**`` takes everything in ``apps``, at any depth, and
  neither ``apps`` itself nor ``ksapps/x``; ``**/rebar.config`` takes it in every directory.
- ``!`` in front takes back what globs before it have taken: ``['v*.*.*', '!v*-*']`` leaves pre-releases out.

Everything else stands for itself; upper and lower case differ, as they do in Git.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

EXCEPT = "!"
_ANY_DEPTH = "**"


def matches(globs: Iterable[str], text: str) -> bool:
    """Whether the globs take the text; the last one that fits it decides."""
    taken = False
    for glob in globs:
        excepts = glob.startswith(EXCEPT)
        if taken is excepts and _pattern(glob.removeprefix(EXCEPT)).fullmatch(text):
            taken = not excepts
    return taken


def fault(glob: str) -> tuple[str, str] | None:
    """What is wrong with a glob that cannot mean what was meant, and the remedy."""
    text = glob.removeprefix(EXCEPT)
    segments = text.split("/")
    if "" in segments or "." in segments:
        return "can match nothing: it has an empty segment or a dot", "write for example apps/**"
    if any(_ANY_DEPTH in s and s != _ANY_DEPTH for s in segments):
        meant = "/".join(
            re.sub(r"^\*{2,}", "**/*", s) if _ANY_DEPTH in s and s != _ANY_DEPTH else s for s in segments
        )
        return "has ** beside other text, where it is no more than *", f"write ** alone, as in {meant}"
    return None


@lru_cache(maxsize=1024)
def _pattern(glob: str) -> re.Pattern[str]:
    """A compiled glob; every repetition ends at a slash, so that none of them can run away."""
    segments = glob.split("/")
    last = len(segments) - 1
    text = ""
    for index, segment in enumerate(segments):
        if segment == _ANY_DEPTH:
            text += r"(?s:.+)" if index == last else r"(?:[^/]+/)*"
        else:
            text += _segment(segment) + ("" if index == last else "/")
    return re.compile(text)


def _segment(glob: str) -> str:
    parts = re.split(r"(\*+|\?)", glob)
    return "".join(
        r"[^/]*" if part.startswith("*") else r"[^/]" if part == "?" else re.escape(part) for part in parts
    )
