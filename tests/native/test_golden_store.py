"""A store of format version 1, as an earlier build left it, opens with what it held.

`golden/1` was made by `fill` and never changes; a build that writes another version gets a folder of its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from native.plain_reader import read
from perfuse import ArrowStorage

GOLDEN = Path(__file__).parent / "golden" / "1"
KINDS = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),
        ("whole", pa.int64()),
        ("real", pa.float64()),
        ("yes", pa.bool_()),
        ("when", pa.timestamp("us", tz="UTC")),
        ("list", pa.list_(pa.string())),
        ("fixed", pa.binary(2)),
    ]
)
NOTES = pa.schema([pa.field("id", pa.string(), nullable=False), ("v", pa.list_(pa.float32(), 3))])
WIDER = NOTES.append(pa.field("rating", pa.float64()))


def fill(store: ArrowStorage) -> None:
    """Every kind of record, two manifests, and a log behind the second."""
    store.create_table("kinds", KINDS, "key")
    store.create_table("notes", NOTES, "id", "v", "l2")
    row = {"key": [b"\x00\xff"], "whole": [-1], "real": [0.5], "yes": [True], "when": [1_700_000_000_000_000]}
    store.put("kinds", pa.table({**row, "list": [["ä", None]], "fixed": [b"ab"]}, schema=KINDS))
    store.put("kinds", pa.table({name: [b"empty" if name == "key" else None] for name in KINDS.names}, schema=KINDS))
    store.put("notes", _notes(NOTES, ["a", "b", "c"]))
    store.compact()
    store.delete("notes", ["b"])
    store.evolve_table("notes", WIDER, "id", "v", "l2")
    store.compact()
    store.commit([("put", "notes", _notes(WIDER, ["d"], [2.5])), ("delete", "kinds", [b"empty"])])
    assert store.compare_and_swap("notes", "a", 5, _notes(WIDER, ["a"], [None])) == 9


def _notes(schema: pa.Schema, ids: list[str], ratings: list[float | None] | None = None) -> pa.Table:
    columns: dict[str, object] = {"id": ids, "v": [[float(ord(one)), 0.0, -1.0] for one in ids]}
    return pa.table(columns if ratings is None else {**columns, "rating": ratings}, schema=schema)


def content(store: ArrowStorage) -> dict[str, object]:
    snapshot = store.snapshot()
    found = pa.table(snapshot.search("notes", np.float32([100, 0, -1]), 3)).to_pylist()
    rows = {name: pa.table(snapshot.scan(name)).to_pylist() for name in snapshot.tables()}
    generations = [snapshot.generation("notes", row["id"]) for row in rows["notes"]]
    prints = [snapshot.fingerprint(name) for name in snapshot.tables()]
    return {"lsn": snapshot.lsn, "rows": rows, "generations": generations, "fingerprints": prints, "found": found}


@pytest.mark.parametrize("mode", ["owner", "reader"])
def test_a_store_of_an_earlier_build_opens_with_what_it_held(tmp_path: Path, mode) -> None:
    with ArrowStorage.open(tmp_path / "fresh") as fresh:
        fill(fresh)
        expected = content(fresh)
    shutil.copytree(GOLDEN, tmp_path / "golden")
    with ArrowStorage.open(tmp_path / "golden", mode) as store:
        assert content(store) == expected
        assert store.verify()["lsn"] == 9
        if mode == "owner":
            store.compact()
            assert content(store) == expected


def test_a_reader_in_plain_python_reads_it_too(tmp_path: Path) -> None:
    with ArrowStorage.open(tmp_path) as fresh:
        fill(fresh)
    assert read(GOLDEN) == read(tmp_path)
