"""Typed tables and snapshots over `perfuse._native.ArrowStorage`. No torch."""

from perfuse.store.store import Compacted, Delete, Put, Snapshot, Store, StoreReader
from perfuse.store.tables import SCHEMA_REGISTRY, SchemaRegistry, TableSpec, canonical_schema

__all__ = [
    "SCHEMA_REGISTRY",
    "Compacted",
    "Delete",
    "Put",
    "SchemaRegistry",
    "Snapshot",
    "Store",
    "StoreReader",
    "TableSpec",
    "canonical_schema",
]
