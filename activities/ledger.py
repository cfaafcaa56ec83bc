"""The effects ledger: what this worker meant to do outside, and what became of it.

An effect is written down before it is tried and again when its outcome is known. After a crash, an intent
without an outcome tells that the effect may or may not have happened, and since when.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import aiosqlite

from activities.errors import UNAVAILABLE, fail
from activities.local_database import local_database
from domain.model import Model

_SCHEMA = """
CREATE TABLE IF NOT EXISTS effects (
    key TEXT NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('intended', 'done')),
    intended_at TEXT NOT NULL,
    outcome TEXT CHECK ((outcome IS NULL) = (state = 'intended')),
    PRIMARY KEY (key, channel)
) WITHOUT ROWID
"""


class Effect(Model):
    """An effect as it was written down.

    Attributes:
        key: names the effect; the same key is the same effect.
        channel: where it was to happen.
        intended_at: when it was first meant to happen (UTC).
        outcome: what became of it, in the words of who did it; none while that is not known.
    """

    key: str
    channel: str
    intended_at: datetime
    outcome: str | None = None


class EffectsLedger:
    """Effects by key and channel, in an SQLite file that several processes of one machine may share."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Self]:
        """The ledger in this file, which is made if it does not exist.

        Raises:
            ApplicationError: Unavailable, if the file cannot be opened.
        """
        async with local_database(path, [_SCHEMA]) as connection:
            yield cls(connection, path)

    async def intend(self, key: str, channel: str) -> Effect | None:
        """Write down that an effect is about to be tried; the earlier entry, if there is one."""
        new = await self._write(
            "INSERT INTO effects VALUES (?, ?, 'intended', ?, NULL) ON CONFLICT DO NOTHING",
            (key, channel, datetime.now(UTC).isoformat()),
        )
        return None if new else await self.find(key, channel)

    async def find(self, key: str, channel: str) -> Effect | None:
        """What is known of an effect."""
        try:
            cursor = await self._connection.execute(
                "SELECT key, channel, intended_at, outcome FROM effects WHERE key = ? AND channel = ?",
                (key, channel),
            )
            row = await cursor.fetchone()
        except sqlite3.Error as error:
            fail(UNAVAILABLE, f"effects ledger {self._path}: {error}")
        if row is None:
            return None
        return Effect(key=row[0], channel=row[1], intended_at=row[2], outcome=row[3])

    async def complete(self, key: str, channel: str, outcome: str) -> None:
        """Write down that an effect happened; the first outcome stays."""
        await self._write(
            "UPDATE effects SET state = 'done', outcome = ?"
            " WHERE key = ? AND channel = ? AND state = 'intended'",
            (outcome, key, channel),
        )

    async def revise(self, key: str, channel: str, outcome: str) -> None:
        """Write down how an effect that changes stands now; the latest outcome stays."""
        await self._write(
            "INSERT INTO effects VALUES (?, ?, 'done', ?, ?)"
            " ON CONFLICT DO UPDATE SET state = 'done', outcome = excluded.outcome",
            (key, channel, datetime.now(UTC).isoformat(), outcome),
        )

    async def withdraw(self, key: str, channel: str) -> None:
        """Strike out an intent that certainly had no effect."""
        await self._write(
            "DELETE FROM effects WHERE key = ? AND channel = ? AND state = 'intended'", (key, channel)
        )

    async def _write(self, statement: str, parameters: tuple[str, ...]) -> bool:
        try:
            cursor = await self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            fail(UNAVAILABLE, f"effects ledger {self._path}: {error}")
        return cursor.rowcount == 1
