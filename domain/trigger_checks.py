"""What is wrong with triggers: rules that could never fire, or would fire when nobody means it."""

from __future__ import annotations

from collections.abc import Iterator

from domain.configuration import Configuration
from domain.findings import Finding, nearest
from domain.gates import GateType
from domain.secrets import Path
from domain.triggers import ALL_GATES, GATE_ALIASES, SOAK_COMPLETE, TARGETS, TriggerRule, parse_condition
from domain.triggers.conditions import FIELDS, INPUTS
from domain.triggers.globs import EXCEPT, fault
from domain.triggers.people import approver_roles
from domain.triggers.rules import REASON

_PULL_REQUEST_TYPES = (
    "opened", "synchronize", "reopened", "closed", "edited", "ready_for_review", "converted_to_draft",
    "labeled", "unlabeled", "review_requested", "assigned", "unassigned",
)  # fmt: skip
_EVENTS_OF: dict[str, tuple[str, ...]] = {
    "deploy_dev": ("push", "pull_request", "workflow_dispatch"),
    "deploy_staging": ("push", "pull_request", "workflow_dispatch"),
    "deploy_production": ("push", "pull_request", "workflow_dispatch"),
    "deploy_environment": ("workflow_dispatch",),
    "validate_pr": ("pull_request", "push"),
    "promote_to_staging": ("pull_request",),
    "nightly_validation": ("schedule", "workflow_dispatch"),
    "dependency_update": ("schedule", "workflow_dispatch"),
}
_FIELDS_OF: dict[str, tuple[str, ...]] = {
    "branches": ("push", "pull_request"),
    "paths": ("push", "pull_request"),
    "tags": ("push",),
    "types": ("pull_request",),
    "inputs": ("workflow_dispatch",),
    "cron": ("schedule",),
}
_VALIDATIONS = ("validate_pr", "nightly_validation")


def triggers(configuration: Configuration) -> Iterator[Finding]:
    """Everything that is wrong with the rules under ``triggers``."""
    for name, rule in configuration.triggers.items():
        path: Path = ("triggers", name)
        yield from _gates(path, rule, configuration)
        yield from _event(path, rule)
        yield from _globs(path, rule)
        yield from _condition(path, rule)
        yield from _target(path, name, rule, configuration)
        yield from _dispatch(path, rule, configuration)
        yield from _inputs(path, rule)


def _gates(path: Path, rule: TriggerRule, configuration: Configuration) -> Iterator[Finding]:
    steps = {s for a in configuration.applications.values() for s in a.build.steps}
    gates = {
        *configuration.gates, *steps, *GATE_ALIASES, ALL_GATES,
        *(f"{e}{SOAK_COMPLETE}" for e in configuration.environments),
    }  # fmt: skip
    for index, gate in enumerate(rule.gates):
        if gate not in gates:
            yield Finding((*path, "gates", index), gate, "is neither a gate nor a step", nearest(gate, gates))
            continue
        definition = configuration.gates.get(gate)
        by_people = definition is not None and definition.type is GateType.MANUAL
        if rule.action in _VALIDATIONS and (by_people or gate.endswith(SOAK_COMPLETE)):
            yield Finding(
                (*path, "gates", index), gate, f"cannot be measured by {rule.action}, which deploys nothing",
                "remove it, or name automated gates and steps",
            )  # fmt: skip


def _event(path: Path, rule: TriggerRule) -> Iterator[Finding]:
    event = rule.trigger.event
    if event not in _EVENTS_OF[rule.action]:
        yield Finding(
            (*path, "trigger", "event"), event, f"cannot start {rule.action}",
            f"write {' or '.join(_EVENTS_OF[rule.action])}",
        )  # fmt: skip
    for field, events in _FIELDS_OF.items():
        if (value := getattr(rule.trigger, field)) and event not in events:
            yield Finding(
                (*path, "trigger", field), value if isinstance(value, str) else None,
                f"is never looked at for the event {event}",
                f"remove it, it belongs to {' and '.join(events)}",
            )  # fmt: skip
    if event == "schedule" and rule.trigger.cron is None:
        yield Finding(
            (*path, "trigger", "cron"), None, "a schedule needs a time", "write for example '0 2 * * *'"
        )
    for index, kind in enumerate(rule.trigger.types):
        if kind not in _PULL_REQUEST_TYPES:
            yield Finding(
                (*path, "trigger", "types", index), kind, "is no type of a pull request event",
                nearest(kind, _PULL_REQUEST_TYPES),
            )  # fmt: skip
    if rule.forks and rule.action != "validate_pr":
        yield Finding(
            (*path, "forks"), True, f"is never looked at for {rule.action}",
            "remove it; forks matter to validate_pr, and what is merged is no fork's any more",
        )  # fmt: skip
    deploys = rule.action in TARGETS
    if deploys and event == "push" and not rule.trigger.branches and not rule.trigger.tags:
        yield Finding(
            (*path, "trigger", "branches"), None, f"a push of any branch would {rule.action}",
            "name branches or tags; write ['**'] if every branch is meant",
        )  # fmt: skip
    if deploys and event == "pull_request":
        yield from _merged(path, rule)


