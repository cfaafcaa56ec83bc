"""SQLite files that several processes of one machine share and that survive a crash at any point."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

from activities.errors import UNAVAILABLE, fail

BUSY_TIMEOUT_SECONDS = 10.0
"""How long a writer waits for another process before it gives up."""


@asynccontextmanager
async def local_database(path: Path, schema: Sequence[str]) -> AsyncIterator[aiosqlite.Connection]:
    """A connection in autocommit mode to a file that is made with this schema if it does not exist.

    A commit has reached the disk when it returns (write-ahead log, ``synchronous = FULL``).

    Raises:
        ApplicationError: Unavailable, if the file cannot be opened or is no database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        connection = await aiosqlite.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    except (sqlite3.Error, OSError) as error:
        fail(UNAVAILABLE, f"database {path}: {error}; name a file that the worker may write")
    try:
        try:
            await _prepare(connection, schema)
        except sqlite3.Error as error:
            fail(UNAVAILABLE, f"database {path}: {error}; name a file that the worker may write")
        yield connection
    finally:
        await connection.close()


async def _prepare(connection: aiosqlite.Connection, schema: Sequence[str]) -> None:
    await _enter_wal_mode(connection)
    await connection.execute("PRAGMA synchronous = FULL")
    await connection.execute("PRAGMA recursive_triggers = ON")  # else INSERT OR REPLACE skips DELETE triggers
    await connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in schema:
            await connection.execute(statement)
        await connection.commit()
    except BaseException:
        await connection.rollback()
        raise


async def _enter_wal_mode(connection: aiosqlite.Connection) -> None:
    """SQLite does not wait for a lock here, so two processes that make the file together have to."""
    for _ in range(50):
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            await asyncio.sleep(0.1)
        else:
            return
    await connection.execute("PRAGMA journal_mode = WAL")
