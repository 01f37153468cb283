"""The server learns a kind of request it could not do, keeps what it could, and still knows it after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfuse.evaluation import learning
from perfuse.evaluation.learning import Teaching, demonstration, named


@pytest.mark.proof
async def test_corrections_become_a_champion_and_nothing_else_changes(tmp_path: Path) -> None:
    said: list[str] = []
    found = await demonstration(
        tmp_path, named("triangular"), items=48, evaluated=60, anchors=100, how=Teaching(), say=said.append
    )
    (row,) = found["families"]
    assert row["gain"] >= 0.4, said
    assert row["after"]["adapted"] >= 55
    anchors = found["anchors"]
    assert anchors["after"]["pass_at_1"] >= anchors["before"]["pass_at_1"] - 0.01
    assert anchors["after"]["adapted"] <= 1
    assert found["restart"] == {"answers": 20, "identical": True}


@pytest.mark.proof
async def test_corrections_of_other_requests_teach_nothing(tmp_path: Path) -> None:
    with learning.learning(tmp_path) as server:
        await server.ready()
        (family,) = named("mirror")
        row = await learning.demonstrate(
            family, server, items=24, evaluated=20, how=Teaching(shuffled=True), say=lambda _: None
        )
        status = await learning.status(server)
    assert row["gain"] == 0.0
    assert row["after"]["adapted"] == 0
    assert status["feedback"] == {"quarantined": 24}
