"""The measuring tools of rebar3. Each measures what it has just done: earlier results are removed first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from activities.file_lock import file_lock
from activities.measurement import Finding, Workbench, measured, unmeasured
from activities.processes import CannotStartError, ProcessResult
from activities.rebar3.profiles import profile_locks
from activities.rebar3.reports import (
    SuiteCounts,
    UnreadableReportError,
    read_compile_log,
    read_coverage,
    read_ct_report,
    read_dialyzer,
    read_eunit_reports,
    read_xref_log,
)
from domain.conditions import Scalar
from domain.durations import format_duration

NOT_INSTALLED: Final = "rebar3 is not installed on the build worker; apt-get install rebar3"
_NO_ERLANG: Final = (
    "rebar3 finds no Erlang/OTP on the build worker; apt-get install erlang-dev erlang-tools erlang-reltool"
    " erlang-eunit erlang-common-test erlang-dialyzer"
)
_HERE = Path(__file__).parent
_CONFIGURATION = _HERE / "reporting.config"
_COVERAGE = _HERE / "coverage.escript"
_OUTPUT_LIMIT = 8 * 1024 * 1024
_NOT_FOUND = 127


class NotMeasuredError(Exception):
    """rebar3 could not do its work; the message is the reason of the report."""


class OutOfTimeError(NotMeasuredError):
    """rebar3 was ended by its timeout."""


async def run_tool(tool: str, bench: Workbench) -> Finding:
    """Run one of the tools of `TOOLS`; what hinders it is a finding, not an error."""
    profile, measure = TOOLS[tool]
    async with profile_locks(bench, (profile,)):
        try:
            return await measure(bench)
        except NotMeasuredError as error:
            return unmeasured(str(error))
        except UnreadableReportError as error:
            return unmeasured(f"{tool}: {error}")


async def rebar3(bench: Workbench, *arguments: str, **variables: str) -> ProcessResult:
    """Run rebar3 under the reporting configuration.

    Raises:
        NotMeasuredError: it is not installed, cannot start or did not end in time.
    """
    environment = {
        "REBAR_CONFIG": str(_CONFIGURATION),
        "ERLMCP_DEPLOY_REBAR_CONFIG": bench.environment.get("REBAR_CONFIG", "rebar.config"),
        **variables,
    }
    try:
        result = await bench.run(["rebar3", *arguments], environment=environment)
    except CannotStartError as error:
        raise NotMeasuredError(NOT_INSTALLED) from error
    if result.timed_out:
        limit = format_duration(bench.timeout)
        raise OutOfTimeError(f"rebar3 {' '.join(arguments)} did not end within {limit}: raise its timeout")
    if result.status == _NOT_FOUND:
        raise NotMeasuredError(_NO_ERLANG)
    return result


async def measure_compile(bench: Workbench) -> Finding:
    """Compile all modules of the project anew."""
    for ebin in _own_ebin(bench.tree):
        shutil.rmtree(ebin, ignore_errors=True)
    result = await rebar3(bench, "compile", DEBUG="1", ERLMCP_DEPLOY_REPORTS=str(bench.reports))
    found = read_compile_log(_log(bench))
    if result.status != 0 and not found.errors:
        return unmeasured(f"rebar3 compile {result.ending()}")
    measurements: dict[str, Scalar] = {
        "errors": 0 if result.status == 0 else len(found.errors),
        "warnings": len(found.warnings),
    }
    evidence = [*found.errors, *found.warnings] if result.status != 0 else list(found.warnings)
    if "warnings_as_errors" in bench.environment.get("ERL_COMPILER_OPTIONS", ""):
        measurements["warnings_as_errors"] = True
        evidence.append("ERL_COMPILER_OPTIONS of the step has warnings_as_errors")
    elif found.warnings_as_errors:
        measurements["warnings_as_errors"] = all(found.warnings_as_errors.values())
        for application, active in found.warnings_as_errors.items():
            evidence.append(
                f"{application} was compiled {'with' if active else 'without'} warnings_as_errors"
            )
    else:
        evidence.append("warnings_as_errors: not measured, rebar3 did not show its compiler options")
    return measured(
        f"{measurements['errors']} errors, {measurements['warnings']} warnings", measurements, evidence
    )


async def measure_eunit(bench: Workbench) -> Finding:
    """Run the EUnit tests, with coverage."""
    result = await _eunit(bench)
    files = sorted((bench.reports / "eunit").glob("TEST-*.xml"))
    found = read_eunit_reports(files)
    if reason := _doubt("EUnit", "eunit", result, found, reported=bool(files)):
        return unmeasured(reason)
    total = found.passed + found.failed
    return measured(
        f"{total} EUnit tests, {found.failed} failed",
        {"eunit_tests": total, "eunit_failures": found.failed},
        [*(f"failed: {name}" for name in found.broken), f"{len(files)} surefire reports of EUnit"],
    )


async def measure_ct(bench: Workbench) -> Finding:
    """Run the Common Test suites, with coverage."""
    result = await _ct(bench)
    report = bench.reports / "ct.xml"
    found = read_ct_report(report) if report.exists() else SuiteCounts()
    if reason := _doubt("Common Test", "ct", result, found, reported=report.exists()):
        return unmeasured(reason)
    ran = found.passed + found.failed
    return measured(
        f"{ran} Common Test cases, {found.failed} failed, {found.skipped} skipped",
        {
            "ct_tests": ran + found.skipped,
            "ct_failures": found.failed,
            "ct_skipped": found.skipped,
            "ct_pass_rate": found.passed / ran,
        },
        [*(f"failed: {name}" for name in found.broken), "surefire report of Common Test"],
    )


async def measure_coverage(bench: Workbench) -> Finding:
    """Merge the coverage of the EUnit and Common Test runs; a run that has not been is made now."""
    notes = []
    for name, suite in (("eunit", _eunit), ("ct", _ct)):
        if not (_finished(bench, name).exists() and _coverdata(bench, name).exists()):
            result = await suite(bench)
            if result.status != 0:
                notes.append(f"rebar3 {name} ended with status {result.status}")
    files = [file for name in ("eunit", "ct") if (file := _coverdata(bench, name)).exists()]
    if not files:
        return unmeasured(f"there is no coverage data: {'; '.join(notes) or 'rebar3 wrote none'}")
    try:
        result = await bench.run(["escript", str(_COVERAGE), *map(str, files)], output_limit=_OUTPUT_LIMIT)
    except CannotStartError as error:
        raise NotMeasuredError(_NO_ERLANG) from error
    if result.status != 0 or result.output is None:
        return unmeasured(f"the coverage data cannot be read: escript {result.ending()}")
    found = read_coverage(result.output.decode(errors="replace"))
    return measured(
        f"{found.line:g} % of the lines are covered",
        {
            "coverage": found.line,
            "line_coverage": found.line,
            "branch_coverage": found.clause,
            "function_coverage": found.function,
        },
        [
            f"from {' and '.join(file.name for file in files)}, {found.modules} modules",
            "branch_coverage is clause coverage: Erlang's cover tool counts clauses, not branches",
            f"least covered: {', '.join(found.least)}",
            *notes,
        ],
    )


async def measure_dialyzer(bench: Workbench) -> Finding:
    """Run Dialyzer."""
    pattern = "_build/default/*.dialyzer_warnings"
    for stale in bench.tree.glob(pattern):
        stale.unlink()
    # The table of OTP's own modules is one file for all checkouts of a user.
    async with file_lock(_cache(bench) / "erlmcp-deploy" / "dialyzer.lock"):
        result = await rebar3(bench, "dialyzer")
    written = list(bench.tree.glob(pattern))
    found = read_dialyzer(_log(bench), "".join(file.read_text(errors="replace") for file in written))
    if result.status != 0 and not found.counted:
        return unmeasured(f"rebar3 dialyzer {result.ending()}")
    if found.files == 0 or not (found.files or written):
        return unmeasured("Dialyzer has analysed no file")
    count = max(found.counted or 0, len(found.warnings))
    relative = [warning.replace(f"{bench.tree}{os.sep}", "") for warning in found.warnings]
    return measured(
        f"{count} Dialyzer warnings",
        {"dialyzer_warnings": count, "dialyzer_clean": result.status == 0 and count == 0},
        [*relative, *([f"{found.files} files analysed"] if found.files else [])],
    )


async def measure_xref(bench: Workbench) -> Finding:
    """Look for calls of functions that do not exist."""
    result = await rebar3(bench, "xref")
    log = _log(bench)
    if "===> Running cross reference analysis" not in log:
        return unmeasured(f"rebar3 xref {result.ending()}")
    undefined = read_xref_log(log)
    if result.status != 0 and not undefined and "(Xref)" not in log:
        return unmeasured(f"rebar3 xref {result.ending()}")
    evidence = [
        f"{name} is undefined, called by {', '.join(by) or 'nobody'}" for name, by in undefined.items()
    ]
    return measured(f"{len(undefined)} undefined functions", {"xref_undefined": len(undefined)}, evidence)


TOOLS: Final[dict[str, tuple[str, Callable[[Workbench], Awaitable[Finding]]]]] = {
    "rebar3.compile": ("default", measure_compile),
    "rebar3.eunit": ("test", measure_eunit),
    "rebar3.ct": ("test", measure_ct),
    "rebar3.cover": ("test", measure_coverage),
    "rebar3.dialyzer": ("default", measure_dialyzer),
    "rebar3.xref": ("default", measure_xref),
}
"""Tool → the profile it builds in, and its measurement."""


async def _eunit(bench: Workbench) -> ProcessResult:
    directory = bench.reports / "eunit"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return await _suite(bench, "eunit")


async def _ct(bench: Workbench) -> ProcessResult:
    bench.reports.mkdir(parents=True, exist_ok=True)
    (bench.reports / "ct.xml").unlink(missing_ok=True)
    return await _suite(bench, "ct")


async def _suite(bench: Workbench, name: str) -> ProcessResult:
    for stale in (_finished(bench, name), _coverdata(bench, name)):
        stale.unlink(missing_ok=True)
    result = await rebar3(bench, name, "--cover", ERLMCP_DEPLOY_REPORTS=str(bench.reports))
    _finished(bench, name).touch()
    return result


def _finished(bench: Workbench, name: str) -> Path:
    """Says that a run of the tests has come to its end: coverage of half a run is none."""
    return bench.reports / f"{name}.finished"


def _coverdata(bench: Workbench, name: str) -> Path:
    return bench.tree / "_build" / "test" / "cover" / f"{name}.coverdata"


def _doubt(title: str, name: str, result: ProcessResult, found: SuiteCounts, *, reported: bool) -> str | None:
    """Why the numbers of a test run prove nothing, if so."""
    if result.status != 0 and not found.failed:
        what = "shows no failure" if reported else "was not written"
        return f"rebar3 {name} {result.ending()}; its report {what}"
    if found.passed + found.failed == 0:
        return f"no {title} test has run, which proves nothing: add tests, or take the step out of the gate"
    return None


def _own_ebin(tree: Path) -> list[Path]:
    """Compiled modules of the project's own applications: their sources are links into the work tree."""
    root = tree.resolve()
    own = []
    for application in (tree / "_build" / "default" / "lib").glob("*"):
        sources = (application / "src").resolve()
        if sources.is_relative_to(root) and not sources.is_relative_to(root / "_build"):
            own.append(application / "ebin")
    return own


def _cache(bench: Workbench) -> Path:
    home = bench.environment.get("HOME") or str(Path.home())
    return Path(
        bench.environment.get("REBAR_CACHE_DIR")
        or bench.environment.get("XDG_CACHE_HOME")
        or f"{home}/.cache"
    )


def _log(bench: Workbench) -> str:
    return bench.log.read_text(errors="replace")
