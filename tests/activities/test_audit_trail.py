"""The local audit trail: written once, by many, and nobody changes it unnoticed."""

import asyncio
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.audit import AuditActivities
from activities.audit_sqlite import SqliteAuditStore, SqliteAuditTrail
from activities.errors import INVALID_INPUT, REFUSED, UNAVAILABLE
from domain.audit import GENESIS, AuditCategory, AuditEvent
from domain.audit_report import AuditQuery, TrailVerification

DEPLOYMENT = "deployment:erlmcp:production:3.0.0"
OTHER = "deployment:erlmcp:staging:3.0.1"
NOON = datetime(2026, 2, 2, 12, tzinfo=UTC)


def event(**fields: Any) -> AuditEvent:
    given: dict[str, Any] = {
        "event_id": str(uuid.uuid4()),
        "event_type": "deployment.transition",
        "category": AuditCategory.DEPLOYMENT,
        "timestamp": NOON,
        "actor": "user@example.com",
        "action": "deploy_production",
        "target": "production",
        "version": "3.0.0",
        "status": "success",
        "deployment_id": DEPLOYMENT,
        "environment": "production",
        "details": {"größe": 1.5, "steps": [1, None, True]},
    }
    return AuditEvent(**(given | fields))


def verified(path: Path, deployment: str | None = None) -> TrailVerification:
    with SqliteAuditTrail.open(path) as trail:
        return trail.verify(deployment)


