"""Build activities: what was done is found again, what was half done is done again, nothing is done twice."""

import asyncio
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.builds import BuildActivities
from activities.errors import INVALID_CONFIGURATION, REFUSED, UNAVAILABLE, WORKSPACE_LOST
from domain.build import (
    Checkout,
    ReleaseDefinition,
    ReleaseRun,
    ReservationRequest,
    StepDefinition,
    StepRun,
    Tool,
)
from domain.gates import GateDefinition, GateOutcome, StepReport, evaluate_gate
from tests.activities.builds.service_repository import WORKER_ENVIRONMENT, checkout_request, commit_files

Repository = Callable[[Mapping[str, str]], Path]
TOKEN = "hex-0123456789abcdef"


def step_run(checkout: Checkout, name: str = "step", **step: Any) -> StepRun:
    return StepRun(
        name=name,
        step=StepDefinition.model_validate(step),
        checkout=checkout,
        application="service",
        version="1.0.0",
        timeout=timedelta(minutes=5),
    )


async def written(file: Path) -> None:
    for _ in range(1000):
        if file.exists():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{file} was not written")


async def run_script(
    worker: BuildActivities, make_repository: Repository, script: str, **step: Any
) -> StepReport:
    repository = make_repository({"gate": f"#!/bin/sh\n{script}\n"})
    checkout = await worker.check_out(checkout_request(repository))
    return await worker.run_step(step_run(checkout, command=["./gate"], **step))


async def test_a_worker_keeps_its_queue_over_restarts(tmp_path: Path) -> None:
    first, again = (BuildActivities(tmp_path / "worker", environment={}) for _ in range(2))
    other = BuildActivities(tmp_path / "other", environment={})

    workspace = await first.reserve_workspace(ReservationRequest(deployment_id="deployment:a:b:1.0.0"))

    assert workspace.queue == f"builds:{workspace.worker}" == again.own_queue
    assert other.own_queue != first.own_queue


async def test_the_same_request_finds_the_same_commit_even_if_the_tag_has_moved(
    worker: BuildActivities, make_repository: Repository
) -> None:
    repository = make_repository({"text": "first"})
    first = await worker.check_out(checkout_request(repository))
    commit_files(repository, {"text": "second"}, "moved")
    (repository / ".git" / "refs" / "tags" / "v1.0.0").write_text(
        (repository / ".git" / "refs" / "heads" / "main").read_text()
    )

    again = await worker.check_out(checkout_request(repository))
    other_run = await worker.check_out(checkout_request(repository, run="run-2"))

    assert (again.path, again.commit) == (first.path, first.commit)
    assert other_run.commit != first.commit
    assert other_run.path != first.path


async def test_a_command_measures_by_one_json_object(
    worker: BuildActivities, make_repository: Repository
) -> None:
    report = await run_script(
        worker,
        make_repository,
        """echo scanning >&2; echo \
        '{"high": 0, "p95": 12.5, "licence": "pass", "ok": true, "findings": [{"id": 1}], "none": null}'""",
    )

    assert report.measured
    assert report.measurements == {"high": 0, "p95": 12.5, "licence": "pass", "ok": True}
    assert report.evidence == ('findings: [{"id": 1}]', "none: null")
    assert report.log is not None
    assert "scanning\n" in Path(report.log.removeprefix("file://")).read_text()


async def test_a_measurement_counts_although_the_command_ends_with_a_status(
    worker: BuildActivities, make_repository: Repository
) -> None:
    report = await run_script(worker, make_repository, "echo some noise; echo '{\"high\": 3}'; exit 1")

    assert report.measured
    assert report.measurements == {"high": 3}
    assert "ended with status 1" in report.reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo all good", "no JSON object of measurements"),
        ("exit 0", "it is empty"),
        ("echo '[1]'", "it is a list"),
        ("echo '{\"p95\": NaN}'", "NaN is no measurement"),
        ("echo '{\"p95\": 1e999}'", "1e999 is no measurement"),
        ('echo \'{"high": 0, "high": 9}\'', "a name occurs twice"),
        ("echo '{\"findings\": []}'", "without a single number"),
        ("echo boom >&2; exit 2", "ended with status 2: boom"),
        ("no-such-scanner", "status 127: .*no-such-scanner.*; install what it calls"),
        ("kill -9 $$", "ended with status -9"),
        ("head -c 2000000 /dev/zero | tr '\\0' ' '", "more than 1048576 bytes"),
    ],
)
async def test_what_does_not_measure_says_why_and_fails_its_gate(
    worker: BuildActivities, make_repository: Repository, script: str, reason: str
) -> None:
    report = await run_script(worker, make_repository, script)

    assert not report.measured
    assert not report.measurements
    assert re.search(reason, report.reason), report.reason
    gate = evaluate_gate("security", GateDefinition(conditions={"high": 0}), [report])
    assert gate.outcome is GateOutcome.FAILED


