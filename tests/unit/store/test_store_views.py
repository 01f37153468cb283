"""Store, StoreReader and Snapshot: tables in, pyarrow out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from perfuse.errors import NotFound, StoreError, StoreLocked
from perfuse.store import Delete, Put, Store, StoreReader, TableSpec

NOTES = TableSpec(
    "notes",
    pa.schema([pa.field("id", pa.string(), nullable=False), ("tag", pa.string()), ("v", pa.list_(pa.float32(), 2))]),
    "id",
    "v",
)
COUNTS = TableSpec("counts", pa.schema([pa.field("n", pa.int64(), nullable=False)]), "n")


def notes(*ids: str, tag: str = "x") -> pa.Table:
    vectors = [[1.0, float(place)] for place in range(len(ids))]
    return pa.table({"id": list(ids), "tag": [tag] * len(ids), "v": vectors}, schema=NOTES.schema)


def test_what_an_owner_puts_a_snapshot_gives_back(tmp_path: Path) -> None:
    with Store(tmp_path, [NOTES]) as store:
        empty = store.snapshot()
        assert store.put(NOTES, notes("a", "b")) == 2
        now = store.snapshot()
        assert (empty.lsn, empty.count(NOTES), now.lsn, now.count(NOTES)) == (1, 0, 2, 2)
        assert now.get(NOTES, "a") == {"id": "a", "tag": "x", "v": [1.0, 0.0]}
        assert now.get(NOTES, "z") is None
        assert now.scan(NOTES, {"id": "b"}, ["id", "tag"]).to_pylist() == [{"id": "b", "tag": "x"}]
        found = now.search(NOTES, np.array([[0, 1]], np.float32), 1, {"tag": "x"}, ["id"]).to_pylist()
        assert found == [{"_query": 0, "_score": pytest.approx(0.5**0.5), "id": "b"}]
        store.delete(NOTES, ["a"])
        assert store.snapshot().get(NOTES, "a") is None


def test_changes_of_a_commit_come_together(tmp_path: Path) -> None:
    with Store(tmp_path, [NOTES, COUNTS]) as store:
        store.put(NOTES, notes("a"))
        changes = [Put(COUNTS, pa.table({"n": [1, 2]}, schema=COUNTS.schema)), Delete(NOTES, ["a"])]
        assert store.commit(changes) == store.snapshot().lsn == 4
        assert (store.snapshot().count(COUNTS), store.snapshot().count(NOTES)) == (2, 0)


def test_a_swap_needs_the_generation_that_was_read(tmp_path: Path) -> None:
    with Store(tmp_path, [NOTES]) as store:
        generation = store.compare_and_swap(NOTES, "a", 0, notes("a"))
        assert generation == store.snapshot().generation(NOTES, "a") == 2
        assert store.compare_and_swap(NOTES, "a", 0, notes("a", tag="y")) is None


def test_a_reader_keeps_its_snapshot_until_something_is_committed(tmp_path: Path) -> None:
    with Store(tmp_path, [NOTES]) as store, StoreReader(tmp_path, [NOTES]) as reader:
        first = reader.snapshot()
        assert reader.snapshot() is first
        store.put(NOTES, notes("a"))
        assert (first.count(NOTES), reader.snapshot().count(NOTES), reader.snapshot().lsn) == (0, 1, 2)


def test_a_table_made_by_another_build_is_noticed(tmp_path: Path) -> None:
    Store(tmp_path, [NOTES]).close()
    changed = TableSpec("notes", NOTES.schema, "id", "v", "l2")
    with pytest.raises(StoreError) as owner:
        Store(tmp_path, [changed])
    assert owner.value.detail == 'table "notes": a table keeps its key, its vectors and their metric'
    with pytest.raises(StoreError) as reader:
        StoreReader(tmp_path, [changed])
    assert reader.value.detail == (
        f"table 'notes' has another definition: expected fingerprint {changed.fingerprint}, "
        f"there is {NOTES.fingerprint}"
    )
    for refused in (owner, reader):
        assert refused.value.hint == "open it with the build that wrote it, or use another data directory"
    Store(tmp_path, [NOTES]).close()


def test_a_table_of_an_earlier_build_gets_the_columns_it_lacks(tmp_path: Path) -> None:
    with Store(tmp_path, [NOTES]) as store:
        store.put(NOTES, notes("a"))
        before = store.snapshot()
    wider = TableSpec("notes", NOTES.schema.append(pa.field("rating", pa.float64())), "id", "v")
    with Store(tmp_path, [wider]) as store:
        store.put(wider, notes("b").append_column("rating", pa.array([0.5])))
        rows = store.snapshot().scan(wider, columns=["id", "rating"]).to_pylist()
        assert rows == [{"id": "a", "rating": None}, {"id": "b", "rating": 0.5}]
        assert before.get(NOTES, "a") == {"id": "a", "tag": "x", "v": [1.0, 0.0]}
    with StoreReader(tmp_path, [wider]) as reader:
        assert reader.snapshot().count(wider) == 2


def test_a_table_of_an_earlier_build_that_cannot_become_the_one_asked_for_stays(tmp_path: Path) -> None:
    Store(tmp_path, [NOTES]).close()
    wider = NOTES.schema.append(pa.field("rating", pa.float64(), nullable=False))
    with pytest.raises(StoreError) as refused:
        Store(tmp_path, [TableSpec("notes", wider, "id", "v")])
    assert refused.value.detail == (
        'table "notes": new column "rating": expected one that may be null, as it is in the rows that are there'
    )
    assert refused.value.hint == "open it with the build that wrote it, or use another data directory"
    with Store(tmp_path, [NOTES]) as store:
        assert store.snapshot().lsn == 1


def test_one_owner_and_no_reader_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        StoreReader(tmp_path / "none")
    with Store(tmp_path), pytest.raises(StoreLocked):
        Store(tmp_path)
    with Store(tmp_path), pytest.raises(NotFound, match=r'^the store has no table "notes"$'):
        StoreReader(tmp_path, [NOTES])
