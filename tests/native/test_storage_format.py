"""The description of the files suffices to read them: a reader in plain Python finds what the store finds."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from native.plain_reader import crc32c, read
from perfuse import ArrowStorage

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("n", pa.int64()), ("v", pa.list_(pa.float32(), 2))])
TABLES = st.sampled_from(["t", "u"])
IDS = st.sampled_from(["a", "b", "c", "ä"])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.sampled_from(["t", "u"]), st.lists(st.tuples(IDS, st.integers(0, 99)), max_size=3)
        ),
        st.tuples(st.just("delete"), st.sampled_from(["t", "u"]), st.lists(IDS, min_size=1, max_size=2)),
        st.tuples(st.just("evolve"), st.sampled_from(["t", "u"]), st.none()),
        st.tuples(st.just("compact"), st.none(), st.none()),
    ),
    max_size=12,
)


def rows(pairs: list[tuple[str, int]], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    unique = dict(pairs)
    columns = [list(unique), list(unique.values()), [[1.0, float(n)] for n in unique.values()]]
    columns += [["more"] * len(unique)] * (len(schema) - len(columns))
    return pa.record_batch([pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)], schema=schema)


def content(store: ArrowStorage) -> tuple[int, dict[str, dict[object, dict[str, object]]]]:
    snapshot = store.snapshot()
    return snapshot.lsn, {
        name: {
            row["id"]: {**row, "_generation": snapshot.generation(name, row["id"])}
            for row in pa.table(snapshot.scan(name)).to_pylist()
        }
        for name in snapshot.tables()
    }


@given(STEPS)
def test_a_reader_in_plain_python_finds_what_the_store_finds(tmp_path_factory, steps) -> None:
    path: Path = tmp_path_factory.mktemp("store")
    with ArrowStorage.open(path) as store:
        for table in ("t", "u"):
            store.create_table(table, SCHEMA, "id", "v")
        schemas = dict.fromkeys(["t", "u"], SCHEMA)
        for kind, table, what in steps:
            if kind == "put":
                store.put(table, rows(what, schemas[table]))
            elif kind == "delete":
                store.delete(table, list(dict.fromkeys(what)))
            elif kind == "evolve":
                schemas[table] = schemas[table].append(pa.field(f"more{len(schemas[table])}", pa.string()))
                store.evolve_table(table, schemas[table], "id", "v")
            else:
                store.compact()
        assert read(path) == content(store)


def test_the_checksum_is_the_standard_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, the check value of CRC-32C
