"""The local audit store: one SQLite file, written by any number of workers of one machine.

Events cannot be changed or deleted through SQL while the triggers stand. Who removes the triggers or edits
the file breaks the hash chain, and verification names the place. The last hash of each chain is kept in a
second table, so that cutting off the end of a chain is noticed too. A forger who rewrites a chain from some
event to its end *and* its head is found only by comparing with a copy kept elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, Self

import aiosqlite
from pydantic import ValidationError

from activities.errors import REFUSED, UNAVAILABLE, fail
from activities.local_database import local_database
from domain.audit import (
    AuditEvent,
    AuditReceipt,
    ChainedEvent,
    ChainFault,
    canonical_json,
    link,
    verify_chain,
)
from domain.audit_report import AuditQuery, TrailVerification

# What is searched for is read from the hashed JSON itself, so that no copy of it can be made to lie.
_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS events (
        chain TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        previous_hash TEXT NOT NULL,
        hash TEXT NOT NULL,
        event TEXT NOT NULL,
        event_id TEXT NOT NULL AS (json_extract(event, '$.event_id')),
        time REAL NOT NULL AS (julianday(json_extract(event, '$.timestamp'))),
        version TEXT NOT NULL AS (json_extract(event, '$.version')),
        actor TEXT NOT NULL AS (json_extract(event, '$.actor')),
        category TEXT NOT NULL AS (json_extract(event, '$.category')),
        environment TEXT NOT NULL AS (json_extract(event, '$.environment')),
        PRIMARY KEY (chain, sequence)
    ) WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX IF NOT EXISTS events_by_id ON events (event_id)",
    "CREATE INDEX IF NOT EXISTS events_by_time ON events (time)",
    "CREATE INDEX IF NOT EXISTS events_by_version ON events (version)",
    "CREATE INDEX IF NOT EXISTS events_by_actor ON events (actor)",
    """
    CREATE TABLE IF NOT EXISTS heads (
        chain TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        hash TEXT NOT NULL
    ) WITHOUT ROWID
    """,
)
_GUARDS: Final = {
    "events_are_not_changed": """
        BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END""",
    "events_are_not_deleted": """
        BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'audit events are never deleted'); END""",
    "events_are_not_replaced": """
        BEFORE INSERT ON events
        WHEN EXISTS (SELECT 1 FROM events WHERE chain = NEW.chain AND sequence = NEW.sequence)
            OR EXISTS (SELECT 1 FROM events WHERE event_id = json_extract(NEW.event, '$.event_id'))
        BEGIN SELECT RAISE(ABORT, 'audit events are never replaced'); END""",
    "heads_follow_events": """
        AFTER INSERT ON events BEGIN
            INSERT INTO heads VALUES (NEW.chain, NEW.sequence, NEW.hash)
            ON CONFLICT (chain) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash;
        END""",
    "heads_only_advance": """
        BEFORE UPDATE ON heads WHEN NEW.chain <> OLD.chain OR NEW.sequence <> OLD.sequence + 1
        BEGIN SELECT RAISE(ABORT, 'the head of an audit chain only advances'); END""",
    "heads_are_not_deleted": """
        BEFORE DELETE ON heads BEGIN SELECT RAISE(ABORT, 'an audit chain is never deleted'); END""",
}
_SCHEMA: Final = (
    *_TABLES,
    *(f"CREATE TRIGGER IF NOT EXISTS {name}{body}" for name, body in _GUARDS.items()),
)
_COLUMNS: Final = "chain, sequence, previous_hash, hash, event"


class SqliteAuditStore:
    """Appends to the store; see `activities.audit.AuditStore`."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._transaction = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Self]:
        """The store in this file, which is made if it does not exist.

        Raises:
            ApplicationError: Unavailable, if the file cannot be opened.
        """
        async with local_database(path, _SCHEMA) as connection:
            connection.row_factory = sqlite3.Row
            store = cls(connection, path)
            try:
                yield store
            finally:
                async with store._transaction:  # an append whose caller was cancelled still ends
                    pass

    async def append(self, event: AuditEvent) -> AuditReceipt:
        """Append in one transaction, which a cancelled caller does not tear in two."""
        return await asyncio.shield(self._append(event))

    async def _append(self, event: AuditEvent) -> AuditReceipt:
        async with self._transaction:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                try:
                    receipt = await self._stored(event) or await self._store(event)
                    await self._connection.commit()
                except BaseException:
                    await self._connection.rollback()
                    raise
            except sqlite3.Error as error:
                fail(UNAVAILABLE, f"audit store {self._path}: {error}")
        return receipt

    async def _stored(self, event: AuditEvent) -> AuditReceipt | None:
        """The receipt of this event, if it is there already."""
        found = await self._one(
            "SELECT chain, sequence, hash, event FROM events WHERE event_id = ?", event.event_id
        )
        if found is None:
            return None
        if found["event"] != canonical_json(event).decode():
            fail(REFUSED, f"audit event {event.event_id} is stored already with different content")
        return AuditReceipt(chain=found["chain"], sequence=found["sequence"], hash=found["hash"])

    async def _store(self, event: AuditEvent) -> AuditReceipt:
        linked = link(event.deployment_id, await self._last(event.deployment_id), event)
        await self._connection.execute(
            f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - a constant
            (
                linked.chain,
                linked.sequence,
                linked.previous_hash,
                linked.hash,
                canonical_json(event).decode(),
            ),
        )
        return AuditReceipt(chain=linked.chain, sequence=linked.sequence, hash=linked.hash)

    async def _last(self, chain: str) -> ChainedEvent | None:
        """The event to link to; a chain whose end does not match its head is not continued."""
        last = await self._one(
            f"SELECT {_COLUMNS} FROM events WHERE chain = ? ORDER BY sequence DESC LIMIT 1",  # noqa: S608
            chain,
        )
        head = await self._one("SELECT sequence, hash FROM heads WHERE chain = ?", chain)
        ends = [None if row is None else (row["sequence"], row["hash"]) for row in (last, head)]
        if ends[0] != ends[1]:
            fail(
                REFUSED,
                f"audit chain {chain} in {self._path} was tampered with: it ends at {_place(last)} instead of"
                f" {_place(head)}; run `erlmcp-deploy audit verify` and restore it",
            )
        return None if last is None else _chained(last)

    async def _one(self, statement: str, parameter: str) -> sqlite3.Row | None:
        async with self._connection.execute(statement, (parameter,)) as cursor:
            return await cursor.fetchone()


