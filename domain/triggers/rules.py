"""Which events start what (spec: Event Triggers)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from domain.model import Model

Action = Literal[
    "deploy_dev",
    "deploy_staging",
    "deploy_production",
    "deploy_environment",
    "validate_pr",
    "promote_to_staging",
    "nightly_validation",
    "dependency_update",
]

TARGETS: dict[str, str] = {
    "deploy_dev": "dev",
    "deploy_staging": "staging",
    "deploy_production": "production",
    "promote_to_staging": "staging",
}
"""Actions that name their environment."""

ALL_GATES = "all_quality_gates"
"""In a trigger's ``gates``: every required gate of the target environment."""
SOAK_COMPLETE = "_soak_complete"
"""In a trigger's ``gates``: ``staging_soak_complete`` asks for a completed soak in staging."""
GATE_ALIASES: dict[str, str] = {"security_scan": "security"}
"""Names the specification uses in triggers for gates or steps it defines under another name."""
REASON = "reason"
"""An input that every manual dispatch may have: why. Whoever skips tests must say it."""

_CONDITION = re.compile(r"\s*([a-z_][a-z0-9_.]*)\s*(==|!=)\s*([A-Za-z0-9_./-]+)\s*")
_MACROS = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@yearly"})
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_RANGE = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/(\d+))?")


def check_cron(text: str) -> str:
    """The cron expression, unchanged: five fields in UTC, or ``@daily`` and the like.

    Raises:
        ValueError: which field is wrong, and what it may be.
    """
    if text.strip() in _MACROS:
        return text
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"{text!r} has {len(fields)} fields, a cron expression has 5 "
            "(minute hour day month weekday); write for example '0 2 * * *'"
        )
    for field, (name, lowest, highest, words) in zip(fields, _FIELDS, strict=True):
        for part in field.lower().split(","):
            if not _cron_part(part, lowest, highest, words):
                raise ValueError(
                    f"{part!r} is no {name}; write *, {lowest} to {highest}, a range such as "
                    f"{lowest}-{lowest + 1} or a step such as */2"
                )
    return text


def _cron_part(part: str, lowest: int, highest: int, words: tuple[str, ...]) -> bool:
    match = _RANGE.fullmatch(part)
    if match is None:
        return False
    start, end, step = match.groups()
    if step is not None and int(step) < 1:
        return False
    if start == "*":
        return end is None

    def number(word: str) -> int:
        if word in words:
            return words.index(word) + (1 if words is _MONTHS else 0)
        return int(word) if word.isdigit() else -1

    first = number(start)
    last = first if end is None else number(end)
    return lowest <= first <= last <= highest


def parse_condition(text: str) -> tuple[str, str, str]:
    """Read ``merged == true`` as ``("merged", "==", "true")``.

    Raises:
        ValueError: it is no comparison of one of the event's fields with a word.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no condition of a trigger; write for example merged == true")
    field, sign, word = match.groups()
    return field, sign, word


def _checked_condition(text: str) -> str:
    parse_condition(text)
    return text


class InputDefinition(Model):
    """A typed input of a manual dispatch; ``reason`` may be given without being named here.

    Attributes:
        description: what the person who fills it in reads.
        required: refuse a dispatch without it.
        type: of the value; ``choice`` takes one of `options`.
        options: accepted values of a choice.
        default: the value when none is given.
    """

    description: str = ""
    required: bool = False
    type: Literal["string", "boolean", "choice"] = "string"
    options: tuple[str, ...] = ()
    default: str | bool | None = None


class EventFilter(Model):
    """What an event must look like. Globs match whole path segments: ``*`` within one, ``**`` any number of
    them, ``!`` in front takes back what globs before it have taken.

    Attributes:
        event: its type.
        branches: globs of the branch that was pushed, or that a pull request goes into; none = every branch.
        paths: globs of changed files, one of which must match; none = every file. Where the host does not
            list the files (pull requests, very long pushes), they are not looked at.
        tags: globs of the tag that was pushed; a rule with tags and no branches ignores branches' pushes, one
            without tags ignores tags.
        types: of a pull request: opened, synchronize, reopened, closed …
        inputs: of a manual dispatch.
        cron: when a schedule fires, five fields in UTC.
    """

    event: Literal["push", "pull_request", "workflow_dispatch", "schedule"]
    branches: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    inputs: dict[str, InputDefinition] = {}
    cron: Annotated[str, AfterValidator(check_cron)] | None = None


class TriggerRule(Model):
    """One rule: an event, a condition, an action.

    Attributes:
        trigger: the event.
        action: what it starts.
        approval: ``automatic`` takes over the approval of the pull request the commit came by; ``none`` asks
            for none, and waives none that the environment asks for.
        condition: on one field of the event, such as ``merged == true``: merged, action, fork, number,
            branch, tag, actor, workflow, or an input as ``inputs.environment``.
        gates: what must have passed: gates, steps, ``all_quality_gates``, ``staging_soak_complete``.
        forks: validate pull requests from forks as well: code of people who may not push here then runs on
            the build workers.
    """

    trigger: EventFilter
    action: Action
    approval: Literal["none", "automatic", "required"] | None = None
    condition: Annotated[str, AfterValidator(_checked_condition)] | None = None
    gates: tuple[str, ...] = ()
    forks: bool = False
