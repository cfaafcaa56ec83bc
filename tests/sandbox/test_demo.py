"""The demo as a person or a CI job runs it: a process of its own, its words and its exit code."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.approval import Verb
from domain.audit import AuditCategory, AuditEvent, ChainFault
from domain.audit_report import TrailVerification
from domain.deployment import DeploymentState, DeploymentStatus, RollbackSummary
from domain.environment import EnvironmentRecord, Hold
from sandbox.demo import main
from sandbox.demo.closing import Chapter, Records, judge
from sandbox.demo.decision import Answer, understand
from sandbox.demo.traffic import Counted
from sandbox.services import FrontStatus
from sandbox.slack import SlackMessage
from sandbox.world import CHECKOUT
from starters.errors import CommandError

_PATIENCE_SECONDS = 300
_EVERYWHERE = ("--flavour", "python", "--kubernetes", "emulator")


@asynccontextmanager
async def _demo(
    arguments: Sequence[str], temporary: Path, stdin: int | None = None
) -> AsyncIterator[Process]:
    """The demo as a process, without a terminal unless `stdin` is one."""
    temporary.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox.demo", *arguments),
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=PIPE,
        stderr=STDOUT,
        cwd=CHECKOUT,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _said(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(_PATIENCE_SECONDS):
        words = await process.stdout.read()
        await process.wait()
    return words.decode()


async def _said_until(process: Process, wanted: str) -> str:
    assert process.stdout is not None
    words = b""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while wanted.encode() not in words:
            piece = await process.stdout.read(4096)
            assert piece, words.decode()
            words += piece
    return words.decode()


def _processes_of(directory: Path) -> list[str]:
    """Command lines of what still runs with something of the directory."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(directory) in command:
                found.append(command)
    return found


