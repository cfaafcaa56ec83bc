"""Words: text from outside made harmless, durations and times as people read them, commands to copy."""

from __future__ import annotations

from datetime import datetime, timedelta

from rich.text import Text


def clean(text: str) -> str:
    """One line of printable characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def brief(duration: timedelta) -> str:
    """A duration as people read it: its two largest units, e.g. ``2d 23h`` or ``8m 32s``."""
    seconds = max(0, int(duration.total_seconds()))
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"


def clock(at: datetime, now: datetime) -> str:
    """Local time; with the date if it is another day than `now`."""
    local, today = at.astimezone(), now.astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M")


def command_line(*words: str) -> Text:
    """A command to copy, in one look for all of them."""
    return Text("erlmcp-deploy " + " ".join(words), style="bold cyan")


def target_words(application: str, environment: str, version: str | None) -> list[str]:
    """How a command names its target."""
    return [environment, *([version] if version else []), "-a", application]