def tamper(path: Path, *statements: str) -> None:
    """What an attacker with the file and the sqlite3 program would do: no guard stands in the way."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)
    connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteAuditStore]:
    async with SqliteAuditStore.open(path) as opened:
        yield opened


@pytest.fixture
async def two_chains(path: Path) -> Path:
    """Five events of one deployment and two of another."""
    async with SqliteAuditStore.open(path) as store:
        for number in range(5):
            await store.append(event(reason=f"number {number + 1}"))
        for _ in range(2):
            await store.append(event(deployment_id=OTHER, version="3.0.1"))
    return path


async def test_events_of_a_deployment_are_linked_and_come_back_as_they_were(
    store: SqliteAuditStore, path: Path
) -> None:
    events = [event(reason=f"number {number}") for number in range(3)]

    receipts = [await ActivityEnvironment().run(AuditActivities(store).record_audit_event, e) for e in events]

    assert [(receipt.chain, receipt.sequence) for receipt in receipts] == [(DEPLOYMENT, n) for n in (1, 2, 3)]
    with SqliteAuditTrail.open(path) as trail:
        stored = list(trail.query(AuditQuery()))
    assert [s.event for s in stored] == events
    assert [s.previous_hash for s in stored] == [GENESIS, receipts[0].hash, receipts[1].hash]
    assert verified(path) == TrailVerification(chains=1, events=3)


async def test_the_same_event_is_stored_once_and_gets_the_same_receipt(
    store: SqliteAuditStore, path: Path
) -> None:
    first = event()
    receipt = await store.append(first)
    await store.append(event())

    assert await store.append(first) == receipt
    assert verified(path).events == 2


@pytest.mark.parametrize("change", [{"actor": "someone@example.com"}, {"deployment_id": OTHER}])
async def test_another_event_with_the_same_id_is_refused(
    store: SqliteAuditStore, path: Path, change: dict[str, str]
) -> None:
    first = event()
    await store.append(first)

    with pytest.raises(ApplicationError, match=first.event_id) as raised:
        await store.append(first.model_copy(update=change))

    assert (raised.value.type, raised.value.non_retryable) == (REFUSED, True)
    assert verified(path) == TrailVerification(chains=1, events=1)


async def test_a_time_without_zone_is_refused(store: SqliteAuditStore, path: Path) -> None:
    with pytest.raises(ApplicationError, match="names no time zone") as raised:
        await ActivityEnvironment().run(
            AuditActivities(store).record_audit_event, event(timestamp=NOON.replace(tzinfo=None))
        )

    assert raised.value.type == INVALID_INPUT
    assert verified(path).events == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET hash = 'x' WHERE sequence = 2",
        "DELETE FROM events WHERE sequence = 5",
        "INSERT OR REPLACE INTO events (chain, sequence, previous_hash, hash, event)"
        " SELECT chain, sequence, previous_hash, hash, event FROM events",
        "UPDATE heads SET sequence = 1",
        "DELETE FROM heads",
    ],
)
async def test_sql_cannot_change_what_is_written(two_chains: Path, statement: str) -> None:
    with (
        sqlite3.connect(two_chains) as connection,
        pytest.raises(sqlite3.IntegrityError, match=r"never|only"),
    ):
        connection.execute(statement)
    connection.close()

    assert verified(two_chains).intact


@pytest.mark.parametrize(
    ("statements", "chain", "sequence", "reason"),
    [
        pytest.param(
            ["UPDATE events SET event = replace(event, 'number 3', 'number 9') WHERE sequence = 3"],
            DEPLOYMENT,
            3,
            "its content was changed",
            id="edited",
        ),
        pytest.param(
            ["UPDATE events SET event = json_set(event, '$.mood', 'good') WHERE sequence = 3"],
            DEPLOYMENT,
            3,
            "its content cannot be read",
            id="unreadable",
        ),
        pytest.param(
            ["DELETE FROM events WHERE sequence = 3"],
            DEPLOYMENT,
            3,
            "event 3 is missing or moved",
            id="deleted in the middle",
        ),
        pytest.param(
            ["DELETE FROM events WHERE sequence >= 4"],
            DEPLOYMENT,
            4,
            "the end of the chain is missing, up to event 5",
            id="cut off",
        ),
        pytest.param(
            ["DELETE FROM events WHERE chain LIKE '%staging%'"],
            OTHER,
            1,
            "all its events are missing; it ended at 2",
            id="all deleted",
        ),
        pytest.param(
            [
                "UPDATE events SET sequence = 99 WHERE chain LIKE '%production%' AND sequence = 2",
                "UPDATE events SET sequence = 2 WHERE sequence = 3",
                "UPDATE events SET sequence = 3 WHERE chain LIKE '%production%' AND sequence = 99",
            ],
            DEPLOYMENT,
            2,
            "it does not follow the event before it",
            id="reordered",
        ),
        pytest.param(
            ["UPDATE events SET chain = 'deployment:x' WHERE chain LIKE '%staging%'"],
            OTHER,
            1,
            "all its events are missing; it ended at 2",
            id="renamed",
        ),
        pytest.param(
            ["DELETE FROM heads WHERE chain LIKE '%staging%'"],
            OTHER,
            2,
            "the record of the chain's end is missing",
            id="head deleted",
        ),
        pytest.param(
            ["UPDATE heads SET sequence = 1 WHERE chain LIKE '%staging%'"],
            OTHER,
            2,
            "it is not the end the chain had",
            id="head set back",
        ),
    ],
)
async def test_verification_names_the_place_of_tampering(
    two_chains: Path, statements: list[str], chain: str, sequence: int, reason: str
) -> None:
    tamper(two_chains, *statements)

    verification = verified(two_chains)

    assert not verification.intact
    assert (chain, sequence, reason) in [(f.chain, f.sequence, f.reason) for f in verification.faults]
    # and the other chain is not accused
    innocent = {DEPLOYMENT, OTHER} - {chain}
    assert all(verified(two_chains, name).intact for name in innocent)


async def test_verification_notices_that_the_guards_are_gone(two_chains: Path) -> None:
    with sqlite3.connect(two_chains) as connection:
        connection.execute("DROP TRIGGER events_are_not_deleted")
    connection.close()

    assert verified(two_chains).unprotected == ("the trigger events_are_not_deleted was removed or changed",)


async def test_a_chain_that_lost_its_end_is_not_continued(two_chains: Path) -> None:
    tamper(two_chains, "DELETE FROM events WHERE sequence = 5")

    async with SqliteAuditStore.open(two_chains) as store:
        with pytest.raises(ApplicationError, match="it ends at 4 instead of 5") as raised:
            await store.append(event())
        await store.append(event(deployment_id=OTHER))

    assert raised.value.type == REFUSED


async def test_queries_answer_the_questions_of_the_specification(store: SqliteAuditStore, path: Path) -> None:
    rollback = event(category=AuditCategory.ROLLBACK, action="rollback", timestamp=NOON + timedelta(hours=1))
    # one instant, written in two zones
    zoned = event(
        version="3.0.1",
        actor="anna@example.com",
        timestamp=datetime.fromisoformat("2026-02-02T14:30:00.250+02:00"),
        deployment_id=OTHER,
        environment="staging",
    )
    first = event()
    for each in (rollback, zoned, first):
        await store.append(each)

    def found(**query: Any) -> list[AuditEvent]:
        with SqliteAuditTrail.open(path) as trail:
            return [stored.event for stored in trail.query(AuditQuery(**query))]

    assert found() == [first, zoned, rollback]
    assert found(version="3.0.0") == [first, rollback]
    assert found(actor="anna@example.com") == [zoned]
    assert found(category="rollback", since=NOON, until=NOON + timedelta(days=1)) == [rollback]
    assert found(since=NOON, until=NOON + timedelta(hours=1)) == [first, zoned]
    assert found(since=NOON + timedelta(minutes=30, milliseconds=251)) == [rollback]
    assert found(deployment=OTHER) == found(environment="staging") == [zoned]
    assert found(version="9.9.9") == []


_WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from activities.audit_sqlite import SqliteAuditStore
from tests.activities.test_audit_trail import OTHER, event

async def main():
    async with SqliteAuditStore.open(Path({path!r})) as store:
        await asyncio.gather(*(store.append(event(actor={actor!r})) for _ in range(60)))
        await store.append(event(actor={actor!r}, deployment_id=OTHER))

asyncio.run(main())
"""


