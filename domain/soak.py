"""Soak: what an environment knows of a version's stay (design, section 5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from domain.durations import format_duration
from domain.environment import HISTORY_LIMIT, EnvironmentRecord, Outcome, PastDeployment

_SHOWN = 200


def describe_soak(record: EnvironmentRecord, version: str, commit: str | None, now: datetime) -> str:
    """How long a version has proven itself in an environment, in one sentence for people.

    The same commit under another version counts as well, and is named; the same version of another commit
    does not.
    """
    place, holder = record.environment, record.holder
    current, since = record.current_version, record.current_since
    same_commit = commit is not None and record.current_commit == commit
    if current is not None and since is not None and (current == version or same_commit):
        if current == version and commit is not None and record.current_commit not in (None, commit):
            return f"{version} in {place} is another commit ({str(record.current_commit)[:12]})"
        name = version if current == version else f"{current}, the same commit,"
        last = _last(record, current)
        verified = last is not None and last.outcome is Outcome.DEPLOYED
        how = "verified since" if verified else "brought back by a roll-back at"
        return f"{name} in {place} for {_long(now - since)} ({how} {_moment(since)})"
    if holder is not None and (holder.version == version or (commit is not None and holder.commit == commit)):
        return f"{version} is being deployed to {place} now, and is not verified yet"
    past = _last(record, version)
    if past is None:
        if len(record.history) >= HISTORY_LIMIT:
            return f"{version} is not among the last {HISTORY_LIMIT} deployments of {place}"
        return f"{version} was never in {place}"
    if past.live_version == version:
        successor = _successor(record, past)
        if successor is None:
            since_then = _moment(past.finished_at)
            return f"{version} was in {place} since {since_then}; what runs there now is not known"
        stay = successor.finished_at - past.finished_at
        return f"{version} was in {place} for {_long(stay)}, until {_moment(successor.finished_at)}"
    fate = "was rolled back in" if past.outcome is Outcome.ROLLED_BACK else "failed in"
    reason = f": {past.reason[:_SHOWN]}" if past.reason else ""
    return f"{version} {fate} {place} at {_moment(past.finished_at)}{reason}"


def _last(record: EnvironmentRecord, version: str) -> PastDeployment | None:
    """The last entry that made the version live, or tried to."""
    mentions = (p for p in reversed(record.history) if version in (p.version, p.live_version))
    return next(mentions, None)


def _successor(record: EnvironmentRecord, past: PastDeployment) -> PastDeployment | None:
    later = record.history[record.history.index(past) + 1 :]
    return next((p for p in later if p.live_version != past.live_version), None)


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _long(duration: timedelta) -> str:
    """To the minute: nobody decides by seconds."""
    whole = max(duration, timedelta(0)) // timedelta(minutes=1) * timedelta(minutes=1)
    return format_duration(whole) if whole else "less than a minute"
