"""An environment: whose turn it is, what runs there, what must not happen there (design, section 4).

`EnvironmentRecord` is the whole state of an EnvironmentWorkflow; the functions here are its only changes.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from domain.model import Message, Model
from domain.times import Time
from domain.version import commit_prefix, is_newer

HISTORY_LIMIT = 50
"""Deployments an environment remembers; the audit trail keeps them all."""


class QueuePolicy(StrEnum):
    """What a second deployment of a busy environment does."""

    QUEUE = "queue"
    SUPERSEDE = "supersede"
    REJECT = "reject"


class TurnRequest(Message):
    """A deployment (or roll-back) asks for its turn.

    Attributes:
        holder: workflow id.
        token: made by the workflow; with `holder` it names the request, so asking twice is asking once. A
            reset keeps it, while the run changes.
        urgent: a roll-back goes before everything that waits, and no hold or freeze stops it.
        started: when the run began; a request of an older run that comes late is ignored.
        allow_same: go ahead although the version is live already.
        automated: no person asked; a version that was rolled back is not shipped again this way.
    """

    application: str
    environment: str
    holder: str
    token: str
    version: str
    commit: str | None = None
    actor: str = ""
    policy: QueuePolicy = QueuePolicy.SUPERSEDE
    urgent: bool = False
    allow_same: bool = False
    automated: bool = False
    started: datetime | None = None
    at: datetime | None = None


class TurnAnswer(StrEnum):
    GRANTED = "granted"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    LIVE_ALREADY = "live_already"
    WAITING = "waiting"


class TurnDecision(Message):
    """The environment's answer to a `TurnRequest`; sent as a signal.

    Attributes:
        busy_with: workflow id of the one that has the turn.
    """

    holder: str
    token: str
    answer: TurnAnswer
    reason: str = ""
    position: int | None = None
    current_version: str | None = None
    last_good_version: str | None = None
    rollback_version: str | None = None
    busy_with: str | None = None


class Outcome(StrEnum):
    """How a turn ended."""

    DEPLOYED = "deployed"
    UNCHANGED = "unchanged"
    ROLLED_BACK = "rolled_back"
    BROKEN = "broken"


class TurnRelease(Message):
    """A holder gives its turn back and says what is live now."""

    holder: str
    token: str
    version: str
    outcome: Outcome
    live_version: str | None = None
    commit: str | None = None
    reason: str = ""


class Hold(Model):
    """Why something may not be deployed."""

    actor: str
    reason: str
    since: datetime
    until: Time | None = None


class HoldMessage(Message):
    """The payload of freeze, unfreeze, hold and release_hold."""

    actor: str = ""
    reason: str = ""
    until: Time | None = None


UNSIGNED_HOLD = HoldMessage()
"""A signal that came without any input: refused, as nobody is named."""


class PastDeployment(Model):
    """One entry of the environment's history."""

    version: str
    outcome: Outcome
    finished_at: datetime
    holder: str
    reason: str = ""
    live_version: str | None = None


class EnvironmentRecord(Model):
    """Everything an environment knows of itself.

    Attributes:
        freeze: stops all deployments; so does `hold`.
        held_versions: what was, or should have been, rolled back; automation does not ship it again.
    """

    application: str
    environment: str
    current_version: str | None = None
    current_commit: str | None = None
    current_since: datetime | None = None
    last_good_version: str | None = None
    holder: TurnRequest | None = None
    queue: tuple[TurnRequest, ...] = ()
    freeze: Hold | None = None
    hold: Hold | None = None
    held_versions: dict[str, Hold] = {}
    history: tuple[PastDeployment, ...] = ()


def same_turn(one: TurnRequest, other: TurnRequest | TurnRelease) -> bool:
    return one.holder == other.holder and one.token == other.token


def blocked(record: EnvironmentRecord, now: datetime) -> Hold | None:
    """The freeze or hold that stops all deployments now, if any."""
    for stop in (record.freeze, record.hold):
        if stop is not None and (stop.until is None or now < stop.until):
            return stop
    return None


def _decision(
    record: EnvironmentRecord, request: TurnRequest, answer: TurnAnswer, reason: str = ""
) -> TurnDecision:
    return TurnDecision(
        holder=request.holder,
        token=request.token,
        answer=answer,
        reason=reason,
        current_version=record.current_version,
        last_good_version=record.last_good_version,
        rollback_version=rollback_target(record, request.version),
        busy_with=record.holder.holder if record.holder is not None else None,
    )


