"""The measuring tools and the release of an Erlang project, with real rebar3 and Erlang/OTP."""

import asyncio
import tarfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.builds import BuildActivities
from activities.errors import INVALID_CONFIGURATION, REFUSED
from domain.build import (
    Checkout,
    CheckoutRequest,
    ReleaseDefinition,
    ReleaseRun,
    StepDefinition,
    StepRun,
    Tool,
)
from domain.gates import StepReport
from domain.version import commit_version
from sandbox.sample import create_repository
from tests.activities.builds.service_repository import WORKER_ENVIRONMENT, checkout_request, commit_files, git

pytestmark = pytest.mark.erlang

TOOLS: tuple[Tool, ...] = (
    "rebar3.compile",
    "rebar3.eunit",
    "rebar3.ct",
    "rebar3.cover",
    "rebar3.dialyzer",
    "rebar3.xref",
)
# The applications of Dialyzer's table as in the sample: another choice would build it anew.
LENIENT = "{erl_opts, [debug_info]}.\n{deps, []}.\n{dialyzer, [{base_plt_apps, [erts, kernel, stdlib]}]}.\n"
BROKEN = {
    # Neither reports nor checks are configured, and warnings are no errors.
    "rebar.config": LENIENT + "{profiles, [{test, [{eunit_opts, [verbose]}, {ct_opts, [{verbosity, 9}]}]}]}.",
    "rebar.config.script": '[{minimum_otp_vsn, "20"} | CONFIG].\n',
    "src/erlsample_bad.erl": """%% @doc Compiles, but is wrong in every other way.
-module(erlsample_bad).
-export([calls_nobody/0, cannot_succeed/0]).
calls_nobody() -> X = 1, no_such_module:no_such_function(self()).
cannot_succeed() -> atom_to_list("text").
""",
    "test/bad_tests.erl": """-module(bad_tests).
-include_lib("eunit/include/eunit.hrl").
wrong_test() -> ?assertEqual(1, length([])).
crashing_test() -> error(boom).
late_test_() -> {timeout, 0.1, fun() -> timer:sleep(5000) end}.
""",
    "test/bad_SUITE.erl": """-module(bad_SUITE).
-export([all/0, works/1, fails/1, skips/1]).
all() -> [works, fails, skips].
works(_) -> ok.
fails(_) -> error(boom).
skips(_) -> {skip, "not today"}.
""",
    "test/unset_SUITE.erl": """-module(unset_SUITE).
-export([all/0, init_per_suite/1, end_per_suite/1, never/1]).
all() -> [never].
init_per_suite(_) -> error(no_database).
end_per_suite(_) -> ok.
never(_) -> ok.
""",
}
UNCOMPILABLE = {"src/erlsample_bad.erl": "-module(erlsample_bad).\n-export([f/0, g/0]).\nf() -> (.\n"}


class Project:
    """The sample with more tags, and a worker to build it on."""

    def __init__(self, directory: Path) -> None:
        self.repository = create_repository(directory / "sample", "erlang")
        self.worker = BuildActivities(directory / "worker", environment=WORKER_ENVIRONMENT)

    def tag(self, tag: str, files: Mapping[str, str]) -> None:
        git(self.repository, "checkout", "--quiet", "--detach", "v1.1.0")
        commit_files(self.repository, files, tag)

    async def check_out(self, version: str = "1.1.0", run: str = "run") -> Checkout:
        return await self.worker.check_out(checkout_request(self.repository, version, run))

    async def measure(self, checkout: Checkout, tool: Tool, **step: Any) -> StepReport:
        return await self.worker.run_step(
            StepRun(
                name=tool.removeprefix("rebar3."),
                step=StepDefinition(tool=tool, **step),
                checkout=checkout,
                application="erlsample",
                version="1.1.0",
                timeout=timedelta(minutes=10),
            )
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("erlang"))


@pytest.fixture(scope="module")
async def good(project: Project) -> dict[str, StepReport]:
    """All steps of a good version, all at the same time."""
    checkout = await project.check_out()
    reports = await asyncio.gather(*(project.measure(checkout, tool) for tool in TOOLS))
    return {report.step: report for report in reports}