async def test_a_missing_program_is_reported_with_its_name(
    worker: BuildActivities, make_repository: Repository
) -> None:
    checkout = await worker.check_out(checkout_request(make_repository({"text": ""})))

    report = await worker.run_step(step_run(checkout, command=["no-such-scanner"]))

    assert report.reason == "no-such-scanner is not installed on the build worker (not on PATH)"


async def test_a_step_out_of_time_is_not_measured(
    worker: BuildActivities, make_repository: Repository
) -> None:
    report = await run_script(worker, make_repository, "echo '{\"high\": 0}'; sleep 600", timeout="200ms")

    assert not report.measured
    assert report.reason == "./gate did not end within 200ms: raise the step's timeout"


@pytest.mark.parametrize("tool", ["rebar3.compile", "rebar3.eunit", "rebar3.dialyzer", "rebar3.cover"])
async def test_without_rebar3_its_tools_say_how_to_get_it(
    tmp_path: Path, make_repository: Repository, tool: Tool
) -> None:
    # given a worker whose PATH has git but not rebar3
    (tmp_path / "bin").mkdir()
    git = shutil.which("git")
    assert git is not None
    (tmp_path / "bin" / "git").symlink_to(git)
    worker = BuildActivities(
        tmp_path / "worker", environment={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    )
    checkout = await worker.check_out(checkout_request(make_repository({"rebar.config": ""})))

    report = await worker.run_step(step_run(checkout, tool=tool))

    assert not report.measured
    assert report.reason == "rebar3 is not installed on the build worker; apt-get install rebar3"


COUNTING = "echo run >> ../count; echo '{\"high\": 0}'"
"""A gate that notes beside the checkout that it has run."""


async def test_a_finished_step_is_answered_again_and_not_run_again(
    worker: BuildActivities, tmp_path: Path, make_repository: Repository
) -> None:
    repository = make_repository({"gate": f"#!/bin/sh\n{COUNTING}\n"})
    checkout = await worker.check_out(checkout_request(repository))
    run = step_run(checkout, command=["./gate"])
    restarted = BuildActivities(tmp_path / "worker", environment=WORKER_ENVIRONMENT)

    first = await worker.run_step(run)
    at_once = await asyncio.gather(*(worker.run_step(run) for _ in range(3)))
    later = await restarted.run_step(run.model_copy(update={"timeout": timedelta(minutes=1)}))

    assert [*at_once, later] == [first] * 4
    assert (Path(checkout.path).parent / "count").read_text() == "run\n"
    # but a step that is defined otherwise is another step
    await worker.run_step(step_run(checkout, command=["./gate", "--strict"]))
    assert (Path(checkout.path).parent / "count").read_text() == "run\nrun\n"


async def test_a_cancelled_step_is_run_again(worker: BuildActivities, make_repository: Repository) -> None:
    # given a step that waits on its first run
    script = "#!/bin/sh\necho run >> ../count; [ -e ../go ] || sleep 600; echo '{\"high\": 0}'\n"
    checkout = await worker.check_out(checkout_request(make_repository({"gate": script})))
    beside = Path(checkout.path).parent
    environment = ActivityEnvironment()
    first = asyncio.ensure_future(environment.run(worker.run_step, step_run(checkout, command=["./gate"])))
    await written(beside / "count")
    # when it is cancelled
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    # then the next attempt measures
    (beside / "go").touch()
    report = await worker.run_step(step_run(checkout, command=["./gate"]))
    assert report.measured
    assert (beside / "count").read_text() == "run\nrun\n"


async def test_a_checkout_that_is_gone_is_said_to_be_lost(
    worker: BuildActivities, make_repository: Repository, tmp_path: Path
) -> None:
    repository = make_repository({"gate": "#!/bin/sh\n"})
    checkout = await worker.check_out(checkout_request(repository))
    shutil.rmtree(checkout.path)
    lost = [checkout, checkout.model_copy(update={"path": str(repository)})]
    lost.append(checkout.model_copy(update={"path": f"{tmp_path}/worker/workspaces/../../service"}))

    for wanted in lost:
        with pytest.raises(ApplicationError, match="start again from checkout") as failure:
            await worker.run_step(step_run(wanted, command=["./gate"]))
        assert (failure.value.type, failure.value.non_retryable) == (WORKSPACE_LOST, True)


async def test_secrets_of_the_worker_are_in_no_report_and_no_log(
    tmp_path: Path, make_repository: Repository
) -> None:
    # given a worker with secrets, and a step that is handed one and tells it to everybody
    worker = BuildActivities(
        tmp_path / "worker",
        environment={**WORKER_ENVIRONMENT, "HEX_API_KEY": TOKEN, "SLACK_BOT_TOKEN": "xoxb-123456"},
    )
    report = await run_script(
        worker,
        make_repository,
        f'echo "have $HUB and ${{SLACK_BOT_TOKEN:-none}} and {TOKEN}" >&2; '
        'echo "{\\"publisher\\": \\"$HUB\\", \\"scopes\\": [\\"$HUB\\"]}"',
        environment={"HUB": "${HEX_API_KEY}"},
    )

    assert report.measurements == {"publisher": "***"}
    assert report.evidence == ('scopes: ["***"]',)
    files = [
        file for file in (tmp_path / "worker").rglob("*") if file.is_file() and "source" not in file.parts
    ]
    texts = "".join(file.read_text(errors="replace") for file in files if "repositories" not in file.parts)
    assert "have *** and none and ***" in texts
    assert TOKEN not in texts


async def test_a_step_that_names_a_variable_nobody_set_is_not_measured(
    worker: BuildActivities, make_repository: Repository
) -> None:
    report = await run_script(worker, make_repository, "exit", environment={"KEY": "${HEX_API_KEY}"})

    assert not report.measured
    assert "refers to ${HEX_API_KEY}, which is not set" in report.reason


async def test_documents_are_measured_in_the_checkout(
    worker: BuildActivities, make_repository: Repository
) -> None:
    checkout = await worker.check_out(checkout_request(make_repository({"NEWS.md": "## 1.0.0\n- first\n"})))

    report = await worker.run_step(
        step_run(checkout, tool="repository.documents", options={"changelog": "NEWS.md"})
    )

    assert report.measured
    assert report.measurements["changelog_updated"] is True
    assert report.measurements["runbook_exists"] is False


BUILD = (
    '#!/bin/sh\necho run >> ../count\nmkdir -p out\necho "release $VERSION" > out/service-$VERSION.tar.gz\n'
)
PUBLISH = (
    '#!/bin/sh\necho "$ARTEFACT $DIGEST $VERSION $IMAGE" >> ../published\n'
    'echo pushing >&2\necho "{\\"image\\": \\"registry.example.com/service@$DIGEST\\"}"\n'
)


def release_run(checkout: Checkout, **release: Any) -> ReleaseRun:
    described = {"tool": None, "command": ["./build"], "artefact": "out/*-{version}.tar.gz", **release}
    return ReleaseRun(
        release=ReleaseDefinition.model_validate(described),
        checkout=checkout,
        application="service",
        version="1.0.0",
        image="service:1.0.0",
    )


def journal_of(worker: BuildActivities) -> list[dict[str, Any]]:
    return [json.loads(line) for line in worker.artefacts.journal.read_text().splitlines()]


async def test_a_release_is_built_and_published_once(
    worker: BuildActivities, tmp_path: Path, make_repository: Repository
) -> None:
    repository = make_repository({"build": BUILD, "publish": PUBLISH})
    checkout = await worker.check_out(checkout_request(repository))
    run = release_run(checkout, publish=["./publish"])
    # when the same release is asked for many times, by retries, restarts and another deployment
    first = await worker.build_release(run)
    at_once = await asyncio.gather(*(worker.build_release(run) for _ in range(3)))
    restarted = BuildActivities(tmp_path / "worker", environment=WORKER_ENVIRONMENT)
    other = await restarted.check_out(checkout_request(repository, run="run-2"))
    later = await restarted.build_release(release_run(other, publish=["./publish"]))
    # then there is one artefact
    assert [*at_once, later] == [first] * 4
    assert first.image == f"registry.example.com/service@{first.digest}"
    assert first.commit == checkout.commit
    kept = Path(first.uri.removeprefix("file://"))
    assert kept.read_text() == "release 1.0.0\n"
    assert (kept.name, kept.parent.name) == ("service-1.0.0.tar.gz", first.digest.removeprefix("sha256:"))
    # and each effect has happened once
    beside = Path(checkout.path).parent
    assert (beside / "count").read_text() == "run\n"
    assert (beside / "published").read_text() == f"{kept} {first.digest} 1.0.0 service:1.0.0\n"
    assert not (Path(other.path).parent / "count").exists()
    (entry,) = journal_of(worker)
    assert entry["artefact"]["digest"] == first.digest
    assert (entry["application"], entry["version"], entry["image"]) == ("service", "1.0.0", first.image)


async def test_a_crash_between_building_and_publishing_builds_nothing_again(
    worker: BuildActivities, make_repository: Repository
) -> None:
    # given a registry that is away when the release is built
    publish = (
        '#!/bin/sh\n[ -e ../registry ] || { echo registry is away; exit 1; }\necho \'{"image": "a:1"}\'\n'
    )
    checkout = await worker.check_out(checkout_request(make_repository({"build": BUILD, "publish": publish})))
    run = release_run(checkout, publish=["./publish"])
    with pytest.raises(ApplicationError, match="registry is away") as failure:
        await worker.build_release(run)
    assert (failure.value.type, failure.value.non_retryable) == (UNAVAILABLE, False)
    assert not worker.artefacts.journal.exists()
    # when it is back, and the last line of the journal is torn
    (Path(checkout.path).parent / "registry").touch()
    worker.artefacts.journal.write_text('{"at": "2026-')
    built = await worker.build_release(run)
    # then the same artefact is published
    assert built.image == "a:1"
    assert (Path(checkout.path).parent / "count").read_text() == "run\n"
    assert worker.artefacts.journal.read_text().splitlines()[0] == '{"at": "2026-'
    assert json.loads(worker.artefacts.journal.read_text().splitlines()[1])["image"] == "a:1"


async def test_an_artefact_that_was_lost_or_changed_is_built_again(
    worker: BuildActivities, make_repository: Repository
) -> None:
    checkout = await worker.check_out(checkout_request(make_repository({"build": BUILD})))
    first = await worker.build_release(release_run(checkout))
    kept = Path(first.uri.removeprefix("file://"))
    kept.chmod(0o644)
    kept.write_text("tampered")

    assert await worker.build_release(release_run(checkout)) == first

    assert kept.read_text() == "release 1.0.0\n"
    assert len(journal_of(worker)) == 1


@pytest.mark.parametrize(
    ("build", "release", "expected"),
    [
        ("echo broken; exit 2", {}, (REFUSED, r"build ended with status 2: broken; the log is file:///")),
        ("exit 0", {}, (INVALID_CONFIGURATION, r"exactly one file out/\*-1\.0\.0\.tar\.gz, found none")),
        (
            "mkdir out; touch out/a-1.0.0.tar.gz out/b-1.0.0.tar.gz",
            {},
            (INVALID_CONFIGURATION, r"found out/a-.*, out/b-"),
        ),
        ("exit 0", {"artefact": "../*"}, (INVALID_CONFIGURATION, "leaves the checkout")),
        (
            "exit 0",
            {"command": ["./absent"]},
            (INVALID_CONFIGURATION, r"absent does not exist in the checkout"),
        ),
        ("sleep 600", {"timeout": "200ms"}, (UNAVAILABLE, "did not end within 200ms")),
        (
            "mkdir out; touch out/a-1.0.0.tar.gz",
            {"publish": ["echo", "done"]},
            (INVALID_CONFIGURATION, r'must print {"image": "…"}'),
        ),
        (
            "mkdir out; touch out/a-1.0.0.tar.gz",
            {"publish": ["echo", '{"image": ""}']},
            (INVALID_CONFIGURATION, r'must print {"image": "…"}'),
        ),
    ],
)
async def test_a_release_that_fails_says_why(
    worker: BuildActivities,
    make_repository: Repository,
    build: str,
    release: dict[str, Any],
    expected: tuple[str, str],
) -> None:
    kind, message = expected
    checkout = await worker.check_out(checkout_request(make_repository({"build": f"#!/bin/sh\n{build}\n"})))

    with pytest.raises(ApplicationError, match=message) as failure:
        await worker.build_release(release_run(checkout, **release))

    assert failure.value.type == kind
    assert not worker.artefacts.journal.exists()


async def test_an_artefact_that_was_committed_is_not_the_one_that_was_built(
    worker: BuildActivities, make_repository: Repository
) -> None:
    files = {"build": "#!/bin/sh\nexit 0\n", "out/service-1.0.0.tar.gz": "stale"}
    checkout = await worker.check_out(checkout_request(make_repository(files)))

    with pytest.raises(ApplicationError, match="found none"):
        await worker.build_release(release_run(checkout))


async def test_old_workspaces_are_removed_but_never_one_in_use(
    tmp_path: Path, make_repository: Repository
) -> None:
    worker = BuildActivities(tmp_path / "worker", environment=WORKER_ENVIRONMENT, retention=timedelta(days=1))
    waiting = "#!/bin/sh\ntouch ../started; while [ ! -e ../go ]; do sleep 0.05; done; echo '{\"a\": 1}'\n"
    repository = make_repository({"gate": waiting})
    old, used = [await worker.check_out(checkout_request(repository, run=run)) for run in ("old", "used")]
    running = asyncio.create_task(worker.run_step(step_run(used, command=["./gate"])))
    await written(Path(used.path).parent / "started")
    # given that two days went by
    two_days_ago = time.time() - 2 * 86_400
    for checkout in (old, used):
        os.utime(Path(checkout.path).parents[1], (two_days_ago, two_days_ago))
    # when somebody checks out
    await worker.check_out(checkout_request(repository, run="new"))
    # then only the idle one is gone
    assert not Path(old.path).exists()
    (Path(used.path).parent / "go").touch()
    assert (await running).measured
