"""What rebar3 and its tools write is read for what it says; nothing is taken for good that is not said."""

from pathlib import Path

import pytest

from activities.rebar3.profiles import has_dependencies
from activities.rebar3.reports import (
    UnreadableReportError,
    read_compile_log,
    read_coverage,
    read_ct_report,
    read_dialyzer,
    read_eunit_reports,
    read_xref_log,
)

COMPILED = """\
===> Compile (apps)
===> Compiling cowlib
===> compile options: {erl_opts, [debug_info]}.
===> Compile (project_apps)
===> Compiling web
===> compile options: {erl_opts, [debug_info,
                                  warnings_as_errors]}.
===> files to analyze ["/w/apps/web/src/web.erl"]
===> Compiling core
===> compile options: {erl_opts, [debug_info]}.
apps/core/src/core.erl:3:8: Warning: variable 'X' is unused
"""


def test_the_options_of_every_application_of_the_project_are_read() -> None:
    found = read_compile_log(COMPILED)

    assert found.warnings_as_errors == {"web": True, "core": False}
    assert (found.errors, found.warnings) == (
        (),
        ("apps/core/src/core.erl:3:8: Warning: variable 'X' is unused",),
    )


def test_compiler_errors_are_counted() -> None:
    found = read_compile_log(
        "===> Compiling service\n===> Compiling src/bad.erl failed\n"
        "src/bad.erl:3:30: syntax error before: '.'\nsrc/bad.erl:2:2: function f/0 undefined\n"
        "http://127.0.0.1:80: text\n"
    )
    assert len(found.errors) == 2
    assert found.warnings_as_errors == {}


def test_a_file_that_fails_without_a_place_is_an_error_too() -> None:
    assert read_compile_log("===> Compiling src/bad.erl failed\nno such file\n").errors == (
        "Compiling src/bad.erl failed",
    )


EUNIT = """<?xml version="1.0" encoding="UTF-8" ?>
<testsuite tests="4" failures="1" errors="1" skipped="1" time="0.000" name="module 'm_tests'">
  <testcase time="0.000" name="m_tests:1 good_test"><system-out>fine</system-out></testcase>
  <testcase time="0.000" name="m_tests:2 wrong_test"><failure type="x">no</failure></testcase>
  <testcase time="0.000" name="m_tests:3 boom_test"><error type="error">boom</error></testcase>
  <testcase time="0.000" name="m_tests:4 slow_test"><skipped type="timeout">late</skipped></testcase>
</testsuite>"""


def test_eunit_failures_errors_and_cancelled_tests_have_failed(tmp_path: Path) -> None:
    (tmp_path / "TEST-m.xml").write_text(EUNIT)
    (tmp_path / "TEST-n.xml").write_text('<testsuite tests="0" name="n"></testsuite>')

    found = read_eunit_reports(sorted(tmp_path.iterdir()))

    assert (found.passed, found.failed) == (1, 3)
    assert found.broken[0] == "m_tests:2 wrong_test"


CT = """<?xml version="1.0" encoding= "UTF-8" ?><testsuites>
<testsuite name="good_SUITE" tests="2" errors="0" failures="1" skipped="1">
  <testcase name="init_per_suite"/><testcase name="x"/>
  <testcase name="y"><failure message="failed" type="crash">{a,[]}</failure></testcase>
  <testcase name="z"><skipped type="skip" message="z skipped">{tc_user_skip,"why"}</skipped></testcase>
  <testcase name="end_per_suite"/></testsuite>
<testsuite name="bad_SUITE" tests="1" errors="0" failures="0" skipped="1">
  <testcase name="init_per_suite"><failure message="failed" type="crash">no</failure></testcase>
  <testcase name="x"><skipped type="skip" message="x skipped">{tc_auto_skip,{failed,no}}</skipped></testcase>
  <testcase name="end_per_suite"><skipped type="skip">{tc_auto_skip,{failed,no}}</skipped></testcase>
</testsuite>
</testsuites>"""


def test_cases_that_did_not_run_for_a_failed_set_up_have_failed(tmp_path: Path) -> None:
    (tmp_path / "ct.xml").write_text(CT)

    found = read_ct_report(tmp_path / "ct.xml")

    assert (found.passed, found.skipped, found.failed) == (1, 1, 3)
    assert found.broken == (
        "good_SUITE:y",
        "bad_SUITE:init_per_suite",
        "bad_SUITE:x (not run: its set-up failed)",
    )


BOMB = """<!DOCTYPE a [<!ENTITY b "0123456789"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]><testsuite name="&c;"/>"""


@pytest.mark.parametrize("text", ["", "<testsuite", BOMB], ids=["empty", "cut off", "entity bomb"])
def test_a_damaged_report_is_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.xml").write_text(text)

    with pytest.raises(UnreadableReportError, match=r"report\.xml cannot be read"):
        read_ct_report(tmp_path / "report.xml")


def test_coverage_is_of_what_can_be_covered() -> None:
    found = read_coverage(
        '{"total":{"line":[3,4],"clause":[1,2],"function":[0,0]},'
        '"modules":{"a":{"line":[2,2],"clause":[1,1],"function":[0,0]},"b":{"line":[1,2],"clause":[0,1],"function":[0,0]}}}'
    )
    assert (found.line, found.clause, found.function) == (75.0, 50.0, 100.0)
    assert found.least == ("b 50.0 %", "a 100.0 %")


@pytest.mark.parametrize(
    "output", ["", "[]", "{}", '{"total":{"line":[0,0],"clause":[0,0],"function":[0,0]},"modules":{}}']
)
def test_coverage_of_nothing_is_no_coverage(output: str) -> None:
    with pytest.raises(UnreadableReportError):
        read_coverage(output)


def test_dialyzer_warnings_are_counted_with_their_text() -> None:
    found = read_dialyzer(
        "===> Analyzing 204 files with a_plt...\n===> Analyzing 6 files with _build/default/p...\n"
        "===> Warnings occurred running dialyzer: 1\n",
        "\n/w/src/bad.erl:3:15: Unknown function\n nomod:nofun/1\n",
    )
    assert (found.files, found.counted) == (6, 1)
    assert found.warnings == ("/w/src/bad.erl:3:15: Unknown function",)


def test_undefined_functions_are_counted_once_each() -> None:
    log = (
        "===> src/a.erl:3: Warning: a:f/0 calls undefined function no:no/1 (Xref)\n"
        "src/a.erl:4: Warning: a:g/0 calls undefined function no:no/1 (Xref)\n"
        "Warning: no:no/1 is undefined function (Xref)\nWarning: a:h/2 is deprecated function (Xref)\n"
    )
    assert read_xref_log(log) == {"no:no/1": ("a:f/0", "a:g/0")}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"rebar.config": "{deps, []}.\n%% {deps, [cowboy]}.\n{plugins, [ ]}."}, False),
        ({"rebar.config": "{deps, [\n  cowboy]}."}, True),
        ({"rebar.config": "{erl_opts, []}.", "rebar.lock": "[]."}, False),
        ({"rebar.lock": '{"1.2.0",[{<<"cowboy">>,{pkg,<<"cowboy">>,<<"2.9.0">>},0}]}.'}, True),
        ({"rebar.config": "{profiles, [{test, [{deps, [meck]}]}]}."}, True),
        ({"rebar.config": "{project_plugins, [rebar3_hex]}."}, True),
        ({"rebar.config.script": "CONFIG."}, True),
    ],
)
def test_projects_with_dependencies_share_a_build_directory(
    tmp_path: Path, files: dict[str, str], expected: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert has_dependencies(tmp_path) is expected
