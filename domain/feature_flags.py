"""Feature flags in flagd's JSON: a percentage roll-out, and a kill switch (spec: Progressive Delivery)."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from domain.durations import Interval
from domain.model import Model


class FlagRollout(Model):
    """A flag that is opened step by step after the version is out, watched like a canary.

    Attributes:
        flag: its key in the document.
        config_map: that holds the document, in the workload's namespace.
        document: the key of the document in the ConfigMap.
        on: the variant that is rolled out; `off` the one that everybody else gets.
        targeting_key: what the share is taken of, a context field of the flag's evaluation.
        steps: percent of the users, ascending.
        step_duration: how long each step is watched.
        analysis_interval: between two measurements.
        kill_on_rollback: a roll-back of this environment switches the flag off first.
    """

    flag: str = Field(min_length=1)
    config_map: str = "feature-flags"
    document: str = "flags.json"
    on: str = "on"
    off: str = "off"
    targeting_key: str = "targetingKey"
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


class FlagChange(Model):
    """Give a share of the users the `on` variant; 0 is the kill switch.

    Attributes:
        key: noted with the flag; a second change with the same key changes nothing.
    """

    key: str
    namespace: str
    rollout: FlagRollout
    percentage: int = Field(ge=0, le=100)
    deployment_id: str


class FlagReading(Model):
    """What the ConfigMap says after a change: read back.

    Attributes:
        exists: whether there is such a flag; a kill switch of a flag that is not there is done.
    """

    exists: bool
    percentage: int
    state: str = ""
    note: str = ""
