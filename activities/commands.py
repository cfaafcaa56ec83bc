"""Commands of a repository that measure: one JSON object on standard output is the measurement."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from activities.measurement import Finding, Workbench, measured, unmeasured
from activities.processes import CannotStartError
from activities.rebar3.profiles import profile_locks
from domain.conditions import Scalar
from domain.durations import format_duration

OUTPUT_LIMIT = 1024 * 1024
_LONGEST_TEXT = 1_000
_NOT_STARTED = (126, 127)
"""What a shell or env(1) answers for a program that is not executable, or not there."""


async def run_command(command: Sequence[str], bench: Workbench) -> Finding:
    """Run a measuring command of the repository."""
    try:
        # A command that is rebar3 itself shares the build directories with the tools.
        profiles = ("default", "test") if Path(command[0]).name == "rebar3" else ()
        async with profile_locks(bench, profiles):
            result = await bench.run(command, output_limit=OUTPUT_LIMIT)
    except CannotStartError as error:
        return unmeasured(str(error))
    name = " ".join(command)[:200]
    if result.timed_out:
        return unmeasured(
            f"{name} did not end within {format_duration(bench.timeout)}: raise the step's timeout"
        )
    if result.status in _NOT_STARTED:
        return unmeasured(f"{name} {result.ending()}; install what it calls on the build worker")
    if result.output is None:
        return unmeasured(
            f"{name} wrote more than {OUTPUT_LIMIT} bytes to standard output: print one JSON object"
        )
    try:
        values = read_object(bench.redactor.text(result.output.decode(errors="replace")))
    except ValueError as error:
        return unmeasured(
            f"{name} {result.ending()}; its standard output is no JSON object of measurements ({error})"
        )
    evidence = [] if result.status == 0 else [f"{name} ended with status {result.status}"]
    measurements: dict[str, Scalar] = {}
    for key, value in values.items():
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_TEXT):
            measurements[key] = value
        else:
            evidence.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    if not measurements:
        return unmeasured(f"{name} printed a JSON object without a single number, word or boolean", evidence)
    ending = "" if result.status == 0 else f", although it ended with status {result.status}"
    return measured(f"{name} measured {', '.join(measurements)}{ending}", measurements, evidence)


def read_object(output: str) -> dict[str, Any]:
    """The JSON object on standard output: all of it, or its last line.

    Raises:
        ValueError: there is none, a name occurs twice, or a number is NaN or infinite.
    """
    text = output.strip()
    if not text:
        raise ValueError("it is empty")
    try:
        return _object(text)
    except json.JSONDecodeError:
        return _object(text.splitlines()[-1])


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no measurement")
