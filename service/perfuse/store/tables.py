"""What the tables of a store look like.

A `TableSpec` is an Arrow schema with a key column and perhaps a vector column. Its fingerprint is computed here and by
`perfuse._native` in the same way, so a table made by another build is noticed when it is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa  # type: ignore[import-untyped]

from perfuse.errors import ConfigError, InvalidRequest

Metric = Literal["cosine", "inner_product", "l2"]

_SAME_NAME = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "string"}
    | {"binary"}
)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table of a store.

    Args:
        name: of the table.
        schema: Arrow schema of its rows; column names do not start with an underscore.
        key: name of the key column (string, int64 or binary).
        vector: name of the column that is searched, a fixed-size list of float.
        metric: how near two vectors are.
    """

    name: str
    schema: pa.Schema
    key: str
    vector: str | None = None
    metric: Metric = "cosine"

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the canonical schema, then the lines `key=…` and `vector=…:metric`."""
        text = canonical_schema(self.schema) + f"key={self.key}\n"
        if self.vector is not None:
            text += f"vector={self.vector}:{self.metric}\n"
        return hashlib.sha256(text.encode()).hexdigest()


def canonical_schema(schema: pa.Schema) -> str:
    r"""One line per column: `name:type`, with `?` behind the type where null may stand.

    `\`, `:` and newline in names are escaped with a backslash.

    Raises:
        InvalidRequest: a table cannot hold one of the types.
    """
    return "".join(f"{_escape(field.name)}:{_type_of(field)}{'?' if field.nullable else ''}\n" for field in schema)


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace(":", "\\:")


def _type_of(field: pa.Field) -> str:
    if (name := _type_name(field.type)) is None:
        raise InvalidRequest(f"column {field.name!r}: a table cannot hold {field.type}")
    return name


def _type_name(kind: pa.DataType) -> str | None:
    if (name := str(kind)) in _SAME_NAME:
        return name
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        return name
    if pa.types.is_fixed_size_binary(kind):
        return f"fixed_size_binary[{kind.byte_width}]"
    if pa.types.is_fixed_size_list(kind) and (item := _type_name(kind.value_type)):
        return f"fixed_size_list<{item}>[{kind.list_size}]"
    if pa.types.is_list(kind) and (item := _type_name(kind.value_type)):
        return f"list<{item}>"
    return None


class SchemaRegistry(Mapping[str, TableSpec]):
    """The tables that parts of perfuse, or a program that uses it, keep in a store; by name."""

    def __init__(self) -> None:
        self._specs: dict[str, TableSpec] = {}

    def register(self, spec: TableSpec) -> TableSpec:
        """Add `spec` and give it back; the same one may come twice.

        Raises:
            ConfigError: another table of that name is registered.
            InvalidRequest: a table cannot hold one of the types.
        """
        there = self._specs.setdefault(spec.name, spec)
        if there.fingerprint != spec.fingerprint:
            raise ConfigError(
                f"table {spec.name!r} is registered with fingerprint {there.fingerprint}, came {spec.fingerprint}"
            )
        return there

    def __getitem__(self, name: str) -> TableSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


SCHEMA_REGISTRY = SchemaRegistry()
