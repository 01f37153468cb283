"""The inbox in one SQLite file. Fronts put, the worker leases, people look: each with connections of its own.

Puts are synced to disk before they return (`synchronous=FULL`), many in one commit. The rest is committed without a
sync of its own: a power failure may take the last leases, attempts and acknowledgements, after which an item is
delivered once more, which its idempotent effect allows.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from perfuse.errors import ConfigError
from perfuse.queue.inbox import (
    MOST_ATTEMPTS,
    MOST_BYTES,
    MOST_ITEMS,
    PAUSE_SECONDS,
    WORN_OUT,
    DeadItem,
    InboxUnavailable,
    Lease,
    Put,
    Stats,
    full,
    lost,
    not_dead,
    reused,
)
from perfuse.queue.inbox_group import GroupCommit, Outcome
from perfuse.queue.scrub import scrub

_BUSY_SECONDS = 5.0
_VERSION = 1
_PURGE_ROWS = 1000
_LOG_BYTES = 16 * 1024 * 1024
"""The log grows while puts and leases never pause; this much of it stays afterwards."""
_WRITING = "BEGIN IMMEDIATE"
_READING = "BEGIN"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, item BLOB NOT NULL, size INTEGER NOT NULL,
    born REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, token INTEGER NOT NULL DEFAULT 0,
    until REAL NOT NULL DEFAULT 0, died REAL, reason TEXT
);
CREATE INDEX IF NOT EXISTS alive ON items (place, until) WHERE died IS NULL;
CREATE INDEX IF NOT EXISTS tried ON items (until) WHERE died IS NULL AND attempts > 0;
CREATE INDEX IF NOT EXISTS leased ON items (until) WHERE died IS NULL AND until > 0;
CREATE INDEX IF NOT EXISTS dead ON items (place) WHERE died IS NOT NULL;
CREATE TABLE IF NOT EXISTS keys (
    key TEXT PRIMARY KEY, id TEXT NOT NULL, digest TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_by_expiry ON keys (expires);
CREATE TABLE IF NOT EXISTS totals (items INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM totals);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON items BEGIN
    UPDATE totals SET items = items + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON items BEGIN
    UPDATE totals SET items = items - 1, bytes = bytes - old.size;
END;
"""
_INSERT = "INSERT INTO items (id, item, size, born) VALUES (?, ?, ?, ?)"
_PURGE_KEYS = "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE expires <= ? LIMIT ?)"
_BURY_WORN = """
UPDATE items SET died = :now, reason = :reason
WHERE died IS NULL AND attempts > 0 AND attempts >= :most AND until <= :now
"""
_LEASE = """
UPDATE items SET until = :until, token = token + 1
WHERE place IN (SELECT place FROM items WHERE died IS NULL AND until <= :now ORDER BY place LIMIT :count)
RETURNING id, item, attempts, token, place
"""
_HELD = "place = :place AND token = :token AND until > :now AND died IS NULL"
_BEGIN = f"UPDATE items SET attempts = attempts + 1 WHERE {_HELD} RETURNING attempts"  # noqa: S608 (our own words)
_EXTEND = f"UPDATE items SET until = :until WHERE {_HELD} RETURNING place"  # noqa: S608
_ACK = f"DELETE FROM items WHERE {_HELD} RETURNING place"  # noqa: S608
_BURY = f"UPDATE items SET died = :now, reason = :reason WHERE {_HELD} RETURNING place"  # noqa: S608
_DEAD = "SELECT id, attempts, reason, died, size FROM items WHERE died IS NOT NULL ORDER BY place"
_RETRY = "UPDATE items SET died = NULL, reason = NULL, attempts = 0, until = 0 WHERE id = ? AND died IS NOT NULL"
_DROP = "DELETE FROM items WHERE id = ? AND died IS NOT NULL"
_STATS = """
SELECT (SELECT items FROM totals), (SELECT bytes FROM totals),
       (SELECT count(*) FROM items WHERE died IS NULL AND until > 0 AND until > ?),
       (SELECT count(*) FROM items WHERE died IS NOT NULL),
       (SELECT born FROM items WHERE died IS NULL ORDER BY place LIMIT 1)
"""

