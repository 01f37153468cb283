"""A store of which most is dead is compacted while it is used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from perfuse.evolution.tidy import tidy
from perfuse.store import Store, TableSpec

BIG = TableSpec("big", pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())]), "id")


def filled(store: Store, times: int) -> None:
    rows = pa.table({"id": range(1000), "text": ["x" * 12_000] * 1000}, schema=BIG.schema)
    for _ in range(times):
        store.put(BIG, rows)


async def looked(store: Store, until: Callable[[], bool] = lambda: False, seconds: float = 20.0) -> None:
    """Several looks, for so long or until something is so."""
    looking = asyncio.create_task(tidy(store, 0.05))
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


def manifests(path: Path) -> list[str]:
    return [file.stem for file in (path / "manifest").glob("*.manifest")]


async def test_a_store_that_is_mostly_dead_becomes_small_once(tmp_path: Path) -> None:
    with Store(tmp_path, [BIG]) as store:
        filled(store, 3)
        await looked(store, lambda: manifests(tmp_path) != [])
        await looked(store, seconds=0.5)
        assert manifests(tmp_path) == [f"{1:020}"]
        assert store.snapshot().count(BIG) == 1000


async def test_a_store_that_is_alive_stays(tmp_path: Path) -> None:
    with Store(tmp_path, [BIG]) as store:
        filled(store, 1)
        await looked(store, seconds=0.5)
        assert not (tmp_path / "manifest").exists()


async def test_a_store_that_cannot_be_compacted_is_looked_at_again(tmp_path: Path) -> None:
    with Store(tmp_path, [BIG]) as store:
        filled(store, 3)
        in_the_way = tmp_path / "seg" / f"{1:020}-0000.new"
        in_the_way.mkdir(parents=True)
        await looked(store, seconds=0.5)
        assert manifests(tmp_path) == []
        in_the_way.rmdir()
        await looked(store, lambda: manifests(tmp_path) != [])
        assert store.snapshot().count(BIG) == 1000
        assert manifests(tmp_path) == [f"{1:020}"]