def test_processes_that_start_and_write_together_make_one_chain(path: Path) -> None:
    root = str(Path(__file__).parents[2])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER.format(root=root, path=str(path), actor=f"worker-{n}")]
        )
        for n in range(3)
    ]

    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert verified(path) == TrailVerification(chains=2, events=183)
    with SqliteAuditTrail.open(path) as trail:
        assert len(list(trail.query(AuditQuery(actor="worker-1")))) == 61


async def test_an_append_whose_caller_is_cancelled_is_whole_or_not_there(
    store: SqliteAuditStore, path: Path
) -> None:
    appends = [asyncio.create_task(store.append(event())) for _ in range(20)]
    await asyncio.sleep(0)
    for append in appends[::2]:
        append.cancel()
    await asyncio.gather(*appends, return_exceptions=True)

    await store.append(event())

    verification = verified(path)
    assert verification.intact
    assert verification.events >= 11


async def test_a_store_that_is_locked_for_long_can_be_tried_again(
    store: SqliteAuditStore, path: Path
) -> None:
    await store._connection.execute("PRAGMA busy_timeout = 1")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    with pytest.raises(ApplicationError, match="database is locked") as raised:
        await store.append(event())
    blocker.execute("ROLLBACK")
    blocker.close()

    assert (raised.value.type, raised.value.non_retryable) == (UNAVAILABLE, False)
    assert (await store.append(event())).sequence == 1


async def test_a_store_is_read_while_a_worker_writes_it(store: SqliteAuditStore, path: Path) -> None:
    await store.append(event())
    with SqliteAuditTrail.open(path) as trail:
        assert trail.verify().events == 1
        await store.append(event())
        assert trail.verify() == TrailVerification(chains=1, events=1)
