"""Text in Slack's mrkdwn. Whatever people wrote can neither mention anybody, nor disguise a link, nor forge a
line, nor burst a limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

from slack_sdk.models.blocks import MarkdownTextObject

TEXT_LIMIT: Final = 3000
FIELD_LIMIT: Final = 2000
_URL_LIMIT: Final = 1000
_URL_CHARACTERS: Final = "%:/?#[]@!$'()*+,;=~&"
_CONTROL: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# Control characters, ends of lines, and what programs may leave out when they show text: format characters,
# such as those that turn the direction of writing, and Unicode's Default_Ignorable_Code_Point. The blank in
# their place shows that two names differ which would look the same without it.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_BLANKS = re.compile(r"\s+")


def escaped(plain: str, limit: int) -> str:
    """Plain text whose escaped form has no more than `limit` characters; no entity is cut in two."""
    whole = plain[: limit + 1].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(whole) <= limit:
        return whole
    kept: list[str] = []
    room = limit - 1
    for character in plain:
        piece = _CONTROL.get(character, character)
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept) + "…"


def one_line(plain: str, limit: int) -> str:
    """The same on one line, without characters that cannot be seen."""
    return escaped(seen(plain[: 4 * limit]), limit)


def seen(plain: str) -> str:
    """Text on one line, without characters that cannot be seen."""
    return _BLANKS.sub(" ", _UNSEEN.sub(" ", plain)).strip()


def link(url: str, label: str = "") -> str:
    """A link; an address that is none, or too long, is shown as text."""
    target = ""
    if len(url) <= _URL_LIMIT and is_url(url):
        target = quote(url, safe=_URL_CHARACTERS).replace("&", "&amp;")
    if not target or len(target) > _URL_LIMIT:
        return one_line(f"{label}: {url}" if label else url, _URL_LIMIT)
    return f"<{target}|{one_line(label, 200)}>" if label else f"<{target}>"


def is_url(text: str) -> bool:
    """Whether the whole text is an http(s) address."""
    if _BLANKS.search(text) or _UNSEEN.search(text):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False


def local_time(at: datetime) -> str:
    """A time in the reader's own zone."""
    utc = at.astimezone(UTC)
    return f"<!date^{int(utc.timestamp())}^{{date_short_pretty}} at {{time}}|{utc:%Y-%m-%d %H:%M} UTC>"


def listed(lines: Iterable[str], limit: int, *, heading: str = "") -> str:
    """As many lines as there is room for, and how many more there are."""
    items = in_a_row(lines, limit - len(heading) - 1, separator="\n")
    return f"{heading}\n{items}" if heading else items


def in_a_row(items: Iterable[str], limit: int, *, separator: str = ", ") -> str:
    """As many items as there is room for, and how many more there are."""
    wanted: Sequence[str] = tuple(items)
    kept: list[str] = []
    room = limit - len(f"… and {len(wanted)} more")
    for item in wanted:
        room -= len(item) + len(separator)
        if room < 0:
            return separator.join([*kept, f"… and {len(wanted) - len(kept)} more"])
        kept.append(item)
    return separator.join(kept)


def mrkdwn(text: str) -> MarkdownTextObject:
    """Text of a block; what looks like an address or a channel in it is not made one."""
    return MarkdownTextObject(text=text, verbatim=True)
