"""Feature flags in flagd's JSON: a percentage roll-out, and a kill switch (spec: Progressive Delivery).

What flagd makes of a flag decides how it is written:

* a disabled flag is one that does not exist: each client falls back to the default in its own code, which
  nobody here knows. So the kill switch leaves the flag enabled and serves the `off` variant to everybody;
* where targeting gives no variant, ``defaultVariant`` is served. While a flag is partly open that is `off`,
  so that an evaluation without the targeting key is never let in by chance;
* the bucket is taken of the flag's own key and the user together: other flags choose other users, and the
  users of a step stay in as the share grows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import Field, field_validator, model_validator

from domain.durations import Interval
from domain.json_text import REMOVED, changed, members, place_of
from domain.model import Model


class FlagRollout(Model):
    """A flag that is opened step by step after the version is out, watched like a canary.

    Attributes:
        flag: its key in the document.
        config_map: that holds the document, in the workload's namespace.
        document: the key of the document in the ConfigMap.
        on: the variant that is rolled out.
        off: the variant that everybody else gets, and everybody after the kill switch.
        targeting_key: what the share is taken of, a context field of the flag's evaluation.
        steps: percent of the users, ascending.
        step_duration: how long each step is watched. A kubelet brings a changed ConfigMap into its pods only
            after up to its sync period and cache lifetime (together about two minutes by default; at once
            where flagd reads the ConfigMap over the API): steps must be longer than that.
        analysis_interval: between two measurements.
        kill_on_rollback: a roll-back of this environment switches the flag off first.
    """

    flag: str = Field(min_length=1)
    config_map: str = "feature-flags"
    document: str = "flags.json"
    on: str = "on"
    off: str = "off"
    targeting_key: str = Field(default="targetingKey", min_length=1)
    steps: tuple[int, ...] = (10, 50, 100)
    step_duration: Interval = timedelta(minutes=10)
    analysis_interval: Interval = timedelta(seconds=30)
    kill_on_rollback: bool = True

    @field_validator("steps")
    @classmethod
    def _ascending(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1 or steps[-1] > 100:
            raise ValueError("steps must ascend from 1 or more to at most 100; write [10, 50, 100]")
        return steps

    @model_validator(mode="after")
    def _two_variants(self) -> FlagRollout:
        if self.on == self.off:
            raise ValueError(f"on and off are the same variant {self.on!r}; nothing would be rolled out")
        return self


class FlagChange(Model):
    """Give a share of the users the `on` variant; 0 is the kill switch.

    Attributes:
        key: noted with the flag; a second change with the same key changes nothing.
        own_only: only if this deployment was the last to set it: what another release has opened stays open.
    """

    key: str
    namespace: str
    rollout: FlagRollout
    percentage: int = Field(ge=0, le=100)
    deployment_id: str
    own_only: bool = False


class FlagReading(Model):
    """What the ConfigMap says after a change: read back.

    Attributes:
        exists: whether there is such a flag; a kill switch of a flag that is not there is done.
        percentage: of the users that get `on`; none = that cannot be said.
        kept: it was as open as that before, or more, and a roll-out takes the flag from nobody.
        state: of the flag in flagd's words.
        error: why a kill switch did not work.
    """

    flag: str = ""
    exists: bool
    percentage: int | None
    kept: bool = False
    state: str = ""
    note: str = ""
    error: str = ""


class FlagError(ValueError):
    """The document or the flag cannot be changed as asked; the text says what is wrong and what to do."""


class NoSuchFlagError(FlagError):
    """The document has no such flag."""


def flag_in(document: str, name: str) -> dict[str, Any]:
    """A flag's definition.

    Raises:
        NoSuchFlagError: it is not in the document.
        FlagError: the document is not flagd's.
    """
    begin, _ = _place_of(document, name)
    flag, _ = json.JSONDecoder().raw_decode(document, begin)
    if not isinstance(flag, dict):
        raise FlagError(f"flag {name!r} is no object but {json.dumps(flag)[:60]}")
    return flag


def share_of(flag: Mapping[str, Any], rollout: FlagRollout) -> int | None:
    """Percent of the users that get the `on` variant; none if targeting of somebody else decides."""
    if flag.get("state") != "ENABLED":
        return 0
    targeting = flag.get("targeting")
    if not targeting:
        return 100 if flag.get("defaultVariant") == rollout.on else 0
    share = _share(targeting)
    if share is None or targeting != _targeting(rollout, share):
        return None
    return share


def foreign_targeting(flag: Mapping[str, Any]) -> Any:
    """The flag's targeting, if it is not a roll-out of ours, of whatever share, key and variants."""
    targeting = flag.get("targeting")
    return targeting if targeting and _share(targeting) is None else None


