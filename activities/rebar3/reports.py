"""Readers of what rebar3 and its tools write: text in, numbers out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from domain.model import Model

_SOURCE = r"(?P<file>[^\s:][^:]*\.(?:erl|hrl|xrl|yrl|app\.src|asn1?|mib|core|S))"
_MESSAGE = re.compile(rf"{_SOURCE}:\d+(?::\d+)?: (?P<text>.+)")
_FAILED_FILE = re.compile(r"===> Compiling \S.* failed$", re.MULTILINE)
_PROJECT = "===> Compile (project_apps)"
_OPTIONS = re.compile(
    r"^===> Compiling (?P<app>\S+)\n(?:(?!===> Compiling ).*\n)*?"
    r"===> compile options: \{erl_opts,\s*(?P<options>\[[\s\S]*?\])\}\.$",
    re.MULTILINE,
)
_UNDEFINED_CALL = re.compile(r"(?P<caller>\S+) calls undefined function (?P<function>\S+/\d+)")
_UNDEFINED = re.compile(r"(?P<function>\S+/\d+) is undefined function")
_DIALYZER_WARNING = re.compile(r"^(\S[^:\n]*):(\d+)(?::\d+)?: (.+)$", re.MULTILINE)
_DIALYZER_COUNT = re.compile(r"^===> Warnings occurred running dialyzer: (\d+)$", re.MULTILINE)
_DIALYZER_FILES = re.compile(r"^===> Analyzing (\d+) files? with", re.MULTILINE)
_CONFIGURATION = ("init_per_suite", "end_per_suite", "init_per_group", "end_per_group")


class UnreadableReportError(ValueError):
    """A report is missing, damaged or not what it should be."""


class CompileMessages(Model):
    """The compiler's messages, and for each application whether its warnings were errors."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    warnings_as_errors: dict[str, bool]


class SuiteCounts(Model):
    """Cases of a test run; `broken` names those that failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: tuple[str, ...] = ()


class Coverage(Model):
    """Percentages; `least` names the least covered modules."""

    line: float
    clause: float
    function: float
    modules: int
    least: tuple[str, ...]


class DialyzerMessages(Model):
    """Warnings, their number as rebar3 counts them, and how many files were analysed, if it says so."""

    files: int | None
    counted: int | None
    warnings: tuple[str, ...]


def read_compile_log(log: str) -> CompileMessages:
    """Read the output of ``DEBUG=1 rebar3 compile``."""
    errors: list[str] = []
    warnings: list[str] = []
    for line in log.splitlines():
        if match := _MESSAGE.fullmatch(line):
            (warnings if match["text"].startswith("Warning:") else errors).append(line)
    failed = _FAILED_FILE.findall(log)
    if len(failed) > len(errors):
        errors += [line.removeprefix("===> ") for line in failed]
    # What comes before is about dependencies, whose warnings are nobody's concern here.
    _, _, project = log.partition(_PROJECT)
    options = {
        match["app"]: "warnings_as_errors" in re.split(r"[\s,\[\]{}]+", match["options"])
        for match in _OPTIONS.finditer(project)
    }
    return CompileMessages(errors=tuple(errors), warnings=tuple(warnings), warnings_as_errors=options)


def read_eunit_reports(files: Iterable[Path]) -> SuiteCounts:
    """Read EUnit's surefire reports. It has no skipping: what it calls skipped was cancelled or timed out."""
    passed, broken = 0, list[str]()
    for file in files:
        for case in _cases(file):
            name = " ".join((case.get("name") or "?").split())
            if {child.tag for child in case} & {"failure", "error", "skipped"}:
                broken.append(name)
            else:
                passed += 1
    return SuiteCounts(passed=passed, failed=len(broken), broken=tuple(broken))


def read_ct_report(file: Path) -> SuiteCounts:
    """Read Common Test's surefire report.

    Set-up and clean-up functions count when they fail; cases that did not run for such a failure failed too.
    """
    passed, skipped, broken = 0, 0, list[str]()
    for suite in _suites(file):
        for case in suite.iter("testcase"):
            name = case.get("name") or "?"
            tags = {child.tag for child in case}
            said = "".join(child.text or "" for child in case if child.tag == "skipped")
            auto = "tc_auto_skip" in said and name not in _CONFIGURATION
            if tags & {"failure", "error"} or auto:
                broken.append(
                    f"{suite.get('name', '?')}:{name}" + (" (not run: its set-up failed)" if auto else "")
                )
            elif name in _CONFIGURATION:
                continue
            elif "skipped" in tags:
                skipped += 1
            else:
                passed += 1
    return SuiteCounts(passed=passed, failed=len(broken), skipped=skipped, broken=tuple(broken))


def read_coverage(output: str) -> Coverage:
    """Read what coverage.escript prints."""
    try:
        found = json.loads(output)
        total = {level: _percentage(*found["total"][level]) for level in ("line", "clause", "function")}
        lines = {module: _percentage(*levels["line"]) for module, levels in found["modules"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableReportError(f"coverage output cannot be read: {error!r}") from error
    if not found["total"]["line"][1]:
        raise UnreadableReportError("the coverage data has not a single line of code")
    least = sorted(lines.items(), key=lambda item: (item[1], item[0]))
    return Coverage(**total, modules=len(lines), least=tuple(f"{m} {p:.1f} %" for m, p in least[:10]))


def read_dialyzer(log: str, warnings: str) -> DialyzerMessages:
    """Read the output of ``rebar3 dialyzer`` and the file of warnings it wrote."""
    files = _DIALYZER_FILES.findall(log)
    counted = _DIALYZER_COUNT.search(log)
    return DialyzerMessages(
        files=int(files[-1]) if files else None,
        counted=int(counted.group(1)) if counted else None,
        warnings=tuple(match.group(0) for match in _DIALYZER_WARNING.finditer(warnings)),
    )


def read_xref_log(log: str) -> dict[str, tuple[str, ...]]:
    """Undefined functions, each with its callers as far as the output names them."""
    callers: dict[str, list[str]] = {match["function"]: [] for match in _UNDEFINED.finditer(log)}
    for match in _UNDEFINED_CALL.finditer(log):
        callers.setdefault(match["function"], []).append(match["caller"])
    return {function: tuple(found) for function, found in sorted(callers.items())}


def _percentage(covered: int, countable: int) -> float:
    return round(100 * covered / countable, 2) if countable else 100.0


def _suites(file: Path) -> list[Element]:
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError, DefusedXmlException) as error:
        raise UnreadableReportError(f"{file.name} cannot be read: {error!r}") from error
    if root is None:
        raise UnreadableReportError(f"{file.name} is empty")
    return [root] if root.tag == "testsuite" else list(root.iter("testsuite"))


def _cases(file: Path) -> list[Element]:
    return [case for suite in _suites(file) for case in suite.iter("testcase")]
