"""Schedules: what the configuration starts by the clock (spec: Scheduled Events)."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from domain.configuration import Configuration
from domain.dependency_plan import dependency_settings, nothing_to_run
from domain.dependency_update import BranchHead
from domain.deployment import Name
from domain.events import DeploymentEvent, EventSource, EventType
from domain.model import Model
from domain.triggers import Action, HostEvent, Route, RouteOutcome, TriggerRule
from domain.triggers.routing import routes

PREFIX: Final = "schedule:"
"""Of the ids of all schedules, and of what they start."""


class Overlap(StrEnum):
    """What happens when it is time again and the run before has not ended."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"


class Timing(NamedTuple):
    """How an action bears being late.

    Attributes:
        catch_up: a run that was missed (no server, no worker) is made up for within so much time.
    """

    overlap: Overlap
    catch_up: timedelta


TIMINGS: Final[dict[Action, Timing]] = {
    # Tomorrow's run measures a newer commit anyway; one made up for at noon would take the build workers
    # from the people who wait for them.
    "nightly_validation": Timing(Overlap.SKIP, timedelta(hours=1)),
    # The next one comes in a week: one that was due meanwhile runs afterwards, on what is then the base.
    "dependency_update": Timing(Overlap.BUFFER_ONE, timedelta(hours=12)),
}


def schedule_id(application: str, rule: str) -> str:
    return f"{PREFIX}{application}:{rule}"


class ScheduledEvent(Model):
    """The input of ScheduledEventWorkflow: which rule fires, as it stood when the schedule was made."""

    application: Name
    rule: str
    cron: str

    @property
    def schedule_id(self) -> str:
        return schedule_id(self.application, self.rule)


class ScheduleDefinition(Model):
    """One schedule that shall be.

    Attributes:
        cron: five fields or a macro, in UTC.
    """

    application: str
    rule: str
    action: Action
    cron: str
    overlap: Overlap
    catch_up: timedelta

    @property
    def id(self) -> str:
        return schedule_id(self.application, self.rule)

    @property
    def event(self) -> ScheduledEvent:
        return ScheduledEvent(application=self.application, rule=self.rule, cron=self.cron)

    @property
    def summary(self) -> str:
        return f"{self.action.replace('_', ' ')} of {self.application}"


class Omission(NamedTuple):
    """A schedule that is not made, and why."""

    id: str
    reason: str


def definitions(configuration: Configuration) -> tuple[tuple[ScheduleDefinition, ...], tuple[Omission, ...]]:
    """Every schedule of the configuration, and those that would have nothing to do."""
    made, omitted = [], []
    for name, application in configuration.applications.items():
        for rule_name, rule in configuration.triggers.items():
            if rule.trigger.event != "schedule" or rule.trigger.cron is None:
                continue
            timing = TIMINGS[rule.action]
            if rule.action == "dependency_update" and dependency_settings(application) is None:
                omitted.append(Omission(schedule_id(name, rule_name), nothing_to_run(name)))
                continue
            made.append(
                ScheduleDefinition(
                    application=name,
                    rule=rule_name,
                    action=rule.action,
                    cron=rule.trigger.cron,
                    overlap=timing.overlap,
                    catch_up=timing.catch_up,
                )
            )
    return tuple(made), tuple(omitted)


# Cron, as POSIX means it

_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SPANS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


class Calendar(NamedTuple):
    """The times at which all five fields match."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]


def calendars(cron: str) -> tuple[Calendar, ...]:
    """The times of a cron expression that `domain.triggers.check_cron` has passed.

    Where both day of month and day of week are restricted, either is enough, as POSIX and GitHub have it.
    Temporal's own reading of such an expression asks for both: therefore this one.
    """
    fields = _MACROS.get(cron.strip(), cron).lower().split()
    sets = [_values(field, place) for place, field in enumerate(fields)]
    whole = Calendar(*sets)
    if fields[2].startswith("*") or fields[4].startswith("*"):
        return (whole,)
    any_day, any_weekday = frozenset(range(1, 32)), frozenset(range(7))
    return (whole._replace(weekdays=any_weekday), whole._replace(days=any_day))


def _values(field: str, place: int) -> frozenset[int]:
    lowest, highest = _SPANS[place]
    words = {3: _MONTHS, 4: _DAYS}.get(place, ())
    offset = 1 if place == 3 else 0
    found: set[int] = set()

    def number(word: str) -> int:
        return words.index(word) + offset if word in words else int(word)

    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = lowest if first == "*" else number(first)
        open_ended = first == "*" or step
        end = number(last) if last else highest if open_ended else begin
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(v % 7 for v in found) if place == 4 else frozenset(found)


# What a schedule starts


class ScheduledOccurrence(Model):
    """A schedule that has fired.

    Attributes:
        id: of the workflow it started.
        at: when it was due.
        head: of the branch that is meant, where the action needs a commit.
    """

    event: ScheduledEvent
    id: str
    at: datetime
    head: BranchHead | None = None


class ScheduledRule(Model):
    """What the configuration now says of a rule that has fired.

    Attributes:
        needs_commit: what it starts concerns one commit, the head of the default branch.
    """

    repository: str
    needs_commit: bool


class ScheduledState(StrEnum):
    PENDING = "Pending"
    COMPLETED = "Completed"
    FAILED = "Failed"


class ScheduledOutcome(Model):
    """The answer of the ``status`` query and the result of ScheduledEventWorkflow.

    Attributes:
        at: when it was due.
        started: workflow id of what it started, or found running.
        reason: how that ended; or why nothing was started.
    """

    application: str
    rule: str
    at: datetime
    state: ScheduledState = ScheduledState.PENDING
    branch: str | None = None
    commit: str | None = None
    started: str | None = None
    reason: str = ""


APPLY: Final = "run erlmcp-deploy schedules apply"


class ScheduleGoneError(ValueError):
    """The configuration does not have the rule any more, as a schedule."""


def rule_of(configuration: Configuration, event: ScheduledEvent) -> TriggerRule:
    """The rule that has fired, as it stands now.

    Raises:
        ScheduleGoneError: there is none.
    """
    rule = configuration.triggers.get(event.rule)
    if event.application not in configuration.applications:
        raise ScheduleGoneError(f"deployment.yaml has no application {event.application!r} any more; {APPLY}")
    if rule is None or rule.trigger.event != "schedule":
        raise ScheduleGoneError(f"deployment.yaml has no schedule {event.rule!r} any more; {APPLY}")
    return rule


def route_of(configuration: Configuration, occurrence: ScheduledOccurrence) -> Route:
    """Where a schedule leads: by the rules, of which only its own is asked, for its own application.

    Raises:
        ScheduleGoneError: there is no such rule any more.
    """
    event, head = occurrence.event, occurrence.head
    rule = rule_of(configuration, event)
    only = configuration.model_copy(
        update={
            "triggers": {event.rule: rule},
            "applications": {event.application: configuration.applications[event.application]},
        }
    )
    record = DeploymentEvent(
        id=occurrence.id,
        type=EventType.SCHEDULE,
        source=EventSource.API,
        actor=f"schedule {event.rule}",
        timestamp=occurrence.at,
        git_ref="" if head is None else f"refs/heads/{head.branch}",
        commit_sha="" if head is None else head.commit,
    )
    fired = HostEvent(
        kind="schedule",
        event=record,
        branch=None if head is None else head.branch,
        schedule=event.cron,
    )
    [route] = routes(fired, only)
    if route.outcome is RouteOutcome.IGNORE:
        return route.model_copy(update={"reason": f"{route.reason}; {APPLY}"})
    return route