# The whole of it


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the unattended demo keeps what it writes."""
    return tmp_path_factory.mktemp("unattended")


@pytest.fixture(scope="module")
async def unattended(temporary: Path) -> AsyncIterator[Process]:
    """A demo that approves by itself; it takes long, so it runs beside the other one."""
    async with _demo(("--yes", *_EVERYWHERE), temporary) as process:
        yield process


@pytest.mark.timeout(400)
async def test_a_rejection_ends_it_with_its_own_exit_code(tmp_path: Path, unattended: Process) -> None:
    # given a person at a terminal (and another demo beside this one)
    master, slave = pty.openpty()
    async with _demo(_EVERYWHERE, tmp_path / "tmp", stdin=slave) as process:
        said = await _said_until(process, "[y/n, or a comment] ")
        assert "Approve erlsample 1.1.0 for production as change.board@example.com?" in said
        # when the person comments first: that decides nothing
        os.write(master, b"who asked for this?\n")
        said = await _said_until(process, "[y/n, or a comment] ")
        assert "a comment never decides" in said
        # and then says no
        os.write(master, b"n not on a Friday\n")
        said = await _said(process)
    os.close(master)
    os.close(slave)
    # then it is rejected with these words, 1.0.0 stays, and no second release is tried
    assert process.returncode == 3, said
    assert "Rejected: rejected by change.board@example.com: not on a Friday" in said
    assert "✔ 1.1.0 ended Rejected" in said
    assert "✔ 1.0.0 is what serves production now" in said
    assert "1.2.0" not in said
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.timeout(400)
async def test_a_good_release_arrives_and_a_bad_one_is_rolled_back(
    unattended: Process, temporary: Path
) -> None:
    # given a machine without Erlang and API server, and nobody at a terminal
    process = unattended
    # when the demo approves by itself
    said = await _said(process)
    # then all went as claimed
    assert process.returncode == 0, said
    assert "✘" not in said
    # and it said what it uses in place of the real parts, and which times are shorter
    assert "an emulator of the API" in said
    assert "the sample in Python" in said
    assert re.search(r"canary step +10m +6s", said)
    # and the approval was given as the stock CLI gives it
    assert "workflow signal --address 127.0.0.1:" in said
    assert "approved by change.board@example.com: approved by make demo --yes" in said
    # and the good release went through its canary, although the worker was killed in it
    for weight in (10, 50, 100):
        assert re.search(rf"canary at {weight}% passed: .*healthy", said)
    assert re.search(r"kill -9 \d+: the worker dies in the canary at 10%", said)
    assert re.search(r"users meanwhile: \d+ requests, 0 failed", said)
    assert "nothing was done twice although the worker was killed" in said
    # and the bad one was caught by what the users got
    assert re.search(r"canary at \d+% failed: .*error_rate is [\d.]+%, limit 5%", said)
    assert "1.2.0 was caught in the canary and rolled back to 1.1.0 automatically" in said
    assert "hold: 1.2.0 was rolled back" in said
    assert re.search(r"1\.1\.0 +Completed", said)
    assert re.search(r"1\.2\.0 +Failed ↩ 1\.1\.0", said)
    # and Slack and the audit trail know all of it
    assert "Automatic" in said
    assert re.search(r"3 hash chains with \d+ events intact", said)
    # and nothing is left behind
    assert list(temporary.iterdir()) == []
    assert _processes_of(temporary) == []


# What it refuses


def test_without_a_terminal_it_wants_to_be_told_to_approve() -> None:
    with pytest.raises(CommandError, match="standard input is no terminal") as refusal:
        main([*_EVERYWHERE])
    assert refusal.value.exit_code == 2
    assert "--yes" in refusal.value.remedy


def test_a_directory_in_use_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(CommandError, match="not empty") as refusal:
        main(["--yes", "--data-dir", str(tmp_path)])
    assert refusal.value.exit_code == 2
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_real_control_plane_that_is_asked_for_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(CommandError, match=r"kube-apiserver.* not found") as refusal:
        main(["--yes", "--kubernetes", "real"])
    assert refusal.value.exit_code == 2


# What was typed


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("y\n", Answer(Verb.APPROVE, "")),
        ("Yes ship it\n", Answer(Verb.APPROVE, "ship it")),
        ("n\n", Answer(Verb.REJECT, "")),
        ("no, never\n", Answer(Verb.COMMENT, "no, never")),
        ("NO never\n", Answer(Verb.REJECT, "never")),
        ("yesterday was better\n", Answer(Verb.COMMENT, "yesterday was better")),
        ("  \n", None),
    ],
)
def test_only_a_clear_word_decides(line: str, answer: Answer | None) -> None:
    assert understand(line) == answer


# What is claimed

_NOW = datetime(2026, 2, 2, 12, tzinfo=UTC)


def _chapter(version: str, state: DeploymentState, **more: object) -> Chapter:
    expected = DeploymentState.FAILED if version == "1.2.0" else DeploymentState.COMPLETED
    status = DeploymentStatus.model_validate(
        {
            "deployment_id": f"deployment:erlsample:production:{version}",
            "application": "erlsample",
            "environment": "production",
            "version": version,
            "actor": "developer@example.com",
            "state": state,
            "since": _NOW,
            "started_at": _NOW,
            "history": [],
            **more,
        }
    )
    return Chapter(status, expected, {"stable": Counted(), "canary": Counted()}, "http://127.0.0.1/")


def _event(event_id: str) -> AuditEvent:
    return AuditEvent(
        event_id=event_id,
        event_type="canary.weight",
        category=AuditCategory.DEPLOYMENT,
        timestamp=_NOW,
        actor="developer@example.com",
        action="set_canary_weight",
        target="production",
        version="1.1.0",
        status="success",
        deployment_id="deployment:erlsample:production:1.1.0",
        environment="production",
        details={"weight": 10},
    )


_ROLLBACK = RollbackSummary(workflow_id="r", to_version="1.1.0", succeeded=True, reason="1.1.0 is live again")
_CANARY = {"id": "canary", "phase": "Failed", "reason": "canary at 10%: error_rate is 40%, limit 5%"}
_CHAPTERS = [
    _chapter("1.1.0", DeploymentState.COMPLETED),
    _chapter("1.2.0", DeploymentState.FAILED, rollback=_ROLLBACK, canary=_CANARY),
]
_STABLE = FrontStatus("n", "stable", 1, "1.1.0", serving=True, pid=1, restarts=0, error=None)
_CANARY_FRONT = replace(_STABLE, track="canary", version="1.2.0")
_RECORDS = Records(
    verification=TrailVerification(chains=1, events=1),
    events=[_event("1")],
    messages=[SlackMessage("deployments", "1", "one"), SlackMessage("deployments", "2", "two")],
    fronts=[_STABLE],
    environment=EnvironmentRecord(
        application="erlsample",
        environment="production",
        held_versions={"1.2.0": Hold(actor="a", reason="r", since=_NOW)},
    ),
)


def _broken(chapters: list[Chapter], records: Records) -> list[str]:
    claims = judge(chapters, records, live="1.1.0", bad="1.2.0", killed=True)
    return [claim.text for claim in claims if not claim.holds]


def test_what_went_well_is_claimed() -> None:
    assert _broken(_CHAPTERS, _RECORDS) == []


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (replace(_RECORDS, events=[_event("1"), _event("2")]), "canary.weight 2 times"),
        (replace(_RECORDS, messages=[_RECORDS.messages[0]] * 2), "Slack #deployments: one 2 times"),
        (replace(_RECORDS, fronts=[_STABLE, _CANARY_FRONT]), "'canary': '1.2.0'"),
        (replace(_RECORDS, fronts=[]), "serving is nothing"),
        (
            replace(
                _RECORDS,
                verification=TrailVerification(
                    chains=1, events=1, faults=(ChainFault(chain="c", sequence=1, reason="changed"),)
                ),
            ),
            "c, event 1: changed",
        ),
        (replace(_RECORDS, verification=TrailVerification(chains=0, events=0)), "0 hash chains"),
        (
            replace(_RECORDS, environment=_RECORDS.environment.model_copy(update={"held_versions": {}})),
            "on hold is nothing",
        ),
    ],
)
def test_what_differs_is_said(records: Records, words: str) -> None:
    (broken,) = _broken(_CHAPTERS, records)
    assert words in broken


def test_a_bad_release_that_arrives_breaks_the_claim() -> None:
    arrived = [_CHAPTERS[0], _chapter("1.2.0", DeploymentState.COMPLETED)]
    ended, rolled_back = _broken(arrived, _RECORDS)
    assert "1.2.0 ended Failed, as it should – but: Completed" in ended
    assert "no roll-back" in rolled_back