class UnreadableTrailError(Exception):
    """The store cannot be opened or read; says which file and why."""


class SqliteAuditTrail:
    """Reads a store, also one no worker has open; never writes."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """One consistent view of the store, which workers may go on writing.

        Raises:
            UnreadableTrailError: here or while reading, if the file is missing, damaged or no audit store.
        """
        connection = None
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            yield cls(connection, path)
        except sqlite3.Error as error:
            raise UnreadableTrailError(f"audit store {path}: {error}") from error
        finally:
            if connection is not None:
                connection.close()

    def query(self, query: AuditQuery) -> Iterator[ChainedEvent]:
        """The events that match, in order of time."""
        conditions = {
            "version = ?": query.version,
            "actor = ?": query.actor,
            "category = ?": query.category,
            "environment = ?": query.environment,
            "chain = ?": query.deployment,
            "time >= julianday(?)": query.since and query.since.isoformat(),
            "time < julianday(?)": query.until and query.until.isoformat(),
        }
        given = {condition: value for condition, value in conditions.items() if value is not None}
        where = " AND ".join(given) or "TRUE"
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY time, chain, sequence",  # noqa: S608
            tuple(given.values()),
        )
        for row in rows:
            try:
                yield _chained(row)
            except ValidationError as error:
                raise UnreadableTrailError(
                    f"audit store {self._path}: event {_place(row)} of chain {row['chain']} cannot be read;"
                    " run `erlmcp-deploy audit verify`"
                ) from error

    def verify(self, deployment: str | None = None) -> TrailVerification:
        """Check every hash of all chains, or of one deployment's, and the guards of the store."""
        only, chain = ("WHERE chain = ?", (deployment,)) if deployment is not None else ("", ())
        count = self._connection.execute(f"SELECT COUNT(*) FROM events {only}", chain).fetchone()[0]  # noqa: S608
        heads = {
            row["chain"]: row
            for row in self._connection.execute(f"SELECT * FROM heads {only}", chain)  # noqa: S608
        }
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM events {only} ORDER BY chain, sequence",  # noqa: S608
            chain,
        )
        faults: list[ChainFault] = []
        seen: set[str] = set()
        for name, events in itertools.groupby(rows, key=lambda row: str(row["chain"])):
            seen.add(name)
            if fault := _chain_fault(name, events, heads.get(name)):
                faults.append(fault)
        faults += [
            ChainFault(
                chain=name, sequence=1, reason=f"all its events are missing; it ended at {_place(head)}"
            )
            for name, head in heads.items()
            if name not in seen
        ]
        return TrailVerification(
            chains=len(seen | heads.keys()),
            events=count,
            faults=tuple(faults),
            unprotected=tuple(self._unprotected()),
        )

    def _unprotected(self) -> Iterator[str]:
        try:
            damages = self._connection.execute("PRAGMA integrity_check(5)").fetchall()
        except sqlite3.Error as error:
            damages = [(str(error),)]
        yield from (f"the file is damaged: {damage}" for (damage,) in damages if damage != "ok")
        triggers = dict(
            self._connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        )
        for name, body in _GUARDS.items():
            if triggers.get(name) != f"CREATE TRIGGER {name}{body}":
                yield f"the trigger {name} was removed or changed"


def _chain_fault(chain: str, rows: Iterator[sqlite3.Row], head: sqlite3.Row | None) -> ChainFault | None:
    last: sqlite3.Row | None = None

    def events() -> Iterator[ChainedEvent]:
        nonlocal last
        for last in rows:
            yield _chained(last)

    try:
        if fault := verify_chain(events()):
            return fault
    except ValidationError:
        return ChainFault(chain=chain, sequence=_place(last), reason="its content cannot be read")
    if head is None:
        return ChainFault(
            chain=chain, sequence=_place(last), reason="the record of the chain's end is missing"
        )
    if head["sequence"] > _place(last):
        return ChainFault(
            chain=chain,
            sequence=_place(last) + 1,
            reason=f"the end of the chain is missing, up to event {head['sequence']}",
        )
    if last is None or (head["sequence"], head["hash"]) != (last["sequence"], last["hash"]):
        return ChainFault(chain=chain, sequence=_place(last), reason="it is not the end the chain had")
    return None


def _chained(row: sqlite3.Row) -> ChainedEvent:
    return ChainedEvent(
        chain=row["chain"],
        sequence=row["sequence"],
        previous_hash=row["previous_hash"],
        hash=row["hash"],
        event=AuditEvent.model_validate_json(row["event"]),
    )


def _place(row: sqlite3.Row | None) -> int:
    """The sequence number of a row; 0 if there is none that can be read."""
    sequence = 0 if row is None else row["sequence"]
    return sequence if isinstance(sequence, int) else 0