def _merged(path: Path, rule: TriggerRule) -> Iterator[Finding]:
    if rule.condition is None or parse_condition(rule.condition) != ("merged", "==", "true"):
        yield Finding(
            (*path, "condition"), rule.condition, "would deploy pull requests that were not merged",
            "write condition: merged == true",
        )  # fmt: skip
    if rule.trigger.types and "closed" not in rule.trigger.types:
        yield Finding(
            (*path, "trigger", "types"), list(rule.trigger.types),
            "would never be: a pull request is merged when it is closed", "write types: [closed]",
        )  # fmt: skip


def _globs(path: Path, rule: TriggerRule) -> Iterator[Finding]:
    for field in ("branches", "tags", "paths"):
        globs: tuple[str, ...] = getattr(rule.trigger, field)
        for index, glob in enumerate(globs):
            if (wrong := fault(glob)) is not None:
                yield Finding((*path, "trigger", field, index), glob, *wrong)
        if globs and all(glob.startswith(EXCEPT) for glob in globs):
            yield Finding(
                (*path, "trigger", field), list(globs), "takes nothing: each of them only takes back",
                "write first what they are taken from, for example ['**', '!docs/**']",
            )  # fmt: skip


def _condition(path: Path, rule: TriggerRule) -> Iterator[Finding]:
    if rule.condition is None:
        return
    field, _, word = parse_condition(rule.condition)
    where = (*path, "condition")
    known = {n: events for n, events in FIELDS.items() if rule.trigger.event in events}
    if field.startswith(INPUTS):
        inputs = {*rule.trigger.inputs, *((REASON,) if rule.trigger.event == "workflow_dispatch" else ())}
        if field.removeprefix(INPUTS) not in inputs:
            yield Finding(
                where, rule.condition, f"{field} is no input of this rule",
                nearest(field, {f"{INPUTS}{i}" for i in inputs}),
            )  # fmt: skip
    elif field not in known:
        fault_of_it = "which no event has" if field not in FIELDS else f"which no {rule.trigger.event} has"
        yield Finding(where, rule.condition, f"looks at {field!r}, {fault_of_it}", nearest(field, known))
    elif field in ("merged", "fork") and word.lower() not in ("true", "false"):
        yield Finding(
            where, rule.condition, f"can never be: {field} is true or false", f"write {field} == true"
        )


def _target(path: Path, name: str, rule: TriggerRule, configuration: Configuration) -> Iterator[Finding]:
    target = TARGETS.get(rule.action)
    if target is None:
        return
    if target not in configuration.environments:
        yield Finding(
            (*path, "action"), rule.action, f"there is no environment {target!r}",
            f"add it, choose another action, or write triggers.{name}: null",
        )  # fmt: skip
    elif rule.approval == "required" and not approver_roles(configuration, target):
        yield Finding(
            (*path, "approval"), rule.approval, f"nobody would be asked: {target} has no approval gate",
            f"name the role under environments.{target}.approval",
        )  # fmt: skip


def _dispatch(path: Path, rule: TriggerRule, configuration: Configuration) -> Iterator[Finding]:
    needed = {
        **dict.fromkeys(TARGETS, ("version",)),
        "deploy_environment": ("environment", "version"),
        "nightly_validation": ("commit",),
    }.get(rule.action, ())
    for name in needed if rule.trigger.event == "workflow_dispatch" else ():
        field = rule.trigger.inputs.get(name)
        if field is None or not field.required:
            yield Finding(
                (*path, "trigger", "inputs", name), None, f"{rule.action} cannot do without this input",
                f"add {name}: {{required: true}}",
            )  # fmt: skip
    for name, known in (
        ("environment", set(configuration.environments)),
        ("application", set(configuration.applications)),
    ):
        field = rule.trigger.inputs.get(name)
        for index, option in enumerate(field.options if field else ()):
            if option not in known:
                yield Finding(
                    (*path, "trigger", "inputs", name, "options", index), option, f"is no {name}",
                    nearest(option, known),
                )  # fmt: skip
    skip_tests = rule.trigger.inputs.get("skip_tests")
    if skip_tests is not None and skip_tests.type != "boolean":
        yield Finding(
            (*path, "trigger", "inputs", "skip_tests", "type"), skip_tests.type, "is yes or no",
            "write type: boolean",
        )  # fmt: skip
    elif skip_tests is not None and skip_tests.default is True:
        yield Finding(
            (*path, "trigger", "inputs", "skip_tests", "default"), True,
            "would skip the tests whenever nobody says otherwise", "write default: false",
        )  # fmt: skip


def _inputs(path: Path, rule: TriggerRule) -> Iterator[Finding]:
    for name, field in rule.trigger.inputs.items():
        where: Path = (*path, "trigger", "inputs", name)
        if (field.type == "choice") != bool(field.options):
            yield Finding(
                (*where, "options"), list(field.options), "options and type: choice go together",
                "give a choice its options, and options the type choice",
            )  # fmt: skip
        kinds = {"boolean": isinstance(field.default, bool), "choice": field.default in field.options}
        if field.default is not None and not kinds.get(field.type, isinstance(field.default, str)):
            yield Finding(
                (*where, "default"), field.default, f"is no {field.type} of this input",
                "write true or false" if field.type == "boolean" else "write one of its values",
            )  # fmt: skip
