"""What ledger and inbox still hold of answers and feedback that were taken back."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from perfuse.queue import inbox as inboxes
from perfuse.queue import ledger as ledgers


async def forget(queue: str, data_dir: Path, adaptations: Collection[str]) -> int:
    """Remove the records of what these adaptations answered, and the bytes of feedback that was taken in or dropped.

    Args:
        queue: "sqlite" or a redis:// address.
        data_dir: where SQLite keeps its files; those that are not there are not made.
        adaptations: ids.

    Returns:
        How many records were removed.

    Raises:
        Unavailable: a queue cannot be reached or is in use for too long.
        ConfigError: a file is damaged.
    """
    records = 0
    if adaptations and _there(queue, data_dir / ledgers.SQLITE_FILE):
        ledger = ledgers.connect(queue, data_dir, ttl_seconds=1.0)
        try:
            await ledger.open()
            records = await ledger.forget(adaptations)
        finally:
            await ledger.close()
    if _there(queue, data_dir / inboxes.SQLITE_FILE):
        inbox = inboxes.connect(queue, data_dir)
        try:
            await inbox.open()
            await inbox.scrub()
        finally:
            await inbox.close()
    return records


def _there(queue: str, file: Path) -> bool:
    return queue != "sqlite" or file.is_file()