def _turned_away(record: EnvironmentRecord, request: TurnRequest) -> TurnDecision | None:
    """The answer to a request that needs no turn, or must not have one, as things stand now."""
    if (
        not request.allow_same
        and record.current_version == request.version
        and request.commit in (None, record.current_commit)
    ):
        reason = f"{request.version} is live in {record.environment} already"
        return _decision(record, request, TurnAnswer.LIVE_ALREADY, reason)
    hold = record.held_versions.get(request.version)
    if hold is not None and request.automated and not request.urgent:
        return _decision(record, request, TurnAnswer.REFUSED, hold.reason)
    return None


def _outdates(one: TurnRequest, other: TurnRequest, *, arrived_later: bool) -> bool:
    """Whether `one` makes `other` pointless: a newer release, or a later commit where none has a tag.

    A release and an untagged commit cannot be ordered, so neither supersedes the other.
    """
    commits = commit_prefix(one.version), commit_prefix(other.version)
    if all(commits):
        return arrived_later and one.version != other.version
    if any(commits):
        return False
    try:
        return is_newer(one.version, other.version)
    except ValueError:
        return False


def _is_stale(request: TurnRequest, known: TurnRequest) -> bool:
    """Whether the request is of an earlier run of a workflow that has asked anew since."""
    if request.holder != known.holder or request.started is None or known.started is None:
        return False
    return request.started < known.started


def ask(
    record: EnvironmentRecord, request: TurnRequest, *, rolling_back: bool = False
) -> tuple[EnvironmentRecord, list[TurnDecision]]:
    """Enter a request; the answers to send for those that will never get a turn.

    A request that is known already (a retried signal) changes nothing. A newer run of the same
    workflow id replaces the older one, which must have ended.

    Args:
        rolling_back: the holder's roll-back runs on, so that even a newer run of the holder waits for it.
    """
    holder = record.holder
    if any(_is_stale(request, known) for known in (holder, *record.queue) if known is not None):
        return record, []
    if not rolling_back and started_again(record, request):
        record = drop_dead_holder(record, f"{request.holder} was started again", request.at)
    if record.holder is not None and same_turn(record.holder, request):
        return record, [_decision(record, request, TurnAnswer.GRANTED)]
    if any(same_turn(waiting, request) for waiting in record.queue):
        return record, []
    if record.holder is None and (refused := _turned_away(record, request)) is not None:
        return record, [refused]
    queue = tuple(w for w in record.queue if w.holder != request.holder)
    if request.policy is QueuePolicy.REJECT and not request.urgent:
        busy = record.holder or next(iter(queue), None)
        if busy is not None:
            reason = f"{record.environment} is busy with {busy.version}, and its policy refuses a second"
            return record, [_decision(record, request, TurnAnswer.REFUSED, reason)]
    decisions: list[TurnDecision] = []
    if request.urgent:
        first = sum(1 for w in queue if w.urgent)
        queue = (*queue[:first], request, *queue[first:])
        return record.model_copy(update={"queue": queue}), decisions
    if request.policy is QueuePolicy.SUPERSEDE:
        newer = [w for w in queue if not w.urgent and _outdates(w, request, arrived_later=False)]
        if newer:
            reason = f"superseded by {newer[0].version}, which is newer and waits already"
            return record, [_decision(record, request, TurnAnswer.SUPERSEDED, reason)]
        for waiting in queue:
            if not waiting.urgent and _outdates(request, waiting, arrived_later=True):
                reason = f"superseded by {request.version}"
                decisions.append(_decision(record, waiting, TurnAnswer.SUPERSEDED, reason))
        gone = {(d.holder, d.token) for d in decisions}
        queue = tuple(w for w in queue if (w.holder, w.token) not in gone)
    return record.model_copy(update={"queue": (*queue, request)}), decisions


def started_again(record: EnvironmentRecord, request: TurnRequest) -> bool:
    """Whether it comes from a newer run of the holder, whose own run must have ended."""
    holder = record.holder
    return holder is not None and holder.holder == request.holder and not same_turn(holder, request)


