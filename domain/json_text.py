"""Changes members of one object in a JSON text and leaves every other character as it is.

People keep such documents under version control: a change must not show up as a reformatted file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


class Removed:
    """In the place of a value: the member goes."""


REMOVED: Final = Removed()


@dataclass(frozen=True)
class Member:
    """A member of an object, or an element of an array, by its place in the text."""

    key: str | int
    begin: int
    value_begin: int
    end: int


def members(text: str, begin: int) -> list[Member]:
    """The members of the object, or the elements of the array, that begins at `begin` of a JSON text."""
    return list(_elements(text, begin) if text[begin] == "[" else _members(text, begin))


def place_of(keys: Iterable[object], key: str) -> int | None:
    """Where a key is among others, if it is there.

    Raises:
        ValueError: it is there more than once, and readers disagree on what counts. Any other may be.
    """
    places = [place for place, other in enumerate(keys) if other == key]
    if len(places) > 1:
        raise ValueError(f"{key!r} is there more than once")
    return places[0] if places else None


def changed(text: str, begin: int, changes: Mapping[str, Any]) -> str:
    """The text with members of the object at `begin` set to new values; one of them may be `REMOVED`.

    Raises:
        ValueError: one of them is there more than once.
    """
    ordered = members(text, begin)
    gap = text[begin + 1 : ordered[0].begin] if ordered else ""
    edits: list[tuple[int, int, str]] = []
    added = ""
    for key, value in changes.items():
        place = place_of((member.key for member in ordered), key)
        if place is not None:
            if isinstance(value, Removed):
                edits.append((*_with_its_comma(ordered, place), ""))
            else:
                edits.append((ordered[place].value_begin, ordered[place].end, json.dumps(value)))
        elif not isinstance(value, Removed):
            comma = ("," + (gap or " ")) if ordered or added else ""
            added += f"{comma}{json.dumps(key)}: {json.dumps(value)}"
    if added:
        end = ordered[-1].end if ordered else begin + 1
        edits.append((end, end, added))
    for first, last, new in sorted(edits, reverse=True):
        text = text[:first] + new + text[last:]
    return text


def _with_its_comma(ordered: list[Member], place: int) -> tuple[int, int]:
    if place > 0:
        return ordered[place - 1].end, ordered[place].end
    following = ordered[1].begin if len(ordered) > 1 else ordered[0].end
    return ordered[0].begin, following


def _members(text: str, begin: int) -> Iterator[Member]:
    place = _after_space(text, begin + 1)
    while text[place] != "}":
        key, end_of_key = _DECODER.raw_decode(text, place)
        value_begin = _after_space(text, _after_space(text, end_of_key) + 1)
        _, end = _DECODER.raw_decode(text, value_begin)
        yield Member(key, place, value_begin, end)
        place = _next(text, end)


def _elements(text: str, begin: int) -> Iterator[Member]:
    place, number = _after_space(text, begin + 1), 0
    while text[place] != "]":
        _, end = _DECODER.raw_decode(text, place)
        yield Member(number, place, place, end)
        place, number = _next(text, end), number + 1


def _next(text: str, end: int) -> int:
    place = _after_space(text, end)
    return _after_space(text, place + 1) if text[place] == "," else place


def _after_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place
