"""ArrowStorage through its Python face: what each call does, and what it says when it refuses."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from perfuse import ArrowStorage
from perfuse.errors import InvalidRequest, NotFound, StoreCorrupt, StoreError, StoreLocked

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("n", pa.int64()),
        pa.field("v", pa.list_(pa.float32(), 2), nullable=False),
    ]
)


def rows(*items: tuple[str, int | None, list[float]]) -> pa.RecordBatch:
    ids, numbers, vectors = zip(*items, strict=True)
    return pa.record_batch(
        [pa.array(ids), pa.array(numbers, pa.int64()), pa.array(vectors, SCHEMA.field("v").type)], schema=SCHEMA
    )


A, B = ("a", 1, [1.0, 0.0]), ("b", None, [0.0, 1.0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> Iterator[ArrowStorage]:
    with ArrowStorage.open(path) as store:
        assert store.create_table("t", SCHEMA, "id", "v") == 1
        yield store


def listed(result: object) -> list[dict[str, object]]:
    return pa.table(result).to_pylist()


def test_rows_put_are_got_scanned_and_found_again_after_reopening(store: ArrowStorage, path: Path) -> None:
    assert store.put("t", rows(A, B)) == 2
    store.close()
    with ArrowStorage.open(path) as again:
        assert again.lsn == 2
        assert listed(again.get("t", "a")) == [{"id": "a", "n": 1, "v": [1.0, 0.0]}]
        assert again.get("t", "c") is None
        assert [row["id"] for row in listed(again.scan("t"))] == ["a", "b"]
        assert pa.table(again.scan("t")).schema.equals(SCHEMA)


def test_putting_a_key_again_replaces_its_row(store: ArrowStorage) -> None:
    store.put("t", rows(A, B))
    store.put("t", rows(("a", 7, [0.5, 0.5])))
    assert [(row["id"], row["n"]) for row in listed(store.scan("t"))] == [("b", None), ("a", 7)]


def test_any_arrow_producer_may_put_with_columns_in_any_order(store: ArrowStorage) -> None:
    class Producer:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return pa.table(rows(A)).select(["v", "n", "id"]).__arrow_c_stream__()

    store.put("t", Producer())
    store.put(
        "t", pa.concat_tables([pa.Table.from_batches([rows(B)]), pa.Table.from_batches([rows(("c", 3, [1, 1]))])])
    )
    assert [row["id"] for row in listed(store.scan("t"))] == ["a", "b", "c"]


def test_rows_kept_do_not_change_with_the_buffers_they_came_from(store: ArrowStorage) -> None:
    numbers = np.array([5], dtype=np.int64)
    batch = pa.record_batch(
        [pa.array(["a"]), pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(numbers)]), rows(A)["v"]],
        schema=SCHEMA,
    )
    store.put("t", batch)
    numbers[0] = 6
    assert listed(store.get("t", "a"))[0]["n"] == 5


def test_filters_compare_columns_of_every_type(path: Path) -> None:
    columns = {
        "id": pa.array([1, 2], pa.int64()),
        "flag": pa.array([True, False]),
        "small": pa.array([3, 250], pa.uint8()),
        "real": pa.array([0.5, 2.0], pa.float32()),
        "wide": pa.array([0.1, 2.0], pa.float64()),
        "text": pa.array(["x", None]),
        "raw": pa.array([b"\x00", b"y"]),
        "hash": pa.array([b"1234", b"5678"], pa.binary(4)),
        "at": pa.array([0, 1], pa.timestamp("us", "UTC")),
        "tags": pa.array([["p"], []], pa.list_(pa.string())),
    }
    table = pa.table(columns)
    with ArrowStorage.open(path) as store:
        store.create_table("all", table.schema, "id")
        store.put("all", table)
        assert pa.table(store.scan("all")).equals(table)
        for where, ids in [
            ({"flag": True}, [1]),
            ({"small": 250}, [2]),
            ({"small": -6}, []),
            ({"real": 0.5}, [1]),
            ({"real": 2}, [2]),
            ({"wide": 0.1}, [1]),
            ({"text": "x"}, [1]),
            ({"text": None}, [2]),
            ({"raw": b"\x00"}, [1]),
            ({"hash": b"5678"}, [2]),
            ({"id": 2}, [2]),
            ({"id": 2, "flag": True}, []),
            ({}, [1, 2]),
        ]:
            assert pa.table(store.scan("all", where, ["id"])).to_pydict() == {"id": ids}, where
        for where, message in [
            ({"flag": "x"}, 'column "flag" of type Boolean cannot be compared with a string'),
            ({"nope": 1}, 'the table has no column "nope"'),
            ({"id": [1]}, "expected a filter value of None, bool, int, float, str or bytes, came list"),
            ({"id": 2**70}, "expected a filter value that fits into int64"),
        ]:
            with pytest.raises(InvalidRequest) as refused:
                store.scan("all", where)
            assert refused.value.detail == message
        with pytest.raises(InvalidRequest, match=r"^expected at least one column, came an empty list$"):
            store.scan("all", None, [])


def test_deleted_rows_are_gone_from_get_scan_and_search(store: ArrowStorage, path: Path) -> None:
    store.put("t", rows(A, B))
    assert store.delete("t", ["a", "unknown"]) == 3
    for store_now in (store, ArrowStorage.open(path, "reader")):
        assert store_now.get("t", "a") is None
        assert [row["id"] for row in listed(store_now.scan("t"))] == ["b"]
        assert [row["id"] for row in listed(store_now.search("t", np.float32([1, 0]), 5))] == ["b"]


def test_a_commit_over_several_tables_is_one_lsn_and_all_or_nothing(store: ArrowStorage) -> None:
    store.create_table("log", pa.schema([pa.field("n", pa.int64())]), "n")
    entry = pa.table({"n": [1]})
    assert (
        store.commit([("put", "t", rows(A)), ("put", "log", entry), ("delete", "t", ["a"]), ("put", "t", rows(B))]) == 3
    )
    assert ([row["id"] for row in listed(store.scan("t"))], len(store.scan("log"))) == (["b"], 1)
    with pytest.raises(NotFound, match=r'^the store has no table "nope"$'):
        store.commit([("put", "t", rows(A)), ("put", "nope", entry)])
    assert (store.lsn, store.get("t", "a")) == (3, None)
    with pytest.raises(InvalidRequest, match=r"^expected at least one change, came none$"):
        store.commit([])
    with pytest.raises(InvalidRequest, match=r'^expected a change "put" or "delete", came "drop"$'):
        store.commit([("drop", "t", entry)])


def test_compare_and_swap_wins_only_with_the_generation_it_read(store: ArrowStorage) -> None:
    assert store.compare_and_swap("t", "a", 0, rows(A)) == 2
    assert store.compare_and_swap("t", "a", 0, rows(A)) is None
    assert store.snapshot().generation("t", "a") == 2
    assert store.compare_and_swap("t", "a", 2, rows(("a", 9, [1, 1]))) == 3
    assert listed(store.get("t", "a"))[0]["n"] == 9
    store.delete("t", ["a"])
    assert store.snapshot().generation("t", "a") == 0
    with pytest.raises(InvalidRequest, match=r'^expected exactly one row, with key "a"$'):
        store.compare_and_swap("t", "a", 0, rows(B))


def test_a_snapshot_does_not_see_later_commits(store: ArrowStorage) -> None:
    store.put("t", rows(A))
    before = store.snapshot()
    store.put("t", rows(("a", 2, [0.0, 1.0]), B))
    store.delete("t", ["b"])
    store.create_table("late", SCHEMA, "id")
    store.close()
    assert (before.lsn, before.tables(), before.count("t")) == (2, ["t"], 1)
    assert listed(before.get("t", "a"))[0]["n"] == 1
    assert listed(before.search("t", np.float32([0, 1]), 3))[0]["_score"] == 0.0


def test_a_table_is_created_once_and_never_with_another_definition(store: ArrowStorage) -> None:
    assert store.create_table("t", SCHEMA, "id", "v") == 1
    with pytest.raises(
        InvalidRequest, match=r'^table "t" exists with another definition: expected fingerprint [0-9a-f]{64}, there is'
    ):
        store.create_table("t", SCHEMA, "id", "v", "l2")


@pytest.mark.parametrize(
    ("fields", "key", "vector", "message"),
    [
        ([("a", pa.int64())], "b", None, 'the schema has no key column "b"'),
        ([("a", pa.float32())], "a", None, 'key column "a": expected string, int64 or binary, came Float32'),
        ([("a", pa.int64()), ("a", pa.int64())], "a", None, 'the schema names column "a" twice'),
        ([("_a", pa.int64())], "_a", None, 'column "_a": names are not empty and do not start with an underscore'),
        (
            [("a", pa.dictionary(pa.int8(), pa.string()))],
            "a",
            None,
            'column "a": a table cannot hold Dictionary(Int8, Utf8)',
        ),
        ([("a", pa.int64())], "a", "a", 'vector column "a": expected a fixed-size list of float, came Int64'),
        ([("a", pa.int64())], "a", "v", 'the schema has no vector column "v"'),
    ],
)
def test_a_definition_that_cannot_be_stored_is_refused(
    store: ArrowStorage, fields: list[tuple[str, pa.DataType]], key: str, vector: str | None, message: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        store.create_table("x", pa.schema(fields), key, vector)
    assert refused.value.detail == message


def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(store: ArrowStorage) -> None:
    nan, zero = [float("nan"), 0.0], [0.0, 0.0]
    cases: list[tuple[object, str]] = [
        (rows(A, A), 'the rows hold the key "a" twice'),
        (rows(("a", 1, nan)), 'vector column "v": vector 0 holds NaN or infinity'),
        (rows(A, ("c", 1, [float("-inf"), 0.0])), 'vector column "v": vector 1 holds NaN or infinity'),
        (rows(("a", 1, zero)), 'vector column "v": vector 0 is shorter than 1e-15, so it has no direction to compare'),
        (
            rows(("a", 1, [1e30, 0])),
            'vector column "v": vector 0 is longer than 3e18, so float32 sums over it would overflow',
        ),
        (pa.table({"id": ["a"]}), 'the rows lack column "n"'),
        (pa.table(rows(A)).append_column("x", pa.array([1])), 'the table has no column "x"'),
        (pa.table(rows(A)).set_column(1, "n", pa.array(["x"])), 'column "n": expected Int64, came Utf8'),
        (
            pa.table({"id": pa.array([None], pa.string()), "n": [1], "v": rows(A)["v"]}),
            'column "id" holds null, which its schema excludes',
        ),
        (3, "expected an Arrow object (with __arrow_c_stream__), came int"),
        (pa.array([1]), "expected rows (a table or record batch), came an array of Int64"),
    ]
    for batch, message in cases:
        with pytest.raises(InvalidRequest) as refused:
            store.put("t", batch)
        assert refused.value.detail == message
    assert store.lsn == 1


def test_an_array_that_does_not_agree_with_its_schema_is_refused(store: ArrowStorage) -> None:
    class Mismatched:
        def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
            whole, part = (pa.table(columns).to_batches()[0] for columns in (rows(A), {"id": ["a"]}))
            return whole.__arrow_c_array__()[0], part.__arrow_c_array__()[1]

    with pytest.raises(InvalidRequest) as refused:
        store.put("t", Mismatched())
    assert refused.value.detail == 'Arrow array "": expected 3 children, came 1'


def test_keys_that_do_not_fit_are_refused(store: ArrowStorage) -> None:
    for keys, message in [
        ([], "expected at least one key, came none"),
        ([1.5], "expected a key of str, int or bytes, came float"),
        ([True], "expected a key of str, int or bytes, came bool"),
        (["a", 1], "expected keys of one type, came several"),
        ([2**70], "expected a key that fits into int64"),
        ([b"a"], 'keys of table "t": expected Utf8'),
    ]:
        with pytest.raises(InvalidRequest) as refused:
            store.delete("t", keys)
        assert refused.value.detail == message


def test_a_second_owner_is_refused_and_told_who_owns_the_store(store: ArrowStorage, path: Path) -> None:
    script = f"from perfuse import ArrowStorage\nArrowStorage.open({str(path)!r})"
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    with pytest.raises(StoreLocked) as refused:
        ArrowStorage.open(path)
    assert refused.value.detail in failed.stderr
    owner = (path / "LOCK").read_text().strip()
    assert refused.value.detail == f"the store in {path} is owned by process {owner}"
    assert refused.value.hint == "stop the other process or use another directory"
    store.close()
    ArrowStorage.open(path).close()


def test_a_closed_store_says_so(store: ArrowStorage) -> None:
    store.close()
    with pytest.raises(StoreError, match=r"^the store is closed$"):
        store.put("t", rows(A))


def test_a_reader_writes_nothing_and_needs_a_store(store: ArrowStorage, path: Path, tmp_path: Path) -> None:
    with ArrowStorage.open(path, "reader") as reader, pytest.raises(InvalidRequest) as refused:
        reader.put("t", rows(A))
    assert refused.value.detail == f"{path} was opened to read; only its owner writes"
    with pytest.raises(NotFound) as missing:
        ArrowStorage.open(tmp_path / "none", "reader")
    assert missing.value.detail == f"there is no store in {tmp_path / 'none'}; its owner creates it"
    with pytest.raises(InvalidRequest, match=r'^expected mode "owner" or "reader", came "both"$'):
        ArrowStorage.open(path, "both")


def test_a_reader_sees_a_commit_at_its_next_refresh(store: ArrowStorage, path: Path) -> None:
    with ArrowStorage.open(path, "reader") as reader:
        store.put("t", rows(A))
        assert (reader.lsn, reader.get("t", "a")) == (1, None)
        assert reader.refresh() == 2
        assert len(reader.scan("t")) == 1
        assert reader.verify() == store.verify()


def test_a_store_that_was_opened_before_a_fork_takes_no_commits_from_the_child(path: Path) -> None:
    script = f"""
