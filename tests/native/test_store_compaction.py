"""Compaction seen from Python: files as documented, readers in other processes, kills, and bytes that are gone."""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from perfuse import ArrowStorage
from perfuse.errors import InvalidRequest
from perfuse.store import Compacted, Delete, Put, Store, StoreReader, TableSpec

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False)])
NOTES = TableSpec("notes", SCHEMA, "id")

# Commit `n` puts row `n` and replaces row "last", so a snapshot says which commits it holds.
OWNER = """
import sys, pyarrow as pa
from perfuse import ArrowStorage
store = ArrowStorage.open(sys.argv[1])
schema = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False)])
store.create_table("notes", schema, "id")
print("ready", store.lsn, flush=True)
for lsn in range(store.lsn + 1, int(sys.argv[2])):
    assert store.put("notes", pa.table({"id": [f"row {lsn}", "last"], "n": [lsn, lsn]}, schema=schema)) == lsn
    print(lsn, flush=True)
    if lsn % 5 == 0:
        store.compact()
"""


def owner(path: Path, last: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OWNER, str(path), str(last)], stdout=subprocess.PIPE, text=True)


def rows(*ids: str) -> pa.Table:
    return pa.table({"id": list(ids), "n": list(range(len(ids)))}, schema=SCHEMA)


def check_prefix(reader: ArrowStorage) -> int:
    """What is there is what commits 2 to the snapshot's put, each once; returns the snapshot's sequence number."""
    snapshot = reader.snapshot()
    found = pa.table(snapshot.scan("notes")).to_pylist()
    expected = [{"id": f"row {lsn}", "n": lsn} for lsn in range(2, snapshot.lsn + 1)]
    if snapshot.lsn > 1:
        expected.append({"id": "last", "n": snapshot.lsn})
        assert snapshot.generation("notes", "last") == snapshot.lsn
        assert snapshot.generation("notes", "row 2") == 2
    assert found == expected
    return snapshot.lsn


def test_a_reader_in_another_process_follows_across_compactions(tmp_path: Path) -> None:
    with owner(tmp_path, 400) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready 1\n"
        with ArrowStorage.open(tmp_path, "reader") as reader:
            first, seen, manifests = reader.snapshot(), [check_prefix(reader)], set()
            while child.poll() is None:
                assert reader.refresh() >= seen[-1]
                seen.append(check_prefix(reader))
                manifests.add(reader.stats()["manifest"])
                with ArrowStorage.open(tmp_path, "reader") as late:
                    assert check_prefix(late) >= seen[-1]
            reader.refresh()
            assert check_prefix(reader) == 399
            assert (reader.verify()["lsn"], reader.stats()["manifest"]) == (399, 79)
            assert pa.table(first.scan("notes")).num_rows == max(0, first.lsn - 1) + (first.lsn > 1)
        assert child.wait() == 0
    assert len(manifests) > 2


