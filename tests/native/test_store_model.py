"""A store behaves like a dictionary, whatever is done to it in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from perfuse import ArrowStorage

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64())])
KEYS = st.sampled_from(["", "a", "b", "ü", "longer key"])
NUMBERS = st.none() | st.integers(-(2**63), 2**63 - 1)
ROWS = st.dictionaries(KEYS, NUMBERS, max_size=4)


def batch(rows: dict[str, int | None]) -> pa.Table:
    return pa.table({"id": list(rows), "n": list(rows.values())}, schema=SCHEMA)


def content(store: object) -> dict[str, int | None]:
    return {row["id"]: row["n"] for row in pa.table(store.scan("t")).to_pylist()}


class StoreLikeADictionary(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.path = Path(tempfile.mkdtemp())
        self.model: dict[str, int | None] = {}
        self.kept: list[tuple[object, dict[str, int | None]]] = []
        self.store = ArrowStorage.open(self.path)
        self.store.create_table("t", SCHEMA, "id")
        self.reader = ArrowStorage.open(self.path, "reader")

    @rule(rows=ROWS)
    def put(self, rows: dict[str, int | None]) -> None:
        self.store.put("t", batch(rows))
        self.model |= rows

    @rule(keys=st.lists(KEYS, min_size=1))
    def delete(self, keys: list[str]) -> None:
        self.store.delete("t", keys)
        for key in keys:
            self.model.pop(key, None)

    @rule(first=ROWS, keys=st.lists(KEYS, min_size=1), last=ROWS)
    def commit(self, first: dict[str, int | None], keys: list[str], last: dict[str, int | None]) -> None:
        self.store.commit([("put", "t", batch(first)), ("delete", "t", keys), ("put", "t", batch(last))])
        self.model |= first
        self.model = {key: n for key, n in self.model.items() if key not in keys} | last

    @rule(key=KEYS, number=NUMBERS, right=st.booleans())
    def swap(self, key: str, number: int | None, right: bool) -> None:
        generation = self.store.snapshot().generation("t", key)
        assert (generation > 0) == (key in self.model)
        swapped = self.store.compare_and_swap("t", key, generation + (not right), batch({key: number}))
        assert swapped == (self.store.lsn if right else None)
        if right:
            self.model[key] = number

    @rule()
    def reopen(self) -> None:
        lsn = self.store.lsn
        self.store.close()
        self.store = ArrowStorage.open(self.path)
        assert self.store.lsn == lsn

    @rule()
    def compact(self) -> None:
        generations = {key: self.store.snapshot().generation("t", key) for key in self.model}
        assert self.store.compact()["rows"] == len(self.model)
        assert {key: self.store.snapshot().generation("t", key) for key in self.model} == generations

    @rule()
    def keep(self) -> None:
        self.kept.append((self.store.snapshot(), dict(self.model)))

    @invariant()
    def all_views_agree(self) -> None:
        self.reader.refresh()
        for view in (self.store, self.reader):
            assert content(view) == self.model
            for key in ("", "a", "b"):
                assert (view.get("t", key) is not None) == (key in self.model)
        for snapshot, model in self.kept:
            assert content(snapshot) == model

    def teardown(self) -> None:
        self.store.close()
        self.reader.close()
        shutil.rmtree(self.path)


TestStoreLikeADictionary = StoreLikeADictionary.TestCase
TestStoreLikeADictionary.settings = settings(settings.get_profile("test"), max_examples=20, stateful_step_count=20)
