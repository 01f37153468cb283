"""The server learns a kind of request it could not do, keeps what it could, and still knows it after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfuse.evaluation.demo import demonstration
from perfuse.evaluation.learning import named


@pytest.mark.proof
async def test_corrections_become_a_champion_and_nothing_else_changes(tmp_path: Path) -> None:
    said: list[str] = []
    found = await demonstration(tmp_path, named("triangular"), items=48, evaluated=60, anchors=100, say=said.append)
    (row,) = found["families"]
    assert row["gain"] >= 0.4, said
    assert row["score"]["after"]["adapted"] >= 55
    assert (row["control_after"], row["control_promoted"]) == (row["before"], 0)
    anchors = found["anchors"]
    assert anchors["after"] >= anchors["before"] - 0.01
    assert found["misroute"] <= 0.1
    assert found["restart"] == {"answers": 60, "identical": True}
    assert found["status"]["feedback"]["quarantined"] >= 48
