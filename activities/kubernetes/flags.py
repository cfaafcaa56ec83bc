"""Feature flags in a ConfigMap (flagd's JSON): set with optimistic concurrency, and read back."""

from __future__ import annotations

import json
from typing import Any, Final

import aiohttp
from pydantic import AwareDatetime, ValidationError
from temporalio import activity

from activities.errors import CONFLICT, INVALID_CONFIGURATION, NOT_FOUND, REFUSED, fail
from activities.kubernetes.api import KubernetesApi, Object, config_maps
from activities.kubernetes.connection import ClusterConnection
from activities.kubernetes.failures import StatusError, raise_typed
from activities.kubernetes.heartbeat import heartbeats
from activities.kubernetes.manifests import PREFIX, annotations_of
from activities.signatures import FlagSignatures
from domain.feature_flags import (
    FlagChange,
    FlagError,
    FlagReading,
    NoSuchFlagError,
    check_rollout,
    flag_in,
    foreign_targeting,
    share_of,
    with_share,
)
from domain.model import Model

FLAGS: Final = f"{PREFIX}feature-flags"
"""Annotation of the ConfigMap: who changed which flag last, as JSON. Not in the document: flagd hands a
flag's metadata out with every evaluation."""

_TRIES: Final = 5


class _Note(Model):
    """What is noted of one flag.

    Attributes:
        scheduled_at: when the latest change was asked for, by the Temporal server's clock; a worker that
            wakes up later with an earlier one undoes no kill switch.
        former: the targeting that a kill switch took away, to be put back by hand.
    """

    key: str
    deployment_id: str
    scheduled_at: AwareDatetime | None = None
    former: Any = None