@pytest.fixture(scope="module")
async def broken(project: Project) -> dict[str, StepReport]:
    """All steps of a version that compiles and is wrong in every other way."""
    project.tag("v2.0.0", BROKEN)
    checkout = await project.check_out("2.0.0")
    reports = await asyncio.gather(*(project.measure(checkout, tool) for tool in TOOLS))
    return {report.step: report for report in reports}


def test_a_good_version_measures_well(good: dict[str, StepReport]) -> None:
    assert {name: report.reason for name, report in good.items() if not report.measured} == {}
    assert good["compile"].measurements == {"errors": 0, "warnings": 0, "warnings_as_errors": True}
    assert "erlsample was compiled with warnings_as_errors" in good["compile"].evidence
    assert good["eunit"].measurements["eunit_failures"] == 0
    assert int(good["eunit"].measurements["eunit_tests"]) > 0
    ct = good["ct"].measurements
    assert (ct["ct_failures"], ct["ct_skipped"], ct["ct_pass_rate"]) == (0, 0, 1.0)
    assert int(ct["ct_tests"]) > 0
    assert good["dialyzer"].measurements == {"dialyzer_warnings": 0, "dialyzer_clean": True}
    assert good["xref"].measurements == {"xref_undefined": 0}


def test_coverage_meets_the_specification_and_says_what_it_is(good: dict[str, StepReport]) -> None:
    cover = good["cover"]
    assert cover.measurements["coverage"] == cover.measurements["line_coverage"]
    assert float(cover.measurements["line_coverage"]) >= 80
    assert float(cover.measurements["branch_coverage"]) >= 75
    assert float(cover.measurements["function_coverage"]) >= 90
    evidence = "\n".join(cover.evidence)
    assert "branch_coverage is clause coverage" in evidence
    assert "eunit.coverdata and ct.coverdata" in evidence


def test_every_step_keeps_its_log(good: dict[str, StepReport]) -> None:
    for report in good.values():
        assert report.log is not None
        assert Path(report.log.removeprefix("file://")).stat().st_size > 0


def test_a_bad_version_measures_badly(broken: dict[str, StepReport]) -> None:
    assert {name: report.reason for name, report in broken.items() if not report.measured} == {}
    assert broken["compile"].measurements == {"errors": 0, "warnings": 2, "warnings_as_errors": False}
    eunit = broken["eunit"]
    assert eunit.measurements["eunit_failures"] == 3
    assert any("bad_tests" in line and "wrong_test" in line for line in eunit.evidence)
    ct = broken["ct"].measurements
    assert (ct["ct_failures"], ct["ct_skipped"]) == (3, 1)
    assert 0 < float(ct["ct_pass_rate"]) < 1
    assert "failed: unset_SUITE:never (not run: its set-up failed)" in broken["ct"].evidence
    assert int(broken["dialyzer"].measurements["dialyzer_warnings"]) >= 2
    assert broken["dialyzer"].measurements["dialyzer_clean"] is False
    assert any(line.startswith("src/erlsample_bad.erl:") for line in broken["dialyzer"].evidence)
    assert broken["xref"].measurements == {"xref_undefined": 1}
    assert "no_such_module:no_such_function/1 is undefined" in broken["xref"].evidence[0]


def test_code_that_no_test_reaches_lowers_the_coverage(
    good: dict[str, StepReport], broken: dict[str, StepReport]
) -> None:
    both = [float(reports["cover"].measurements["function_coverage"]) for reports in (broken, good)]
    assert both[0] < both[1]
    assert any("erlsample_bad 0.0 %" in line for line in broken["cover"].evidence)


async def test_code_that_does_not_compile_has_errors_and_no_other_measurement(project: Project) -> None:
    project.tag("v2.0.1", UNCOMPILABLE)
    checkout = await project.check_out("2.0.1")

    compiled = await project.measure(checkout, "rebar3.compile")

    assert compiled.measured
    assert int(compiled.measurements["errors"]) >= 2
    assert compiled.measurements["warnings_as_errors"] is True
    assert any(line.startswith("src/erlsample_bad.erl:3:") for line in compiled.evidence)
    others: tuple[Tool, ...] = ("rebar3.eunit", "rebar3.ct", "rebar3.xref", "rebar3.dialyzer")
    for report in await asyncio.gather(*(project.measure(checkout, tool) for tool in others)):
        assert not report.measured, report.step
        assert report.measurements == {}


