"""What was taken back leaves no byte in ledger and inbox, while a server has both open."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest

from perfuse.errors import Unavailable
from perfuse.evaluation.revocation import files_with
from perfuse.queue import inbox, ledger, scrub
from perfuse.queue.forgetting import forget
from perfuse.queue.inbox import Put
from perfuse.queue.ledger import Generation

BACKENDS = ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]
MARKER = "only the revoked source said this"


@pytest.fixture(params=BACKENDS)
def address(request, tmp_path: Path) -> str:
    return "sqlite" if request.param == "sqlite" else request.getfixturevalue("start_redis")()


def generation(identity: str, text: str, *adaptations: str) -> Generation:
    return Generation(
        id=identity, tenant="t", created=time.time(), kind="diffuse", model="m@1", seed=7, snapshot=3,
        request=msgspec.Raw(b"{}"), result=msgspec.Raw(msgspec.json.encode(text)), adaptations=adaptations,
    )  # fmt: skip


async def emptied(folder: Path) -> dict[str, int]:
    """Files that hold the marker; Redis writes its log anew in its own time."""
    for _ in range(100):
        if not (found := files_with(folder, MARKER)):
            break
        await asyncio.sleep(0.05)
    return found


async def test_answers_of_an_adaptation_and_feedback_that_was_taken_in_leave_no_byte(
    address: str, tmp_path: Path
) -> None:
    kept = ledger.connect(address, tmp_path, 60.0)
    waiting = inbox.connect(address, tmp_path)
    await kept.open()
    await waiting.open()
    for index in range(30):
        await kept.record(generation(f"theirs{index}", MARKER * 100, "a1"))
        await kept.record(generation(f"other{index}", "other", "a2"))
        await waiting.put(Put(MARKER.encode() * 100))
    for lease in await waiting.lease(30, 60.0):
        await waiting.ack(lease)
    stays = await waiting.put(Put(b"stays"))
    assert files_with(tmp_path, MARKER) != {}

    assert await forget(address, tmp_path, ["a1"]) == 30
    assert await emptied(tmp_path) == {}
    assert await kept.find("theirs3", "t") is None
    assert await kept.find("other3", "t") is not None
    await kept.record(generation("later", "x"))
    assert [lease.id for lease in await waiting.lease(9, 60.0)] == [stays]
    assert await forget(address, tmp_path, []) == 0
    await kept.close()
    await waiting.close()


async def test_files_that_are_not_there_are_not_made(tmp_path: Path) -> None:
    assert await forget("sqlite", tmp_path, ["a1"]) == 0
    assert list(tmp_path.iterdir()) == []


async def test_a_log_that_somebody_reads_is_not_said_to_be_empty(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(scrub, "_BUSY_SECONDS", 0.05)
    file = tmp_path / "x.sqlite"
    with sqlite3.connect(file) as connection:
        connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    connection.execute("BEGIN")
    connection.execute("SELECT x FROM t").fetchall()
    with sqlite3.connect(file) as other:
        other.execute("INSERT INTO t VALUES (2)")
    other.close()
    with pytest.raises(Unavailable) as read:
        scrub.scrub(file)
    assert read.value.detail == "the log of x.sqlite could not be emptied: it is being read"
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as written:
        scrub.scrub(file)
    assert written.value.detail == "x.sqlite cannot be written anew: database is locked"
    connection.execute("ROLLBACK")
    connection.close()
    scrub.scrub(file)
    assert not file.with_name("x.sqlite-wal").exists()