AnyT = TypeVar("AnyT")


class SqliteInbox:
    """See `perfuse.queue.inbox.Inbox`.

    Args:
        path: the database file; made if missing.
        key_seconds: how long idempotency keys are remembered.
        most_items: items it holds, dead ones included.
        most_bytes: bytes they have together.
        clock: Unix seconds.
    """

    durability = "synced to disk: survives power loss"

    def __init__(
        self,
        path: Path,
        *,
        key_seconds: float,
        most_items: int = MOST_ITEMS,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._key_seconds = key_seconds
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._clock = clock
        self._puts = GroupCommit(self._write)
        self._putting: _Connection | None = None
        self._working: _Connection | None = None

    async def open(self) -> None:
        """Create the file if needed.

        Raises:
            ConfigError: it cannot be used, or a later version of perfuse wrote it.
        """
        try:
            self._path.touch(mode=0o600)  # SQLite gives its journal and shared memory the mode of the database
            self._putting = _Connection(self._path, "FULL")
            self._working = _Connection(self._path, "NORMAL")
            await self._putting.prepare()
            await self._working.prepare()
        except ConfigError:
            await self.close()
            raise
        except (sqlite3.Error, OSError) as error:
            await self.close()
            raise ConfigError(
                f"the inbox {self._path} cannot be opened: {error}", hint="check --data-dir and its disk"
            ) from None

    async def put(self, put: Put) -> str:
        """Keep an item; synced to disk on return."""
        return await self._puts.put(put)

    async def _write(self, puts: Sequence[Put]) -> Sequence[Outcome]:
        return await self._on(self._putting, lambda connection: self._insert(connection, puts))

    def _insert(self, connection: sqlite3.Connection, puts: Sequence[Put]) -> list[Outcome]:
        now = self._clock()
        connection.execute(_PURGE_KEYS, (now, _PURGE_ROWS))
        items, size = connection.execute("SELECT items, bytes FROM totals").fetchone()
        outcomes: list[Outcome] = []
        for put in puts:
            known = self._known(connection, put, now)
            if known is not None:
                outcomes.append(known)
            elif items >= self._most_items or size + len(put.item) > self._most_bytes:
                outcomes.append(full(self._most_items, self._most_bytes))
            else:
                items, size = items + 1, size + len(put.item)
                connection.execute(_INSERT, (put.id, put.item, len(put.item), now))
                if put.key is not None:
                    row = (put.key, put.id, put.digest, now + self._key_seconds)
                    connection.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", row)
                outcomes.append(put.id)
        return outcomes

    @staticmethod
    def _known(connection: sqlite3.Connection, put: Put, now: float) -> Outcome | None:
        if put.key is None:
            return None
        row = connection.execute("SELECT id, digest FROM keys WHERE key = ? AND expires > ?", (put.key, now)).fetchone()
        if row is None:
            return None
        identity, digest = row
        return str(identity) if digest == put.digest else reused()

    async def lease(self, count: int, seconds: float) -> list[Lease]:
        """Up to `count` items for so many seconds."""
        now = self._clock()

        def take(connection: sqlite3.Connection) -> list[Lease]:
            connection.execute(_BURY_WORN, {"now": now, "most": MOST_ATTEMPTS, "reason": WORN_OUT})
            rows = connection.execute(_LEASE, {"now": now, "until": now + seconds, "count": count}).fetchall()
            rows.sort(key=lambda row: row[4])
            return [
                Lease(identity, item, attempts, token, str(place)) for identity, item, attempts, token, place in rows
            ]

        return await self._on(self._working, take)

    async def begin(self, lease: Lease) -> int:
        """Count an attempt."""
        return await self._held(lease, _BEGIN)

    async def extend(self, lease: Lease, seconds: float) -> None:
        """Hold the item for so many seconds from now."""
        await self._held(lease, _EXTEND, seconds=seconds)

    async def ack(self, lease: Lease) -> None:
        """Forget the item."""
        await self._held(lease, _ACK)

    async def dead(self, lease: Lease, reason: str) -> None:
        """Put the item aside."""
        await self._held(lease, _BURY, reason=reason)

    async def _held(self, lease: Lease, statement: str, *, seconds: float = 0.0, reason: str = "") -> int:
        """Run a statement on an item if the lease still holds; gives the number that the statement returns."""
        now = self._clock()
        values = {"place": int(lease.place), "token": lease.token, "now": now, "until": now + seconds, "reason": reason}

        def change(connection: sqlite3.Connection) -> int | None:
            row = connection.execute(statement, values).fetchone()
            return None if row is None else int(row[0])

        found = await self._on(self._working, change)
        if found is None:
            raise lost(lease)
        return found

    async def dead_items(self) -> list[DeadItem]:
        """What was put aside."""
        rows = await self._on(self._working, lambda connection: connection.execute(_DEAD).fetchall(), begin=_READING)
        return [DeadItem(*row) for row in rows]

    async def retry(self, identity: str) -> None:
        """Let a dead item be leased again."""
        await self._of_dead(_RETRY, identity)

    async def drop(self, identity: str) -> None:
        """Forget a dead item."""
        await self._of_dead(_DROP, identity)

    async def _of_dead(self, statement: str, identity: str) -> None:
        if not await self._on(self._working, lambda connection: connection.execute(statement, (identity,)).rowcount):
            raise not_dead(identity)

    async def stats(self) -> Stats:
        """Counts."""
        now = self._clock()
        items, size, leased, dead, born = await self._on(
            self._working, lambda connection: connection.execute(_STATS, (now,)).fetchone(), begin=_READING
        )
        return Stats(
            waiting=items - leased - dead,
            leased=leased,
            dead=dead,
            bytes=size,
            oldest_seconds=None if born is None else max(0.0, now - born),
        )

    async def scrub(self) -> None:
        """Write the file anew without what was forgotten."""
        await asyncio.to_thread(scrub, self._path)

    async def close(self) -> None:
        """Commit what waits and close the file."""
        await self._puts.finish()
        for connection in (self._putting, self._working):
            if connection is not None:
                await connection.close()
        self._putting = self._working = None

    @staticmethod
    async def _on(
        connection: _Connection | None, work: Callable[[sqlite3.Connection], AnyT], *, begin: str = _WRITING
    ) -> AnyT:
        """Do work in one transaction."""
        if connection is None:
            raise InboxUnavailable("the inbox is closed", retry_after=PAUSE_SECONDS)
        try:
            return await connection.call(lambda opened: _transacted(opened, work, begin))
        except sqlite3.Error as error:
            raise InboxUnavailable(f"the inbox cannot be used: {error}", retry_after=PAUSE_SECONDS) from None


class _Connection:
    """A connection and the one thread that uses it."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"inbox-{synchronous.lower()}")
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
        self._synchronous = synchronous

    async def call(self, work: Callable[[sqlite3.Connection], AnyT]) -> AnyT:
        """Do work in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._connection)

    async def prepare(self) -> None:
        """Make tables and settings what they must be. Raises sqlite3.Error or ConfigError."""
        await self.call(lambda connection: _prepare(connection, self._synchronous))

    async def close(self) -> None:
        """Finish and close."""
        await self.call(sqlite3.Connection.close)
        self._thread.shutdown()


def _prepare(connection: sqlite3.Connection, synchronous: str) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute(f"PRAGMA journal_size_limit={_LOG_BYTES}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise ConfigError(
            f"a later perfuse wrote this inbox: its version is {version}, expected at most {_VERSION}",
            hint="use that release, or another --data-dir",
        )
    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")


def _transacted(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], AnyT], begin: str) -> AnyT:
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
