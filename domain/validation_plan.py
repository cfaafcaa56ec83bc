"""Which gates a validation holds its commit against (spec: PR Validation).

Triggers name gates and, more finely, build steps. A step becomes a gate of its own: it is held to what the
configured gates expect of its measurements; where none does, to the checklist; where that does not either,
to what the tool itself calls success.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from domain.build import StepDefinition
from domain.conditions import Expectation, parse_expression
from domain.configuration import ApplicationSettings, Configuration
from domain.gates import GateDefinition, GateType, OnFailure
from domain.plan import UnknownNameError, build_definition
from domain.projects import project_of
from domain.triggers import ALL_GATES, GATE_ALIASES
from domain.triggers.rules import SOAK_COMPLETE
from domain.validation import ValidationPlan, ValidationRequest

_MEASURES: Final[dict[str, frozenset[str]]] = {
    "rebar3.compile": frozenset({"errors", "warnings", "warnings_as_errors"}),
    "rebar3.eunit": frozenset({"eunit_tests", "eunit_failures"}),
    "rebar3.ct": frozenset({"ct_tests", "ct_failures", "ct_skipped", "ct_pass_rate"}),
    "rebar3.cover": frozenset({"coverage", "line_coverage", "branch_coverage", "function_coverage"}),
    "rebar3.dialyzer": frozenset({"dialyzer_warnings", "dialyzer_clean"}),
    "rebar3.xref": frozenset({"xref_undefined"}),
    "repository.documents": frozenset(
        {
            "changelog_updated",
            "migration_guide",
            "all_public_docs",
            "alert_rules_updated",
            "runbook_exists",
            "health_checks_defined",
            "metrics_configured",
        }
    ),
}
"""Tool → what it measures; of a command only running it tells."""

_SUCCESS: Final[dict[str, dict[str, Expectation]]] = {
    "rebar3.compile": {"errors": 0},
    "rebar3.eunit": {"eunit_failures": 0},
    "rebar3.ct": {"ct_pass_rate": 1.0},
    "rebar3.dialyzer": {"dialyzer_warnings": 0},
    "rebar3.xref": {"xref_undefined": 0},
}
"""Tool → what it calls success itself; no coverage and no document is good or bad by itself."""


class UnfitGateError(ValueError):
    """What is named as a gate of a validation cannot be one."""


def resolve_validation_plan(configuration: Configuration, request: ValidationRequest) -> ValidationPlan:
    """Resolve the configuration for one validation.

    Raises:
        UnknownNameError: the application, or something named as a gate, is not configured.
        UnfitGateError: it is configured, and cannot be held against a commit.
    """
    if request.application not in configuration.applications:
        known = ", ".join(sorted(configuration.applications)) or "none"
        raise UnknownNameError(
            f"application {request.application!r} is not in deployment.yaml; choose one of: {known}"
        )
    application = configuration.applications[request.application]
    return ValidationPlan(
        application=request.application,
        repository=application.repository,
        build=build_definition(application, application.health, application.metrics),
        gates=_resolved(configuration, application, request.gates or (ALL_GATES,)),
        project=request.project or application.project or project_of(application.repository),
    )


def _resolved(
    configuration: Configuration, application: ApplicationSettings, names: Iterable[str]
) -> dict[str, GateDefinition]:
    gates: dict[str, GateDefinition] = {}
    for name in names:
        if name == ALL_GATES:
            gates |= _required(configuration)
        else:
            known, gate = _named(name, configuration, application)
            gates[known] = gate
    return gates


def _required(configuration: Configuration) -> dict[str, GateDefinition]:
    """Every automated gate that some environment requires."""
    gates = {
        name: configuration.gates[name]
        for environment in configuration.environments.values()
        for name in environment.required_gates
        if configuration.gates[name].type is GateType.AUTOMATED
    }
    if not gates:
        raise UnfitGateError(
            "no environment requires an automated gate, so there is nothing to hold the commit against; "
            "name gates, or add some under environments.*.required_gates in deployment.yaml"
        )
    return gates


def _named(
    name: str, configuration: Configuration, application: ApplicationSettings
) -> tuple[str, GateDefinition]:
    """A gate by the name of a gate, of a build step, or by a name the specification uses for one of them."""
    steps = application.build.steps
    for candidate in (name, GATE_ALIASES.get(name, name)):
        gate = configuration.gates.get(candidate)
        if gate is not None and gate.type is GateType.AUTOMATED:
            return candidate, gate
        if gate is not None:
            raise UnfitGateError(
                f"gate {name!r} is decided by people; a validation has only what is measured"
            )
        if candidate in steps:
            return candidate, _gate_of_step(candidate, configuration, steps)
    if name.endswith(SOAK_COMPLETE):
        raise UnfitGateError(f"gate {name!r} needs a deployed version; a validation deploys nothing")
    choices = ", ".join(sorted({*_automated(configuration), *steps, ALL_GATES}))
    raise UnknownNameError(f"{name!r} is neither a gate nor a build step; choose of: {choices}")


def _automated(configuration: Configuration) -> dict[str, GateDefinition]:
    return {n: g for n, g in configuration.gates.items() if g.type is GateType.AUTOMATED}


def _gate_of_step(
    name: str, configuration: Configuration, steps: Mapping[str, StepDefinition]
) -> GateDefinition:
    step = steps[name]
    judges = {n: g for n, g in _automated(configuration).items() if name in g.steps}
    together = (name,) if step.tool is not None else _indistinct(name, judges, steps)
    conditions = _conditions(name, judges, steps)
    if not conditions and step.tool is not None:
        conditions = _of_checklist(configuration, _MEASURES[step.tool]) or _SUCCESS.get(step.tool, {})
        judges = {}
    if not conditions:
        raise UnfitGateError(
            f"step {name!r} is no gate by itself, since no gate has a condition on what it measures; "
            f"add one to a gate with {name} among its steps"
        )
    gates = judges.values()
    lenient = judges and all(g.on_failure is OnFailure.WARN for g in gates)
    return GateDefinition(
        conditions=conditions,
        steps=together,
        timeout=max((g.timeout for g in gates), default=step.timeout),
        on_failure=OnFailure.WARN if lenient else OnFailure.BLOCK,
    )


def _conditions(
    name: str, judges: Mapping[str, GateDefinition], steps: Mapping[str, StepDefinition]
) -> dict[str, Expectation]:
    """What the gates expect of the step's measurements.

    Raises:
        UnfitGateError: two gates expect different things of one measurement.
    """
    found: dict[str, tuple[str, Expectation]] = {}
    for gate, definition in judges.items():
        for measurement, expected in _expectations(definition):
            if not _may_measure(name, measurement, definition, steps):
                continue
            other, earlier = found.setdefault(measurement, (gate, expected))
            if _plain(earlier) != _plain(expected):
                raise UnfitGateError(
                    f"gates {other!r} and {gate!r} expect {measurement} {earlier} and {expected}; "
                    f"name the gate that is meant instead of the step {name!r}"
                )
    return {measurement: expected for measurement, (_, expected) in found.items()}


def _expectations(gate: GateDefinition) -> Iterator[tuple[str, Expectation]]:
    if gate.condition is not None:
        yield parse_expression(gate.condition)
    yield from gate.conditions.items()


def _may_measure(
    name: str, measurement: str, gate: GateDefinition, steps: Mapping[str, StepDefinition]
) -> bool:
    """Whether a condition of the gate may be about this step: what a tool measures is no command's."""
    tool = steps[name].tool
    if tool is not None:
        return measurement in _MEASURES[tool]
    tools = (steps[s].tool for s in gate.steps if s in steps)
    return not any(measurement in _MEASURES[t] for t in tools if t is not None)


def _indistinct(
    name: str, judges: Mapping[str, GateDefinition], steps: Mapping[str, StepDefinition]
) -> tuple[str, ...]:
    """The step and the other commands of its gates: nobody knows which of them measures what."""
    commands = (s for g in judges.values() for s in g.steps if s in steps and steps[s].tool is None)
    return tuple(dict.fromkeys((name, *commands)))


def _of_checklist(configuration: Configuration, measurements: frozenset[str]) -> dict[str, Expectation]:
    """What the pre-deployment checklist expects of these measurements."""
    return {
        measurement: expected
        for items in configuration.pre_deployment_compliance.values()
        for item in items
        for measurement, expected in item.items()
        if measurement in measurements
    }


def _plain(expected: Expectation) -> str:
    """``== 0`` and ``0`` are the same."""
    return str(expected).replace(" ", "").removeprefix("==")
