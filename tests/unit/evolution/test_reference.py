"""Anchors are measured once per model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perfuse.evolution.answers import Answerer
from perfuse.evolution.reference import reference
from perfuse.store.files import write_whole
from perfuse.store.kit import Anchor, Kit
from perfuse.store.learning import Embedder
from unit.evolution.scripted_pool import WIDTH, ScriptedPool, vector_of

ANCHORS = [Anchor(f"word{i} number", "code" if i % 2 else "longer", "f", ()) for i in range(7)]


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.setattr(Kit, "anchors", lambda _: ANCHORS)
    return Kit(Path("m"), "base", Embedder(hash="abc", width=WIDTH), reach=0.1)


async def test_half_of_the_anchors_is_measured_and_never_replayed(kit: Kit, tmp_path: Path) -> None:
    found = await reference(kit, Answerer(ScriptedPool()), tmp_path)
    assert [anchor.prompt for anchor in found.measured] == [f"word{i} number" for i in (1, 3, 5)]
    assert [anchor.prompt for anchor in found.replayed] == [f"word{i} number" for i in (0, 2, 4, 6)]
    assert np.array_equal(found.vectors[1], np.frombuffer(vector_of("word3 number"), "<f4"))
    assert np.array_equal(found.replayed_vectors[1], np.frombuffer(vector_of("word2 number"), "<f4"))
    assert found.tokens == pytest.approx((4 * 6 + 3 * 4) / 7)


async def test_a_second_start_asks_nothing(kit: Kit, tmp_path: Path) -> None:
    first = await reference(kit, Answerer(ScriptedPool()), tmp_path)
    engines = ScriptedPool()
    second = await reference(kit, Answerer(engines), tmp_path)
    assert engines.asked == []
    assert np.array_equal(first.vectors, second.vectors)
    assert second.tokens == first.tokens


async def test_a_damaged_file_is_made_anew(kit: Kit, tmp_path: Path) -> None:
    await reference(kit, Answerer(ScriptedPool()), tmp_path)
    (path,) = tmp_path.iterdir()
    write_whole(path, path.read_bytes()[:40])
    engines = ScriptedPool()
    await reference(kit, Answerer(engines), tmp_path)
    assert engines.asked
