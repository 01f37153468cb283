"""The ledger in one SQLite file: write-ahead log, one writer thread that commits in groups.

A committed record survives any death of a process. It is not synced to disk before the answer (`synchronous=NORMAL`): a
sync costs 0.1 to 20 ms by disk, and what a power failure takes is the note of an answer given just before it, on which
feedback is then refused. What must survive power failures, feedback itself, has its own queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from perfuse.errors import ConfigError
from perfuse.queue.ledger import MAX_WAITING, Generation, LedgerUnavailable, decode, encode
from perfuse.queue.scrub import scrub

PURGE_SECONDS = 60.0
_PURGE_ROWS = 1000
_GROUP = 512
_SCHEMA = """
CREATE TABLE IF NOT EXISTS generations (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, expires REAL NOT NULL, record BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS generations_by_expiry ON generations (expires);
"""
_INSERT = "INSERT OR REPLACE INTO generations VALUES (?, ?, ?, ?)"
_FIND = "SELECT record FROM generations WHERE id = ? AND tenant = ? AND expires > ?"
_EVERY = "SELECT id, record FROM generations"
_FORGET = "DELETE FROM generations WHERE id = ?"
_PURGE = "DELETE FROM generations WHERE id IN (SELECT id FROM generations WHERE expires <= ? LIMIT ?)"

_Row = tuple[str, str, float, bytes]


@dataclass(slots=True, eq=False)
class _Waiting:
    row: _Row
    done: asyncio.Future[None]


class SqliteLedger:
    """See `perfuse.queue.ledger.Ledger`.

    Args:
        path: the database file; made if missing.
        ttl_seconds: how long records are kept.
        purge_seconds: how often expired records are deleted.
        clock: Unix seconds.
    """

    durability = "survives a killed process; a power failure may take the last records"

    def __init__(
        self,
        path: Path,
        *,
        ttl_seconds: float,
        purge_seconds: float = PURGE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._ttl = ttl_seconds
        self._purge_seconds = purge_seconds
        self._clock = clock
        self._fresh: list[_Waiting] = []
        self._waiting = 0
        self._inbox: SimpleQueue[list[_Waiting] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="ledger-read")

    async def open(self) -> None:
        """Create the file if needed and start the writer."""
        self._loop = asyncio.get_running_loop()
        try:
            self._path.touch(mode=0o600)  # SQLite gives its journal and shared memory the mode of the database
            writer = self._connect()
            self._reader = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"the ledger {self._path} cannot be opened: {error}", hint="check --data-dir and its disk"
            ) from None
        self._thread = threading.Thread(target=self._write, args=(writer,), name="ledger-write", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
        connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
        return connection

    async def record(self, generation: Generation) -> None:
        """Keep it; committed on return."""
        if self._thread is None or self._waiting >= MAX_WAITING:
            raise LedgerUnavailable("the ledger is closed or has too many records waiting", retry_after=1.0)
        expires = generation.created + self._ttl
        done: asyncio.Future[None] = self._loop.create_future()
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(_Waiting((generation.id, generation.tenant, expires, encode(generation)), done))
        self._waiting += 1
        await done

    def _hand_over(self) -> None:
        """Give the writer what came in this turn of the loop: it is woken once for all of it."""
        if self._fresh:
            self._inbox.put(self._fresh)
            self._fresh = []

    async def find(self, identity: str, tenant: str) -> Generation | None:
        """The record if it is `tenant`'s and still kept."""
        if self._thread is None:
            raise LedgerUnavailable("the ledger is closed")
        return await self._loop.run_in_executor(self._reading, self._find, identity, tenant)

    def _find(self, identity: str, tenant: str) -> Generation | None:
        assert self._reader is not None
        try:
            row = self._reader.execute(_FIND, (identity, tenant, self._clock())).fetchone()
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error}", retry_after=1.0) from None
        return None if row is None else decode(row[0])

    async def forget(self, adaptations: Collection[str]) -> int:
        """Remove the records of what these adaptations answered; the file is written anew without them."""
        if self._thread is None:
            raise LedgerUnavailable("the ledger is closed")
        return await asyncio.to_thread(self._forget, frozenset(adaptations))

    def _forget(self, adaptations: frozenset[str]) -> int:
        try:
            with contextlib.closing(self._connect()) as connection:
                every = connection.execute(_EVERY)
                theirs = [(key,) for key, record in every if not adaptations.isdisjoint(decode(record).adaptations)]
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_FORGET, theirs)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot forget: {error}", retry_after=1.0) from None
        if theirs:
            scrub(self._path)
        return len(theirs)

    async def close(self) -> None:
        """Commit what waits and close the file."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._hand_over()
            self._inbox.put(None)
            await asyncio.to_thread(thread.join)
        self._reading.shutdown()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # the writer thread -----------------------------------------------------------------------------------------

    def _write(self, connection: sqlite3.Connection) -> None:
        open_ = True
        purge_at = time.monotonic() + self._purge_seconds
        while open_:
            group, open_ = self._next_group(max(0.0, purge_at - time.monotonic()))
            if group:
                self._settle(group, _commit(connection, [waiting.row for waiting in group]))
            if time.monotonic() >= purge_at:
                purge_at = time.monotonic() + self._purge_seconds
                self._purge(connection)
        connection.close()

    def _next_group(self, patience: float) -> tuple[list[_Waiting], bool]:
        """Everything that waits now (after waiting for the first), and whether the ledger stays open."""
        group: list[_Waiting] = []
        try:
            item = self._inbox.get(timeout=patience)
            while item is not None:
                group += item
                if len(group) >= _GROUP:
                    return group, True
                item = self._inbox.get_nowait()
        except Empty:
            return group, True
        return group, False

    def _settle(self, group: Sequence[_Waiting], error: sqlite3.Error | None) -> None:
        self._loop.call_soon_threadsafe(self._resolve, group, None if error is None else str(error))

    def _resolve(self, group: Sequence[_Waiting], reason: str | None) -> None:
        self._waiting -= len(group)
        error = None if reason is None else f"the ledger cannot be written: {reason}"
        for waiting in group:
            if waiting.done.done():  # the request was cancelled meanwhile
                continue
            if error is None:
                waiting.done.set_result(None)
            else:
                waiting.done.set_exception(LedgerUnavailable(error, retry_after=1.0))

    def _purge(self, connection: sqlite3.Connection) -> None:
        try:
            while connection.execute(_PURGE, (self._clock(), _PURGE_ROWS)).rowcount == _PURGE_ROWS:
                continue
        except sqlite3.Error:  # busy or full: tried again after `purge_seconds`
            return


def _commit(connection: sqlite3.Connection, rows: Sequence[_Row]) -> sqlite3.Error | None:
    """Write the rows in one transaction; the error if that failed."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, rows)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return error
    return None
