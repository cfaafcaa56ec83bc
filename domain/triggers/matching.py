"""Whether a rule wants an event, by the kinds of the specification's section (spec: Event Triggers).

A rule that does not want it says what it wants instead, and how far it came: the ones that came farthest are
what a person wants to hear of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from domain.triggers.conditions import holds
from domain.triggers.globs import matches
from domain.triggers.host_event import HostEvent, HostEventKind
from domain.triggers.rules import TriggerRule

_SHOWN = 3


class Miss(NamedTuple):
    """Why a rule does not want an event.

    Attributes:
        stage: how many things fitted before.
        wants: what the rule asks for, to be read after its name.
        fact: what the event is instead.
    """

    stage: int
    wants: str
    fact: str


_Question = tuple[bool, str, str]
"""Whether it fits, what the rule wants, what the event is."""


def miss(name: str, rule: TriggerRule, event: HostEvent) -> Miss | None:
    """The first thing that does not fit; none if the rule wants the event."""
    if rule.trigger.event != event.kind:
        return Miss(0, f"wants {rule.trigger.event} events", f"this is a {event.kind} event")
    questions = (*_QUESTIONS[event.kind](rule, event), *_condition(rule, event), *_ours(name, rule, event))
    for stage, (fits, wants, fact) in enumerate(questions, start=1):
        if not fits:
            return Miss(stage, wants, fact)
    return None


def nearest_miss(misses: Sequence[tuple[str, Miss]]) -> tuple[str | None, str]:
    """The rule that came farthest, and in one sentence what kept it and its equals back."""
    if not misses:
        return None, "deployment.yaml has no rule that starts anything; describe one under triggers"
    farthest = max(m.stage for _, m in misses)
    if farthest == 0:
        fact = misses[0][1].fact
        return None, f"{fact}, and no rule wants those; add one under triggers"
    near = [(name, m) for name, m in misses if m.stage == farthest]
    texts = [f"rule {name} {m.wants}" for name, m in near[:_SHOWN]]
    if len(near) > _SHOWN:
        texts.append(f"{len(near) - _SHOWN} more want others")
    return near[0][0], f"{'; '.join(texts)}; {near[0][1].fact}"


# 1. Git push events; 3. Tag events


def _push(rule: TriggerRule, event: HostEvent) -> Iterator[_Question]:
    wanted = rule.trigger
    if event.tag is not None:
        fact = f"this is tag {event.tag}"
        yield bool(wanted.tags), _wants("branches", wanted.branches), fact
        yield matches(wanted.tags, event.tag), _wants("tags", wanted.tags), fact
        return
    fact = f"this is branch {event.branch}"
    yield bool(wanted.branches or not wanted.tags), _wants("tags", wanted.tags), fact
    yield _branch(rule, event)
    if wanted.paths and event.paths is not None:
        changed = any(matches(wanted.paths, path) for path in event.paths)
        yield changed, f"wants a change of {', '.join(wanted.paths)}", _changed(event.paths)


# 2. Pull request events


def _pull_request(rule: TriggerRule, event: HostEvent) -> Iterator[_Question]:
    types = rule.trigger.types
    yield (
        not types or event.action in types,
        f"wants {' or '.join(types)} of pull requests",
        f"pull request {event.number} was {_happened(event)}",
    )
    yield _branch(rule, event)


# 4. Manual dispatch; 5. Scheduled events


def _workflow_dispatch(rule: TriggerRule, event: HostEvent) -> Iterator[_Question]:
    """Whatever the inputs are: they are the rule's to refuse."""
    yield from ()


def _schedule(rule: TriggerRule, event: HostEvent) -> Iterator[_Question]:
    cron, fired = rule.trigger.cron or "", event.schedule or ""
    yield cron.split() == fired.split(), f"wants the schedule {cron!r}", f"this is {fired!r}"


_QUESTIONS: dict[HostEventKind, Callable[[TriggerRule, HostEvent], Iterator[_Question]]] = {
    "push": _push,
    "pull_request": _pull_request,
    "workflow_dispatch": _workflow_dispatch,
    "schedule": _schedule,
}


# What all of them have


def _condition(rule: TriggerRule, event: HostEvent) -> Iterator[_Question]:
    if rule.condition is not None:
        fits = holds(rule.condition, event, rule.trigger.inputs)
        yield fits, f"wants {rule.condition}", _described(event)


def _ours(name: str, rule: TriggerRule, event: HostEvent) -> Iterator[_Question]:
    """What no condition can waive: only merged code is deployed, and foreign code does not run here."""
    if event.kind != "pull_request" or event.merged:
        return
    if rule.action != "validate_pr":
        yield False, "wants merged pull requests", _described(event)
    yield (
        rule.forks or not event.fork,
        f"leaves out pull requests from forks, whose code would run on the build workers "
        f"(triggers.{name}.forks: true takes them)",
        f"pull request {event.number} comes from a fork",
    )


def _branch(rule: TriggerRule, event: HostEvent) -> _Question:
    wanted = rule.trigger.branches
    fits = not wanted or matches(wanted, event.branch or "")
    return fits, _wants("branches", wanted), f"this is {event.branch}"


def _wants(kind: str, globs: Sequence[str]) -> str:
    return f"wants {kind} {', '.join(globs)}" if globs else f"wants {kind}"


def _changed(paths: Sequence[str]) -> str:
    if not paths:
        return "this push changes no file"
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"this push changes {paths[0]!r}{more}"


def _happened(event: HostEvent) -> str:
    if event.action == "closed":
        return "closed and merged" if event.merged else "closed without merging"
    return str(event.action)


def _described(event: HostEvent) -> str:
    if event.kind == "pull_request":
        return f"pull request {event.number} into {event.branch} was {_happened(event)}"
    place = f"tag {event.tag}" if event.tag is not None else f"branch {event.branch}"
    if event.kind == "workflow_dispatch":
        return f"this is {event.workflow or 'a dispatch'} on {place} by {event.event.actor}"
    return f"this is {place} by {event.event.actor}"
