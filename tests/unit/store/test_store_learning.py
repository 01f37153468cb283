"""Typed rows of what is learned: what goes in comes out; aliases move all or nothing; a named blob has its bytes."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perfuse import SCHEMA_REGISTRY
from perfuse.errors import InvalidRequest, NotFound, StoreCorrupt
from perfuse.store import Put, Snapshot, Store
from perfuse.store.aliases import current, step
from perfuse.store.blobs import Blobs
from perfuse.store.learning import (
    ADAPTATIONS,
    ALIASES,
    EMBEDDERS,
    FEEDBACK,
    JOBS,
    REVOCATIONS,
    TABLES,
    Adaptation,
    Alias,
    Domain,
    Embedder,
    Feedback,
    Job,
    Memory,
    Records,
    Revocation,
    adaptation_id,
    alias_key,
    domains,
    memories,
)

ADAPTATION = Adaptation(
    id="ad_1", tenant="t", cluster="c", kind="lora", blob="00", parent=None, base="b", embedder="e", dataset="d",
    feedback=("f1", "f2"), sources=("s",), seed=3, config="{}", report="", state="candidate", reason="trained",
    centroid=(0.5, 0.25), radius=0.1, created=1.5, changed=2.5,
)  # fmt: skip
ALIAS = Alias(key=alias_key("t", "c"), tenant="t", cluster="c", champion="ad_1", share=0.25, changed=7.0)
FEEDBACK_ITEM = Feedback(
    id="f1", tenant="t", generation="g", source="s", received=1.0, model="m@1", prompt="p", prefix="", suffix="",
    output="o", adaptations=("ad_1",), correction=None, reward=-1.0, verifier="", output_passed=False,
    correction_passed=None, state="curated", reason="verifier", cluster="c",
    embedder="e", embedding=b"\0\0\x80?",
)  # fmt: skip
MEMORY = Memory(
    id="m",
    tenant="t",
    source="s",
    generation="g",
    prompt="p",
    text="x",
    created=1.0,
    embedder="e",
    embedding=(0.0, 1.0),
)
DOMAIN = Domain(
    id="ad_1", tenant="t", cluster="c", embedder="e", base="b", state="champion", radius=0.1, centroid=(1.0, 0.0)
)
JOB = Job(
    id="j", tenant="t", cluster="c", base="b", feedback=(), state="queued", attempt=0, adaptation=None, reason="",
    created=1.0, changed=1.0,
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store(tmp_path, [*TABLES, domains(2).spec, memories(2).spec]) as opened:
        yield opened


@pytest.mark.parametrize(
    ("table", "record", "key"),
    [
        (ADAPTATIONS, ADAPTATION, "ad_1"),
        (ALIASES, ALIAS, ALIAS.key),
        (FEEDBACK, FEEDBACK_ITEM, "f1"),
        (JOBS, JOB, "j"),
        (REVOCATIONS, Revocation(key="k", tenant="t", source="s", at=1.0), "k"),
        (EMBEDDERS, Embedder(hash="e", width=2), "e"),
        (domains(2), DOMAIN, "ad_1"),
        (memories(2), MEMORY, "m"),
    ],
    ids=lambda value: value.spec.name if isinstance(value, Records) else None,
)
def test_a_record_comes_back_as_it_was_put(store: Store, table: Records[object], record: object, key: str) -> None:
    store.commit([table.put(record)])
    assert table.get(store.snapshot(), key) == record
    assert table.scan(store.snapshot()) == [record]
    assert table.get(store.snapshot(), "other") is None
    store.commit([table.drop([key])])
    assert table.scan(store.snapshot()) == []


def test_records_are_found_by_their_fields_and_by_their_vectors(store: Store) -> None:
    other = replace(DOMAIN, id="ad_2", centroid=(0.0, 1.0))
    foreign = replace(DOMAIN, id="ad_3", embedder="another")
    store.commit([domains(2).put(DOMAIN, other, foreign)])
    assert domains(2).scan(store.snapshot(), {"embedder": "another"}) == [foreign]
    query = np.array([0.1, 1.0], np.float32)
    found = store.snapshot().search(domains(2).spec, query, 1, {"tenant": "t", "embedder": "e"}, ["id"])
    assert found.column("id").to_pylist() == ["ad_2"]


def test_tables_are_registered_and_carry_their_width() -> None:
    assert {table.name for table in TABLES} <= set(SCHEMA_REGISTRY)
    assert (domains(7).spec.name, memories(7).spec.name) == ("domains_7", "memories_7")
    assert domains(7) is domains(7)


def test_an_id_differs_by_whom_it_is_for_and_what_it_was_trained_on() -> None:
    ids = {adaptation_id(*parts) for parts in (("t", "c", "d", "x"), ("u", "c", "d", "x"), ("t", "c", "e", "x"))}
    assert len(ids) == 3
    assert adaptation_id("t", "c", "d", "x") == adaptation_id("t", "c", "d", "x")
    assert alias_key("a/b", "c") != alias_key("a", "b/c")


def test_an_alias_that_never_moved_names_nothing(store: Store) -> None:
    assert current(store.snapshot(), "t", "c") == Alias(key=alias_key("t", "c"), tenant="t", cluster="c")


def test_an_alias_moves_together_with_what_it_names(store: Store) -> None:
    before = store.snapshot().lsn
    assert step(store, lambda _: ("done", [ADAPTATIONS.put(ADAPTATION), ALIASES.put(ALIAS)])) == "done"
    assert (current(store.snapshot(), "t", "c"), store.snapshot().lsn) == (ALIAS, before + 1)
    assert step(store, lambda snapshot: (snapshot.lsn, [])) == store.snapshot().lsn == before + 1


def test_a_step_that_fails_writes_nothing_and_lets_the_next_one_in(store: Store) -> None:
    def fail(snapshot: Snapshot) -> tuple[None, list[Put]]:
        raise NotFound("nothing to move")

    with pytest.raises(NotFound):
        step(store, fail)
    step(store, lambda _: (None, [ALIASES.put(ALIAS)]))
    assert current(store.snapshot(), "t", "c") == ALIAS


def test_steps_of_many_threads_lose_no_move(store: Store) -> None:
    def count_up() -> None:
        for _ in range(10):
            step(store, advance)

    def advance(snapshot: Snapshot) -> tuple[None, list[Put]]:
        alias = current(snapshot, "t", "c")
        return None, [ALIASES.put(replace(alias, share=alias.share + 1))]

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert current(store.snapshot(), "t", "c").share == 40


def test_a_blob_is_named_by_its_bytes_and_written_once(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    name = blobs.put(b"weights")
    assert name == hashlib.sha256(b"weights").hexdigest() == blobs.put(b"weights")
    assert (blobs.read(name), blobs.holds(name), blobs.path(name).read_bytes()) == (b"weights", True, b"weights")
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [name]
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


def test_a_missing_blob_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    name = blobs.put(b"weights")
    absent = "0" * 64
    with pytest.raises(NotFound) as missing:
        blobs.read(absent)
    assert missing.value.detail == f"no blob {absent}"
    blobs.path(name).write_bytes(b"weight")
    with pytest.raises(StoreCorrupt) as corrupt:
        blobs.read(name)
    found = hashlib.sha256(b"weight").hexdigest()
    assert corrupt.value.detail == f"blob {name} holds 6 bytes with the SHA-256 {found}"
    assert corrupt.value.hint == "roll back what uses it; it can be trained again from its feedback"
    assert not blobs.holds(name)
    assert blobs.put(b"weights") == name
    assert blobs.holds(name)


@pytest.mark.parametrize("name", ["../ids.secret", "", "A" * 64])
def test_a_name_that_is_no_hash_reaches_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Blobs(tmp_path).read(name)
    assert refused.value.detail == f"expected 64 hexadecimal digits as the name of a blob; got {name!r}"


def test_sweeping_removes_what_no_row_names_and_unfinished_writes(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    assert blobs.sweep([]) == []
    kept, dropped = blobs.put(b"kept"), blobs.put(b"dropped")
    (tmp_path / "blobs" / ".draft-1-x").write_bytes(b"half")
    assert blobs.sweep([kept]) == [dropped]
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [kept]
    assert blobs.sweep([kept]) == []