def test_owners_killed_between_and_during_compactions_lose_nothing(tmp_path: Path) -> None:
    delays = random.Random(11)
    lsn = 1
    with_reader = None
    for _ in range(8):
        with owner(tmp_path, 100_000) as child:
            assert child.stdout is not None
            assert child.stdout.readline() in (f"ready {lsn}\n", f"ready {lsn + 1}\n")
            with_reader = with_reader or ArrowStorage.open(tmp_path, "reader")
            time.sleep(delays.uniform(0.02, 0.15))
            child.kill()
            lines = [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
            assert child.wait() == -signal.SIGKILL
        with_reader.refresh()
        assert check_prefix(with_reader) >= (int(lines[-1]) if lines else lsn)
        with ArrowStorage.open(tmp_path) as again:
            lsn = check_prefix(again)
            again.compact()
            assert again.verify()["lsn"] == lsn
        with_reader.refresh()
        assert check_prefix(with_reader) == lsn


def crc32c(*parts: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in b"".join(parts):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_files_are_as_documented_and_any_arrow_reader_maps_the_segments(tmp_path: Path) -> None:
    with Store(tmp_path, [NOTES]) as store:
        store.put(NOTES, rows("a", "b"))
        store.put(NOTES, rows("a"))
        store.compact()
        lsn = store.put(NOTES, rows("c"))
        page = (tmp_path / "commit").read_bytes()
    manifest = (tmp_path / "manifest" / f"{1:020}.manifest").read_bytes()
    assert struct.unpack_from("<8sII", manifest) == (b"PFSMANIF", 1, 1)
    assert struct.unpack_from("<QQ", manifest, 32) == (1, 3)
    assert struct.unpack("<II", manifest[-8:]) == (crc32c(manifest[:-8]), 0)
    born, count, length, name_length, zero = struct.unpack_from("<QQQII", manifest, 48)
    assert (born, count, manifest[80 : 80 + name_length], zero) == (1, 2, b"notes", 0)
    path = tmp_path / "seg" / f"{1:020}-0000.arrow"
    assert path.stat().st_size == length
    assert struct.unpack_from("<I", manifest, 88) == (crc32c(path.read_bytes()),)
    with pa.memory_map(str(path)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
        assert table.to_pydict() == {"id": ["b", "a"], "n": [1, 0], "_generation": [2, 3]}
        assert table.schema.metadata == {b"perfuse.key": b"id"}
        buffers = [buffer for column in table.columns for buffer in column.chunk(0).buffers() if buffer is not None]
        assert {buffer.address % 64 for buffer in buffers} == {0}
    log = (tmp_path / "wal" / f"{2:020}.wal").read_bytes()
    assert struct.unpack_from("<8sIIxxxxxxxxxxxxxxxxQQ", log) == (b"PFUSEWAL", 1, 0, 2, 4)
    size, kind, record_lsn, durable, crc, zero = struct.unpack_from("<IIQQII", log, 64)
    assert (kind, record_lsn, durable, zero, 96 + -(-size // 8) * 8) == (1, lsn, 3, 0, len(log))
    assert crc == crc32c(log[16:40], log[64:88], log[96:])
    assert manifest[16:32] == page[16:32] == log[16:32]
    assert struct.unpack_from("<QQQ", page, 32) == (1, lsn, 1)


def test_what_was_deleted_or_replaced_is_in_no_file_after_forgetting(tmp_path: Path) -> None:
    with Store(tmp_path, [NOTES]) as store, StoreReader(tmp_path) as reader:
        store.put(NOTES, rows(*(f"secret {n}" for n in range(50)), "kept"))
        held = reader.snapshot()
        store.commit([Delete(NOTES, [f"secret {n}" for n in range(50)]), Put(NOTES, rows("more"))])
        before = store._native.stats()["log_bytes"]
        done = store.compact(forget=True)
        assert done == Compacted(lsn=3, rows=2, bytes_before=before, bytes_after=done.bytes_after)
        assert done.bytes_after < before
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) == 8
        assert [path for path in files if b"secret" in path.read_bytes()] == []
        assert held.count(NOTES) == 51
        assert [row["id"] for row in reader.snapshot().scan(NOTES).to_pylist()] == ["kept", "more"]
        assert reader.snapshot().generation(NOTES, "kept") == 2


def test_a_store_of_dead_rows_is_due(tmp_path: Path) -> None:
    with Store(tmp_path, [NOTES]) as store:
        assert not store.compaction_due()
        long = rows("x" * 12_000_000)
        for _ in range(3):
            store.put(NOTES, long)
        assert store.compaction_due()
        store.compact()
        assert not store.compaction_due()


def test_readers_and_closed_stores_do_not_compact(tmp_path: Path) -> None:
    with ArrowStorage.open(tmp_path) as store, ArrowStorage.open(tmp_path, "reader") as reader:
        store.create_table("notes", SCHEMA, "id")
        with pytest.raises(InvalidRequest) as refused:
            reader.compact()
        assert refused.value.detail == f"{tmp_path} was opened to read; only its owner compacts"