def waiting(record: EnvironmentRecord, request: TurnRequest, now: datetime) -> TurnDecision:
    """What a request in the queue is told: its place, and what it waits for."""
    stop = None if request.urgent else blocked(record, now)
    if stop is not None:
        until = "" if stop.until is None else f" until {stop.until:%Y-%m-%d %H:%M %Z}"
        reason = f"{record.environment} to be released: {stop.reason} ({stop.actor}){until}"
    elif record.holder is not None:
        reason = f"its turn in {record.environment}, after {record.holder.version}"
    else:
        reason = f"its turn in {record.environment}"
    place = position(record, request)
    decision = _decision(record, request, TurnAnswer.WAITING, reason)
    return decision.model_copy(update={"position": place})


def grant(record: EnvironmentRecord, now: datetime) -> tuple[EnvironmentRecord, TurnDecision | None]:
    """Give the turn to the first that may have it, if nobody holds it."""
    if record.holder is not None or not record.queue:
        return record, None
    first = record.queue[0]
    if blocked(record, now) is not None and not first.urgent:
        return record, None
    record = record.model_copy(update={"queue": record.queue[1:]})
    refused = _turned_away(record, first)
    if refused is not None:
        return record, refused
    record = record.model_copy(update={"holder": first})
    return record, _decision(record, first, TurnAnswer.GRANTED)


def release(record: EnvironmentRecord, turn: TurnRelease, now: datetime) -> EnvironmentRecord:
    """Take a turn back and note what is live. Who holds no turn only leaves the queue."""
    queue = tuple(w for w in record.queue if not same_turn(w, turn))
    if record.holder is None or not same_turn(record.holder, turn):
        return record.model_copy(update={"queue": queue})
    changes: dict[str, object] = {"queue": queue, "holder": None}
    if turn.outcome is not Outcome.UNCHANGED:
        past = PastDeployment(
            version=turn.version,
            outcome=turn.outcome,
            finished_at=now,
            holder=turn.holder,
            reason=turn.reason,
            live_version=turn.live_version,
        )
        changes["history"] = (*record.history, past)[-HISTORY_LIMIT:]
        changes["current_version"] = turn.live_version
        changes["current_commit"] = turn.commit if turn.outcome is Outcome.DEPLOYED else None
        changes["current_since"] = now
    if turn.outcome is Outcome.DEPLOYED:
        changes["last_good_version"] = turn.live_version
        changes["held_versions"] = {v: h for v, h in record.held_versions.items() if v != turn.version}
    if turn.outcome in (Outcome.ROLLED_BACK, Outcome.BROKEN):
        if turn.outcome is Outcome.ROLLED_BACK and turn.live_version is not None:
            changes["last_good_version"] = turn.live_version  # it was verified, and people may have chosen it
        elif record.last_good_version == turn.version:
            changes["last_good_version"] = rollback_target(record, turn.version)
        fate = "was rolled back" if turn.outcome is Outcome.ROLLED_BACK else "could not be rolled back"
        reason = f"{turn.version} {fate} ({turn.reason}); deploy it by hand or send release_hold"
        changes["held_versions"] = {
            **record.held_versions,
            turn.version: Hold(actor=turn.holder, reason=reason, since=now),
        }
    return record.model_copy(update=changes)


def rollback_target(record: EnvironmentRecord, version: str | None) -> str | None:
    """The last version that was deployed or brought back well before `version`, and not rolled back since."""
    spoiled = {version}
    for past in reversed(record.history):
        if past.outcome in (Outcome.ROLLED_BACK, Outcome.BROKEN):
            spoiled.add(past.version)
            if past.live_version is not None and past.live_version not in spoiled:
                return past.live_version  # a roll-back verified it, whatever was good before
        elif past.outcome is Outcome.DEPLOYED and past.version not in spoiled:
            return past.version
    return None


def drop_dead_holder(record: EnvironmentRecord, reason: str, now: datetime | None) -> EnvironmentRecord:
    """Take the turn from a holder that ended without giving it back (it was terminated).

    What is live then is not known.
    """
    holder = record.holder
    if holder is None:
        return record
    changes: dict[str, object] = {
        "holder": None,
        "current_version": None,
        "current_commit": None,
        "current_since": now,
    }
    if now is not None:
        past = PastDeployment(
            version=holder.version,
            outcome=Outcome.BROKEN,
            finished_at=now,
            holder=holder.holder,
            reason=reason,
        )
        changes["history"] = (*record.history, past)[-HISTORY_LIMIT:]
    return record.model_copy(update=changes)


def position(record: EnvironmentRecord, request: TurnRequest) -> int | None:
    """The place in the queue, 1 = next."""
    places = (place for place, waiting in enumerate(record.queue, start=1) if same_turn(waiting, request))
    return next(places, None)
