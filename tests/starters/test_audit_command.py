"""``erlmcp-deploy audit``, on a store that workers wrote."""

import asyncio
import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from activities.audit_sqlite import SqliteAuditStore
from domain.audit import AuditCategory
from starters.cli import app
from tests.activities.test_audit_trail import DEPLOYMENT, NOON, OTHER, event, tamper

EVENTS = (
    event(status="started"),
    event(category=AuditCategory.APPROVAL, action="approve", actor="anna@example.com", reason="looks good"),
    event(
        category=AuditCategory.APPROVAL, action="approve", actor="mallory", status="refused", reason="no role"
    ),
    event(deployment_id=OTHER, version="3.0.1", environment="staging", target="staging"),
    event(category=AuditCategory.ROLLBACK, action="rollback", timestamp=NOON + timedelta(days=1)),
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    async def write() -> None:
        async with SqliteAuditStore.open(tmp_path / "audit.db") as opened:
            for each in EVENTS:
                await opened.append(each)

    asyncio.run(write())
    return tmp_path / "audit.db"


def run(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments], env={"ERLMCP_DEPLOY_HOME": str(store.parent)})


def test_query_lists_what_matches(store: Path) -> None:
    answer = run(store, "query", "--actor", "anna@example.com")

    assert answer.exit_code == 0
    assert "looks good" in answer.output
    assert "mallory" not in answer.output


def test_query_as_json_is_one_document_with_the_chain(store: Path) -> None:
    answer = run(
        store, "query", "--json", "--category", "rollback", "--since", "2026-02-03", "--until", "2026-02-04"
    )

    [found] = json.loads(answer.stdout)
    assert found["event"] == EVENTS[4].model_dump(mode="json")
    assert (found["chain"], found["sequence"]) == (DEPLOYMENT, 4)
    assert json.loads(run(store, "query", "--json", "--version", "9.9.9").stdout) == []


def test_verify_says_that_all_is_well(store: Path) -> None:
    answer = run(store, "verify")

    assert (answer.exit_code, answer.output.strip()) == (0, "✔ intact: 5 events in 2 chains")
    assert json.loads(run(store, "verify", "--json", "--deployment", OTHER).stdout) == {
        "chains": 1,
        "events": 1,
        "faults": [],
        "unprotected": [],
        "intact": True,
    }


@pytest.mark.parametrize("command", ["verify", "report"])
def test_a_broken_trail_exits_1_and_names_the_place(store: Path, command: str) -> None:
    tamper(store, "UPDATE events SET event = replace(event, 'mallory', 'anna') WHERE sequence = 3")

    answer = run(store, command)

    assert answer.exit_code == 1
    assert f"{DEPLOYMENT}, event 3: its content was changed" in answer.output
    assert run(store, command, "--json").exit_code == 1


def test_report_counts_decides_and_verifies(store: Path) -> None:
    answer = run(
        store, "report", "--json", "--since", "2026-02-02T00:00:00Z", "--until", "2026-02-03T00:00:00Z"
    )

    assert answer.exit_code == 0
    compiled = json.loads(answer.stdout)
    assert compiled["events"] == 4
    assert compiled["by_action"] == {"approve": 2, "deploy_production": 2}
    assert compiled["by_status"] == {"refused": 1, "started": 1, "success": 2}
    assert compiled["by_environment"] == {"production": 3, "staging": 1}
    assert [e["actor"] for e in compiled["approvals"]] == ["anna@example.com", "mallory"]
    assert [e["reason"] for e in compiled["refusals"]] == ["no role"]
    assert compiled["rollbacks"] == []
    assert compiled["verification"]["events"] == 5
    # and for people
    shown = run(store, "report").output
    assert "Roll-backs: 1" in shown
    assert "✔ intact" in shown


def test_words_from_outside_cannot_steer_the_terminal(store: Path) -> None:
    async def write() -> None:
        async with SqliteAuditStore.open(store) as opened:
            await opened.append(event(reason="\x1b[2Jinvisible\n[bold]forged", actor="eve"))

    asyncio.run(write())

    shown = run(store, "query", "--actor", "eve").output
    assert "\x1b" not in shown
    assert "invisible [bold]forged" in shown


def test_what_is_typed_wrong_exits_2_with_the_remedy(store: Path, tmp_path: Path) -> None:
    missing = run(store, "verify", "--store", str(tmp_path / "nothing.db"))
    assert (missing.exit_code, "there is no audit store" in missing.output) == (2, True)
    assert run(store, "query", "--since", "yesterday").exit_code == 2
    assert run(store, "verify", "--deployment", "deployment:nothing").exit_code == 2


def test_a_file_that_is_no_audit_store_is_no_intact_trail(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    (tmp_path / "text.db").write_text("this is not a database " * 100)

    for name in ("other.db", "text.db"):
        answer = CliRunner().invoke(app, ["audit", "verify", "--store", str(tmp_path / name)])
        assert (answer.exit_code, name in answer.output) == (1, True)