def check_rollout(flag: Mapping[str, Any], rollout: FlagRollout) -> None:
    """Raises `FlagError` if the flag cannot be rolled out."""
    variants = flag.get("variants")
    for role, variant in (("on", rollout.on), ("off", rollout.off)):
        if not isinstance(variants, dict) or variant not in variants:
            known = sorted(variants) if isinstance(variants, dict) else "none"
            raise FlagError(
                f"flag {rollout.flag!r} has no variant {variant!r}, only {known}; "
                f"add it, or set feature_flags.{role} to another"
            )
    foreign = foreign_targeting(flag)
    if foreign is not None:
        raise FlagError(
            f"flag {rollout.flag!r} has targeting rules of its own ({json.dumps(foreign)[:200]}), which a "
            "percentage would replace; remove them from the flag, or take it out of feature_flags"
        )


def with_share(document: str, rollout: FlagRollout, percentage: int) -> str:
    """The document with the flag at a share; everything else stays as it is written.

    At 0 a flag without the `off` variant is disabled: its clients' own default is as near to off as it gets.
    """
    flag = flag_in(document, rollout.flag)
    changes: dict[str, Any]
    if percentage == 0 and rollout.off not in (flag.get("variants") or {}):
        changes = {"state": "DISABLED"}
    else:
        changes = {
            "state": "ENABLED",
            "defaultVariant": rollout.on if percentage == 100 else rollout.off,
            "targeting": REMOVED if percentage in (0, 100) else _targeting(rollout, percentage),
        }
    begin, _ = _place_of(document, rollout.flag)
    wanted = {key: value for key, value in changes.items() if flag.get(key, REMOVED) != value}
    try:
        return changed(document, begin, wanted)
    except ValueError as error:
        raise FlagError(f"flag {rollout.flag!r} is ambiguous: {error}; correct the document") from None


def _place_of(document: str, name: str) -> tuple[int, int]:
    """Where the definition of a flag begins and ends. flagd takes flags as an object or as an array."""
    try:
        parsed = json.loads(document)
        top = members(document, document.index("{")) if isinstance(parsed, dict) else []
        flags = place_of((member.key for member in top), "flags")
        if flags is None or not isinstance(parsed["flags"], dict | list):
            raise FlagError('the document is not flagd\'s: it has no object or array "flags"')
        found = members(document, top[flags].value_begin)
        keys: list[Any] = [member.key for member in found]
        if isinstance(parsed["flags"], list):
            keys = [flag.get("key") if isinstance(flag, dict) else None for flag in parsed["flags"]]
        place = place_of(keys, name)
    except json.JSONDecodeError as error:
        raise FlagError(f"the document is no JSON ({error}); only flagd's JSON can be changed") from None
    except FlagError:
        raise
    except ValueError as error:
        raise FlagError(f"the document is ambiguous: {error}; correct it") from None
    if place is None:
        raise NoSuchFlagError(f"the document has no flag {name!r}")
    return found[place].value_begin, found[place].end


def _targeting(rollout: FlagRollout, percentage: int) -> dict[str, Any]:
    user = {"var": rollout.targeting_key}
    bucket = {"cat": [{"var": "$flagd.flagKey"}, user]}
    shares = [[rollout.on, percentage], [rollout.off, 100 - percentage]]
    return {"if": [user, {"fractional": [bucket, *shares]}]}


def _share(targeting: Any) -> int | None:
    """The percentage of targeting that `_targeting` has made."""
    match targeting:
        case {
            "if": [
                {"var": str(user)},
                {
                    "fractional": [
                        {"cat": [{"var": "$flagd.flagKey"}, {"var": str(again)}]},
                        [str(), int(share)],
                        [str(), int(rest)],
                    ]
                },
            ]
        } if user == again and share + rest == 100 and 0 < share < 100:
            return share
    return None