class FlagActivities(FlagSignatures):
    """Holds the client of one cluster."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._api = KubernetesApi(connection)

    async def close(self) -> None:
        await self._api.close()

    @activity.defn
    async def set_flag(self, change: FlagChange) -> FlagReading:
        """Set a flag's share, or switch it off; read back.

        A roll-out never takes the flag away from users who have it: a larger share stays. And it never
        undoes a change that was asked for after it, above all no kill switch.
        A kill switch works on a flag with any targeting, and is done where there is no flag.
        """
        subject = f"set {_subject(change)} to {change.percentage}%"
        try:
            async with heartbeats(subject):
                return await self._set(change)
        except FlagError as error:
            fail(INVALID_CONFIGURATION, f"{subject}: {error}", cause=error)
        except (StatusError, aiohttp.ClientError, OSError) as error:
            raise_typed(error, subject)

    async def _set(self, change: FlagChange) -> FlagReading:
        tries = 0
        while True:
            live = await self._find(change)
            if isinstance(live, FlagReading):
                return live
            try:
                reading = await self._change(change, live)
            except StatusError as error:
                if error.status != 409:
                    raise
                reading = None
            if reading is not None:
                return reading
            tries += 1
            if tries == _TRIES:
                fail(
                    CONFLICT,
                    f"{_subject(change)} was changed by somebody else {_TRIES} times in a row; "
                    "if GitOps keeps the ConfigMap, let it ignore this key",
                )

    async def _find(self, change: FlagChange) -> Object | FlagReading:
        """The ConfigMap with the flag; or a kill switch's answer that there is none."""
        rollout = change.rollout
        live = await self._api.find(config_maps(change.namespace), rollout.config_map)
        try:
            if live is None:
                raise NoSuchFlagError(f"there is no ConfigMap {rollout.config_map!r}")
            if rollout.document not in (live.get("data") or {}):
                raise NoSuchFlagError(
                    f"ConfigMap {rollout.config_map!r} has no key {rollout.document!r}, "
                    f"only {sorted(live.get('data') or {})}"
                )
            flag_in(live["data"][rollout.document], rollout.flag)
        except NoSuchFlagError as error:
            if change.percentage == 0:
                return FlagReading(
                    flag=rollout.flag, exists=False, percentage=0, note=f"nothing to switch off: {error}"
                )
            fail(
                NOT_FOUND,
                f"{_subject(change)}: {error}; create it, or correct feature_flags in deployment.yaml",
            )
        return live

    async def _change(self, change: FlagChange, live: Object) -> FlagReading | None:
        """Change the flag and read it back; none if somebody has changed it in between."""
        rollout = change.rollout
        document = live["data"][rollout.document]
        flag, notes = flag_in(document, rollout.flag), _notes(live)
        known, share = notes.get(_place(change)), share_of(flag, rollout)
        kill = change.percentage == 0
        asked = latest = activity.info().scheduled_time
        if known is not None and known.scheduled_at is not None:
            latest = max(asked, known.scheduled_at)
        if change.own_only and (known is None or known.deployment_id != change.deployment_id):
            whose = "by hand" if known is None else f"by {known.deployment_id}"
            return _reading(change, flag, f"set {whose}, and stays").model_copy(update={"kept": True})
        if not kill:
            if known is not None and known.key == change.key:
                return _reading(change, flag, "set before")
            if known is not None and latest > asked:
                fail(REFUSED, f"{_subject(change)} was switched meanwhile, by {known.deployment_id}")
            check_rollout(flag, rollout)
            if share is not None and share >= change.percentage:
                kept = _reading(change, flag, f"open to {share}% before, which stays")
                return kept.model_copy(update={"kept": True})
        wanted = with_share(document, rollout, change.percentage)
        if wanted == document and known is not None and known.key == change.key:
            return _reading(change, flag, "")
        if live.get("immutable"):
            fail(REFUSED, f"{_subject(change)}: the ConfigMap is immutable; make it anew without that")
        former = foreign_targeting(flag) if kill else None
        note = _Note(
            key=change.key,
            deployment_id=change.deployment_id,
            scheduled_at=latest,
            former=former or (known.former if known is not None else None),
        )
        await self._write(change, live, wanted, {**notes, _place(change): note})
        after = await self._find(change)
        if isinstance(after, FlagReading):
            return after
        read_back = flag_in(after["data"][rollout.document], rollout.flag)
        if share_of(read_back, rollout) != change.percentage:
            return None
        said = f"its own targeting is kept in annotation {FLAGS}" if former is not None else ""
        return _reading(change, read_back, said)

    async def _write(self, change: FlagChange, live: Object, document: str, notes: dict[str, _Note]) -> None:
        """Only if nobody has changed the ConfigMap since it was read; 409 otherwise."""
        written = json.dumps(
            {place: note.model_dump(mode="json", exclude_none=True) for place, note in notes.items()},
            sort_keys=True,
        )
        await self._api.merge(
            config_maps(change.namespace),
            change.rollout.config_map,
            {
                "metadata": {
                    "resourceVersion": live["metadata"]["resourceVersion"],
                    "annotations": {FLAGS: written},
                },
                "data": {change.rollout.document: document},
            },
        )


def _subject(change: FlagChange) -> str:
    rollout = change.rollout
    return f"feature flag {rollout.flag} in ConfigMap {rollout.config_map}, namespace {change.namespace}"


def _place(change: FlagChange) -> str:
    return f"{change.rollout.document}/{change.rollout.flag}"


def _notes(config_map: Object) -> dict[str, _Note]:
    """What was noted; an annotation that somebody has spoilt counts as none."""
    try:
        noted = json.loads(annotations_of(config_map).get(FLAGS) or "{}")
        return {place: _Note.model_validate(note) for place, note in noted.items()}
    except (ValueError, AttributeError, ValidationError):
        return {}


def _reading(change: FlagChange, flag: dict[str, Any], note: str) -> FlagReading:
    rollout, state = change.rollout, str(flag.get("state", ""))
    if state != "ENABLED":
        note = f"it has no variant {rollout.off!r}: clients fall back to the default in their own code"
    return FlagReading(
        flag=rollout.flag, exists=True, percentage=share_of(flag, rollout), state=state, note=note
    )
