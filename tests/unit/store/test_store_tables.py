"""Table specs, their fingerprints, and the registry."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse import SCHEMA_REGISTRY, _native
from perfuse.errors import ConfigError, InvalidRequest
from perfuse.store import SchemaRegistry, TableSpec, canonical_schema

SIMPLE = [pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
OTHER = [pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.binary(7), pa.timestamp("us")]
LEAVES = st.sampled_from([*SIMPLE, *OTHER, pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Berlin")])
TYPES = st.recursive(
    LEAVES, lambda inner: st.builds(pa.list_, inner) | st.builds(pa.list_, inner, st.integers(1, 9)), max_leaves=3
)
NAMES = st.text(min_size=1, max_size=12).filter(lambda name: not name.startswith("_") and "\0" not in name)


@given(
    st.dictionaries(NAMES, st.tuples(TYPES, st.booleans()), max_size=6),
    NAMES,
    st.sampled_from(["cosine", "inner_product", "l2"]),
)
def test_rust_and_python_compute_the_same_fingerprint(
    columns: dict[str, tuple[pa.DataType, bool]], vector: str, metric: str
) -> None:
    columns = {name: kind for name, kind in columns.items() if name not in {"key", vector}}
    fields = [pa.field("key", pa.string(), nullable=False), pa.field(vector + "!", pa.list_(pa.float32(), 3))]
    fields += [pa.field(name, kind, nullable) for name, (kind, nullable) in columns.items() if name != vector + "!"]
    schema = pa.schema(fields)
    plain = TableSpec("t", schema, "key")
    assert plain.fingerprint == _native.schema_fingerprint(schema, "key")
    searched = TableSpec("t", schema, "key", vector + "!", metric)
    assert searched.fingerprint == _native.schema_fingerprint(schema, "key", vector + "!", metric)
    assert searched.fingerprint != plain.fingerprint


def test_the_canonical_schema_is_one_line_per_column() -> None:
    schema = pa.schema(
        [pa.field("a:b", pa.string(), nullable=False), ("v", pa.list_(pa.float32(), 2)), ("l\n\\", pa.list_(pa.int8()))]
    )
    assert canonical_schema(schema) == "a\\:b:string\nv:fixed_size_list<float>[2]?\nl\\n\\\\:list<int8>?\n"
    spec = TableSpec("t", schema, "a:b", "v", "l2")
    text = canonical_schema(schema) + "key=a:b\nvector=v:l2\n"
    assert spec.fingerprint == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("kind", [pa.float16(), pa.timestamp("ns"), pa.list_(pa.date32()), pa.list_(pa.float16(), 2)])
def test_types_no_table_holds_are_refused_by_both_languages(kind: pa.DataType) -> None:
    schema = pa.schema([("id", pa.int64()), ("x", kind)])
    with pytest.raises(InvalidRequest) as refused:
        canonical_schema(schema)
    assert refused.value.detail == f"column 'x': a table cannot hold {kind}"
    with pytest.raises(InvalidRequest, match=r'^column "x": a table cannot hold '):
        _native.schema_fingerprint(schema, "id")


def test_the_registry_takes_a_table_twice_but_not_two_of_one_name() -> None:
    registry = SchemaRegistry()
    spec = TableSpec("t", pa.schema([("id", pa.int64())]), "id")
    assert registry.register(spec) is registry.register(TableSpec("t", pa.schema([("id", pa.int64())]), "id"))
    other = TableSpec("t", pa.schema([("id", pa.string())]), "id")
    with pytest.raises(ConfigError) as refused:
        registry.register(other)
    assert refused.value.detail == (
        f"table 't' is registered with fingerprint {spec.fingerprint}, came {other.fingerprint}"
    )
    assert (dict(registry), len(registry), registry["t"]) == ({"t": spec}, 1, spec)


def test_the_public_registry_is_one_object() -> None:
    from perfuse.store.tables import SCHEMA_REGISTRY as SAME

    assert SCHEMA_REGISTRY is SAME