import os, pyarrow as pa
from perfuse import ArrowStorage
store = ArrowStorage.open({str(path)!r})
store.create_table("t", pa.schema([("n", pa.int64())]), "n")
if os.fork() == 0:
    try:
        store.put("t", pa.table({{"n": [1]}}))
    except Exception as error:
        os.write(1, str(error).encode())
    os._exit(0)
os.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "the store was opened before this process was forked; open it again"


def test_damage_is_found_at_opening_and_by_verify(store: ArrowStorage, path: Path) -> None:
    second = store.stats()["log_bytes"]
    store.put("t", rows(A))
    assert store.verify() == {
        "segments": 0,
        "segment_bytes": 0,
        "records": 2,
        "bytes": store.stats()["log_bytes"],
        "lsn": 2,
    }
    (log,) = (path / "wal").iterdir()
    damaged = bytearray(log.read_bytes())
    damaged[100] ^= 1
    log.write_bytes(damaged)
    expected = (
        f"{log}: the record of LSN 1 at byte 64 is damaged, but the later LSN 2 at byte {second} is whole; "
        "restore the store from a copy, or give up these commits with `perfuse store repair`"
    )
    with pytest.raises(StoreCorrupt) as found:
        store.verify()
    assert found.value.detail == expected
    store.close()
    for mode in ("owner", "reader"):
        with pytest.raises(StoreCorrupt) as refused:
            ArrowStorage.open(path, mode)
        assert refused.value.detail == expected


def test_stats_count_rows_and_versions(store: ArrowStorage, path: Path) -> None:
    store.put("t", rows(A, B))
    store.put("t", rows(A))
    stats = store.stats()
    assert (stats["path"], stats["epoch"], stats["lsn"]) == (str(path), 1, 3)
    assert stats["log_bytes"] == next((path / "wal").iterdir()).stat().st_size
    assert stats["tables"]["t"] | {"fingerprint": ""} == {
        "rows": 2,
        "versions": 3,
        "fingerprint": "",
        "schema_version": 1,
    }


def test_threads_may_write_and_search_at_once(store: ArrowStorage) -> None:
    def write(thread: int) -> None:
        for n in range(30):
            store.put("t", rows((f"{thread}/{n}", n, [1.0, float(n)])))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        snapshot = store.snapshot()
        assert len(snapshot.search("t", np.float32([1, 1]), 1000)) == snapshot.count("t")
    for thread in threads:
        thread.join()
    assert (store.lsn, store.snapshot().count("t")) == (121, 120)
