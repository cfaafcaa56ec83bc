"""Times as people write them: RFC 3339, ``now``, ``2h ago`` or ``-2h``."""

from __future__ import annotations

from datetime import UTC, datetime

from domain.durations import parse_duration
from starters.errors import usage_error

FORMS = "write 2026-02-02T12:00:00Z, 2026-02-02T13:00+01:00, now, 2h ago or -2h"


def parse_moment(option: str, text: str, now: datetime) -> datetime:
    """A moment of the past.

    Raises:
        CommandError: it is no time, names no zone, or has yet to come (exit code 2).
    """
    words = text.strip()
    if words.lower() == "now":
        return now
    back = words[1:] if words.startswith("-") else words.removesuffix("ago")
    if back != words:
        try:
            return now - parse_duration(back.strip())
        except (ValueError, OverflowError):
            raise usage_error(
                f"{option} is {text!r}: {back.strip()!r} is no duration", remedy=FORMS
            ) from None
    try:
        moment = datetime.fromisoformat(words)
    except ValueError:
        raise usage_error(f"{option} is {text!r}: that is no time", remedy=FORMS) from None
    if moment.tzinfo is None:
        raise usage_error(
            f"{option} is {text!r}: it names no time zone", remedy=f"write {words}Z or {words}+01:00"
        )
    if moment > now:
        raise usage_error(f"{option} is {text!r}: nothing is recorded of the future", remedy=FORMS)
    return moment.astimezone(UTC)