async def test_a_project_without_tests_has_not_passed_them(project: Project) -> None:
    git(project.repository, "checkout", "--quiet", "--detach", "v1.1.0")
    git(project.repository, "rm", "--quiet", "-r", "test")
    commit_files(project.repository, {"rebar.config": LENIENT}, "v2.0.2")
    checkout = await project.check_out("2.0.2")

    tools: dict[Tool, str] = {"rebar3.eunit": "EUnit", "rebar3.ct": "Common Test"}
    for tool, title in tools.items():
        report = await project.measure(checkout, tool)
        assert report.reason.startswith(f"no {title} test has run")
        assert not report.measured


async def test_results_of_an_earlier_run_do_not_count(project: Project) -> None:
    # given results of good tests in a checkout whose tests do not compile any more
    checkout = await project.check_out(run="stale")
    assert (await project.measure(checkout, "rebar3.eunit")).measured
    (Path(checkout.path) / "test" / "new_tests.erl").write_text("-module(")

    again = await project.measure(checkout, "rebar3.eunit", timeout="9m")
    cover = await project.measure(checkout, "rebar3.cover")

    assert not again.measured
    assert "rebar3 eunit ended with status 1" in again.reason
    assert not cover.measured


async def test_rebar3_out_of_time_is_not_measured(project: Project) -> None:
    checkout = await project.check_out(run="slow")

    report = await project.measure(checkout, "rebar3.eunit", timeout="50ms")

    assert report.reason == "rebar3 eunit --cover did not end within 50ms: raise its timeout"


def release_run(checkout: Checkout, version: str) -> ReleaseRun:
    return ReleaseRun(
        release=ReleaseDefinition(),
        checkout=checkout,
        application="erlsample",
        version=version,
        image=f"erlsample:{version}",
    )


async def test_a_release_is_an_otp_tarball(project: Project) -> None:
    checkout = await project.check_out()

    artefact = await project.worker.build_release(release_run(checkout, "1.1.0"))
    again = await project.worker.build_release(release_run(checkout, "1.1.0"))

    assert artefact == again
    assert artefact.image == "erlsample:1.1.0"
    assert artefact.uri.endswith("/erlsample-1.1.0.tar.gz")
    with tarfile.open(artefact.uri.removeprefix("file://")) as tarball:
        assert "releases/1.1.0/erlsample.rel" in tarball.getnames()


async def test_a_commit_without_a_tag_is_released_under_its_own_version(project: Project) -> None:
    sha = git(project.repository, "rev-parse", "v1.1.0^{commit}")
    version = commit_version("feature/login", sha)
    checkout = await project.worker.check_out(
        CheckoutRequest(
            application="erlsample",
            repository=str(project.repository),
            reference="main",
            version=version,
            run="commit",
        )
    )

    artefact = await project.worker.build_release(release_run(checkout, version))

    assert artefact.uri.endswith(f"/erlsample-{version}.tar.gz")


async def test_a_tag_that_is_not_the_version_of_the_sources_is_refused(project: Project) -> None:
    project.tag("v3.0.0", {"notes": "The version was not raised."})
    checkout = await project.check_out("3.0.0")

    with pytest.raises(
        ApplicationError, match="the version in the sources must be that of the tag"
    ) as failure:
        await project.worker.build_release(release_run(checkout, "3.0.0"))

    assert failure.value.type == INVALID_CONFIGURATION


async def test_a_release_that_does_not_build_is_refused_with_its_last_words(project: Project) -> None:
    project.tag("v2.0.3", UNCOMPILABLE)
    checkout = await project.check_out("2.0.3")

    with pytest.raises(
        ApplicationError, match=r"does not build: rebar3 ended with status 1: .*log: file://"
    ) as failure:
        await project.worker.build_release(release_run(checkout, "2.0.3"))

    assert (failure.value.type, failure.value.non_retryable) == (REFUSED, True)
