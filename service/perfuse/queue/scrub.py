"""Deleted rows of SQLite stay in free pages and in the log until they are overwritten; this leaves no byte of them."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from perfuse.errors import Unavailable

_BUSY_SECONDS = 30.0
"""Others may be writing; they wait as well while the file is copied."""


def scrub(path: Path) -> None:
    """Write the database anew and empty its write-ahead log, beside processes that use it.

    Raises:
        Unavailable: others held it for too long, or there is no room for the copy.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("VACUUM")
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise Unavailable(f"{path.name} cannot be written anew: {error}", retry_after=1.0) from None
    if busy:
        raise Unavailable(f"the log of {path.name} could not be emptied: it is being read", retry_after=1.0)
