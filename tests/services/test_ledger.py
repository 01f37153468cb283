"""Both ledgers keep the same promises; the Redis one against a real server."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from perfuse.errors import ConfigError
from perfuse.queue import redis as redis_module
from perfuse.queue import sqlite as sqlite_module
from perfuse.queue.ledger import Generation, Ledger, LedgerUnavailable, connect
from perfuse.queue.redis import RedisLedger
from perfuse.queue.sqlite import SqliteLedger

BACKENDS = ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]


def generation(identity: str = "i1", tenant: str = "a", **fields: object) -> Generation:
    given = {
        "created": time.time(),
        "kind": "diffuse",
        "model": "m@1",
        "seed": 7,
        "snapshot": 3,
        "request": msgspec.Raw(b'{"prompt":"\xc3\xa4"}'),
        "result": msgspec.Raw(b'{"outputs":[]}'),
        **fields,
    }
    return Generation(id=identity, tenant=tenant, **given)


@asynccontextmanager
async def opened(ledger: Ledger) -> AsyncIterator[Ledger]:
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture(params=BACKENDS)
def address(request, tmp_path: Path) -> str:
    return "sqlite" if request.param == "sqlite" else request.getfixturevalue("start_redis")()


async def test_what_was_recorded_is_read_back(address: str, tmp_path: Path) -> None:
    async with opened(connect(address, tmp_path, 60)) as ledger:
        given = generation()
        await ledger.record(given)
        assert await ledger.find("i1", "a") == given
        assert await ledger.find("i2", "a") is None


async def test_records_survive_reopening(address: str, tmp_path: Path) -> None:
    async with opened(connect(address, tmp_path, 60)) as ledger:
        await ledger.record(generation())
    async with opened(connect(address, tmp_path, 60)) as ledger:
        assert await ledger.find("i1", "a") is not None


async def test_a_record_is_its_tenants_only(address: str, tmp_path: Path) -> None:
    async with opened(connect(address, tmp_path, 60)) as ledger:
        await ledger.record(generation())
        assert await ledger.find("i1", "b") is None


async def test_records_expire(address: str, tmp_path: Path) -> None:
    async with opened(connect(address, tmp_path, 1)) as ledger:
        await ledger.record(generation())
        assert await ledger.find("i1", "a") is not None
        await asyncio.sleep(1.1)
        assert await ledger.find("i1", "a") is None


async def test_what_adaptations_answered_is_forgotten_for_every_tenant(address: str, tmp_path: Path) -> None:
    async with opened(connect(address, tmp_path, 60)) as ledger:
        for index, adaptations in enumerate([(), ("x",), ("y", "x"), ("y",)]):
            await ledger.record(generation(f"i{index}", tenant="ab"[index % 2], adaptations=adaptations))
        assert await ledger.forget(["z"]) == 0
        assert await ledger.forget(["x"]) == 2
        left = [await ledger.find(f"i{index}", "ab"[index % 2]) for index in range(4)]
        assert [found is not None for found in left] == [True, False, False, True]
    with pytest.raises(LedgerUnavailable):
        await ledger.forget(["y"])


async def test_many_at_once_are_all_kept(address: str, tmp_path: Path) -> None:
    async with opened(connect(address, tmp_path, 60)) as ledger:
        await asyncio.gather(*(ledger.record(generation(f"i{i}")) for i in range(1500)))
        found = await asyncio.gather(*(ledger.find(f"i{i}", "a") for i in range(0, 1500, 100)))
        assert [each.id for each in found if each] == [f"i{i}" for i in range(0, 1500, 100)]


async def test_a_cancelled_record_harms_no_other(address: str, tmp_path: Path) -> None:
    async with opened(connect(address, tmp_path, 60)) as ledger:
        tasks = [asyncio.create_task(ledger.record(generation(f"i{i}"))) for i in range(8)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in done].count(asyncio.CancelledError) == 1
        assert await ledger.find("i7", "a") is not None


async def test_a_closed_ledger_takes_nothing(address: str, tmp_path: Path) -> None:
    ledger = connect(address, tmp_path, 60)
    async with opened(ledger):
        pass
    await ledger.close()
    if address == "sqlite":
        with pytest.raises(LedgerUnavailable, match="the ledger is closed"):
            await ledger.record(generation())
        with pytest.raises(LedgerUnavailable, match="the ledger is closed"):
            await ledger.find("i1", "a")


async def test_too_many_waiting_records_are_refused(address: str, tmp_path: Path, monkeypatch) -> None:
    for module in (redis_module, sqlite_module):
        monkeypatch.setattr(module, "MAX_WAITING", 0)
    async with opened(connect(address, tmp_path, 60)) as ledger:
        with pytest.raises(LedgerUnavailable, match="too many records waiting"):
            await ledger.record(generation())


# SQLite -----------------------------------------------------------------------------------------------------------


async def test_expired_rows_are_deleted(tmp_path: Path) -> None:
    now = time.time()
    ledger = SqliteLedger(tmp_path / "l.sqlite", ttl_seconds=10, purge_seconds=0.05, clock=lambda: now)
    async with opened(ledger):
        await asyncio.gather(*(ledger.record(generation(f"i{i}", created=now - 20)) for i in range(1200)))
        await ledger.record(generation("young", created=now))
        rows = [("many",)]
        for _ in range(100):
            await asyncio.sleep(0.05)
            with sqlite3.connect(tmp_path / "l.sqlite") as other:
                rows = other.execute("SELECT id FROM generations").fetchall()
            other.close()
            if len(rows) == 1:
                break
        assert rows == [("young",)]


async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    async with opened(SqliteLedger(tmp_path / "l.sqlite", ttl_seconds=10)) as ledger:
        await ledger.record(generation())
        limited = sqlite3.connect(tmp_path / "l.sqlite")
        limited.execute(
            "CREATE TRIGGER full BEFORE INSERT ON generations BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
        limited.commit()
        with pytest.raises(LedgerUnavailable, match=r"^the ledger cannot be written: disk is full$"):
            await ledger.record(generation("i2"))
        limited.execute("DROP TRIGGER full")
        limited.commit()
        limited.close()
        await ledger.record(generation("i3"))
        assert await ledger.find("i3", "a") is not None


async def test_a_damaged_file_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match=r"ledger\.sqlite cannot be opened: file is not a database"):
        await connect("sqlite", tmp_path, 60).open()


async def test_a_damaged_file_is_said_when_read(tmp_path: Path) -> None:
    async with opened(SqliteLedger(tmp_path / "l.sqlite", ttl_seconds=10)) as ledger:
        other = sqlite3.connect(tmp_path / "l.sqlite")
        other.execute("DROP TABLE generations")
        other.commit()
        other.close()
        with pytest.raises(LedgerUnavailable, match=r"^the ledger cannot be read: no such table: generations$"):
            await ledger.find("i1", "a")


# Redis ------------------------------------------------------------------------------------------------------------


@pytest.mark.redis
async def test_redis_without_an_append_only_file_is_refused(start_redis) -> None:
    ledger = RedisLedger(start_redis(aof=False), ttl_seconds=60)
    with pytest.raises(ConfigError, match=r"^this Redis keeps no append-only file and would lose acknowledged records"):
        await ledger.open()
    with pytest.raises(LedgerUnavailable, match="keeps no append-only file"):
        await ledger.record(generation())
    await ledger.close()


@pytest.mark.redis
async def test_keys_share_a_hash_tag_and_carry_an_expiry(start_redis) -> None:
    async with opened(RedisLedger(start_redis(), ttl_seconds=60)) as ledger:
        await ledger.record(generation())
        assert await ledger._client.keys("*") == [b"{perfuse}:generation:a:i1"]
        assert 0 < await ledger._client.ttl("{perfuse}:generation:a:i1") <= 60
        assert ledger.durability.startswith("Redis ")


@pytest.mark.redis
async def test_acknowledged_records_survive_a_killed_redis(start_redis) -> None:
    address = start_redis()
    async with opened(RedisLedger(address, ttl_seconds=60)) as ledger:
        await asyncio.gather(*(ledger.record(generation(f"i{i}")) for i in range(50)))
    process = start_redis.processes["redis"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    Path(address.removeprefix("unix://")).unlink()
    async with opened(RedisLedger(start_redis(), ttl_seconds=60)) as ledger:
        found = await asyncio.gather(*(ledger.find(f"i{i}", "a") for i in range(50)))
        assert None not in found


@pytest.mark.redis
async def test_a_lost_redis_is_said_at_once_and_found_again(start_redis, monkeypatch) -> None:
    monkeypatch.setattr(redis_module, "_PAUSE_SECONDS", 0.2)
    address = start_redis()
    async with opened(RedisLedger(address, ttl_seconds=60)) as ledger:
        await ledger.record(generation())
        process = start_redis.processes["redis"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        Path(address.removeprefix("unix://")).unlink()
        with pytest.raises(LedgerUnavailable, match=r"^Redis did not take the record: "):
            await ledger.record(generation("i2"))
        with pytest.raises(LedgerUnavailable, match=r"^Redis does not answer"):
            await ledger.record(generation("i2"))
        with pytest.raises(LedgerUnavailable, match=r"^Redis cannot be read: "):
            await ledger.find("i1", "a")
        start_redis()
        await asyncio.sleep(0.25)
        await ledger.record(generation("i3"))
        assert await ledger.find("i3", "a") is not None


async def test_a_redis_that_is_not_there_is_tried_again_later(tmp_path: Path) -> None:
    ledger = connect(f"unix://{tmp_path}/nobody", tmp_path, 60)
    with pytest.raises(LedgerUnavailable, match=r"^Redis cannot be reached: "):
        await ledger.open()
    with pytest.raises(LedgerUnavailable, match=r"^Redis cannot be reached: "):
        await ledger.record(generation())
    with pytest.raises(LedgerUnavailable, match=r"^Redis does not answer"):
        await ledger.record(generation())
    await ledger.close()


async def test_only_its_owner_reads_the_sqlite_files(tmp_path: Path) -> None:
    async with opened(connect("sqlite", tmp_path, 60)) as ledger:
        await ledger.record(generation())
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("ledger.sqlite*")}
    assert modes == {"ledger.sqlite": 0o600, "ledger.sqlite-shm": 0o600, "ledger.sqlite-wal": 0o600}
